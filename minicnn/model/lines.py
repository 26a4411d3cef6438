"""Reading a line of digits: a network slides over it, and a search picks the windows that together explain the ink.

Sources: LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition (1998), section VII
for the network that is applied everywhere at once, section V for the search of the cheapest path of cuts (Viterbi).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from minicnn.conversion import fully_convolutional
from minicnn.data import CHARACTERS, OWN
from minicnn.data.picture import Source
from minicnn.engine.arrays import Array
from minicnn.errors import MinicnnError, ShapeError
from minicnn.handwriting.line_image import Line, to_line
from minicnn.model import Model

Floats = NDArray[np.float64]

REACH = 4  # rows: how far above and below the middle of the line the centre of a digit may lie
WIDTH_STEP = 64  # the width of what the network sees is a multiple, so that few kernels are compiled
WIDEST = 24  # columns of one digit; MNIST's have 20 at most
LEAST_INK = 8.0  # of one digit, in pixels of full ink
BLANK = 0.5  # ink of a column that counts as blank

# What speaks against a reading, in the unit of the negative logarithm of a digit's probability:
CUT = 1.0  # for a pixel of ink that a cut parts
GAP_INSIDE = 0.5  # for a blank column inside a digit
DIGIT = 0.1  # for each digit: few digits rather than many
STRAY = 0.15  # for a pixel of ink that belongs to no digit


@dataclass(frozen=True)
class Found:
    """A digit in a line. Coordinates are pixels of the image, from its left or upper edge."""

    label: str
    confidence: float  # the probability of the label, from 0 to 1
    x: float  # the centre of mass of its ink
    y: float
    left: float  # the ink lies between left and right
    right: float


class LineReader:
    """Reads lines with a trained `Model` of single digits: grey images (1, H, W), a score for each class.

    The network is made fully convolutional and sees the line in as many copies as its strides leave out positions
    (16 for LeNet-5), each shifted by a pixel: together they have a window centred on every pixel, and in the lane
    layout 16 images cost as much as one.

    Raises ShapeError for a network of another kind, or one that cannot be made fully convolutional.
    """

    def __init__(self, model: Model) -> None:
        if len(model.input_shape) != 3 or model.input_shape[0] != 1 or len(model.output_shape) != 1:
            raise ShapeError(
                "expected a model for grey images (1, H, W) with a score for each class, received one "
                f"for {model.input_shape} with scores {model.output_shape}"
            )
        self.model = fully_convolutional(model)
        self.classes = model.classes or tuple(map(str, range(model.output_shape[0])))
        steps = [layer.window[1] for layer in self.model.network if layer.window]
        self.strides = (math.prod(s[0] for s in steps), math.prod(s[1] for s in steps))

    def windows(self, line: NDArray[np.uint8]) -> Array:
        """The probability of each class for the window around each pixel near the middle row, in one pass.

        line: uint8 (h, w), from 0 (paper) to 255 (ink). Result: float32 (2 REACH + 1, w, K); element (r, x) is for the
        window whose pixel (H // 2, W // 2) is the pixel (h // 2 - REACH + r, x) of the line, paper all around.
        """
        line = _checked(line)
        _, height, width = self.model.input_shape
        rows, columns = 2 * REACH + 1, line.shape[1]
        down, across = self.strides
        tall = height + (rows - 1) // down * down
        wide = -(-(width + columns) // WIDTH_STEP) * WIDTH_STEP
        canvas = np.zeros((tall + down - 1, wide + across - 1), np.uint8)
        top = height // 2 + REACH - line.shape[0] // 2
        part = line[max(0, -top) :][: len(canvas) - max(0, top)]
        canvas[max(0, top) :][: len(part), width // 2 : width // 2 + columns] = part
        copies = np.stack([canvas[i : i + tall, j : j + wide] for i in range(down) for j in range(across)])
        scores = self.model.scores(copies)
        _, classes, *size = scores.shape
        # (down, across, K, i, j) -> (i, down, j, across, K): neighbouring windows beside each other.
        scores = scores.reshape(down, across, classes, *size).transpose(3, 0, 4, 1, 2)
        scores = scores.reshape(size[0] * down, size[1] * across, classes)[:rows, :columns]
        probabilities = self.model.probabilities(scores.reshape(-1, classes))
        return probabilities.reshape(rows, columns, classes)

    def read(self, line: NDArray[np.uint8]) -> list[Found]:
        """The digits of a line, from left to right; none if there is not enough ink.

        line: uint8 (h, w), from 0 (paper) to 255 (ink), with digits in MNIST's size, about 20 pixels high.

        Of all ways to cut the line into digits and blanks, the cheapest is taken: each digit costs the negative
        logarithm of its highest probability, in the window around its centre of mass; the constants above are the
        other costs. So no two windows explain the same ink (which takes the place of non-maximum suppression), what a
        window between two digits seems to show does not count, and one digit is not found twice.

        Raises MinicnnError for another kind of array.
        """
        line = _checked(line)
        probabilities = self.windows(line)
        first_row = line.shape[0] // 2 - REACH
        pieces = _Pieces(line / 255)
        row = np.round(pieces.y - 0.5).astype(int) - first_row
        row = row.clip(0, len(probabilities) - 1)
        column = np.floor(pieces.x).astype(int).clip(0, line.shape[1] - 1)
        best = probabilities.max(axis=2)
        costs = pieces.costs - np.log(best[row, column].clip(1e-12))
        found = []
        for start, end in _cheapest_path(costs, STRAY * pieces.ink):
            k = end, end - start - 1
            shares = probabilities[row[k], column[k]]
            label = int(shares.argmax())
            inked = np.flatnonzero(pieces.ink[start:end] >= BLANK)
            found.append(
                Found(
                    label=self.classes[label],
                    confidence=float(shares[label]),
                    x=float(pieces.x[k]),
                    y=float(pieces.y[k]),
                    left=float(start + inked[0]),
                    right=float(start + inked[-1] + 1),
                )
            )
        return found


class _Pieces:
    """All pieces of a line, from any column on and up to WIDEST wide; element [end, n] ends before column `end` and is
    n + 1 columns wide."""

    def __init__(self, line: Floats) -> None:
        height, width = line.shape
        self.ink: Floats = line.sum(axis=0)
        end = np.arange(width + 1)[:, None]
        start = end - np.arange(1, WIDEST + 1)
        inside = start >= 0
        start = start.clip(0)

        def total(columns: Floats) -> Floats:
            sums = np.concatenate([[0.0], np.cumsum(columns)])
            return np.asarray(sums[end] - sums[start])

        ink = total(self.ink)
        some = np.maximum(ink, 1e-9)
        # Centres of mass; the middle of the first pixel is at 0.5.
        self.x = total(self.ink * (np.arange(width) + 0.5)) / some
        self.y = total((line * (np.arange(height) + 0.5)[:, None]).sum(axis=0)) / some
        parted = np.minimum(line[:, 1:], line[:, :-1]).sum(axis=0)
        parted = np.concatenate([[0.0], parted, [0.0]])[: width + 1]
        costs = DIGIT + CUT * (parted[start] + parted[end])
        costs += GAP_INSIDE * total((self.ink < BLANK).astype(np.float64))
        self.costs = np.where(inside & (ink >= LEAST_INK), costs, np.inf)


def _cheapest_path(costs: Floats, skip: Floats) -> list[tuple[int, int]]:
    """The pieces (start, end) whose sum of costs is least, with skip[x] for each column x in none (Viterbi search)."""
    width = len(skip)
    least = np.zeros(width + 1)  # cost of all that is left of a column
    taken = np.zeros(width + 1, int)  # width of the piece that ends there; 0 if the column before is skipped
    for end in range(1, width + 1):
        widest = min(end, costs.shape[1])
        with_piece = least[end - widest : end][::-1] + costs[end, :widest]
        n = int(with_piece.argmin())
        least[end] = least[end - 1] + skip[end - 1]
        if with_piece[n] < least[end]:
            least[end], taken[end] = with_piece[n], n + 1
    path, end = [], width
    while end > 0:
        if taken[end]:
            path.append((end - int(taken[end]), end))
        end -= max(1, int(taken[end]))
    return path[::-1]


def _checked(line: NDArray[np.uint8]) -> NDArray[np.uint8]:
    line = np.asarray(line)
    if line.dtype != np.uint8 or line.ndim != 2 or 0 in line.shape:
        raise MinicnnError(f"line: expected an image of uint8 (h, w), received {line.dtype} {line.shape}")
    return line


def read_line(model: Model, source: Source) -> list[Found]:
    """The digits in the picture of a line, from left to right; coordinates are pixels of that picture.

    model: trained on single characters in MNIST's form (MNIST, EMNIST, KMNIST or one's own).
    source: the path of an image file, a Pillow image or an array (see images.open_image); dark on light or light on
    dark, digits of any size from 7 pixels on, of about one height.

    Raises DataError for an image that cannot be read or has no ink; MinicnnError for a model of another kind.
    """
    reader, line = LineReader(check_characters(model)), to_line(source)
    return [in_image(found, line) for found in reader.read(line.pixels)]


#: The sides of the images of a model whose digits have MNIST's size, 20 pixels, and a margin.
SIDES = range(28, 37)


def check_characters(model: Model) -> Model:
    """The model itself. Raises MinicnnError unless it was trained on single characters of MNIST's size."""
    if model.data_set is not None and model.data_set not in (*CHARACTERS, *OWN):
        raise MinicnnError(f"expected a model trained on characters, such as mnist, received one of {model.data_set}")
    if len(model.input_shape) == 3 and not all(side in SIDES for side in model.input_shape[1:]):
        raise MinicnnError(f"expected a model for images of MNIST's size, (1, 28, 28), received {model.input_shape}")
    return model


def in_image(found: Found, line: Line) -> Found:
    """What was found in a line, in the pixels of the picture that the line was found in."""
    x, y = line.place(found.x, found.y)
    left, right = (line.place(column, found.y)[0] for column in (found.left, found.right))
    return replace(found, x=x, y=y, left=left, right=right)
