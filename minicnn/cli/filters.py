"""`minicnn filters`: the filters of a trained network as pictures."""

import argparse

import numpy as np

from minicnn.console import answer, table
from minicnn.errors import MinicnnError
from minicnn.inspect.summary import short
from minicnn.layers.walk import leaves

from .common import Parser, add_out, add_subject, picture_folder, picture_name, subject_of

SUMMARY = "draw a network's filters and the frequencies that they let pass"
USAGE = "%(prog)s (RUN | CONFIG [KEY=VALUE ...]) [--out DIR]"
DESCRIPTION = """\
Draw the filters of every convolution or locally connected layer of a network. Beside each filter are the spatial
frequencies that it lets pass, the magnitude of its Fourier transform. Print the share of low frequencies:
filters that smooth are low-pass, filters that find edges are band-pass or high-pass.
"""
EXAMPLES = """\
examples:
  minicnn filters runs/lenet-20250101-120000                (into runs/lenet-20250101-120000/filters)
  minicnn filters runs/lenet-20250101-120000 --out pictures
  minicnn filters configs/lenet.yaml                        (start weights; into lenet/filters)
"""


def add_arguments(parser: Parser) -> None:
    add_subject(parser)
    add_out(parser)


def run(arguments: argparse.Namespace) -> int:
    from minicnn.inspect.frequency import passing
    from minicnn.inspect.plots.filters import plot_responses

    subject = subject_of(arguments)
    found = [(name, layer, seen) for name, layer in leaves(subject.network) if (seen := layer.filters()) is not None]
    if not found:
        raise MinicnnError(
            f"{subject.name}: expected a network with a Conv2d or LocallyConnected2d, received {subject.network!r}"
        )
    folder = picture_folder(subject, arguments.out, "filters")
    files = []
    for place, layer, (note, weight, labels) in found:
        title, dilation = f"{place}: {short(repr(layer))}{note}", layer.window[3] if layer.window else (1, 1)
        rows = []
        for name, kernels in zip(labels, weight, strict=True):
            has = passing(np.nan_to_num(kernels), dilation)
            rows.append((name, "-" if np.isnan(has.low) else f"{has.low:.1%}", f"{has.mean_gain:.3f}", has.kind))
        heads = ("filter", "low frequencies", "mean gain", "kind")
        answer(f"layer {title}\n{table(rows, '>>><', heads)}")
        files.append(folder / picture_name(place, layer))
        plot_responses(files[-1], weight, f"Layer {title}", dilation, labels)
    answer(
        "low frequencies: share of the energy below half the Nyquist frequency (white noise: 25 %)\n"
        "mean gain: the response at frequency 0, as a share of the largest\n" + "\n".join(map(str, files))
    )
    return 0
