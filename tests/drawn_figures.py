"""Figures that were drawn, read as objects."""

import itertools
from collections.abc import Collection
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from minicnn.inspect.plots import canvas


def record(monkeypatch: pytest.MonkeyPatch, *modules: object) -> list[Figure]:
    """The figures that sheets and the modules will write."""
    figures: list[Figure] = []
    write_png = canvas.write_png

    def write(figure: Figure, path: Path) -> None:
        write_png(figure, path)
        figures.append(figure)

    for module in (canvas, *modules):
        monkeypatch.setattr(module, "write_png", write)
    return figures


def texts(figure: Figure) -> list[Text]:
    """All texts that show: ticks outside the view keep labels that are not drawn."""
    hidden: set[Text] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if not low <= tick.get_loc() <= high:
                    hidden.update((tick.label1, tick.label2))
    found = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    return [t for t in found if t.get_visible() and t.get_text().strip() and t not in hidden]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def check(figure: Figure, path: Path, tilted: Collection[str] = ()) -> None:
    """The file is a whole PNG of the figure; its texts lie inside and apart from one another, but for `tilted` ones."""
    width, height = (round(float(inches) * canvas.DPI) for inches in figure.get_size_inches())
    assert imread(path).shape[:2] == pytest.approx((height, width), abs=1)
    assert list(path.parent.iterdir()) == [path]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    for name, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, name
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
        assert apart or {one, other} & set(tilted), f"{one!r} lies over {other!r}"
