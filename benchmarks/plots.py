"""The two plots of RESULTS.md, for each set of instructions."""

import statistics
from pathlib import Path
from typing import Any

from benchmarks import scaling, training
from benchmarks.harness import Result, ratios

OURS, PLAIN, TUNED = "#1f6f8b", "#b5651d", "#8a8a8a"


def draw(results: Result, folder: Path, isa: str) -> list[Path]:
    """Those plots for which there are results, as PNG files in `folder`."""
    drawn = []
    end = "" if isa == "native" else f"-{isa}"
    for name, plot in (("training", _training), ("scaling", _scaling)):
        if name in results:
            path = folder / f"{name}{end}.png"
            _write(plot(results[name]["rows"]), path)
            drawn.append(path)
    return drawn


def _write(figure: Any, path: Path) -> None:
    from io import BytesIO

    from minicnn.files import write_whole

    content = BytesIO()
    figure.savefig(content, format="png", dpi=80)
    write_whole(path, content.getvalue())


def _training(rows: list[dict[str, Any]]) -> Any:
    """Images per second by batch size, two threads, one panel a network."""
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, network in zip(figure.subplots(1, len(networks), squeeze=False)[0], networks, strict=True):
        mine = [row for row in rows if row["network"] == network]
        sizes = [row["batch_size"] for row in mine]
        for name, colour in ((training.OURS, OURS), (training.PLAIN, PLAIN), (training.TUNED, TUNED)):
            speeds = [row["images_per_second"][name] for row in mine]
            medians = [statistics.median(values) / 1000 for values in speeds]
            low, high = ([f(values) / 1000 for values in speeds] for f in (min, max))
            axes.plot(sizes, medians, color=colour, marker="o", label=name.partition(",")[0])
            axes.fill_between(sizes, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set(title=network, xlabel="batch size", ylabel="thousand images/s", ylim=(0, None))
        axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _scaling(rows: list[dict[str, Any]]) -> Any:
    """The ratio to PyTorch of each network, with least and most of the rounds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    for rival, colour, shift in ((scaling.PLAIN, PLAIN, -0.2), (scaling.TUNED, TUNED, 0.2)):
        for place, row in enumerate(rows):
            rates = row["images_per_second"]
            values = ratios(rates[scaling.OURS], rates[rival])
            middle = statistics.median(values)
            error = [[middle - min(values)], [max(values) - middle]]
            label = f"to {rival.partition(',')[0]}" if place == 0 else None
            axes.barh(place + shift, middle, 0.38, xerr=error, color=colour, label=label)
            axes.text(max(values) + 0.05, place + shift, f"{middle:.1f}", va="center")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [row["network"].removesuffix(", ReLU, max") for row in rows])
    axes.invert_yaxis()
    axes.set(title="Training in batches of 64: times as fast as PyTorch, two threads", xlim=(0, None))
    axes.legend(loc="lower right")
    return figure
