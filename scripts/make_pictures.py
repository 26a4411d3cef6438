"""Draw the pictures of docs/: their numbers are those of the layers, and of the code on the pages themselves.

Usage: python scripts/make_pictures.py [RUN] [--out FOLDER]

RUN, the folder of a run of configs/lenet.yaml, is for the picture of LeNet-5, layer by layer, and needs its data.
"""

import argparse
import contextlib
import io
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from minicnn import Conv2d, LeakyReLU, MaxPool, MeanPool, ReLU, Sequential, Sigmoid, Tanh
from minicnn.cli import main as minicnn
from minicnn.inspect.plots.canvas import BLUE, GREY, INK, PALE, VERMILION
from minicnn.inspect.summary import summarize

DOCS = Path(__file__).parent.parent / "docs"
TEST_IMAGE = "7"  # of MNIST, for LeNet-5
COLOURS = 48  # of that picture
CELL = 34
LIGHT = {VERMILION: "#F8D9C4", BLUE: "#CFE4F1"}
GREEN = "#009E73"
X = np.arange(1, 10, dtype=np.float32).reshape(3, 3)  # that of convolution.md and backprop.md


class Drawing:
    """An SVG of shapes, in the order in which they are added. Lengths are in pixels."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'font-family="Helvetica, Arial, sans-serif" font-size="15" text-anchor="middle">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="white"/>',
        ]

    def text(self, x: float, y: float, words: str, **style: Any) -> None:
        style.setdefault("fill", INK)
        self._parts.append(f'<text x="{x:g}" y="{y:g}"{_attributes(style)}>{escape(words)}</text>')

    def rect(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        style = {"fill": "none", "stroke": "#999"} | style
        self._parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"{_attributes(style)}/>')

    def line(self, points: Iterable[tuple[float, float]], **style: Any) -> None:
        style = {"fill": "none", "stroke": GREY} | style
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{path}"{_attributes(style)}/>')

    def grid(
        self,
        x: float,
        y: float,
        values: np.ndarray,
        fill: Callable[[int, int], str | None] = lambda i, j: None,
        shown: Callable[[int, int], bool] = lambda i, j: True,
        cell: int = CELL,
    ) -> None:
        """Numbers in cells, some of them filled; (x, y) is the upper left corner."""
        for (i, j), value in np.ndenumerate(values):
            self.rect(x + j * cell, y + i * cell, cell, cell, fill=fill(i, j) or "white")
            if shown(i, j):
                self.text(x + (j + 0.5) * cell, y + (i + 0.5) * cell + 5, f"{value:g}")

    def save(self, path: Path) -> None:
        path.write_text("\n".join([*self._parts, "</svg>", ""]), encoding="utf-8")


def _attributes(style: dict[str, Any]) -> str:
    return "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())


def convolution(path: Path) -> None:
    layer = Conv2d(1, 1, 2, bias=False)
    layer.weight.value = [[[[0, 1], [2, 3]]]]
    y = layer.forward(X[None, None])[0, 0]
    kernel = layer.weight.value[0, 0]
    drawing = Drawing(880, 320, "A kernel of 2 x 2 slides over an image of 3 x 3")
    for number in range(4):
        a, b, left = number // 2, number % 2, 40 + 210 * number
        drawing.grid(
            left, 40, X, lambda i, j, a=a, b=b: LIGHT[VERMILION] if 0 <= i - a < 2 and 0 <= j - b < 2 else None
        )
        drawing.rect(left + b * CELL, 40 + a * CELL, 2 * CELL, 2 * CELL, stroke=VERMILION, stroke_width=3)
        window = X[a : a + 2, b : b + 2]
        terms = [f"{p:g}·{k:g}" for p, k in zip(window.ravel(), kernel.ravel(), strict=True)]
        drawing.text(left + 51, 174, " + ".join(terms[:2]) + " +", font_size=14)
        drawing.text(left + 51, 194, " + ".join(terms[2:]), font_size=14)
        drawing.grid(
            left + 17,
            216,
            y,
            lambda i, j, a=a, b=b: LIGHT[BLUE] if (i, j) == (a, b) else None,
            lambda i, j, n=number: 2 * i + j <= n,
        )
        drawing.text(left + 125, 96, "→" if number < 3 else "", fill=GREY, font_size=24)
        drawing.text(left + 51, 28, "x" if number == 0 else "", fill=GREY)
    drawing.text(40, 256, "y", fill=GREY)
    drawing.text(440, 308, f"kernel: {kernel[0, 0]:g} {kernel[0, 1]:g} / {kernel[1, 0]:g} {kernel[1, 1]:g}", fill=GREY)
    drawing.save(path)


def shared_gradient(path: Path) -> None:
    dy = np.array([[1, 2], [3, 4]], np.float32)
    layer = Conv2d(1, 1, 2, bias=False).initialize(rng=0)
    layer.forward(X[None, None])
    layer.backward(dy[None, None])
    drawing = Drawing(880, 250, "The gradient of a shared weight is a sum over all places")
    drawing.text(440, 26, "the first weight of the kernel, at each of its four places: pixel times dy", fill=GREY)
    for number in range(4):
        a, b, left = number // 2, number % 2, 40 + 170 * number
        drawing.grid(left, 46, X, lambda i, j, a=a, b=b: VERMILION if (i, j) == (a, b) else None)
        drawing.rect(left + b * CELL, 46 + a * CELL, 2 * CELL, 2 * CELL, stroke=VERMILION, stroke_width=3)
        drawing.text(left + 51, 182, f"{X[a, b]:g} · {dy[a, b]:g} = {X[a, b] * dy[a, b]:g}")
        drawing.text(left + 136, 182, "+" if number < 3 else "=", font_size=18)
    total = layer.weight.grad[0, 0, 0, 0]
    drawing.rect(730, 64, 110, 66, fill=LIGHT[BLUE])
    drawing.text(785, 92, "dweight[0, 0]", font_size=14)
    drawing.text(785, 117, f"{total:g}", font_size=18, font_weight="bold")
    drawing.text(785, 182, f"{total:g}", font_weight="bold")
    drawing.text(440, 228, "dy = 1 2 / 3 4: one number for each place of the window", fill=GREY)
    drawing.save(path)


def pooling(path: Path) -> None:
    x = np.array([[1, 2, 0, 4], [3, 6, 7, 1], [6, 0, 2, 2], [1, 9, 3, 8]], np.float32)
    dy = np.array([[10, 20], [30, 40]], np.float32)
    drawing = Drawing(880, 430, "Pooling forward and backward: the maximum, and the mean")
    for row, (name, layer) in enumerate((("maximum", MaxPool(2)), ("mean", MeanPool(2)))):
        top = 60 + 195 * row
        y = layer.forward(x[None, None])[0, 0]
        dx = layer.backward(dy[None, None])[0, 0]
        tint = [[LIGHT[VERMILION], LIGHT[BLUE]], ["#D5EFE6", "#F3E3EE"]]
        drawing.text(60, top + 73, name, font_weight="bold")
        colour = lambda i, j, tint=tint: tint[i // 2][j // 2]  # noqa: E731
        small = lambda i, j, tint=tint: tint[i][j]  # noqa: E731
        drawing.grid(120, top, x, colour)
        drawing.grid(300, top + CELL, y, small)
        drawing.grid(480, top + CELL, dy, small)
        drawing.grid(600, top, dx, lambda i, j, dx=dx, colour=colour: colour(i, j) if dx[i, j] else None)
        for at in (278, 574):
            drawing.text(at, top + 75, "→", fill=GREY, font_size=24)
        words = ["to the winner", "alone"] if row == 0 else ["a quarter", "to each"]
        for number, word in enumerate(words):
            drawing.text(805, top + 64 + 22 * number, word, fill=GREY)
    for at, word in ((188, "x"), (334, "y"), (514, "dy"), (668, "dx")):
        drawing.text(at, 44, word, fill=GREY)
    drawing.text(244, 22, "forward", font_weight="bold")
    drawing.text(600, 22, "backward", font_weight="bold")
    drawing.save(path)


def receptive_field(path: Path) -> None:
    layers = [Conv2d(1, 1, 3), MaxPool(2), Conv2d(1, 1, 3)]
    rows = summarize(Sequential(layers), (1, 14, 14))
    sizes = [14, *(row.output_shape[-1] for row in rows)]
    names = ["image", "Conv2d, kernel 3", "MaxPool, 2 by 2", "Conv2d, kernel 3"]
    fields = [1, *(row.receptive_field[0] for row in rows if row.receptive_field)]
    jumps = [1, *(row.jump[0] for row in rows if row.jump)]
    drawing = Drawing(880, 400, "The receptive field grows from layer to layer")
    step, left = 42, 230

    def centre(layer: int, unit: int) -> float:
        return left + step * (unit * jumps[layer] + (fields[layer] - 1) / 2)

    lit = {3: {1}}
    for k in (3, 2, 1):
        kernel, stride = layers[k - 1].window[0][0], layers[k - 1].window[1][0]
        lit[k - 1] = {unit * stride + u for unit in lit[k] for u in range(kernel)}
        for unit in range(sizes[k]):
            for u in range(kernel):
                on = unit in lit[k]
                ends = ((centre(k, unit), 350 - 90 * k), (centre(k - 1, unit * stride + u), 350 - 90 * (k - 1)))
                drawing.line(ends, stroke=VERMILION if on else PALE, stroke_width=2 if on else 1)
    for k in range(4):
        y = 350 - 90 * k
        drawing.text(20, y - 3, names[k], text_anchor="start", font_weight="bold")
        sees = f"sees {fields[k]}, jump {jumps[k]}" if k else "14 pixels in a row"
        drawing.text(20, y + 17, sees, text_anchor="start", fill=GREY, font_size=13)
        for unit in range(sizes[k]):
            fill = VERMILION if unit in lit[k] else "white"
            drawing.rect(centre(k, unit) - 11, y - 11, 22, 22, fill=fill, rx=3 if k == 0 else 11)
    drawing.text(440, 28, "what one unit of the last layer depends on", fill=GREY)
    drawing.save(path)


def winograd(path: Path) -> None:
    drawing = Drawing(880, 290, "Two outputs of a kernel of three: six multiplications, or four")
    drawing.text(190, 28, "directly: 6 multiplications", font_weight="bold")
    for out in range(2):
        for k in range(3):
            left, y = 60 + 160 * out, 50 + 42 * k
            drawing.rect(left, y, 50, CELL, fill=LIGHT[BLUE])
            drawing.text(left + 25, y + 22, f"x{out + k}")
            drawing.text(left + 65, y + 26, "·", font_size=24, fill=VERMILION, font_weight="bold")
            drawing.rect(left + 80, y, 50, CELL, fill=LIGHT[VERMILION])
            drawing.text(left + 105, y + 22, f"g{k}")
        drawing.text(125 + 160 * out, 228, f"their sum = y{out}")
    drawing.text(640, 28, "Winograd: 4 multiplications", font_weight="bold")
    sums = ["x0 - x2", "x1 + x2", "x2 - x1", "x1 - x3"]
    kernels = ["g0", "(g0 + g1 + g2) / 2", "(g0 - g1 + g2) / 2", "g2"]
    for k in range(4):
        y = 50 + 42 * k
        drawing.rect(440, y, 90, CELL, fill=LIGHT[BLUE])
        drawing.text(485, y + 22, sums[k])
        drawing.text(550, y + 25, "·", font_size=24, fill=VERMILION, font_weight="bold")
        drawing.rect(570, y, 170, CELL, fill=LIGHT[VERMILION])
        drawing.text(655, y + 22, kernels[k])
        drawing.text(785, y + 22, f"= m{k + 1}")
    drawing.text(540, 270, "y0 = m1 + m2 + m3")
    drawing.text(740, 270, "y1 = m2 - m3 - m4")
    drawing.text(485, 228, "once for all maps", fill=GREY, font_size=13)
    drawing.text(655, 228, "once for all places", fill=GREY, font_size=13)
    drawing.save(path)


def lanes(path: Path) -> None:
    drawing = Drawing(880, 300, "Sixteen images: the same pixel of all of them is one vector")
    colours = [LIGHT[VERMILION], LIGHT[BLUE], "#D5EFE6", "#F3E3EE"]
    names = ["p00", "p01", "p10", "p11"]
    drawing.text(440, 24, "16 images of 2 x 2 pixels", fill=GREY)
    for image in range(16):
        left = 24 + 53 * image
        for pixel in range(4):
            x, y = left + 20 * (pixel % 2), 40 + 20 * (pixel // 2)
            drawing.rect(x, y, 20, 20, fill=colours[pixel])
        drawing.text(left + 20, 98, str(image), fill=GREY, font_size=12)
    drawing.text(440, 130, "in memory: a vector for each pixel, a lane for each image", fill=GREY)
    for pixel in range(4):
        y = 146 + 36 * pixel
        drawing.text(90, y + 19, names[pixel], text_anchor="end")
        for image in range(16):
            drawing.rect(106 + 44 * image, y, 44, 28, fill=colours[pixel])
            drawing.text(128 + 44 * image, y + 19, str(image), font_size=12)
    drawing.save(path)


def chart(
    path: Path,
    title: str,
    curves: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    axes: tuple[str, str],
    log: bool = False,
    ticks: Sequence[float] = (),
) -> None:
    """Curves, each named at its right end. Each is (name, places, values)."""
    drawing = Drawing(760, 330, title)
    palette = (VERMILION, BLUE, GREEN, "#CC79A7", "#8C6D00")
    left, right, top, bottom = 90, 590, 30, 270
    scale = np.log10 if log else np.asarray
    xs = np.concatenate([x for _, x, _ in curves])
    ys = scale(np.concatenate([y for *_, y in curves]))
    low, high = min(ys.min(), *scale(ticks)), max(ys.max(), *scale(ticks))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - xs.min()) / (xs.max() - xs.min())
        return left + across * (right - left), bottom - float(scale(y) - low) / (high - low) * (bottom - top)

    for tick in ticks:
        _, y = place(xs.min(), tick)
        drawing.line(((left, y), (right, y)), stroke=PALE)
        drawing.text(left - 10, y + 5, f"{tick:g}", text_anchor="end", fill=GREY, font_size=13)
    ends: list[float] = []
    for colour, (name, x, y) in sorted(zip(palette, curves, strict=False), key=lambda item: -scale(item[1][2])[-1]):
        points = [place(a, b) for a, b in zip(x, y, strict=True)]
        drawing.line(points, stroke=colour, stroke_width=2.5)
        ends.append(max(points[-1][1], ends[-1] + 19 if ends else 0))
        drawing.text(right + 10, ends[-1] + 5, name, text_anchor="start", fill=colour)
    drawing.text(left, 292, f"{xs.min():g}", fill=GREY)
    drawing.text(right, 292, f"{xs.max():g}", fill=GREY, text_anchor="end")
    drawing.text((left + right) / 2, 316, axes[0], fill=GREY)
    drawing.text(22, (top + bottom) / 2, axes[1], fill=GREY, transform=f"rotate(-90 22 {(top + bottom) / 2:g})")
    drawing.save(path)


def activations(path: Path) -> None:
    x = np.linspace(-4, 4, 161, dtype=np.float32)
    layers = (Sigmoid(), Tanh(), ReLU(), LeakyReLU())
    curves = [(type(layer).__name__, x, layer.forward(x[None])[0].clip(-1, 2)) for layer in layers]
    chart(path, "Activations", [(n, a[b < 2], b[b < 2]) for n, a, b in curves], ("x", "y"), ticks=(-1, 0, 1, 2))


def page_of(name: str) -> dict[str, Any]:
    """What the code of a page leaves behind."""
    names: dict[str, Any] = {"__name__": name}
    with contextlib.redirect_stdout(io.StringIO()):
        for code in re.findall(r"^```python\n(.*?)^```$", (DOCS / name).read_text("utf-8"), re.DOTALL | re.MULTILINE):
            exec(compile(code, name, "exec"), names)
    return names


def vanishing(path: Path) -> None:
    page = page_of("activations.md")
    kinds = ((Sigmoid, "xavier"), (Tanh, "xavier"), (ReLU, "kaiming"))
    curves = [(k.__name__, range(1, 10), page["gradients"](page["deep"](k, scheme))) for k, scheme in kinds]
    ticks = (1e-7, 1e-5, 1e-3, 1e-1)
    chart(path, "Gradients by layer", curves, ("layer", "dweight, root mean square"), log=True, ticks=ticks)


def schedules(path: Path) -> None:
    found = page_of("optimizers.md")["schedules"].items()
    curves = [(name, range(100), [rate(step) for step in range(100)]) for name, rate in found]
    chart(path, "Learning rates over a run", curves, ("step", "learning rate"), ticks=(0, 0.05, 0.1))


def overfitting(path: Path) -> None:
    history = page_of("overfitting.md")["train"]()[1]
    keys = (("the 300 images", "train_loss"), ("1,000 others", "validation_loss"))
    curves = [(name, range(1, 31), history[key]) for name, key in keys]
    chart(path, "Loss over the epochs", curves, ("epoch", "loss"), log=True, ticks=(0.01, 0.1, 1))


DRAWN = (convolution, shared_gradient, pooling, receptive_field, winograd, lanes)
MEASURED = (activations, vanishing, schedules, overfitting)


def lenet(run: Path, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if minicnn(["maps", str(run), "--image", TEST_IMAGE, "--out", folder]):
            raise SystemExit(1)
        picture = Image.open(Path(folder) / "overview.png").convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Draw all pictures, and print their sizes."""
    parser = argparse.ArgumentParser(description="Draw the pictures of docs/.")
    parser.add_argument("run", metavar="RUN", type=Path, nargs="?", help="the folder of a run of configs/lenet.yaml")
    parser.add_argument("--out", type=Path, default=DOCS / "images", help="the folder for the pictures [docs/images]")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for draw in (*DRAWN, *MEASURED):
        draw(options.out / f"{draw.__name__.replace('_', '-')}.svg")
    if options.run:
        lenet(options.run, options.out / "lenet.png")
    for path in sorted(options.out.iterdir()):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
