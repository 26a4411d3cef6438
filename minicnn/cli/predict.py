"""`minicnn predict`: a trained model on a user's own images."""

import argparse
import glob
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn import console
from minicnn.console import answer, label, table
from minicnn.engine.progress import compiling
from minicnn.errors import ConfigError, MinicnnError
from minicnn.handwriting.image_file import write_png
from minicnn.model import Model, load
from minicnn.runs.subject import look_at

from .common import Parser, add_run, add_tta, warn_of_views

SUMMARY = "say what is on your own images"
DESCRIPTION = """\
Print the three most probable classes of each image. For a model that was trained on MNIST, EMNIST or KMNIST,
the image is first brought into MNIST's form. It may be a photo or scan of any size and colour, with dark ink on
light paper or light on dark; transparent pixels count as paper. For other models, and with --raw, the image is
only resized and made grey or colour.
"""
EXAMPLES = """\
examples:
  minicnn predict runs/lenet-20250101-120000 photo.jpg
  minicnn predict runs/lenet-20250101-120000 scans/*.png --json
  minicnn predict runs/lenet-20250101-120000 photo.jpg --show seen.png
  minicnn predict runs/lenet-20250101-120000 scans/*.png --show seen/

For an image that cannot be used, there is an error; the other images are answered.
"""

BEST = 3  # classes that are named


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="a PNG, JPEG or other image")
    parser.add_argument("--raw", action="store_true", help="only resize, do not look for a digit")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_tta(parser)
    parser.add_argument(
        "--show",
        metavar="PLACE",
        help="write what the network was shown, into the file PLACE (one image, PLACE.png) "
        "or into the folder PLACE (a file for each image)",
    )


def run(arguments: argparse.Namespace) -> int:
    images = [Path(image) for given in arguments.images for image in _matching(given)]
    good = run_predict(Path(arguments.run), images, arguments.raw, arguments.show, arguments.json, arguments.tta)
    return 0 if good else 1


def _matching(given: str) -> list[str]:
    """The files that a pattern such as scans/*.png stands for, which the shells of Windows leave as it is."""
    return [given] if os.path.lexists(given) else sorted(glob.glob(given)) or [given]


def run_predict(run: Path, images: Sequence[Path], raw: bool, show: str | None, as_json: bool, tta: int = 1) -> bool:
    """Prints the three most probable classes of each image, as a table or as JSON.

    show: a PNG file (one image), or a folder, for what the network was shown. An image that cannot be used is an
    error on standard error; False if there was one. Raises MinicnnError for a model that cannot be had or does not take
    images, and where nothing can be written; ConfigError for a `show` that does not fit.
    """
    model = load(run)
    if len(model.input_shape) != 3:
        raise MinicnnError(f"{run}: expected a model of images (C, H, W), received one of {model.input_shape}")
    warn_of_views(model, tta)
    targets: Sequence[Path | None] = [None] * len(images)
    if show is not None:
        targets = _targets(images, show, model)
    answers: list[dict[str, Any]] = []
    for path, target in zip(images, targets, strict=True):
        try:
            pixels = look_at(path, model, raw)
        except MinicnnError as error:
            text = str(error) if str(path) in str(error) else f"{path}: {error}"
            console.error(text)
            answers.append({"image": str(path), "error": text})
            continue
        with compiling():
            found = {"image": str(path), "predictions": best(model, pixels, tta)}
        if target is not None:
            _write(target, pixels)
            found["shown"] = str(target)
        answers.append(found)
    if as_json:
        answer(json.dumps(answers, indent=2))
    elif any("predictions" in found for found in answers):
        answer(_table(answers))
    return not any("error" in found for found in answers)


def _write(target: Path, pixels: NDArray[np.uint8]) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MinicnnError(
            f"--show: expected a folder that can be written, received {target.parent}: {error.strerror}"
        ) from None
    write_png(target, pixels)


def best(model: Model, pixels: NDArray[np.uint8], tta: int = 1) -> list[dict[str, Any]]:
    """The most probable classes of one image, best first."""
    [probabilities] = model.predict_proba(pixels, tta)
    order = np.argsort(-probabilities, kind="stable")[:BEST]
    names = model.classes or tuple(map(str, range(len(probabilities))))
    return [{"class": names[k], "probability": float(probabilities[k])} for k in order]


def _targets(images: Sequence[Path], show: str, model: Model) -> Sequence[Path]:
    """The file for each image: `show` itself, or <image>-28x28.png in it, numbered where names are equal."""
    place = Path(show)
    if place.suffix.lower() == ".png" and not place.is_dir():
        if len(images) > 1:
            raise ConfigError(f"--show: expected a folder for {len(images)} images, received the file {show}")
        if place.exists() and images[0].exists() and place.samefile(images[0]):
            raise ConfigError(f"--show: expected another file than the image, received {show}")
        return [place]
    if place.exists() and not place.is_dir():
        raise ConfigError(f"--show: expected a folder or a file .png, received the file {show}")
    _, height, width = model.input_shape
    targets: list[Path] = []
    taken: set[str] = set()
    for image in images:
        stem = f"{image.stem}-{width}x{height}"
        names = (f"{stem}{'' if number == 1 else f'-{number}'}.png" for number in itertools.count(1))
        name = next(name for name in names if name.casefold() not in taken)  # macOS and Windows: a.png is A.png
        taken.add(name.casefold())
        targets.append(place / name)
    shown = {image.resolve() for image in images}
    for target in targets:
        if target.resolve() in shown:
            raise ConfigError(
                f"--show: expected a folder in which no image is replaced, received {show}, "
                f"where {target.name} is one of them"
            )
    return targets


def _table(answers: Sequence[dict[str, Any]]) -> str:
    rows = [
        [row["image"], *(cell for g in row["predictions"] for cell in (label(g["class"]), percent(g["probability"])))]
        for row in answers
        if "predictions" in row
    ]
    return table(rows, "<" + len(rows[0]) // 2 * "<>")


def percent(share: float) -> str:
    """Never 100 %, nor 0: a network is not that sure."""
    if share > 0.99995:
        return ">99.99%"
    return f"{share:.2%}" if share >= 0.00005 else "<0.01%"
