"""Ink on paper: filters that tell one from the other, and the connected pieces of it.

Images here are float32 (H, W), from 0 (black) to 1 (white).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def blur(image: Floats, sigma: float) -> Floats:
    """Convolution with a Gaussian of `sigma` pixels, cut at three of them; the border is continued."""
    radius = int(np.ceil(3 * sigma))
    if sigma < 0.2:  # its kernel is 1 in the middle and next to 0 beside it
        return image
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = _continued(image, radius, axis)
        image = sum(
            weight * _slice(padded, start, start + image.shape[axis], axis) for start, weight in enumerate(kernel)
        )
    return image


def closing(image: Floats, size: int) -> Floats:
    """Grey closing by a square, 2 (size // 2) + 1 pixels wide: what is dark and narrower takes its surroundings' tone.

    Slopes and straight edges, also those of shadows, stay where they are. The border is continued once, before both
    steps: continued again between them, slopes would be lost there. Each axis takes log2(size) maxima of shifted
    copies. Source: Serra, Image Analysis and Mathematical Morphology (1982).
    """
    radius = size // 2
    image = np.pad(image, 2 * radius, mode="edge")
    for axis in (0, 1):
        image = _running_max(image, 2 * radius + 1, axis)
    image = -image
    for axis in (0, 1):
        image = _running_max(image, 2 * radius + 1, axis)
    return -image


def _running_max(image: Floats, width: int, axis: int) -> Floats:
    """The maximum over `width` pixels from each on, where there are so many."""
    span = 1
    while span < width:  # each pixel holds the maximum of `span` from it on
        step = min(span, width - span)
        end = image.shape[axis]
        image = np.maximum(_slice(image, 0, end - step, axis), _slice(image, step, end, axis))
        span += step
    return image


def thickened(image: Floats, radius: float) -> Floats:
    """The maximum over a disc around each pixel; beyond the border is 0."""
    reach = int(radius)
    padded = np.pad(image, reach)
    height, width = image.shape
    result = image
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dy * dy + dx * dx <= radius * radius:
                part = padded[reach + dy :, reach + dx :][:height, :width]
                result = np.maximum(result, part)
    return result


def stroke_width(ink: Floats) -> float:
    """2 area / outline of ink from 0 to 1, the width of a long stroke; the outline is the total variation.

    A grey edge counts as one, so that blur changes the result little. 0 without ink.
    """
    padded = np.pad(ink, 1)
    down = padded[1:, :-1] - padded[:-1, :-1]
    across = padded[:-1, 1:] - padded[:-1, :-1]
    outline = float(np.hypot(down, across).sum())
    return 2 * float(ink.sum()) / outline if outline else 0.0


def _continued(image: Floats, size: int, axis: int) -> Floats:
    widths = [(0, 0), (0, 0)]
    widths[axis] = (size, size)
    return np.pad(image, widths, mode="edge")


def _slice(image: Floats, start: int, stop: int, axis: int) -> Floats:
    return image[start:stop] if axis == 0 else image[:, start:stop]


@dataclass(frozen=True)
class Piece:
    """A connected piece of a mask: rows top to bottom and columns left to right (ends excluded), and its runs."""

    top: int
    left: int
    bottom: int
    right: int
    runs: NDArray[Any]  # (n, 3): row, first column, column after the last

    @property
    def size(self) -> int:
        """The longer side of its box."""
        return max(self.bottom - self.top, self.right - self.left)

    @property
    def solidity(self) -> float:
        """Its share of what lies between its first and last pixel, of rows or of columns, whichever is less."""
        mask = mask_of(self, (self.bottom, self.right))[self.top :, self.left :]
        spans = (
            length - line.argmax(axis=1) - line[:, ::-1].argmax(axis=1)
            for line in (mask, mask.T)
            for length in (line.shape[1],)
        )
        return min(float(mask.sum() / span.sum()) for span in spans)

    @property
    def rectangularity(self) -> float:
        """Its share, holes filled, of the smallest rectangle around it that may be turned; 0.79 for an ellipse."""
        rows, inverse = np.unique(self.runs[:, 0], return_inverse=True)
        first, last = np.full(len(rows), self.right), np.full(len(rows), self.left)
        np.minimum.at(first, inverse, self.runs[:, 1])
        np.maximum.at(last, inverse, self.runs[:, 2])
        y = np.concatenate([rows, rows, rows + 1, rows + 1])
        x = np.concatenate([first, last, first, last])
        angles = np.radians(np.arange(0, 90, 2))[:, None]
        cos, sin = np.cos(angles), np.sin(angles)
        areas = np.ptp(x * cos + y * sin, axis=1) * np.ptp(y * cos - x * sin, axis=1)
        return float((last - first).sum() / areas.min())

    def frames(self, other: "Piece") -> bool:
        """Whether `other` lies inside it and nine in ten of its own pixels are near the sides of its box."""
        band = 0.08 * self.size
        if not (
            self.top + band < other.top
            and self.left + band < other.left
            and other.bottom < self.bottom - band
            and other.right < self.right - band
        ):
            return False
        mask = mask_of(self, (self.bottom, self.right))[self.top :, self.left :]
        inner = round(band)
        return bool(mask[inner:-inner, inner:-inner].sum() < 0.1 * mask.sum())

    def weight(self, image: Floats) -> float:
        """The sum of `image` over its pixels."""
        return float(sum(image[row, start:stop].sum() for row, start, stop in self.runs))

    def distance(self, other: "Piece") -> int:
        """Pixels between the two boxes, 0 where they touch or overlap."""
        down = max(self.top - other.bottom, other.top - self.bottom)
        across = max(self.left - other.right, other.left - self.right)
        return max(0, down, across)

    def touches_border(self, shape: tuple[int, ...]) -> bool:
        """Whether it reaches the border of an image of that shape (H, W)."""
        return self.top == 0 or self.left == 0 or self.bottom == shape[0] or self.right == shape[1]


def pieces(mask: Mask) -> list[Piece]:
    """The connected pieces of a mask, over corners too: runs of pixels, joined to those of the row above.

    Source: union-find over runs, as in He, Chao and Suzuki, A run-based two-scan labeling algorithm (2008).
    """
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    runs = list(zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True))
    parents = list(range(len(runs)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = run = parents[parents[run]]
        return run

    above = 0
    for run, (row, start, stop) in enumerate(runs):
        # The first run of the row above that is not wholly to the left; the next run starts there, too.
        while runs[above][0] < row - 1 or (runs[above][0] == row - 1 and runs[above][2] < start):
            above += 1
        other = above
        while runs[other][0] == row - 1 and runs[other][1] <= stop:
            parents[root(other)] = root(run)
            other += 1
    groups: dict[int, list[int]] = {}
    for run in range(len(runs)):
        groups.setdefault(root(run), []).append(run)
    table = np.column_stack([rows, starts, stops])
    return [_piece(table[members]) for members in groups.values()]


def joined(parts: list[Piece]) -> Piece:
    """Several pieces as one."""
    return _piece(np.concatenate([piece.runs for piece in parts]))


def _piece(runs: NDArray[Any]) -> Piece:
    top, left, _ = runs.min(axis=0).tolist()
    bottom, _, right = runs.max(axis=0).tolist()
    return Piece(top, left, bottom + 1, right, runs)


def mask_of(piece: Piece, shape: tuple[int, ...]) -> Mask:
    """A mask of `shape` that has this piece."""
    mask = np.zeros(shape, bool)
    for row, start, stop in piece.runs:
        mask[row, start:stop] = True
    return mask
