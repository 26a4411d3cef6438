"""Pictures of a sweep: accuracy against each setting that varies, or how it is distributed over the seeds."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from minicnn.console import label
from minicnn.inspect.plots.canvas import BLUE, GREY, INK, PALE, VERMILION, PathLike, charts, plural, write_png
from minicnn.validation import show_value

COLUMNS = 3
MOST = 12  # panels


def plot_sweep(path: PathLike, rows: Sequence[Mapping[str, Any]], keys: Sequence[str], held_out: str) -> None:
    """A panel for each setting in `keys`: a dot for each run, mean and standard deviation of each value.

    `rows` are those of sweep.csv as numbers; failed runs have no accuracy (None). Without `keys`, a histogram.
    """
    rows = [row for row in rows if row["accuracy"] is not None]
    panels = list(keys[:MOST]) or [""]
    columns = min(COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    margins = {"left": 0.18 / columns + 0.02, "bottom": 0.15 / lines, "top": 1 - 0.12 / lines}
    margins |= {"right": 0.98, "wspace": 0.3, "hspace": 0.45}
    figure, found = charts(max(900, 620 * columns), 560 * lines, margins, lines, columns)
    for axes, key in zip(found, panels, strict=False):
        axes.grid(axis="x", color=PALE, linewidth=0.8)
        axes.tick_params(labelsize=8)
        if key:
            _against(axes, key, rows)
            axes.set_ylabel(f"{held_out} accuracy")
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        else:
            _histogram(axes, [row["accuracy"] for row in rows], held_out)
    for axes in found[len(panels) :]:
        axes.set_visible(False)
    write_png(figure, path)


def _against(axes: Axes, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy against the values of a setting: in their order if they are numbers, else side by side."""
    groups: dict[str, list[float]] = {}
    values: dict[str, Any] = {}
    for row in rows:
        name = show_value(row[key])
        values[name] = row[key]
        groups.setdefault(name, []).append(row["accuracy"])
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values())
    names = sorted(values, key=lambda name: values[name]) if numbers else list(values)
    places = {name: values[name] if numbers else k for k, name in enumerate(names)}
    x = [places[show_value(row[key])] for row in rows]
    axes.scatter(x, [row["accuracy"] for row in rows], s=14, color=BLUE, alpha=0.4, linewidths=0, zorder=2)
    several = [name for name in names if len(groups[name]) > 1]
    if several:
        means, spreads = ([measure(groups[name]) for name in several] for measure in (mean, stdev))
        style: dict[str, Any] = {"fmt": "o-" if numbers else "o", "markersize": 4, "capsize": 4, "linewidth": 1.2}
        axes.errorbar([places[name] for name in several], means, spreads, color=VERMILION, zorder=3, **style)
        axes.set_title("mean and standard deviation of each value", loc="left", fontsize=8, color=GREY)
    if numbers and min(x) > 0 and max(x) >= 10 * min(x):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if not numbers or len(names) <= 8:
        axes.set_xticks([places[name] for name in names], [label(name, 16) for name in names])
        axes.minorticks_off()
    if not numbers:
        axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel(label(key))


def _histogram(axes: Axes, accuracies: Sequence[float], held_out: str) -> None:
    """How many runs have which accuracy."""
    bins = min(40, max(5, math.ceil(2 * len(accuracies) ** (1 / 3))))  # Rice's rule
    low, high = min(accuracies), max(accuracies)
    axes.hist(accuracies, np.linspace(low, high, bins + 1).tolist() if high > low else 1, color=BLUE)
    axes.axvline(mean(accuracies), color=VERMILION, linewidth=1.5)
    spread = f", standard deviation {stdev(accuracies):.3%}" if len(accuracies) > 1 else ""
    text = f"{plural(len(accuracies), 'run')}: mean {mean(accuracies):.3%}{spread}, {low:.2%} to {high:.2%}"
    axes.set_title(text, loc="left", fontsize=8, color=INK)
    axes.set_xlabel(f"{held_out} accuracy")
    axes.set_ylabel("runs")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=2))
