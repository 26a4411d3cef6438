"""What a layer makes of one image, as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from minicnn.inspect.plots.canvas import (
    BLUE,
    GREY,
    SIGNED,
    VERMILION,
    Array,
    PathLike,
    draw_headline,
    draw_ramp,
    mosaic_of,
    new_figure,
    put,
    sheet,
    text_width,
    write_png,
)

MOST = 64  # maps or, in tens, units that are shown
POSITIVE = colormaps["gray"]


def plot_maps(path: PathLike, y: Array, title: str, names: Sequence[str] | None = None, note: str = "") -> None:
    """The output y of a layer for one image: maps (C, H, W), or numbers (K,), with `names` as bars.

    All maps have one scale, which the colour bar states: black for 0 and white for the maximum where nothing is
    negative, else white for 0, blue for negative and vermilion for positive numbers.
    """
    signed = bool((y < 0).any())
    top_value = float(np.abs(y).max()) or 1.0
    colours = SIGNED if signed else POSITIVE
    subtitle = f"from {y.min():.3g} to {y.max():.3g}" + (f"; {note}" if note else "")
    if y.ndim == 1 and names is not None and len(y) <= 30:
        _bars(path, y, title, subtitle, names)
        return
    maps = y if y.ndim == 3 else y.reshape(-1, 1, 1)
    most = MOST if y.ndim == 3 else 10 * MOST
    if len(maps) > most:
        subtitle += f"; the first {most} of {len(maps):,}"
    maps = maps[:most]
    unit = 0.5 + maps / (2 * top_value) if signed else maps / top_value
    tiles = colours(unit)[..., :3]
    height, width = maps.shape[1:]
    single = y.ndim == 1
    step = -(-max(height, width) // 220)  # a map larger than its place is thinned out
    tiles = tiles[:, ::step, ::step]
    zoom = 36 if single else max(1, round((200 if len(maps) <= 6 else 120) / max(tiles.shape[1:3])))
    pitch = zoom * tiles.shape[2] + (4 if single else 14)
    columns = min(len(maps), max(1, 1290 // pitch))
    picture, corners = mosaic_of(tiles, zoom, columns, (4, 4) if single else (40, 14))
    left, top = 40, 120 if single else 150
    right = left + picture.shape[1] + 40
    wide = max(right + 130, 80 + text_width(title, 13), 80 + text_width(subtitle, 9))
    bar = min(max(picture.shape[0], 110), 240)
    figure = new_figure(wide, top + max(picture.shape[0], bar) + 50)
    draw_headline(figure, title, subtitle)
    axes, page = sheet(figure)
    put(page, picture, left, top)
    ends = (f"{top_value:.3g}", f"{-top_value:.3g}" if signed else "0")
    draw_ramp(axes, page, colours, (right, top, bar), ends)
    axes.imshow(page)
    if not single:
        for number, (row, column) in enumerate(corners):
            middle = left + column + zoom * tiles.shape[2] / 2
            axes.text(middle, top + row - 6, str(number), ha="center", va="bottom", fontsize=8, color=GREY)
    write_png(figure, path)


def _bars(path: PathLike, y: Array, title: str, subtitle: str, names: Sequence[str]) -> None:
    """A bar for each number, to the left of a line for 0 where it is negative."""
    label = 40 + max(text_width(name, 9) for name in names)
    length, row, top = 640, 40, 130
    low, high = min(float(y.min()), 0.0), max(float(y.max()), 0.0)
    scale = length / ((high - low) or 1.0)
    wide = max(label + length + 260, 80 + text_width(title, 13), 80 + text_width(subtitle, 9))
    height = top + row * len(y) + 40
    figure = new_figure(wide, height)
    draw_headline(figure, title, subtitle)
    axes, _ = sheet(figure)
    zero = label + 120 - low * scale
    for number, (value, name) in enumerate(zip(y, names, strict=True)):
        middle = top + row * (number + 0.5)
        axes.text(label, middle, name, ha="right", va="center", fontsize=9)
        colour = VERMILION if value > 0 else BLUE
        axes.barh(middle, float(value) * scale, height=0.6 * row, left=zero, color=colour)
        _bar_value(axes, zero + float(value) * scale, middle, float(value))
    axes.plot([zero, zero], [top, top + row * len(y)], color=GREY, lw=0.8)
    axes.set(xlim=(0, wide), ylim=(height, 0))
    write_png(figure, path)


def _bar_value(axes: Axes, x: float, y: float, value: float) -> None:
    side, shift = ("right", -8) if value < 0 else ("left", 8)
    axes.text(x + shift, y, f"{value:.3g}", ha=side, va="center", fontsize=8, color=GREY)
