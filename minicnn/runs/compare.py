"""Existing runs side by side: what is different in their settings, and what has come of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minicnn.config.settings import flat
from minicnn.console import label, table, warn
from minicnn.errors import MinicnnError
from minicnn.metrics import CLASS_FIGURES, tell_more, words_of
from minicnn.model import FILE_NAME, load, weights_hash
from minicnn.runs.data import settings_of_folder
from minicnn.training.callbacks.logs import METRICS, TIMINGS
from minicnn.training.tables import read_table
from minicnn.validation import show

#: Settings that change no figure; layers are told by their number of parameters.
LEFT_OUT = ("output.", "checkpoint.", "training.threads", "data.root", "data.if_unavailable", "network.layers")

Metrics = list[dict[str, Any]]


def compare_runs(runs: Sequence[Path], picture: Path) -> tuple[str, bool]:
    """A table of runs, each with its number; and whether their curves are in the file `picture`, under those numbers.

    Raises MinicnnError for a folder that is none of a run with at least one epoch.
    """
    metrics = [_metrics(run) for run in runs]
    settings = [_settings(run) for run in runs]
    held_out = ["validation" if "validation_loss" in rows[0] else "test" for rows in metrics]
    mixed = len(set(held_out)) > 1
    different = _different(settings)
    word = "held-out" if mixed else held_out[0]
    ends = [_plain(rows[-1], part) for rows, part in zip(metrics, held_out, strict=True)]
    more = CLASS_FIGURES if tell_more((end["accuracy"], end) for end in ends) else ()
    names = [f"{word} accuracy", "best", *map(words_of, more), "loss"]
    head = ["#", "run", *different, "parameters", "epochs", *names, "seconds", "weights"]
    lines = []
    for number, (run, rows, part, end) in enumerate(zip(runs, metrics, held_out, ends, strict=True), 1):
        best = max(row[f"{part}_accuracy"] for row in rows)
        seconds = sum(row["seconds"] for row in read_table(run / TIMINGS))
        shares = [end["accuracy"], best, *(end.get(name) for name in more)]
        percents = ["-" if share is None else f"{share:.2%}" for share in shares]
        figures = [str(len(rows)), *percents, f"{end['loss']:.4f}"]
        values = [show(values[number - 1]) for values in different.values()]
        size, weights = _model(run)
        lines.append([str(number), label(str(run)), *values, size, *figures, f"{seconds:.2f}", weights])
    if mixed:
        warn("no picture: some runs were evaluated on validation images, others on test images")
    else:
        _draw(picture, metrics)
    return table(lines, ">" + "<" * (1 + len(different)) + ">" * (7 + len(more)), head), not mixed


def _metrics(run: Path) -> Metrics:
    rows = read_table(run / METRICS)
    if not rows:
        raise MinicnnError(f"{run / METRICS}: expected at least one epoch, received none")
    return rows


def _plain(row: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The figures of an epoch on the held-out images, without the name of these."""
    return {name.removeprefix(f"{part}_"): value for name, value in row.items() if name.startswith(part)}


def _settings(run: Path) -> dict[str, Any]:
    values = flat(settings_of_folder(run).model_dump(mode="json"))
    return {key: value for key, value in values.items() if not key.startswith(LEFT_OUT)}


def _different(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The settings that are not the same for all runs, with the value for each; None where a run has no such one."""
    keys = dict.fromkeys(key for one in settings for key in one)
    values = {key: [one.get(key) for one in settings] for key in keys}
    return {key: own for key, own in values.items() if any(value != own[0] for value in own)}


def _model(run: Path) -> tuple[str, str]:
    """The number of parameters, and the hash of the weights; dashes for a run that has no model yet."""
    if not (run / FILE_NAME).is_file():
        return "-", "-"
    network = load(run).network
    return f"{network.parameter_count:,}", weights_hash(network)


def _draw(picture: Path, metrics: Sequence[Metrics]) -> None:
    from minicnn.inspect.plots.figures import plot_comparison  # matplotlib takes a second to import

    try:
        plot_comparison(picture, {str(number): rows for number, rows in enumerate(metrics, 1)})
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MinicnnError(f"--out: expected a PNG file that can be written, received {picture}: {reason}") from None
