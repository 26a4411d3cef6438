"""The filters of convolutions as pictures, and what frequencies they let pass."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.patches import Rectangle

from minicnn.errors import ShapeError
from minicnn.inspect.frequency import dilated, frequency_response, passing
from minicnn.inspect.plots.canvas import GREY, SIGNED, SMALL, Array, PathLike, Sheet, mosaic_of, plural, strongest

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
    chosen, inputs, selection = _strongest(weight, 16 if grid else 48, 8 if grid else channels)
    kernels = weight[np.ix_(chosen, inputs)].astype(np.float64)
    scale = float(np.abs(kernels).max()) or 1.0
    unit = 0.5 + kernels / (2 * scale)
    tiles = np.moveaxis(unit, 1, -1) if colour else SIGNED(unit.swapaxes(0, 1).reshape(-1, kh, kw))[..., :3]
    zoom = max(1, round((120 if len(chosen) <= 12 else 80) / max(kh, kw)))
    columns = len(chosen) if grid else min(len(chosen), 12 if len(chosen) > 12 else 6)
    mosaic, corners = mosaic_of(tiles, zoom, columns, (10, 10) if grid else (44, 12))

    title = f"{layer}: {plural(filters, 'filter')} of {kh}x{kw}"
    title += f" on {channels} input channels" if channels > 1 else ""
    notes = [f"shown: {selection}"] if selection else []
    notes += ["colour: weights of red, green and blue; grey: zero"] if colour else []
    left, top = (130, 190 if notes else 160) if grid else (40, 130 if notes else 95)
    right, height = left + mosaic.shape[1], max(mosaic.shape[0], 120)
    sheet = Sheet(right + 40 + (0 if colour else 150), top + height + (30 if grid else 50), title, "; ".join(notes))
    sheet.put(mosaic, left, top)
    h, w = zoom * kh, zoom * kw
    for index, (y, x) in zip(chosen, corners, strict=False):
        y, side = (y - 8, "bottom") if grid else (y + h + 6, "top")
        sheet.axes.text(left + x + w / 2, top + y, str(index), ha="center", va=side, **SMALL)
    if grid:
        _name_inputs(sheet, inputs, (left, top), h + 10, h)
        sheet.axes.text(left, top - 42, "filter", fontsize=9)
    if not colour:
        sheet.ramp(SIGNED, right + 40, top, min(height, 300), (f"{scale:+.2g}", "0", f"{-scale:+.2g}"))
    sheet.write(path)


def plot_responses(
    path: PathLike, weight: Array, title: str, dilation: tuple[int, int] = (1, 1), labels: Sequence[str] | None = None
) -> None:
    """Each kernel of `weight` (out, in, kh, kw) with the frequencies that it lets pass below it.

    A column per filter, a row per input channel; the strongest where there are too many to be seen. Frequencies are
    those of `frequency_response`. Below each filter stand its `Passing.low` and `Passing.kind`. Kernels of NaN do not
    exist and stay empty. `labels` are words for the filters [their numbers].
    """
    exists = np.isfinite(weight)
    weight = np.where(exists, weight, 0).astype(np.float64)
    single = weight.shape[1] == 1
    chosen, inputs, selection = _strongest(weight, 24 if single else 16, 6)
    kernels, exists = weight[np.ix_(chosen, inputs)], exists[np.ix_(chosen, inputs)].any(axis=(2, 3))
    scale = float(np.abs(kernels).max()) or 1.0
    per_line = 12 if single else 16
    side = 61 if len(inputs) > 3 else 111 if len(chosen) <= 12 else 85  # of a tile, odd as the number of frequencies
    pitch = max(side, 85) + GAP  # of columns, which have words below them
    left, top = 130, 190
    depth = len(inputs) * (side + GAP)
    line_height = 2 * depth + 150
    lines = -(-len(chosen) // per_line)
    right = left + min(len(chosen), per_line) * pitch + 40

    notes = [selection] if selection else []
    notes += ["below: what passes; middle = frequency 0, dotted = half the Nyquist frequency"]
    sheet = Sheet(right + 130, top + lines * line_height, title, "; ".join(notes))
    for place, number in enumerate(chosen):
        line, column = divmod(place, per_line)
        x, y = left + column * pitch + (pitch - side - GAP) // 2, top + line * line_height
        middle, below = x + side / 2, y + 2 * depth + 42
        name = labels[number] if labels else str(number)
        sheet.axes.text(middle, y - 10, name, ha="center", va="bottom", **SMALL)
        pictures = SIGNED(0.5 + kernels[place] / (2 * scale))[..., :3]
        responses = frequency_response(dilated(kernels[place], dilation), side)
        for row in np.flatnonzero(exists[place]).tolist():
            at = y + row * (side + GAP)
            _draw_kernel(sheet, pictures[row], responses[row], (x, at, at + depth + 20), side)
        found = passing(weight[number], dilation)
        share = "-" if np.isnan(found.low) else f"{found.low:.0%} low"
        sheet.axes.text(middle, below, share, ha="center", va="top", fontsize=8)
        sheet.axes.text(middle, below + 26, found.kind, ha="center", va="top", fontsize=7, color=GREY)
    for line in range(lines):
        _frequency_ticks(sheet, left, top + line * line_height + 2 * depth + 20 - side - GAP, side)
    if not single:
        _name_inputs(sheet, inputs, (left, top), side + GAP, side)
    sheet.axes.text(left, top - 42, "filter", fontsize=9)
    height = min(max(depth - 12, 60), 240)
    sheet.ramp(SIGNED, right, top, height, (f"{scale:+.2g}", f"{-scale:+.2g}"))
    sheet.ramp(PASSED, right, top + depth + 20, height, ("max", "0"))
    sheet.write(path)


def _strongest(weight: Array, filters: int, inputs: int) -> tuple[Array, Array, str]:
    """The numbers of so many filters and inputs, and words for that, "" if these are all."""
    chosen = [strongest(weight, axis, limit) for axis, limit in enumerate((filters, inputs))]
    some = [
        f"{len(numbers)} of the {count} {noun}"
        for numbers, count, noun in zip(chosen, weight.shape, ("filters", "inputs"), strict=False)
        if len(numbers) < count
    ]
    return chosen[0], chosen[1], f"the strongest (by norm) {' and '.join(some)}" if some else ""


def _name_inputs(sheet: Sheet, inputs: Array, place: tuple[int, int], pitch: int, side: int) -> None:
    """The numbers of input channels to the left of their rows, `pitch` apart and `side` high."""
    left, top = place
    for row, number in enumerate(inputs):
        sheet.axes.text(left - 12, top + row * pitch + side / 2, str(number), ha="right", va="center", **SMALL)
    sheet.axes.text(left - 60, top, "input", fontsize=9, rotation=90, ha="center", va="top")


def _draw_kernel(sheet: Sheet, kernel: Array, response: Array, place: tuple[int, int, int], side: int) -> None:
    """A kernel (kh, kw, 3), coloured, and its response (side, side), whose left and upper sides are at `place`."""
    left, top, below = place
    kh, kw = kernel.shape[:2]
    zoom = max(1, side // max(kh, kw))
    picture, _ = mosaic_of(kernel[None], zoom, 1, (0, 0))
    sheet.put(picture, left + (side - zoom * kw) // 2, top + (side - zoom * kh) // 2)
    sheet.put(PASSED(response / (response.max() or 1.0)), left, below)
    # The square whose share of the energy is `Passing.low`.
    corner = (left + side / 4, below + side / 4)
    sheet.axes.add_patch(Rectangle(corner, side / 2, side / 2, fill=False, ec="white", lw=0.6, ls=":"))


def _frequency_ticks(sheet: Sheet, left: int, top: int, side: int) -> None:
    """-0.5, 0 and 0.5 cycles per pixel beside the first response."""
    for share, text in ((0.0, "-0.5"), (0.5, "0"), (1.0, "0.5")):
        sheet.axes.text(left - 8, top + share * side, text, ha="right", va="center", fontsize=7)
    unit = "cycles\nper pixel"
    sheet.axes.text(left - 70, top + side / 2, unit, ha="center", va="center", rotation=90, fontsize=7)
