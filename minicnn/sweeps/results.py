"""The results of a sweep: sweep.csv with a row for each run, and what the rows of a setting have in common."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from minicnn.console import table
from minicnn.errors import MinicnnError
from minicnn.metrics import CLASS_FIGURES, tell_more, words_of
from minicnn.sweeps.plan import Plan
from minicnn.sweeps.space import SEED, show_point
from minicnn.sweeps.worker import Outcome
from minicnn.training.tables import Table, read_rows
from minicnn.validation import show_value

FILE = "sweep.csv"
SHOWN = 30  # settings in the table at the end
FIGURES = ("accuracy", *CLASS_FIGURES, "loss", "seconds")

Row = dict[str, Any]


class Results:
    """The rows of a sweep, in memory and in a file that is whole but for its last line whenever the process is killed.

    Raises MinicnnError for a file that is there and is none of this sweep.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self._plan, self._table = plan, Table(path)
        self.rows: dict[tuple[int, int], Row] = {}  # by epochs and run
        for row in read_rows(path) if path.exists() else []:
            self._keep(self._parsed(row, path))
        self.sort()

    def add(self, outcome: Outcome) -> Row:
        """One more row, in the file at once."""
        row = self._row(outcome.task.run, outcome.task.epochs, outcome.figures, outcome.error)
        self._keep(row)
        self._table.add(_texts(row))
        self._table.flush()
        return row

    def sort(self) -> None:
        """Brings the rows, also those of the file, into the order of epochs and runs."""
        self.rows = dict(sorted(self.rows.items()))
        if self.rows:
            self._table.begin([_texts(row) for row in self.rows.values()])

    def _keep(self, row: Row) -> None:
        self.rows[row["epochs"], row["run"]] = row

    def _row(self, run: int, epochs: int, figures: dict[str, Any], error: str) -> Row:
        point, seed = self._plan.place(run)
        row = {"run": run, **self._plan.points[point], SEED: seed, "epochs": epochs}
        row |= {key: figures.get(key) for key in (*FIGURES, "weights")}
        return row | {"error": error}

    def _parsed(self, row: dict[str, str], path: Path) -> Row:
        try:
            row = dict.fromkeys(CLASS_FIGURES, "") | row  # which sweeps of early versions do not have
            run, figures = int(row["run"]), {key: float(row[key] or "nan") for key in FIGURES}
            known: dict[str, Any] = {key: value for key, value in figures.items() if not math.isnan(value)}
            known |= {"weights": row["weights"]} if row["weights"] else {}
            parsed = self._row(run, int(row["epochs"]), known, row["error"])
            if not 1 <= run <= len(self._plan) or _texts(parsed).keys() != row.keys():
                raise ValueError(f"run {run} is not of this sweep")
        except (KeyError, ValueError) as error:
            raise MinicnnError(f"{path}: expected the rows of this sweep: {error}") from None
        return parsed

    def scores(self, epochs: int, points: Sequence[int]) -> dict[int, list[float | None]]:
        """The accuracies of the runs of some points after so many epochs; None for those that failed."""
        return {point: [self.rows[epochs, run]["accuracy"] for run in self._plan.runs([point])] for point in points}

    def settings(self) -> list[Row]:
        """A row for each setting, the best first: its accuracy after the most epochs that it was trained for.

        With mean, sample standard deviation (std), standard error of the mean (sem), the number n of runs that did not
        fail, the best of them, and the number of those that failed, each of which counts as 0 in the order; and with
        the means of balanced accuracy and macro F1. With halving, more epochs come first.
        """
        found = []
        rows: dict[int, list[Row]] = {}
        for (_, run), row in self.rows.items():
            rows.setdefault(self._plan.place(run)[0], []).append(row)
        for number, own in rows.items():
            epochs = max(row["epochs"] for row in own)
            last = [row for row in own if row["epochs"] == epochs]
            figures = spread([row["accuracy"] for row in last])
            figures |= {name: spread([row[name] for row in last])["mean"] for name in CLASS_FIGURES}
            found.append({"setting": number, **self._plan.points[number], "epochs": epochs, **figures})
        halved = self._plan.halving is not None

        def order(row: Row) -> tuple[float, float, int]:
            score = (row["mean"] or 0) * row["n"] / (row["n"] + row["failed"])
            return -row["epochs"] if halved else 0, -score, row["setting"]

        return sorted(found, key=order)


def spread(values: Sequence[float | None]) -> Row:
    """Mean, sample standard deviation, standard error of the mean, number and largest of the values that are known."""
    known = [value for value in values if value is not None]
    n = len(known)
    std = stdev(known) if n > 1 else None
    return {
        "mean": fmean(known) if n else None,
        "std": std,
        "sem": None if std is None else std / math.sqrt(n),
        "n": n,
        "best": max(known, default=None),
        "failed": len(values) - n,
    }


def _texts(row: Row) -> dict[str, str]:
    """The cells of a row; values that are no plain ones stand there as JSON."""
    return {key: _text(value) for key, value in row.items()}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else json.dumps(value)


def settings_table(rows: Sequence[Row], keys: Sequence[str], held_out: str) -> str:
    """The rows of `settings` as text, at most 30 of them."""
    figures = ["mean", "std", "sem", "best", *(CLASS_FIGURES if tell_more((row["mean"], row) for row in rows) else ())]
    halved = "training.epochs" not in keys and len({row["epochs"] for row in rows}) > 1
    failed = any(row["failed"] for row in rows)
    counts = [*(["epochs"] if halved else []), "n", *(["failed"] if failed else [])]
    head = [*keys, *counts, *(f"{held_out} accuracy" if key == "mean" else words_of(key) for key in figures)]
    lines = [
        [
            *(show_value(row[key]) for key in keys),
            *(str(row[key]) for key in counts),
            *(_percent(row[key]) for key in figures),
        ]
        for row in rows[:SHOWN]
    ]
    text = table(lines, "<" * len(keys) + ">" * (len(head) - len(keys)), head)
    rest = len(rows) - SHOWN
    return text if rest <= 0 else f"{text}\nand {rest:,} more, in {FILE}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.3%}"


def failures(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """A line for each error, with the run that had it first, and how many others had it."""
    errors: dict[str, list[Row]] = {}
    for row in rows:
        if row["error"]:
            errors.setdefault(row["error"], []).append(row)
    return [
        f"run {same[0]['run']} ({show_point({key: same[0][key] for key in (*keys, SEED)})})"
        f"{f' and {len(same) - 1:,} more' if len(same) > 1 else ''}: {error}"
        for error, same in errors.items()
    ]
