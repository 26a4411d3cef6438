"""Ink on paper: filters that tell one from the other, and the connected pieces of it.

Images here are float32 (H, W), from 0 (black) to 1 (white).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def blur(image: Floats, sigma: float) -> Floats:
    """Convolution with a Gaussian of `sigma` pixels, cut at three of them; the border is continued."""
    return np.asarray(ndimage.gaussian_filter(image, sigma, mode="nearest", radius=int(np.ceil(3 * sigma))))


def closing(image: Floats, size: int) -> Floats:
    """Grey closing by a square, 2 (size // 2) + 1 pixels wide: what is dark and narrower takes its surroundings' tone.

    Slopes and straight edges, also those of shadows, stay where they are. The border is continued once, before both
    steps: continued again between them, slopes would be lost there.
    Source: Serra, Image Analysis and Mathematical Morphology (1982).
    """
    radius = size // 2
    padded = np.pad(image, radius, mode="edge")
    closed = ndimage.grey_closing(padded, 2 * radius + 1, mode="nearest")
    return np.asarray(closed[radius : radius + image.shape[0], radius : radius + image.shape[1]])


def thickened(image: Floats, radius: float) -> Floats:
    """The maximum over a disc around each pixel; beyond the border is 0."""
    steps = np.arange(-int(radius), int(radius) + 1)
    disc = steps**2 + steps[:, None] ** 2 <= radius * radius
    return np.asarray(ndimage.maximum_filter(image, footprint=disc, mode="constant"))


def stroke_width(ink: Floats) -> float:
    """2 area / outline of ink from 0 to 1, the width of a long stroke; the outline is the total variation.

    A grey edge counts as one, so that blur changes the result little. 0 without ink.
    """
    padded = np.pad(ink, 1)
    down = padded[1:, :-1] - padded[:-1, :-1]
    across = padded[:-1, 1:] - padded[:-1, :-1]
    outline = float(np.hypot(down, across).sum())
    return 2 * float(ink.sum()) / outline if outline else 0.0


@dataclass(frozen=True)
class Piece:
    """A connected piece of a mask: its box, rows top to bottom and columns left to right (ends excluded)."""

    top: int
    left: int
    bottom: int
    right: int
    mask: Mask  # which pixels of the box are its own

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def size(self) -> int:
        """The longer side of its box."""
        return max(self.height, self.width)

    @property
    def solidity(self) -> float:
        """Its share of what lies between its first and last pixel, of rows or of columns, whichever is less."""
        spans = (np.subtract(*_span(mask)[::-1]).sum() for mask in (self.mask, self.mask.T))
        return min(float(self.mask.sum() / span) for span in spans)

    @property
    def rectangularity(self) -> float:
        """Its share, holes filled, of the smallest rectangle around it that may be turned; 0.79 for an ellipse.

        By hand, as there is no rotated box in SciPy: the best of 45 angles.
        """
        rows = np.flatnonzero(self.mask.any(axis=1))
        first, last = _span(self.mask[rows])
        y = np.concatenate([rows, rows, rows + 1, rows + 1])
        x = np.concatenate([first, last, first, last])
        angles = np.radians(np.arange(0, 90, 2))[:, None]
        cos, sin = np.cos(angles), np.sin(angles)
        areas = np.ptp(x * cos + y * sin, axis=1) * np.ptp(y * cos - x * sin, axis=1)
        return float((last - first).sum() / areas.min())

    def frames(self, other: "Piece") -> bool:
        """Whether `other` lies inside it and nine in ten of its own pixels are near the sides of its box."""
        band = 0.08 * self.size
        inside = (
            self.top + band < other.top
            and self.left + band < other.left
            and other.bottom < self.bottom - band
            and other.right < self.right - band
        )
        k = round(band)
        return inside and bool(self.mask[k:-k, k:-k].sum() < 0.1 * self.mask.sum())

    def weight(self, image: Floats) -> float:
        """The sum of `image` over its pixels."""
        return float(image[self.top : self.bottom, self.left : self.right][self.mask].sum())

    def distance(self, other: "Piece") -> int:
        """Pixels between the two boxes, 0 where they touch or overlap."""
        down = max(self.top - other.bottom, other.top - self.bottom)
        across = max(self.left - other.right, other.left - self.right)
        return max(0, down, across)

    def touches_border(self, shape: tuple[int, ...]) -> bool:
        """Whether it reaches the border of an image of that shape (H, W)."""
        return self.top == 0 or self.left == 0 or self.bottom == shape[0] or self.right == shape[1]


def _span(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first column of each row, and the one after the last."""
    return mask.argmax(axis=1), mask.shape[1] - mask[:, ::-1].argmax(axis=1)


def pieces(mask: Mask) -> list[Piece]:
    """The connected pieces of a mask, over corners too."""
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    found = enumerate(ndimage.find_objects(labels), start=1)
    return [Piece(y.start, x.start, y.stop, x.stop, labels[y, x] == k) for k, (y, x) in found]


def joined(parts: list[Piece]) -> Piece:
    """Several pieces as one."""
    top, left = min(piece.top for piece in parts), min(piece.left for piece in parts)
    bottom, right = max(piece.bottom for piece in parts), max(piece.right for piece in parts)
    mask = np.zeros((bottom - top, right - left), bool)
    for piece in parts:
        mask[piece.top - top : piece.bottom - top, piece.left - left : piece.right - left] |= piece.mask
    return Piece(top, left, bottom, right, mask)


def mask_of(piece: Piece, shape: tuple[int, ...]) -> Mask:
    """A mask of `shape` that has this piece."""
    mask = np.zeros(shape, bool)
    mask[piece.top : piece.bottom, piece.left : piece.right] = piece.mask
    return mask
