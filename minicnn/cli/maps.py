"""`minicnn maps`: what each layer of a trained network makes of an image, as pictures."""

import argparse
from collections.abc import Callable
from pathlib import Path

from minicnn.console import answer, label
from minicnn.engine.arrays import Array
from minicnn.errors import MinicnnError
from minicnn.inspect.summary import leaves, short
from minicnn.model import Model, load

from .common import Parser, add_out, add_run, picture_folder
from .predict import best, look_at

SUMMARY = "draw what each layer makes of an image"
DESCRIPTION = """\
Draw what every layer of a model makes of IMAGE, which is prepared as in `minicnn predict`. Layers that
change nothing, such as Flatten and Dropout, get no picture.
"""
EXAMPLES = """\
examples:
  minicnn maps runs/lenet-20250101-120000 photo.jpg         (into runs/lenet-20250101-120000/maps/photo)
  minicnn maps runs/lenet-20250101-120000 photo.jpg --out pictures
"""


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("image", metavar="IMAGE", type=Path, help="a PNG, JPEG or other image")
    parser.add_argument("--raw", action="store_true", help="only resize, do not look for a digit")
    add_out(parser)


def run(arguments: argparse.Namespace) -> int:
    run_maps(Path(arguments.run), arguments.image, arguments.out, arguments.raw)
    return 0


def run_maps(run: Path, image: Path, out: Path | None, raw: bool) -> None:
    """Draws what every layer makes of an image, which is prepared as `minicnn predict` does it.

    out: the folder of the pictures [maps/<name of the image> in the run's folder]. Raises MinicnnError for a model or
    an image that cannot be used, and a folder that cannot be written.
    """
    from minicnn.inspect.plots.maps import plot_maps

    model = load(run)
    if len(model.input_shape) != 3:
        raise MinicnnError(f"{run}: expected a model of images (C, H, W), received one of {model.input_shape}")
    try:
        pixels = look_at(image, model, raw)
    except MinicnnError as error:
        raise MinicnnError(str(error) if str(image) in str(error) else f"{image}: {error}") from None
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
        if layer.identity:
            continue
        last = place == len(layers) - 1
        names = _names(model) if last else None
        title = f"Layer {name}: {short(repr(layer))} gives {_by(x[0])}"
        plan(f"{name}-{type(layer).__name__}.png", x[0], title, names, note if last else "")
    folder = picture_folder(run, out, f"maps/{image.stem}")
    for file, draw in drawings:
        draw(folder / file)
    answer("\n".join(str(folder / file) for file, _ in drawings))


def _names(model: Model) -> tuple[str, ...]:
    return tuple(map(label, model.classes or map(str, range(model.output_shape[0]))))


def _by(y: Array) -> str:
    return "x".join(map(str, y.shape))
