"""The filters of convolutions as pictures, and what frequencies they let pass."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from minicnn.errors import ShapeError
from minicnn.inspect.frequency import Passing, dilated, frequency_response, passing
from minicnn.inspect.plots.canvas import (
    GREY,
    SIGNED,
    Array,
    PathLike,
    draw_headline,
    draw_ramp,
    image_axes,
    mosaic_of,
    new_figure,
    plural,
    put,
    sheet,
    strongest,
    text_width,
    write_png,
)

PASSED = colormaps["inferno"]
GAP = 12  # between tiles


def plot_filters(path: PathLike, weight: Array, layer: str = "First layer") -> None:
    """The kernels of a convolution, `weight` of shape (out, in, kh, kw).

    One input channel: a tile per filter. Three channels: a colour tile per filter, grey for zero.
    Otherwise a column per filter and a row per input channel. Where there are too many to be seen,
    the strongest are shown (largest norm, in their own order), and the picture says so.
    """
    if weight.ndim != 4 or 0 in weight.shape:
        raise ShapeError(f"plot_filters: expected weight (out, in, kh, kw), received {weight.shape}")
    filters, channels, kh, kw = weight.shape
    grid, colour = channels not in (1, 3), channels == 3
    chosen = strongest(weight, axis=0, limit=16 if grid else 48)
    inputs = strongest(weight, axis=1, limit=8) if grid else np.arange(channels)
    kernels = weight[np.ix_(chosen, inputs)].astype(np.float64)
    scale = float(np.abs(kernels).max()) or 1.0
    unit = 0.5 + kernels / (2 * scale)
    flat = unit.swapaxes(0, 1).reshape(-1, kh, kw)
    tiles = np.moveaxis(unit, 1, -1) if colour else SIGNED(flat)[..., :3]
    zoom = max(1, round((120 if len(chosen) <= 12 else 80) / max(kh, kw)))
    columns = len(chosen) if grid else min(len(chosen), 12 if len(chosen) > 12 else 6)
    mosaic, corners = mosaic_of(tiles, zoom, columns, (10, 10) if grid else (44, 12))
    height, width = mosaic.shape[:2]

    title = f"{layer}: {plural(filters, 'filter')} of {kh}x{kw}"
    title += f" on {channels} input channels" if channels > 1 else ""
    parts = [f"{len(chosen)} of the {filters} filters"] if len(chosen) < filters else []
    parts += [f"{len(inputs)} of the {channels} inputs"] if len(inputs) < channels else []
    notes = [f"shown: the strongest (by norm) {' and '.join(parts)}"] if parts else []
    notes += ["colour: weights of red, green and blue; grey: zero"] if colour else []
    subtitle = "; ".join(notes)
    left, top = (130, 190 if subtitle else 160) if grid else (40, 130 if subtitle else 95)
    bar = 0 if colour else 150
    box = max(height, 120)
    right_edge = max(left + width + bar, 40 + text_width(title, 13), 40 + text_width(subtitle, 9))
    figure = new_figure(right_edge + 40, top + box + (30 if grid else 50))
    draw_headline(figure, title, subtitle)
    axes = image_axes(figure, left, top, width, height)
    axes.imshow(mosaic, interpolation="nearest")
    h, w = zoom * kh, zoom * kw
    small: dict[str, Any] = {"fontsize": 8, "color": GREY}
    for index, (y, x) in zip(chosen, corners, strict=False):
        if grid:
            axes.text(x + w / 2, y - 8, str(index), ha="center", va="bottom", **small)
        else:
            axes.text(x + w / 2, y + h + 6, str(index), ha="center", va="top", **small)
    if grid:
        for index, (y, _) in zip(inputs, corners[::columns], strict=True):
            axes.text(-10, y + h / 2, str(index), ha="right", va="center", **small)
        axes.text(0, -38, "filter", fontsize=9)
        axes.text(-70, 0, "input", fontsize=9, rotation=90, ha="center", va="top")
    if bar:
        ramp = image_axes(figure, left + width + 40, top, 22, min(box, 300))
        ramp.imshow(SIGNED(np.linspace(1, 0, 256))[:, None], aspect="auto", extent=(0, 1, -1, 1))
        for value in (-1, 0, 1):
            text = f"{value * scale:+.2g}" if value else "0"
            ramp.text(1.4, value * 0.93, text, va="center", **small)
    write_png(figure, path)


def plot_responses(
    path: PathLike, weight: Array, title: str, dilation: tuple[int, int] = (1, 1), labels: Sequence[str] | None = None
) -> None:
    """Each kernel of `weight` (out, in, kh, kw) with the frequencies that it lets pass below it.

    A column per filter, a row per input channel; the strongest where there are too many to be seen. Frequencies are
    those of `frequency_response`. Below each filter stand its `Passing.low` and `Passing.kind`. Kernels of NaN do not
    exist and stay empty. `labels` are words for the filters [their numbers].
    """
    filters, channels = weight.shape[:2]
    exists = np.isfinite(weight)
    weight = np.where(exists, weight, 0).astype(np.float64)
    single = channels == 1
    chosen = strongest(weight, axis=0, limit=24 if single else 16)
    inputs = strongest(weight, axis=1, limit=6)
    kernels, exists = weight[np.ix_(chosen, inputs)], exists[np.ix_(chosen, inputs)]
    scale = float(np.abs(kernels).max()) or 1.0
    per_line = 12 if single else 16
    side = 61 if len(inputs) > 3 else 111 if len(chosen) <= 12 else 85  # of a tile, odd as the number of frequencies
    pitch = max(side, 85) + GAP  # of columns, which have words below them
    left, top = 130, 190
    depth = len(inputs) * (side + GAP)
    line_height = 2 * depth + 150
    lines = -(-len(chosen) // per_line)
    columns = min(len(chosen), per_line)

    some = [f"{len(chosen)} of the {filters} filters"] * (len(chosen) < filters)
    some += [f"{len(inputs)} of the {channels} inputs"] * (len(inputs) < channels)
    notes = [f"the strongest (by norm) {' and '.join(some)}"] if some else []
    notes += ["below: what passes; middle = frequency 0, dotted = half the Nyquist frequency"]
    subtitle = "; ".join(notes)
    right = left + columns * pitch + 40
    width = max(right + 130, 80 + text_width(title, 13), 80 + text_width(subtitle, 9))
    figure = new_figure(width, top + lines * line_height)
    draw_headline(figure, title, subtitle)
    axes, page = sheet(figure)
    small: dict[str, Any] = {"fontsize": 8, "color": GREY}
    for place, number in enumerate(chosen):
        line, column = divmod(place, per_line)
        x, y = left + column * pitch + (pitch - side - GAP) // 2, top + line * line_height
        name = labels[number] if labels else str(number)
        axes.text(x + side / 2, y - 10, name, ha="center", va="bottom", **small)
        spread = dilated(kernels[place], dilation)
        tiles = (SIGNED(0.5 + kernels[place] / (2 * scale))[..., :3], frequency_response(spread, side))
        _draw_filter(axes, page, *tiles, exists[place].any(axis=(1, 2)), x, y, side)
        _captions(axes, passing(weight[number], dilation), x + side / 2, y + 2 * depth + 42)
    for line in range(lines):
        _frequency_ticks(axes, left, top + line * line_height + 2 * depth + 20 - side - GAP, side)
    if not single:
        for place, number in enumerate(inputs):
            middle = top + place * (side + GAP) + side / 2
            axes.text(left - 12, middle, str(number), ha="right", va="center", **small)
        axes.text(left - 60, top, "input", fontsize=9, rotation=90, ha="center", va="top")
    axes.text(left, top - 42, "filter", fontsize=9)
    height = min(max(depth - 12, 60), 240)
    draw_ramp(axes, page, SIGNED, (right, top, height), (f"{scale:+.2g}", f"{-scale:+.2g}"))
    draw_ramp(axes, page, PASSED, (right, top + depth + 20, height), ("max", "0"))
    axes.imshow(page)
    write_png(figure, path)


def _draw_filter(
    axes: Axes, page: Array, kernels: Array, responses: Array, exists: Array, x: int, y: int, side: int
) -> None:
    """A column: the kernels (n, kh, kw, 3), coloured, then the responses (n, side, side)."""
    kh, kw = kernels.shape[1:3]
    zoom = max(1, side // max(kh, kw))
    pitch = side + GAP
    right, down = (side - zoom * kw) // 2, (side - zoom * kh) // 2
    for row in range(len(kernels)):
        if not exists[row]:
            continue
        picture, _ = mosaic_of(kernels[row : row + 1], zoom, 1, (0, 0))
        put(page, picture, x + right, y + row * pitch + down)
        top = y + (len(kernels) + row) * pitch + 20
        put(page, PASSED(responses[row] / (responses[row].max() or 1.0)), x, top)
        # The square whose share of the energy is `Passing.low`.
        corner = (x + side / 4, top + side / 4)
        axes.add_patch(Rectangle(corner, side / 2, side / 2, fill=False, ec="white", lw=0.6, ls=":"))


def _captions(axes: Axes, found: Passing, x: float, y: float) -> None:
    """The share of low frequencies, and what that makes the filter."""
    share = "-" if np.isnan(found.low) else f"{found.low:.0%} low"
    axes.text(x, y, share, ha="center", va="top", fontsize=8)
    axes.text(x, y + 26, found.kind, ha="center", va="top", fontsize=7, color=GREY)


def _frequency_ticks(axes: Axes, left: int, top: int, side: int) -> None:
    """-0.5, 0 and 0.5 cycles per pixel beside the first response."""
    for share, text in ((0.0, "-0.5"), (0.5, "0"), (1.0, "0.5")):
        axes.text(left - 8, top + share * side, text, ha="right", va="center", fontsize=7)
    axes.text(left - 70, top + side / 2, "cycles\nper pixel", ha="center", va="center", rotation=90, fontsize=7)
