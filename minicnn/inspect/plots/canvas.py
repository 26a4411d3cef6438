"""What the pictures are drawn on: sheets measured in pixels, charts of curves, mosaics of tiles, complete PNG files.

Small images are enlarged by whole factors and drawn pixel on pixel, all of them as one image: a
matplotlib axes for each would take longer than an epoch of training.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from minicnn.console import printable
from minicnn.files import beside

Array = NDArray[Any]
PathLike = str | os.PathLike[str]

# Blue and vermilion of Okabe and Ito's palette stay apart for colour-blind readers and in print.
BLUE, VERMILION = "#0072B2", "#D55E00"
DARK = "#7A3300"  # of vermilion
INK, GREY, PALE = "#222222", "#6B6B6B", "#E6E6E6"
DPI = 150
SIGNED = LinearSegmentedColormap.from_list("signed", ["#003E66", BLUE, "white", VERMILION, DARK], N=257)
SMALL: dict[str, Any] = {"fontsize": 8, "color": GREY}


class Sheet:
    """A white page with a headline, for images, text and lines, in pixels from its upper left corner.

    It is at least as wide as its headline. What is drawn on `axes` is above the images.
    """

    def __init__(self, width: int, height: int, title: str, subtitle: str) -> None:
        width = max(width, 80 + text_width(title, 13), 80 + text_width(subtitle, 9))
        self._figure = _new_figure(width, height)
        self.axes = self._figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        # Red, green, blue and opacity is what matplotlib draws at once; from three channels it makes copies in
        # floating point, 110 MB for a large sheet.
        self._page = np.full((height, width, 4), 255, np.uint8)
        self._figure.text(40 / width, 1 - 30 / height, title, fontsize=13, fontweight="bold", va="top")
        self._figure.text(40 / width, 1 - 72 / height, subtitle, fontsize=9, color=GREY, va="top")

    def put(self, picture: Array, left: int, top: int) -> None:
        """Draws colours (h, w, 3 or 4), in 0..1 or uint8."""
        h, w, depth = picture.shape
        colours = picture if picture.dtype == np.uint8 else np.round(255 * picture)
        self._page[top : top + h, left : left + w, :depth] = colours

    def ramp(self, colours: Colormap, left: int, top: int, height: int, words: Sequence[str]) -> None:
        """A colour bar, with words beside it, from those for its upper end to those for its lower one."""
        self.put(colours(np.linspace(1, 0, height))[:, None].repeat(22, axis=1), left, top)
        for text, y in zip(words, np.linspace(top + 8, top + height - 8, len(words)), strict=True):
            self.axes.text(left + 32, y, text, va="center", **SMALL)

    def write(self, path: PathLike) -> None:
        height, width, _ = self._page.shape
        self.axes.imshow(self._page, extent=(0, width, height, 0), interpolation="nearest")
        write_png(self._figure, path)


def charts(
    width: int, height: int, margins: Mapping[str, float], rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of axes without a box around them, over pale lines. `margins` are those of `subplots_adjust`."""
    figure = _new_figure(width, height)
    found = list(figure.subplots(rows, columns, squeeze=False).flat)
    figure.subplots_adjust(**margins)
    for axes in found:
        axes.grid(axis="y", color=PALE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure, found


def _new_figure(width: int, height: int) -> Figure:
    """A white figure of `width` x `height` pixels, outside pyplot's global state."""
    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")


def mosaic_of(
    tiles: Array, zoom: int, columns: int, gap: tuple[int, int]
) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
    """One picture of tiles (n, h, w, 1 or 3) in [0, 1], enlarged by `zoom`, row by row.

    `gap` is the room below and beside each tile. Returns the picture (height, width, 3) and the
    upper left corner (y, x) of each tile in it.
    """
    tiles = np.round(255 * tiles).astype(np.uint8).repeat(zoom, axis=1).repeat(zoom, axis=2)
    n, h, w, _ = tiles.shape
    rows = -(-n // columns)
    down, across = gap
    picture = np.full((rows * (h + down) - down, columns * (w + across) - across, 3), 255, np.uint8)
    corners = [(i // columns * (h + down), i % columns * (w + across)) for i in range(n)]
    for tile, (y, x) in zip(tiles, corners, strict=True):
        place = picture[y : y + h, x : x + w]
        place[...] = tile
        place[[0, -1]] = place[:, [0, -1]] = 176  # a grey frame: white tiles have an edge, too
    return picture, corners


def text_width(text: str, fontsize: float) -> int:
    """About the width of `text` in pixels: a little more, rather than less."""
    return round(0.61 * fontsize * DPI / 72 * len(text))


def write_png(figure: Figure, path: PathLike) -> None:
    """Write beside `path` and move it there when it is complete: never half a picture."""
    path = Path(path)
    part = beside(path, "part")
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # names of classes may have dollar signs
        text.set_text(printable(text.get_text()))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for it
            figure.savefig(part, format="png", dpi=DPI)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def strongest(weight: Array, axis: int, limit: int) -> NDArray[np.intp]:
    """Indices of the `limit` slices of `weight` along `axis` with the largest norm, in order."""
    norms = np.square(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)).sum(axis=1)
    return np.sort(np.argsort(-norms, kind="stable")[:limit])


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
