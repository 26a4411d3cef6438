"""What the pictures are drawn on: figures measured in pixels, mosaics of tiles, complete PNG files.

Small images are enlarged by whole factors and drawn pixel on pixel, all of them as one mosaic: a
matplotlib axes for each would take longer than an epoch of training.
"""

import os
import warnings
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


def mosaic_of(
    tiles: Array, zoom: int, columns: int, gap: tuple[int, int]
) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
    """One picture of tiles (n, h, w, 1 or 3) in [0, 1], enlarged by `zoom`, row by row.

    `gap` is the room below and beside each tile. Returns the picture (height, width, 4) and the
    upper left corner (y, x) of each tile in it. Red, green, blue and opacity is what matplotlib
    draws at once; from three channels it makes copies in floating point, 110 MB for a large sheet.
    """
    tiles = np.round(255 * tiles).astype(np.uint8).repeat(zoom, axis=1).repeat(zoom, axis=2)
    n, h, w, _ = tiles.shape
    rows = -(-n // columns)
    down, across = gap
    shape = (rows * (h + down) - down, columns * (w + across) - across, 4)
    picture = np.full(shape, 255, np.uint8)
    corners = [(i // columns * (h + down), i % columns * (w + across)) for i in range(n)]
    for tile, (y, x) in zip(tiles, corners, strict=True):
        place = picture[y : y + h, x : x + w]
        place[..., :3] = tile
        place[[0, -1], :, :3] = place[:, [0, -1], :3] = 176  # a grey frame: white tiles have an edge, too
    return picture, corners


def new_figure(width: int, height: int) -> Figure:
    """A white figure of `width` x `height` pixels, outside pyplot's global state."""
    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")


def image_axes(figure: Figure, left: int, top: int, width: int, height: int) -> Axes:
    """Bare axes at a place given in pixels from the upper left corner of the figure."""
    across, down = figure.get_size_inches() * DPI
    box = (left / across, 1 - (top + height) / down, width / across, height / down)
    axes = figure.add_axes(box)
    axes.set_axis_off()
    return axes


def sheet(figure: Figure) -> tuple[Axes, NDArray[np.uint8]]:
    """Axes over the whole figure, in its pixels, for text and lines; and a white page (height, width, 4) of its size.

    Images are written into the page, and `axes.imshow(page)` at the end draws all of them at once.
    """
    width, height = (round(float(side) * DPI) for side in figure.get_size_inches())
    axes = image_axes(figure, 0, 0, width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return axes, np.full((height, width, 4), 255, np.uint8)


def put(page: NDArray[np.uint8], picture: Array, left: int, top: int) -> None:
    """Writes colours (h, w, 3 or 4), in 0..1 or uint8, into a page."""
    h, w, depth = picture.shape
    colours = picture if picture.dtype == np.uint8 else np.round(255 * picture)
    page[top : top + h, left : left + w, :depth] = colours


def draw_ramp(
    axes: Axes, page: NDArray[np.uint8], colours: Colormap, place: tuple[int, int, int], ends: tuple[str, str]
) -> None:
    """A colour bar at a place (left, top, height), with the words for its upper and lower end beside it."""
    left, top, height = place
    put(page, colours(np.linspace(1, 0, height))[:, None].repeat(22, axis=1), left, top)
    for text, y in zip(ends, (top + 8, top + height - 8), strict=True):
        axes.text(left + 32, y, text, va="center", fontsize=8, color=GREY)


def draw_headline(figure: Figure, title: str, subtitle: str) -> None:
    """A bold title and a grey line below it, in the upper left corner."""
    across, down = figure.get_size_inches() * DPI
    figure.text(40 / across, 1 - 30 / down, title, fontsize=13, fontweight="bold", va="top")
    figure.text(40 / across, 1 - 72 / down, subtitle, fontsize=9, color=GREY, va="top")


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
