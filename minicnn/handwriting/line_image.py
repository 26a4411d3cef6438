"""A photographed, scanned or drawn line of digits in the form that a network of MNIST's digits reads.

Source: the form is that of LeCun et al., Gradient-based learning applied to document recognition (1998), section III.A,
for the line as a whole; what comes before, from photo to ink, is this module's own, with the means of `digit.py`.
"""

import contextlib
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minicnn.data.image_file import longer_side, open_image
from minicnn.data.picture import Source
from minicnn.errors import DataError
from minicnn.handwriting.digit import BOX, LEAST_STROKE, SPECK, alone, is_sheet, on_paper, overview, resized, seen_near
from minicnn.handwriting.ink import Floats, Piece, joined, pieces, stroke_width, thickened

OVERVIEW = 1024  # pixels: the longer side of the image in which the line is looked for
CLOSE_UP = 64  # pixels: the height of a digit where its form is taken
HEIGHT = 36  # rows of the result: a digit of MNIST's, and room to lie a little higher or lower
SAME_SIZE = 0.08  # digits that differ less from MNIST's size are left as they are
LEAST_HEIGHT = 7  # pixels: lower digits cannot be read
STEEPEST = 0.25  # slope of a line
LEAST_RISE = 0.25  # times the height of a digit, over the whole line: what rises less is level
TALL = 1.7  # times the height of a digit: what is taller is none
MANY = 60  # pieces of ink between which a line is looked for
INK = 100  # of 255: what counts as ink of a piece
WIDE = 1.7  # times the height of a digit: two that touch
OVERLAP = 0.3  # of the narrower of two pieces: those of one digit overlap more
LEAST_INSIDE = 0.2  # of the ink: what does not touch the border; in a narrow cut most of the line may


