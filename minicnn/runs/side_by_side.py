"""Existing runs side by side: what is different in their settings, and what has come of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minicnn.config.settings import Settings, flat
from minicnn.console import label, table, warn
from minicnn.errors import MinicnnError
from minicnn.model import FILE_NAME, load, weights_hash
from minicnn.runs.data import settings_of
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
    head = ["#", "run", *different, "parameters", "epochs", f"{word} accuracy", "best", "loss", "seconds", "weights"]
    lines = []
    for number, (run, rows, part) in enumerate(zip(runs, metrics, held_out, strict=True), 1):
        accuracies = [row[f"{part}_accuracy"] for row in rows]
        seconds = sum(row["seconds"] for row in read_table(run / TIMINGS))
        figures = [str(len(rows)), f"{accuracies[-1]:.2%}", f"{max(accuracies):.2%}", f"{rows[-1][f'{part}_loss']:.4f}"]
        values = [show(values[number - 1]) for values in different.values()]
        size, weights = _model(run)
        lines.append([str(number), label(str(run)), *values, size, *figures, f"{seconds:.2f}", weights])
    if mixed:
        warn("no picture: some runs were evaluated on validation images, others on test images")
    else:
        _draw(picture, metrics)
    return table(lines, ">" + "<" * (1 + len(different)) + ">" * 7, head), not mixed


def _metrics(run: Path) -> Metrics:
    rows = read_table(run / METRICS)
    if not rows:
        raise MinicnnError(f"{run / METRICS}: expected at least one epoch, received none")
    return rows


def _settings(run: Path) -> dict[str, Any]:
    found: Settings | None = settings_of(run)
    if found is None:
        raise MinicnnError(f"{run}: expected the folder of a run, with config.yaml in it")
    values = flat(found.model_dump(mode="json"))
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
