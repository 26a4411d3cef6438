"""`minicnn predict`: a trained model on a user's own images."""

import argparse
import csv
import glob
import io
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
from minicnn.data.folder import image_files
from minicnn.data.image_file import write_png
from minicnn.engine.progress import compiling
from minicnn.errors import ConfigError, MinicnnError, at
from minicnn.files import make_folder, write_whole
from minicnn.handwriting.line_image import seems_several
from minicnn.model import Model, load

from .common import Parser, add_run, add_tta, check_picture, warn_of_views

SUMMARY = "say what is on your own images"
DESCRIPTION = """\
Print the most probable classes of each image, or of each image in a folder. For a model that was trained on
MNIST, EMNIST or KMNIST, the image is first brought into MNIST's form. It may be a photo or scan of any size and
colour, with dark ink on light paper or light on dark; transparent pixels count as paper. For other models, and
with --raw, the image is only resized and made grey or colour, as in training on a folder of images.
"""
EXAMPLES = """\
examples:
  minicnn predict runs/lenet-20250101-120000 photo.jpg
  minicnn predict runs/lenet-20250101-120000 scans/*.png --json
  minicnn predict runs/birds-20250101-120000 photos/ --csv birds.csv --top 2
  minicnn predict runs/lenet-20250101-120000 photo.jpg --show seen.png
  minicnn predict runs/lenet-20250101-120000 scans/*.png --show seen/

For an image that cannot be used, there is an error; the other images are answered.
"""


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="a PNG, JPEG or other image, or a folder of them")
    parser.add_argument("--top", metavar="K", type=int, default=3, help="how many classes to name for each image [3]")
    parser.add_argument("--raw", action="store_true", help="only resize, do not look for a digit")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_tta(parser)
    parser.add_argument(
        "--csv", metavar="FILE", type=Path, help="write a table with a row for each image, instead of printing one"
    )
    parser.add_argument(
        "--show",
        metavar="PLACE",
        help="write what the network was shown, into the file PLACE (one image, PLACE.png) "
        "or into the folder PLACE (a file for each image)",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.top < 1:
        raise ConfigError(f"--top: expected a number of classes, at least 1, received {arguments.top}")
    raw, top, tta = arguments.raw, arguments.top, arguments.tta
    images = [Path(image) for given in arguments.images for image in _matching(given)]
    model = load(arguments.run)
    if len(model.input_shape) != 3:
        raise MinicnnError(
            f"{arguments.run}: expected a model of images (C, H, W), received one of {model.input_shape}"
        )
    warn_of_views(model, tta)
    targets = [None] * len(images) if arguments.show is None else _targets(images, arguments.show, model)
    answers: list[dict[str, Any]] = []
    for path, target in zip(images, targets, strict=True):
        try:
            pixels = model.look_at(path, raw)
            if model.reads_characters and not raw and seems_several(path):
                console.warn(
                    f"{path}: seems to hold several characters, of which the one with the most ink is taken; "
                    f"minicnn read-line {path} --run {arguments.run} reads a line of them"
                )
        except MinicnnError as error:  # of this image; the others are answered
            text = str(at(path, error))
            console.error(text)
            answers.append({"image": str(path), "error": text})
            continue
        with compiling():
            found = {"image": str(path), "predictions": best(model, pixels, top, tta)}
        if target is not None:
            make_folder(target.parent, "--show")
            write_png(target, pixels)
            found["shown"] = str(target)
        answers.append(found)
    if arguments.csv is not None:
        write_whole(arguments.csv, _csv(answers, min(top, model.output_shape[0])).encode())
        console.info(f"{arguments.csv}: {len(answers):,} images")
    if arguments.json:
        answer(json.dumps(answers, indent=2))
    elif arguments.csv is None and any("predictions" in found for found in answers):
        answer(_table(answers))
    return int(any("error" in found for found in answers))


def _matching(given: str) -> list[str] | list[Path]:
    """The images in a folder, or the files that a pattern such as scans/*.png stands for, which the shells of Windows
    leave as it is."""
    if os.path.isdir(given):
        return image_files(Path(given)) or [given]
    return [given] if os.path.lexists(given) else sorted(glob.glob(given)) or [given]


def best(model: Model, pixels: NDArray[np.uint8], top: int = 3, tta: int = 1) -> list[dict[str, Any]]:
    """The most probable classes of one image, best first."""
    [probabilities] = model.predict_proba(pixels, tta)
    order = np.argsort(-probabilities, kind="stable")[:top]
    names = model.classes or tuple(map(str, range(len(probabilities))))
    return [{"class": names[k], "probability": float(probabilities[k])} for k in order]


def _targets(images: Sequence[Path], show: str, model: Model) -> Sequence[Path | None]:
    """The file for each image: `show` itself, or <image>-28x28.png in it, numbered where names are equal."""
    place = Path(show)
    if place.suffix.lower() == ".png" and not place.is_dir():
        if len(images) > 1:
            raise ConfigError(f"--show: expected a folder for {len(images)} images, received the file {show}")
        check_picture(place, images[0])
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


def _csv(answers: Sequence[dict[str, Any]], top: int) -> str:
    """A row for each image: the most probable class, its probability, the next ones; or what is wrong with the file."""
    text = io.StringIO()
    pairs = [(f"class_{k}", f"probability_{k}") if k > 1 else ("class", "probability") for k in range(1, top + 1)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *itertools.chain(*pairs), "error"])
    for row in answers:
        found = [
            cell for guess in row.get("predictions", ()) for cell in (guess["class"], f"{guess['probability']:.6g}")
        ]
        writer.writerow([row["image"], *(found or [""] * 2 * top), row.get("error", "")])
    return text.getvalue()


def percent(share: float) -> str:
    """Never 100 %, nor 0: a network is not that sure."""
    if share > 0.99995:
        return ">99.99%"
    return f"{share:.2%}" if share >= 0.00005 else "<0.01%"
