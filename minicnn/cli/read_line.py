"""`minicnn read-line`: a trained model of single digits on the picture of a whole line."""

import argparse
import io
import json
from dataclasses import asdict
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from minicnn.cli.predict import percent
from minicnn.console import answer, label, table
from minicnn.errors import DataError, MinicnnError, at
from minicnn.files import write_whole
from minicnn.handwriting.line_image import Line, to_line
from minicnn.model import load
from minicnn.model.lines import Found, LineReader, check_characters, in_image

from .common import Parser, check_picture

SUMMARY = "read a line of several digits"
DESCRIPTION = """\
Read a line of several digits. It may be photographed, scanned or drawn, in any size and colour, dark on light
or light on dark, and unevenly lit. RUN is a model of single digits; made fully convolutional, it sees the
whole line at once. For each digit, print where its middle and its ink are, in pixels from the left edge of the
image, and its probability.
"""
EXAMPLES = """\
examples:
  minicnn read-line number.png --run runs/lenet-20250101-120000
  minicnn read-line number.jpg --run runs/lenet-20250101-120000 --show seen.png
  minicnn read-line number.jpg --run model.safetensors --json

The digits should have about the same height and stand apart. Of several lines, the one with the most ink is
read.
"""

ZOOM, LONGEST = 4, 8000  # of the picture: pixels for one of the line, and its greatest width
LABEL = 14  # pixels: the height of what is written below the line
PAPER, INK, MARK = 0, 255, (255, 170, 60)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("image", metavar="IMAGE", type=Path, help="a PNG, JPEG or other image")
    parser.add_argument("--run", metavar="RUN", type=Path, required=True, help="the folder of a run, or a model file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--show", metavar="FILE.png", help="write the line as the network saw it, with what was found where"
    )


def run(arguments: argparse.Namespace) -> int:
    image: Path = arguments.image
    show: str | None = arguments.show
    if show is not None:
        check_picture(Path(show), image)
    try:
        reader = LineReader(check_characters(load(arguments.run)))
    except MinicnnError as error:
        raise at(arguments.run, error) from None
    try:
        line = to_line(image)
        digits = reader.read(line.pixels)
        if not digits:
            raise DataError("expected a line of digits, found none")
    except MinicnnError as error:
        raise at(image, error) from None
    text = ("" if all(len(found.label) == 1 for found in digits) else " ").join(found.label for found in digits)
    places = [in_image(found, line) for found in digits]
    if show is not None:
        write_whole(Path(show), _picture(line, digits))
    if arguments.json:
        tree = {"image": str(image), "text": text, "digits": [asdict(found) for found in places]}
        answer(json.dumps(tree | ({} if show is None else {"shown": show}), indent=2))
        return 0
    answer(f"{image}: {label(text, 1000)}")
    rows = [
        (label(one.label), f"{one.x:.1f}", f"{one.left:.0f} - {one.right:.0f}", percent(one.confidence))
        for one in places
    ]
    answer(table(rows, "<>>>", ("digit", "x", "from - to", "confidence")))
    return 0


def _picture(line: Line, digits: list[Found]) -> bytes:
    """A PNG file of the line, enlarged; below each digit a bracket, its label and its confidence."""
    height, width = line.pixels.shape
    zoom = max(1, min(ZOOM, LONGEST // width))
    seen = Image.fromarray(line.pixels).resize((width * zoom, height * zoom), Image.Resampling.BOX)
    picture = Image.new("RGB", (seen.width, seen.height + 3 * LABEL), PAPER)
    picture.paste(seen.convert("RGB"))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(LABEL)
    for found in digits:
        left, right = found.left * zoom, found.right * zoom - 1
        below = seen.height + 3
        draw.line([(left, below - 3), (left, below), (right, below), (right, below - 3)], MARK)
        for text, y in ((found.label, below + 2), (f"{found.confidence:.0%}", below + LABEL + 2)):
            centre = (left + right) / 2 - draw.textlength(text, font) / 2
            draw.text((centre, y), text, (INK, INK, INK), font)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
