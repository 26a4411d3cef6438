"""The picture of a learning-rate range test."""

import math
from typing import Any

from matplotlib.ticker import NullLocator

from minicnn.inspect.plots.canvas import BLUE, GREY, VERMILION, PathLike, charts, write_png
from minicnn.training.range_test import RangeTest


def plot_range_test(path: PathLike, found: RangeTest) -> None:
    """The loss of each step and its average over the learning rate, and the rate that is suggested."""
    averages = found.averages
    figure, [axes] = charts(1200, 750, {"left": 0.09, "right": 0.97, "bottom": 0.12, "top": 0.84})
    axes.plot(found.rates, found.losses, color="#BBBBBB", lw=1)
    axes.plot(found.rates, averages, color=BLUE, lw=2)
    axes.set_xscale("log")
    decades = range(math.ceil(math.log10(found.rates[0])), math.floor(math.log10(found.rates[-1])) + 1)
    axes.set_xticks([10.0**d for d in decades], [f"{10.0**d:g}" for d in decades])
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = float(found.losses.min()), float(averages[: max(len(averages) // 2, 1)].max())
    axes.set_ylim(low - 0.05 * (high - low), high + 0.2 * (high - low) + 1e-9)  # an explosion has no room
    axes.set(xlabel="learning rate (log scale)", ylabel="loss before the step")
    top = axes.get_ylim()[1]
    # A white ground makes them legible on the curves.
    beside: dict[str, Any] = {"va": "top", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.5}}
    axes.axvline(found.suggestion, color=VERMILION, lw=1.6)
    axes.text(found.suggestion, top, f" {found.suggestion:.2g}", color=VERMILION, fontweight="bold", **beside)
    axes.axvline(found.lowest, color=GREY, lw=1, ls=":")
    axes.text(found.lowest, top, f" lowest average, {found.lowest:.2g}", color=GREY, fontsize=9, **beside)
    axes.set_title("Learning-rate range test", loc="left", fontweight="bold", pad=30)
    note = "grey: the loss of each batch; blue: its average; orange: a tenth of the rate where it is lowest"
    axes.text(0, 1.03, note, transform=axes.transAxes, color=GREY, fontsize=9)
    write_png(figure, path)
