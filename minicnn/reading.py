"""`minicnn read-line`: a trained model of single digits on the picture of a whole line."""

import io
import json
from dataclasses import asdict, replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from minicnn.console import answer, label
from minicnn.data import CHARACTERS, OWN
from minicnn.errors import ConfigError, DataError, MinicnnError
from minicnn.files import write_whole
from minicnn.images import Source
from minicnn.line_image import Line, to_line
from minicnn.lines import Found, LineReader
from minicnn.model import Model, load
from minicnn.prediction import percent

SIDES = range(
    28, 37
)  # of the images of a model whose digits have MNIST's size, 20 pixels, and a margin
ZOOM, LONGEST = 4, 8000  # of the picture: pixels for one of the line, and its greatest width
LABEL = 14  # pixels: the height of what is written below the line
PAPER, INK, MARK = 0, 255, (255, 170, 60)


def read_line(model: Model, source: Source) -> list[Found]:
    """The digits in the picture of a line, from left to right; coordinates are pixels of that picture.

    model: trained on single characters in MNIST's form (MNIST, EMNIST, KMNIST or one's own).
    source: the path of an image file, a Pillow image or an array (see images.open_image); dark on light or light on
    dark, digits of any size from 7 pixels on, of about one height.

    Raises DataError for an image that cannot be read or has no ink; MinicnnError for a model of another kind.
    """
    reader, line = LineReader(_of_characters(model)), to_line(source)
    return [_in_image(found, line) for found in reader.read(line.pixels)]


def run_read_line(run: Path, image: Path, show: str | None, as_json: bool) -> None:
    """Prints the digits in an image with their places and confidences, as a table or as JSON.

    show: a PNG file for the line as the network saw it, with what was found where. Raises MinicnnError for a model or
    an image that cannot be used, and where nothing can be written; ConfigError for a `show` that does not fit.
    """
    if show is not None:
        _check_target(Path(show), image)
    try:
        reader = LineReader(_of_characters(load(run)))
    except MinicnnError as error:
        raise _at(run, error) from None
    try:
        line = to_line(image)
        digits = reader.read(line.pixels)
        if not digits:
            raise DataError("expected a line of digits, found none")
    except MinicnnError as error:
        raise _at(image, error) from None
    text = ("" if all(len(found.label) == 1 for found in digits) else " ").join(
        found.label for found in digits
    )
    places = [_in_image(found, line) for found in digits]
    if show is not None:
        write_whole(Path(show), _picture(line, digits))
    if as_json:
        tree = {"image": str(image), "text": text, "digits": [asdict(found) for found in places]}
        answer(json.dumps(tree | ({} if show is None else {"shown": show}), indent=2))
        return
    answer(f"{image}: {label(text, 1000)}")
    name = max(5, *(len(label(found.label)) for found in places))
    answer(f"{'digit':<{name}}  {'x':>7}  {'from - to':>13}  confidence")
    for found in places:
        span = f"{found.left:.0f} - {found.right:.0f}"
        answer(
            f"{label(found.label):<{name}}  {found.x:>7.1f}  {span:>13}  {percent(found.confidence):>10}"
        )


def _of_characters(model: Model) -> Model:
    if model.data_set is not None and model.data_set not in (*CHARACTERS, *OWN):
        raise MinicnnError(
            f"expected a model trained on characters, such as mnist, received one of {model.data_set}"
        )
    if len(model.input_shape) == 3 and not all(side in SIDES for side in model.input_shape[1:]):
        raise MinicnnError(
            f"expected a model for images of MNIST's size, (1, 28, 28), received {model.input_shape}"
        )
    return model


def _in_image(found: Found, line: Line) -> Found:
    x, y = line.place(found.x, found.y)
    left, right = (line.place(column, found.y)[0] for column in (found.left, found.right))
    return replace(found, x=x, y=y, left=left, right=right)


def _check_target(target: Path, image: Path) -> None:
    if target.suffix.lower() != ".png" or target.is_dir():
        raise ConfigError(f"--show: expected a file .png, received {target}")
    if target.exists() and image.exists() and target.samefile(image):
        raise ConfigError(f"--show: expected another file than the image, received {target}")


def _at(place: Path, error: MinicnnError) -> MinicnnError:
    return error if str(place) in str(error) else type(error)(f"{place}: {error}")


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
