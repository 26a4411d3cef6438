"""`minicnn filters`: the filters of a trained network as pictures."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minicnn.console import answer, table
from minicnn.engine.arrays import Array
from minicnn.errors import MinicnnError
from minicnn.inspect.summary import leaves, short
from minicnn.layers import Conv2d, Layer, LocallyConnected2d
from minicnn.model import load

from .common import Parser, add_out, add_run, picture_folder

SUMMARY = "draw a model's filters and the frequencies they let pass"
DESCRIPTION = """\
Draw the filters of every convolution (or locally connected layer) of a model, each with the spatial
frequencies that it lets pass (the magnitude of its Fourier transform), and print how much of that is low:
filters that smooth are low-pass, filters that find edges band-pass or high-pass.
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
    found = list(_filters(model.network))
    if not found:
        raise MinicnnError(f"{run}: expected a network with a Conv2d or LocallyConnected2d, received {model.network!r}")
    folder = picture_folder(run, out, "filters")
    files = []
    for seen in found:
        rows = []
        for name, kernels in zip(seen.labels, seen.weight, strict=True):
            has = passing(np.nan_to_num(kernels), seen.dilation)
            rows.append((name, "-" if np.isnan(has.low) else f"{has.low:.1%}", f"{has.mean_gain:.3f}", has.kind))
        heads = ("filter", "low frequencies", "mean gain", "kind")
        answer(f"layer {seen.title}\n{table(rows, '>>><', heads)}")
        files.append(folder / f"{seen.file}.png")
        title = f"Layer {seen.title}"
        plot_responses(files[-1], seen.weight, title, seen.dilation, seen.labels)
    answer(
        "low frequencies: share of the energy below half the Nyquist frequency (white noise: 25 %)\n"
        "mean gain: the response at frequency 0, as a share of the largest\n" + "\n".join(map(str, files))
    )


class _Seen(NamedTuple):
    """Weights that can be seen as images: (filters, inputs, kh, kw), NaN for kernels that do not exist."""

    file: str
    title: str
    weight: Array
    dilation: tuple[int, int]
    labels: list[str]


def _filters(network: Layer) -> Iterator[_Seen]:
    for name, layer in leaves(network):
        file, title = f"{name}-{type(layer).__name__}", f"{name}: {short(repr(layer))}"
        if isinstance(layer, Conv2d):
            weight = layer.full_weight()
            if layer.table is not None:
                weight[~layer.table.table] = np.nan
            yield _Seen(file, title, weight, layer.dilation, [str(k) for k in range(len(weight))])
        elif isinstance(layer, LocallyConnected2d):
            weight = layer.weight.value
            strongest = int(np.square(weight).sum(axis=(0, 1, 3, 4, 5)).argmax())
            places = [(i, j) for i in _spread(len(weight)) for j in _spread(weight.shape[1])]
            yield _Seen(
                file,
                f"{title}, map {strongest} at some places (row,column)",
                np.stack([weight[i, j, strongest] for i, j in places]),
                layer.dilation,
                [f"{i},{j}" for i, j in places],
            )


def _spread(size: int) -> list[int]:
    """At most 4 of the numbers 0 to size - 1, evenly."""
    return sorted({round(at) for at in np.linspace(0, size - 1, 4).tolist()})
