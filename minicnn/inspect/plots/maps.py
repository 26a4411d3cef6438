"""What the layers make of one image, as pictures: one for each, and one of all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from numpy.typing import NDArray

from minicnn.inspect.plots.canvas import (
    BLUE,
    DARK,
    GREY,
    SIGNED,
    SMALL,
    VERMILION,
    Array,
    PathLike,
    Sheet,
    mosaic_of,
    strongest,
    text_width,
)

MOST = 32  # maps or, in tens, units that are shown
MOST_BARS = 30
POSITIVE = LinearSegmentedColormap.from_list("positive", ["white", VERMILION, DARK], N=257)
TONES = {"ink": colormaps["gray_r"], "photograph": colormaps["gray"]}
SLIDE = (1920, 1080)
MOST_PANELS = 24  # on a slide


@dataclass(frozen=True, eq=False)
class Panel:
    """What is drawn of a layer, or of the input."""

    place: str
    """In the network, such as "3"."""
    kind: str
    y: Array
    """Maps (C, H, W), or numbers (K,)."""
    names: Sequence[str] | None = None
    """Of the numbers, which then are bars."""
    tones: str | None = None
    """How pixels from 0 to 1 are drawn, if they are: high values dark ("ink") or light ("photograph")."""

    @property
    def signed(self) -> bool:
        return bool((self.y < 0).any())

    @property
    def most(self) -> float:
        return 1.0 if self.tones else float(np.abs(self.y).max()) or 1.0

    @property
    def colours(self) -> Colormap:
        """White for 0; where something is negative, blue for negative and vermilion for positive numbers."""
        if self.tones:
            return TONES[self.tones]
        return SIGNED if self.signed else POSITIVE

    @property
    def ends(self) -> tuple[str, str]:
        """The words at the upper and lower end of the scale."""
        return f"{self.most:.3g}", f"{-self.most:.3g}" if self.signed else "0"

    @property
    def single(self) -> bool:
        """Whether it is numbers, without a place."""
        return self.y.ndim == 1 or self.y.shape[1:] == (1, 1)

    @property
    def bars(self) -> bool:
        return self.y.ndim == 1 and self.names is not None and len(self.y) <= MOST_BARS

    def tiles(self, limit: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """The strongest `limit` maps (or units, as single pixels), coloured, (n, h, w, 3); and their numbers."""
        if self.tones == "photograph" and len(self.y) == 3:
            return np.moveaxis(self.y, 0, -1)[None], np.zeros(1, np.intp)
        maps = self.y if self.y.ndim == 3 else self.y.reshape(-1, 1, 1)
        chosen = strongest(maps, axis=0, limit=limit)
        unit = maps[chosen] / self.most
        return self.colours(0.5 + unit / 2 if self.signed else unit)[..., :3], chosen


def plot_maps(path: PathLike, panel: Panel, title: str, note: str = "") -> None:
    """The output of a layer for one image: maps, or numbers, with names as bars.

    All maps have one scale, which the colour bar states. Of many, the strongest are drawn (largest norm).
    """
    y = panel.y
    subtitle = f"from {y.min():.3g} to {y.max():.3g}" + (f"; {note}" if note else "")
    if panel.bars:
        _bars(path, panel, title, subtitle)
        return
    single = panel.single
    tiles, chosen = panel.tiles(10 * MOST if single else MOST)
    if len(chosen) < len(y) and panel.tones is None:
        subtitle += f"; the strongest {len(chosen)} of {len(y):,}"
    step = -(-max(tiles.shape[1:3]) // 220)  # a map larger than its place is thinned out
    tiles = tiles[:, ::step, ::step]
    zoom = 36 if single else max(1, round((200 if len(tiles) <= 6 else 120) / max(tiles.shape[1:3])))
    pitch = zoom * tiles.shape[2] + (4 if single else 14)
    columns = min(len(tiles), max(1, 1290 // pitch))
    picture, corners = mosaic_of(tiles, zoom, columns, (4, 4) if single else (40, 14))
    left, top = 40, 120 if single else 150
    right = left + picture.shape[1] + 40
    bar = min(max(picture.shape[0], 110), 240)
    sheet = Sheet(right + 130, top + max(picture.shape[0], bar) + 50, title, subtitle)
    sheet.put(picture, left, top)
    sheet.ramp(panel.colours, right, top, bar, panel.ends)
    if not single and panel.tones is None:
        for number, (row, column) in zip(chosen, corners, strict=True):
            middle = left + column + zoom * tiles.shape[2] / 2
            sheet.axes.text(middle, top + row - 6, str(number), ha="center", va="bottom", **SMALL)
    sheet.write(path)


def plot_overview(path: PathLike, panels: Sequence[Panel], title: str) -> list[Path]:
    """All layers of one image on a slide, from left to right and from top to bottom, each with a scale of its own.

    Of many maps, the strongest are drawn. Of more than MOST_PANELS panels there are several slides, whose names have a
    number. Returns the files.
    """
    path = Path(path)
    count = -(-len(panels) // MOST_PANELS)
    each = -(-len(panels) // count)
    files = [path if count == 1 else path.with_stem(f"{path.stem}-{k + 1}") for k in range(count)]
    for k, file in enumerate(files):
        of = f" ({k + 1} of {count})" if count > 1 else ""
        _slide(file, panels[k * each : (k + 1) * each], title + of)
    return files


def _slide(path: Path, panels: Sequence[Panel], title: str) -> None:
    width, height = SLIDE
    left, top, words, gap = 40, 130, 92, 36
    columns, wide, high = _grid(len(panels), width - 2 * left + gap, height - top, gap, words + gap)
    signed = any(panel.signed and not panel.tones for panel in panels)
    subtitle = f"white is 0, {'blue negative, ' if signed else ''}orange positive; each layer has its scale"
    sheet = Sheet(width, height, title, subtitle)
    axes = sheet.axes
    names = [f"{panel.place} {panel.kind}".strip() for panel in panels]
    widest = max(text_width(name, 8.5) for name in names)  # at 8 points, as bold is wider
    size = min(10 if wide > 200 else 8, 8 * (wide + gap - 8) / widest)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        x, y = left + column * (wide + gap), top + row * (high + words + gap)
        note = " x ".join(map(str, panel.y.shape))
        axes.text(x, y, names[number], va="top", fontsize=size, weight="bold")
        if panel.bars:
            _small_bars(axes, panel, (x, y + words, wide, high))
        else:
            shown = _draw_tiles(sheet, panel, (x, y + words, wide, high))
            if shown < len(panel.y) and panel.tones is None:
                note += f", {shown} shown"
        axes.text(x, y + 30, note, va="top", **SMALL)
        if panel.tones is None:
            axes.text(x, y + 58, f"{panel.ends[1]} to {panel.ends[0]}", va="top", **SMALL)
    sheet.write(path)


def _grid(count: int, width: int, height: int, gap: int, rest: int) -> tuple[int, int, int]:
    """(columns, width, height) of `count` places that are as large as they can be: the smaller side counts."""
    grids = ((n, width // n - gap, height // -(-count // n) - rest) for n in range(1, count + 1))
    return max(grids, key=lambda grid: min(grid[1:]))


def _draw_tiles(sheet: Sheet, panel: Panel, place: tuple[int, int, int, int]) -> int:
    """Draws maps (at most 16) or units into a place (left, top, width, height); returns how many."""
    left, top, width, height = place
    single = panel.single
    gap = 2 if single else 6
    tiles, chosen = panel.tiles(10 * MOST if single else 16)
    columns, wide, high = _grid(len(tiles), width + gap, height + gap, gap, gap)
    h, w = tiles.shape[1:3]
    step = max(1, -(-h // high), -(-w // wide))
    tiles = tiles[:, ::step, ::step]
    zoom = max(1, min(high // tiles.shape[1], wide // tiles.shape[2], 24 if single else 60))
    picture, _ = mosaic_of(tiles, zoom, columns, (gap, gap))
    sheet.put(picture, left, top)
    return len(chosen)


def _bars(path: PathLike, panel: Panel, title: str, subtitle: str) -> None:
    row, top, length, room = 40, 130, 640, 120
    edge = 40 + max(text_width(name, 9) for name in panel.names or ())
    sheet = Sheet(edge + length + 260, top + row * len(panel.y) + 40, title, subtitle)
    for value, end, middle in _draw_bars(sheet.axes, panel, (edge + room, top, length), row, edge):
        side, shift = ("right", -8) if value < 0 else ("left", 8)
        sheet.axes.text(end + shift, middle, f"{value:.3g}", ha=side, va="center", **SMALL)
    sheet.write(path)


def _small_bars(axes: Axes, panel: Panel, place: tuple[int, int, int, int]) -> None:
    left, top, width, height = place
    names = [name if len(name) <= 12 else name[:11] + "…" for name in panel.names or ()]
    row = min(34, height / len(names))
    size = min(9.0, 0.34 * row)
    edge = max(text_width(name, size) for name in names)
    _draw_bars(axes, replace(panel, names=names), (left + edge + 10, top, width - edge - 10), row, left + edge, size)


def _draw_bars(
    axes: Axes, panel: Panel, place: tuple[int, int, int], row: float, edge: float, size: float = 9
) -> list[tuple[float, float, float]]:
    """A bar for each number in a place (left, top, width), to the left of a line for 0 where it is negative.

    Names end at `edge`. Returns (number, where the bar ends, its middle) of each.
    """
    left, top, width = place
    low, high = min(float(panel.y.min()), 0.0), max(float(panel.y.max()), 0.0)
    scale = width / ((high - low) or 1.0)
    zero, ends = left - low * scale, []
    for number, (value, name) in enumerate(zip(panel.y.tolist(), panel.names or (), strict=True)):
        middle = top + row * (number + 0.5)
        axes.text(edge, middle, name, ha="right", va="center", fontsize=size)
        axes.barh(middle, value * scale, height=0.6 * row, left=zero, color=VERMILION if value > 0 else BLUE)
        ends.append((value, zero + value * scale, middle))
    axes.plot([zero, zero], [top, top + row * len(panel.y)], color=GREY, lw=0.8)
    return ends
