"""`minicnn filters`: the filters of a trained network as pictures."""

import argparse
from pathlib import Path

import numpy as np

from minicnn.console import answer, table
from minicnn.errors import MinicnnError
from minicnn.inspect.summary import leaves, short
from minicnn.model import load

from .common import Parser, add_out, add_run, picture_folder

SUMMARY = "draw a model's filters and the frequencies that they let pass"
DESCRIPTION = """\
Draw the filters of every convolution or locally connected layer of a model. Beside each filter are the spatial
frequencies that it lets pass, the magnitude of its Fourier transform. Print the share of low frequencies:
filters that smooth are low-pass, filters that find edges are band-pass or high-pass.
"""
EXAMPLES = """\
examples:
  minicnn filters runs/lenet-20250101-120000                (into runs/lenet-20250101-120000/filters)
  minicnn filters runs/lenet-20250101-120000 --out pictures
"""


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    add_out(parser)


def run(arguments: argparse.Namespace) -> int:
    run_filters(Path(arguments.run), arguments.out)
    return 0


def run_filters(run: Path, out: Path | None) -> None:
    """Draws the filters of every layer that has some, and prints a table of what they let pass.

    out: the folder of the pictures [filters in the run's folder]. Raises MinicnnError for a model that cannot be had or
    has no filters, and a folder that cannot be written.
    """
    from minicnn.inspect.frequency import passing
    from minicnn.inspect.plots.filters import plot_responses

    model = load(run)
    found = [(name, layer, seen) for name, layer in leaves(model.network) if (seen := layer.filters()) is not None]
    if not found:
        raise MinicnnError(f"{run}: expected a network with a Conv2d or LocallyConnected2d, received {model.network!r}")
    folder = picture_folder(run, out, "filters")
    files = []
    for place, layer, (note, weight, labels) in found:
        title, dilation = f"{place}: {short(repr(layer))}{note}", layer.window[3] if layer.window else (1, 1)
        rows = []
        for name, kernels in zip(labels, weight, strict=True):
            has = passing(np.nan_to_num(kernels), dilation)
            rows.append((name, "-" if np.isnan(has.low) else f"{has.low:.1%}", f"{has.mean_gain:.3f}", has.kind))
        heads = ("filter", "low frequencies", "mean gain", "kind")
        answer(f"layer {title}\n{table(rows, '>>><', heads)}")
        files.append(folder / f"{place}-{type(layer).__name__}.png")
        plot_responses(files[-1], weight, f"Layer {title}", dilation, labels)
    answer(
        "low frequencies: share of the energy below half the Nyquist frequency (white noise: 25 %)\n"
        "mean gain: the response at frequency 0, as a share of the largest\n" + "\n".join(map(str, files))
    )
