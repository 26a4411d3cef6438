"""A photographed, scanned or drawn digit in the form of MNIST's: light on black, 28 x 28, centred.

Source: LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition (1998), section
III.A: the ink fits a box of 20 x 20, its aspect ratio is kept, grey levels come from anti-aliasing, and its centre of
mass lies in the middle of 28 x 28. What comes before, from photo to ink, is this module's own.
"""

import contextlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from minicnn.data.image_file import open_image
from minicnn.data.picture import Source
from minicnn.errors import DataError
from minicnn.handwriting.ink import Floats, Piece, blur, closing, joined, mask_of, pieces, stroke_width, thickened

NO_INK = "expected a digit, received an image without ink"

BOX, SIDE = 20, 28
OVERVIEW = 512  # pixels: the longer side of the image in which the digit is looked for
CLOSE_UP = 160  # pixels: that of the digit where its form is taken
MEDIAN_SIDE = 48  # pixels: that of the image in which ink is told from paper by a median
EVEN = 4  # of 255: how much the border of a scan varies
DARKEST = 0.15  # the paper: below this the noise of a camera would count as ink
LEAST_CONTRAST = 0.06  # of ink against paper; a watermark has more
LEAST_SIGNAL = 5.0  # of ink against the noise of the paper, in its standard deviations
SPECK = 0.04  # of the heaviest piece of ink: what has less is dirt
SOLID = 0.85  # of its rows and columns: a sheet of paper fills more
RECTANGULAR = 0.87  # of a rectangle: likewise, and a thick 0 or 8 fills less
FAINT = 0.12  # the share of ink that is taken for noise
FRAME_SIDE = 256  # pixels: the longer side of the image in which frames are looked for
LEAST_FRAME = 0.7  # of the image: height and width of a frame
FRAME_BAND = 0.15  # of a frame's longer side: how far from its box its sides may reach
FRAME_REST = 0.05  # of a frame's pixels: those that may lie elsewhere
LEAST_STROKE = 1.8  # of 20: one in ten of MNIST's digits has thinner strokes


def to_mnist(source: Source) -> NDArray[np.uint8]:
    """Finds the digit in an image, and returns it as a uint8 array (28, 28) like MNIST's, from 0 (paper) to 255 (ink).

    source: the path of an image file, a Pillow image or an array (see `open_image`). Ink may be dark on light or light
    on dark, in any colour, and unevenly lit; transparent pixels are paper. Specks, and things that reach in from the
    border, are left out. Of several digits, the one with the most ink is taken.

    Raises DataError if the image cannot be read or has no ink.
    """
    image, found = _first_look(on_paper(open_image(source)))
    try:
        ink = _close_up(image, found)
    except DataError:  # seen from near it is none: then the paper between strokes was taken for ink
        ink = _close_up(image, _find(image, not found.dark))
    return _centred(_fitted(ink))


@dataclass(frozen=True)
class _Found:
    """Where a digit is, in pixels of the image it was found in, and whether its ink is darker than the paper."""

    left: float
    top: float
    right: float
    bottom: float
    dark: bool
    inside: bool  # does not touch the border

    @property
    def size(self) -> float:
        return max(self.right - self.left, self.bottom - self.top)


def _first_look(image: Image.Image) -> tuple[Image.Image, _Found]:
    """The image, without the frames around a digit, and where the digit is in it.

    The strokes of a tightly cut digit may look like a frame: a digit that reaches into it is looked for in the whole.
    """
    nested = [image]
    while inner := _inside_frame(nested[-1]):
        nested.append(inner)
    for part in reversed(nested[1:]):
        with contextlib.suppress(DataError):
            found = _find(part)
            if found.inside:
                return part, found
    return image, _find(image)