@dataclass(frozen=True)
class Line:
    """A line as a network sees it, and where its pixels lie in the image that it was taken from.

    Pixel coordinate (x, y) of the line is, in the image, (left + x / scale, top + y / scale + slope x / scale).
    """

    pixels: NDArray[np.uint8]  # (HEIGHT, w), from 0 (paper) to 255 (ink), digits about 20 high
    left: float
    top: float
    scale: float
    slope: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a place in the line is in the image."""
        return self.left + x / self.scale, self.top + (y + self.slope * x) / self.scale


def to_line(source: Source) -> Line:
    """The line of digits in an image, its digits in MNIST's size, light on black.

    source: the path of an image file, a Pillow image or an array (see images.open_image). Ink may be dark on light or
    light on dark, of any colour, unevenly lit; the line may rise or fall a little. Of several lines the one with the
    most ink is taken.

    Raises DataError: not an image that can be read, no ink in it, or digits that are too small.
    """
    image = open_image(source)
    shrunk = longer_side(source) / max(image.size)
    image = on_paper(image)
    found = _find(image)
    ink, line = _close_up(image, found)
    to_image = (found.right - found.left) / ink.shape[1]  # pixels of `image` for one of `ink`
    if line.height * to_image * shrunk < LEAST_HEIGHT:
        raise DataError(
            f"expected a line of digits, at least {LEAST_HEIGHT} pixels high, received ink of "
            f"{line.height * to_image * shrunk:.0f} pixels"
        )
    scale = BOX / line.height
    if abs(scale * to_image - 1) < SAME_SIZE and to_image == 1:
        scale = 1.0
    ink = _thick_enough(ink, line.height)
    rows = round(HEIGHT / scale)
    level, first_row = _level(ink, line, rows)
    width = max(1, round(ink.shape[1] * scale))
    kernel = Image.Resampling.BOX if scale <= 0.5 else Image.Resampling.BICUBIC
    small = np.asarray(Image.fromarray(level).resize((width, HEIGHT), kernel)).clip(0, 1)
    pixels = np.round(255 * small / small.max()).astype(np.uint8)
    return Line(
        pixels,
        left=found.left * shrunk,
        top=(found.top + first_row * to_image) * shrunk,
        scale=scale / to_image / shrunk,
        slope=line.slope,
    )


def seems_several(source: Source) -> bool:
    """Whether an image seems to hold several digits beside each other; one in a hundred of MNIST's does, too.

    Digits are pieces of ink of some height that hardly overlap from left to right, or one that is very wide. Raises
    DataError like `to_line`.
    """
    tall = [piece for piece in pieces(to_line(source).pixels > INK) if piece.height > BOX / 2]
    spans = sorted((piece.left, piece.right) for piece in tall)
    if any(right - left > WIDE * BOX for left, right in spans):
        return True
    return any(
        right - after < OVERLAP * min(right - left, end - after)
        for (left, right), (after, end) in itertools.pairwise(spans)
    )


@dataclass(frozen=True)
class _Found:
    """Where a line is, in pixels of the image it was found in, and whether its ink is darker than the paper."""

    left: int
    top: int
    right: int
    bottom: int
    height: float  # of a digit
    dark: bool


def _find(image: Image.Image, sheet_is_light: bool | None = None) -> _Found:
    """The line in an image, with a margin; where that is a sheet of paper with something on it, the line on the sheet.

    `sheet_is_light`: whether the paper is lighter than its ink, if known; then no other sheet is looked for.
    """
    ink, dark = overview(image, OVERVIEW, sheet_is_light)
    line = _line(ink)
    whole = joined(line.pieces)
    across, down = image.width / ink.shape[1], image.height / ink.shape[0]
    if sheet_is_light is None and len(line.pieces) == 1 and is_sheet(whole, ink.shape):
        x, y = int(whole.left * across), int(whole.top * down)
        sheet = image.crop((x, y, int(whole.right * across), int(whole.bottom * down)))
        with contextlib.suppress(DataError):
            found = _find(sheet, not dark)
            sides = (found.left + x, found.top + y, found.right + x, found.bottom + y)
            return _Found(*sides, found.height, found.dark)
    margin = 0.5 * line.height
    return _Found(
        left=max(0, int((whole.left - margin) * across)),
        top=max(0, int((whole.top - margin) * down)),
        right=min(image.width, int((whole.right + margin) * across) + 1),
        bottom=min(image.height, int((whole.bottom + margin) * down) + 1),
        height=line.height * down,
        dark=dark,
    )


@dataclass(frozen=True)
class _Line:
    """The pieces of ink that make a line, the height of its digits, and its middle: row + slope column."""

    pieces: list[Piece]
    height: float
    row: float
    slope: float


def _line(ink: Floats) -> _Line:
    """The pieces along the straight line that has the most ink, without specks, rules and what reaches in from the
    border, such as the table under the sheet."""
    found = pieces(ink > 0.5)
    weights = np.array([piece.weight(ink) for piece in found])
    tall = np.array([piece.height for piece in found])
    inside = np.array([not piece.touches_border(ink.shape) for piece in found])
    if weights[inside].sum() < LEAST_INSIDE * weights.sum():
        inside[:] = True
    height = float(np.quantile(tall[inside], 0.5, weights=weights[inside], method="inverted_cdf"))
    of_digits = (tall > height / 2) & (tall < TALL * height)
    least = SPECK * float(np.median(weights[of_digits]))
    wide = np.array([piece.width for piece in found]) > 2 * height
    rule = wide & (tall < height / 3)
    kept = (weights > least) & (tall < TALL * height) & (inside | ~wide) & ~rule
    if not kept.any():
        kept = weights == weights.max()
    x = np.array([(piece.left + piece.right) / 2 for piece in found])
    y = np.array([(piece.top + piece.bottom) / 2 for piece in found])
    heaviest = [k for k in np.argsort(-weights, kind="stable") if kept[k]][:MANY]
    lines = [(y[k], 0.0) for k in heaviest]
    for i, j in itertools.combinations(heaviest, 2):
        if abs(x[j] - x[i]) > height and abs(y[j] - y[i]) <= STEEPEST * abs(x[j] - x[i]):
            slope = (y[j] - y[i]) / (x[j] - x[i])
            lines.append((y[i] - slope * x[i], slope))

    def ink_along(line: tuple[float, float]) -> float:
        distance = np.abs(y - line[0] - line[1] * x) / height
        return float((weights * kept * (1 - distance).clip(0)).sum())

    row, slope = max(lines, key=ink_along)
    near = kept & (np.abs(y - row - slope * x) < 0.8 * height)
    members = [piece for piece, is_near in zip(found, near, strict=True) if is_near]
    x, y, weights = x[near], y[near], weights[near]
    slope = 0.0
    if np.ptp(x) > height:
        slope = float(np.polyfit(x, y, 1, w=np.sqrt(weights))[0])
    if abs(slope) * np.ptp(x) < LEAST_RISE * height:
        slope = 0.0
    row = float(np.average(y - slope * x, weights=weights))
    return _Line(members, height, row, slope)


def _close_up(image: Image.Image, found: _Found) -> tuple[Floats, _Line]:
    """The ink of the line alone, from 0 to 1, in the window around it."""
    window = image.crop((found.left, found.top, found.right, found.bottom))
    window = resized(window, max(window.size) * CLOSE_UP / found.height)
    size = found.height * window.width / (found.right - found.left)
    ink = seen_near(window, size, found.dark)
    line = _line(ink)
    return alone(ink, joined(line.pieces), size), line


def _thick_enough(ink: Floats, height: float) -> Floats:
    """The ink with strokes that are wide enough to see in MNIST's size."""
    radius = (LEAST_STROKE * height / BOX - stroke_width(ink)) / 2
    return thickened(ink, radius) if radius > 0.5 else ink


def _level(ink: Floats, line: _Line, rows: int) -> tuple[Floats, int]:
    """`rows` rows around the middle of the line, each column moved up or down to where the slope is none; and which
    row of the first column is the uppermost."""
    height, width = ink.shape
    first = round(line.row - rows / 2)
    source = first + np.arange(rows)[:, None] + np.round(line.slope * np.arange(width)).astype(int)
    inside = (source >= 0) & (source < height)
    moved = ink[source.clip(0, height - 1), np.arange(width)]
    return np.where(inside, moved, np.float32(0)), first
