"""`minicnn filters` and `minicnn maps`: what a trained network looks for in images, and what it finds, as pictures."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minicnn.console import answer, label
from minicnn.engine.arrays import Array
from minicnn.errors import MinicnnError
from minicnn.inspect.summary import leaves, short
from minicnn.layers import Conv2d, Dropout, Flatten, Layer, LocallyConnected2d
from minicnn.model import Model, load
from minicnn.prediction import best, look_at


def run_filters(run: Path, out: Path | None) -> None:
    """Draws the filters of every layer that has some, and prints a table of what they let pass.

    out: the folder of the pictures [filters in the run's folder]. Raises MinicnnError for a model that cannot be had or
    has no filters, and a folder that cannot be written.
    """
    from minicnn.inspect.filters import plot_responses
    from minicnn.inspect.frequency import passing

    model = load(run)
    found = list(_filters(model.network))
    if not found:
        raise MinicnnError(
            f"{run}: expected a network with a Conv2d or LocallyConnected2d, received {model.network!r}"
        )
    folder = _folder(run, out, "filters")
    files = []
    for seen in found:
        answer(f"layer {seen.title}\n  filter  low frequencies  mean gain  kind")
        for name, kernels in zip(seen.labels, seen.weight, strict=True):
            has = passing(np.nan_to_num(kernels), seen.dilation)
            share = "-" if np.isnan(has.low) else f"{has.low:.1%}"
            answer(f"  {name:>6}  {share:>15}  {has.mean_gain:>9.3f}  {has.kind}")
        files.append(folder / f"{seen.file}.png")
        title = f"Layer {seen.title}"
        plot_responses(files[-1], seen.weight, title, seen.dilation, seen.labels)
    answer(
        "low frequencies: share of the energy below half the Nyquist frequency (white noise: 25 %)\n"
        "mean gain: the response at frequency 0, as a share of the largest\n"
        + "\n".join(map(str, files))
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


def _names(model: Model) -> tuple[str, ...]:
    return tuple(map(label, model.classes or map(str, range(model.output_shape[0]))))


def _spread(size: int) -> list[int]:
    """At most 4 of the numbers 0 to size - 1, evenly."""
    return sorted({round(at) for at in np.linspace(0, size - 1, 4).tolist()})


def run_maps(run: Path, image: Path, out: Path | None, raw: bool) -> None:
    """Draws what every layer makes of an image, which is prepared as `minicnn predict` does it.

    out: the folder of the pictures [maps/<name of the image> in the run's folder]. Raises MinicnnError for a model or
    an image that cannot be used, and a folder that cannot be written.
    """
    from minicnn.inspect.maps import plot_maps

    model = load(run)
    if len(model.input_shape) != 3:
        raise MinicnnError(
            f"{run}: expected a model of images (C, H, W), received one of {model.input_shape}"
        )
    try:
        pixels = look_at(image, model, raw)
    except MinicnnError as error:
        raise MinicnnError(
            str(error) if str(image) in str(error) else f"{image}: {error}"
        ) from None
    x = model.normalized(pixels)
    drawings: list[tuple[str, Callable[[Path], None]]] = []

    def plan(file: str, y: Array, title: str, names: tuple[str, ...] | None, note: str) -> None:
        drawings.append((file, lambda path: plot_maps(path, y, title, names, note)))

    plan("input.png", x[0], f"Input: {image.name} as {_by(x[0])}", None, "normalised pixels")
    note = ""
    if len(model.output_shape) == 1:  # else it gives maps of scores
        note = f"read as {label(best(model, pixels)[0]['class'])}"
    layers = list(leaves(model.network))
    for place, (name, layer) in enumerate(layers):
        x = layer.forward(x)
        if isinstance(layer, Flatten | Dropout):  # changes nothing
            continue
        last = place == len(layers) - 1
        names = _names(model) if last else None
        title = f"Layer {name}: {short(repr(layer))} gives {_by(x[0])}"
        plan(f"{name}-{type(layer).__name__}.png", x[0], title, names, note if last else "")
    folder = _folder(run, out, f"maps/{image.stem}")
    for file, draw in drawings:
        draw(folder / file)
    answer("\n".join(str(folder / file) for file, _ in drawings))


def _folder(run: Path, out: Path | None, name: str) -> Path:
    """The folder for the pictures, made."""
    folder = out or (run if run.is_dir() else run.parent) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MinicnnError(
            f"--out: expected a folder that can be written, received {folder}: {error.strerror}"
        ) from None
    return folder


def _by(y: Array) -> str:
    return "x".join(map(str, y.shape))