def _inside_frame(image: Image.Image) -> Image.Image | None:
    """What a frame encloses, or one that is open on one or two sides; None where there is no frame.

    It is a piece of one tone, dark or light, that is nearly as large as the image and has nothing but its sides.
    """
    small = resized(image, FRAME_SIDE)
    grey = to_grey(small)
    middle = float(np.percentile(grey, [1, 99]).mean())
    for mask in (grey < middle, grey > middle):
        for piece in pieces(mask):
            if piece.height < LEAST_FRAME * small.height or piece.width < LEAST_FRAME * small.width:
                continue
            own = piece.mask
            band = round(FRAME_BAND * piece.size)
            inside = own[band : piece.height - band, band : piece.width - band]
            if 0 in inside.shape or inside.sum() > FRAME_REST * own.sum():
                continue
            # A side is as thick as its rows or columns are mostly of the frame.
            free = [np.flatnonzero(own.mean(axis=axis) < 0.5) for axis in (0, 1)]
            if not (len(free[0]) and len(free[1])):
                continue
            across, down = image.width / small.width, image.height / small.height
            left, right = ((piece.left + k) * across for k in (free[0][0] + 1, free[0][-1]))
            top, bottom = ((piece.top + k) * down for k in (free[1][0] + 1, free[1][-1]))
            box = (math.ceil(left), math.ceil(top), int(right), int(bottom))
            if min(box[2] - box[0], box[3] - box[1]) >= LEAST_FRAME / 2 * min(image.size):
                return image.crop(box)
    return None


def _find(image: Image.Image, sheet_is_light: bool | None = None) -> _Found:
    """The digit in an image; where that is a sheet of paper with something on it, what is on the sheet.

    `sheet_is_light`: whether the paper is lighter than its ink, if known; then no other sheet is looked for.
    """
    ink, dark = overview(image, OVERVIEW, sheet_is_light)
    digit = _digit(ink)
    across, down = image.width / ink.shape[1], image.height / ink.shape[0]
    left, top = digit.left * across, digit.top * down
    right, bottom = digit.right * across, digit.bottom * down
    found = _Found(left, top, right, bottom, dark, not digit.touches_border(ink.shape))
    if sheet_is_light is None and is_sheet(digit, ink.shape):
        with contextlib.suppress(DataError):
            sheet = image.crop((int(left), int(top), int(right), int(bottom)))
            on_sheet = _find(sheet, not dark)
            if on_sheet.inside:
                sides = (on_sheet.left + left, on_sheet.top + top, on_sheet.right + left, on_sheet.bottom + top)
                return _Found(*sides, on_sheet.dark, True)
    return found


def on_paper(image: Image.Image) -> Image.Image:
    """Transparent parts as paper: where all that is opaque has one tone, or covers little, that is the ink."""
    if image.mode != "RGBA":
        return image
    alpha = image.getchannel("A")
    box = alpha.getbbox()
    if box is None:
        raise DataError("expected a digit, received an image that is transparent everywhere")
    opaque = np.asarray(alpha) >= 128
    tones = np.asarray(image.convert("L"))[opaque]
    inside = np.asarray(alpha.crop(box)) >= 128
    spread = np.ptp(np.percentile(tones, [2, 98])) if len(tones) else 0
    if spread < 64 or inside.mean() < 0.5:
        return Image.fromarray(1 - np.asarray(alpha, np.float32) / 255)
    colours = np.asarray(image.convert("RGB"))[opaque]
    paper = Image.new("RGBA", image.size, tuple(np.median(colours, axis=0).astype(int).tolist()))
    return Image.alpha_composite(paper, image).convert("RGB")


def resized(image: Image.Image, side: float) -> Image.Image:
    """The image with a longer side of at most `side`; each pixel is the mean of what it replaces."""
    if max(image.size) <= side:
        return image
    width, height = (max(1, round(length * side / max(image.size))) for length in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def to_grey(image: Image.Image) -> Floats:
    """Grey from 0 to 1, the brightest being 1, of an image of any mode but RGBA."""
    grey = _mixed(image)
    bright: Floats = (grey / max(float(np.percentile(grey, 99.5)), 0.02)).clip(0, 1)
    return bright


def _mixed(image: Image.Image) -> Floats:
    """The mix of red, green and blue in which small things differ most from what is around them.

    That is the first principal component of the difference to a blurred copy: red ink shows in green and blue, and also
    on paper that is as bright as it is.
    """
    if image.mode == "F":
        return np.asarray(image)
    small = resized(image, 256)
    around = small.filter(ImageFilter.BoxBlur(max(small.size) / 8))
    detail = (np.asarray(small, np.float32) - np.asarray(around, np.float32)).reshape(-1, 3)
    mix = np.linalg.eigh(detail.T @ detail)[1][:, -1]
    mix = mix * (1 if mix.sum() >= 0 else -1) / np.abs(mix).sum()
    darkest = mix.clip(max=0).sum()  # colours that go up where others go down give negative tones
    grey: Floats = (np.asarray(image, np.float32) @ mix.astype(np.float32)) / 255 - darkest
    return grey


def ink_is_dark(grey: Floats) -> bool:
    """Whether what differs from the median of a wide window is darker than it.

    There is less ink than paper. Where the border has one tone, as in a scan, a wide rim of that tone makes this true
    of a narrow cut, too; half a shadow would become a blot by it.
    """
    tones = np.round(255 * np.asarray(resized(Image.fromarray(grey), MEDIAN_SIDE))).astype(np.float64)
    border = np.concatenate([tones[0], tones[-1], tones[:, 0], tones[:, -1]])
    median = int(np.median(border))
    even = np.median(np.abs(border - median)) <= EVEN
    rim = max(2, max(tones.shape) // 4)
    window = (min(tones.shape) + 2 * rim) // 4 * 2 + 1
    paper = ndimage.median_filter(tones, window, mode="constant" if even else "nearest", cval=median)
    return bool(((tones - paper) ** 3).sum() <= 0)


def find_ink(grey: Floats, window: float, sigma: float) -> Floats:
    """The ink: 0 where there is paper, 1 where ink takes away as much light as its median does.

    The paper's light is a closing by `window`, wider than any stroke. Half of the way from the median of what is paper
    to the median of what is ink parts the two. Source: Ridler and Calvard, Picture thresholding using an iterative
    selection method (1978), with medians. Raises DataError if there is no ink.
    """
    smooth = blur(grey, sigma)
    paper_light = closing(smooth, round(window))
    missing = (paper_light - smooth) / np.maximum(paper_light, DARKEST)
    paper, ink = 0.0, float(np.percentile(missing, 99.97))
    for _ in range(30):
        is_ink = missing > (paper + ink) / 2
        if is_ink.all() or not is_ink.any():
            raise DataError(NO_INK)
        before = ink
        paper, ink = float(np.median(missing[~is_ink])), float(np.median(missing[is_ink]))
        if abs(ink - before) < 1e-3:
            break
    noise = 1.4826 * float(np.median(np.abs(missing[~is_ink] - paper)))
    if ink - paper < max(LEAST_CONTRAST, LEAST_SIGNAL * noise):
        raise DataError(NO_INK)
    scaled: Floats = ((missing - paper) / (ink - paper)).astype(np.float32)
    return scaled


def overview(image: Image.Image, side: float, sheet_is_light: bool | None) -> tuple[Floats, bool]:
    """The ink of an image, shrunk to `side`, and whether it is darker than the paper.

    `sheet_is_light`: whether the paper is lighter than its ink, if known. Raises DataError if there is no ink.
    """
    grey = to_grey(resized(image, side))
    dark = ink_is_dark(grey) if sheet_is_light is None else sheet_is_light
    window = 0.4 * max(grey.shape)
    try:
        return find_ink(grey if dark else 1 - grey, window, 0.7), dark
    except DataError:  # around a large sheet there may be a dark frame
        return find_ink(1 - grey if dark else grey, window, 0.7), not dark


def is_sheet(piece: Piece, shape: tuple[int, ...]) -> bool:
    """Whether what was taken for ink in an image of that shape is a sheet of paper with something on it."""
    return piece.size > 0.4 * max(shape) and piece.solidity > SOLID and piece.rectangularity > RECTANGULAR


def seen_near(window: Image.Image, size: float, dark: bool) -> Floats:
    """The ink in a window around what is `size` pixels high. Raises DataError if there is none."""
    grey = to_grey(window)
    grey = grey if dark else 1 - grey
    ink = find_ink(grey, 0.5 * size, 0.0125 * size)
    narrow = 4 * stroke_width((ink > 0.5).astype(np.float32))
    # A narrow window follows the edges of shadows more closely.
    return find_ink(grey, narrow, 0.0125 * size) if narrow < 0.5 * size else ink


def alone(ink: Floats, piece: Piece, size: float) -> Floats:
    """The ink of one piece and close to it, from 0 to 1, without noise; the piece is `size` pixels high."""
    near = thickened(mask_of(piece, ink.shape).astype(np.float32), max(1.5, 0.04 * size))
    return np.asarray(((ink - FAINT) / (1 - FAINT)).clip(0, 1) * near)


def _digit(ink: Floats) -> Piece:
    """The heaviest piece of ink, with those beside it that are no specks: a 5 may have its bar apart.

    What reaches in from the border, such as the table under the sheet, is no digit if anything else may be one; nor is
    a frame around it.
    """
    found = pieces(ink > 0.5)
    least = 0.12 * min(ink.shape)
    inside = [piece for piece in found if not piece.touches_border(ink.shape)]
    found = inside if any(piece.size >= least for piece in inside) else found
    large = [piece for piece in found if piece.size >= least]
    found = [piece for piece in found if not any(piece.frames(other) for other in large)]
    weights = [piece.weight(ink) for piece in found]
    main = found[int(np.argmax(weights))]
    return joined(
        [
            piece
            for piece, weight in zip(found, weights, strict=True)
            if weight > SPECK * max(weights) and piece.distance(main) < 0.3 * main.size
        ]
    )


def _close_up(image: Image.Image, digit: _Found) -> Floats:
    """The ink of the digit alone, from 0 to 1, in a window around it."""
    margin = 0.4 * digit.size
    left, top = max(0, int(digit.left - margin)), max(0, int(digit.top - margin))
    right = min(image.width, int(digit.right + margin + 1))
    bottom = min(image.height, int(digit.bottom + margin + 1))
    side = max(right - left, bottom - top)
    window = resized(image.crop((left, top, right, bottom)), CLOSE_UP * side / digit.size)
    size = digit.size * max(window.size) / side
    ink = seen_near(window, size, digit.dark)
    return alone(ink, _digit(ink), size)


def _fitted(ink: Floats) -> Floats:
    """The ink, cut out and scaled to 20 pixels along its longer side, with strokes that are wide enough to see."""
    rows, columns = (np.nonzero((ink > 0.3).any(axis=axis))[0] for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    least = LEAST_STROKE * max(ink.shape) / BOX
    radius = (least - stroke_width(ink)) / 2
    if radius > 0.5:
        border = int(np.ceil(radius))
        ink = thickened(np.pad(ink, border), radius)
    height, width = (max(1, round(length * BOX / max(ink.shape))) for length in ink.shape)
    kernel = Image.Resampling.BOX if max(ink.shape) >= 2 * BOX else Image.Resampling.BICUBIC
    fitted = np.asarray(Image.fromarray(ink).resize((width, height), kernel)).clip(0, 1)
    full: Floats = fitted / fitted.max()
    return full


def _centred(digit: Floats) -> NDArray[np.uint8]:
    """The digit in 28 x 28, its centre of mass nearest to row 14 and column 14 among whole pixels, counted from 0."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    centre, (height, width) = ndimage.center_of_mass(digit), digit.shape
    top = min(max(round(SIDE / 2 - centre[0]), 0), SIDE - height)
    left = min(max(round(SIDE / 2 - centre[1]), 0), SIDE - width)
    image[top : top + height, left : left + width] = np.round(255 * digit)
    return image
