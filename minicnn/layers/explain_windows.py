"""Layers that slide a window over maps, convolution and pooling, in numbers; see `explain`."""

from collections.abc import Callable
from itertools import product

import numpy as np

from minicnn.engine.arrays import Array

from .arguments import Window
from .explain import PRODUCT, Place, Step, index, number, side_by_side, strongest, sum_of_numbers, sum_of_products


class View:
    """What the output at (map, row, column) sees of x: these rows and columns, also those outside."""

    def __init__(self, step: Step, window: Window, at: Place) -> None:
        self.step, self.window, self.at = step, window, at
        self.rows, self.columns = (k * s - p + d * np.arange(n) for k, n, s, p, d in zip(at[1:], *window, strict=True))

    def of(self, channel: int, outside: float = 0.0) -> Array:
        return _taken(self.step.x[channel], self.rows, self.columns, outside)

    def source(self, channel: int, u: int, v: int) -> Place:
        """The place in x of (u, v) in the window."""
        return channel, int(self.rows[u]), int(self.columns[v])

    def strongest(self, values: Array) -> tuple[int, int, int]:
        """The place of the largest |value| of a window (channels, kh, kw) that is no padding."""
        inside = _taken(np.ones(self.step.x.shape[1:]), self.rows, self.columns)
        c, u, v = strongest(inside * (np.abs(values) + 1e-30))
        return c, u, v

    @property
    def padded(self) -> str:
        height, width = self.step.x.shape[1:]
        inside = self.rows[0] >= 0 and self.columns[0] >= 0 and self.rows[-1] < height and self.columns[-1] < width
        return "" if inside else "; the rest is padding"

    def pooled(self, outside: float = 0.0) -> list[str]:
        """The window of a pooling layer, which sees the map that it writes."""
        c, rows, columns = self.at[0], self.rows, self.columns
        where = f"{_span('row', rows)}, {_span('column', columns)} of x[{c}]"
        values = self.of(c, outside)
        table = side_by_side({f"x[{c}]": values}, {}) if values.size <= 49 and np.isfinite(values).all() else []
        return [f"{index('y', self.at)} is made of {where}{self.padded}:", *table]

    def arrives(self, source: Place, share: str) -> str:
        """What an input has got when it got `share` from this window."""
        size, stride, *_ = self.window
        if all(s >= k for s, k in zip(stride, size, strict=True)):
            return f"{index('dx', source)} = {share}"
        return f"with the shares of windows that overlap, {index('dx', source)} = {number(self.step.dx[source])}"


def _span(name: str, places: Array) -> str:
    """rows 14 to 16"""
    return f"{name} {places[0]}" if len(places) == 1 else f"{name}s {places[0]} to {places[-1]}"


def window_sum(view: View, kernels: Array, first: int, bias: float) -> tuple[list[str], Place, Place]:
    """An output as the sum of a window times kernels (maps, kh, kw) of the maps from `first` on.

    Returns the lines, the place (map, row, column) of the largest product in the kernels, and in x.
    """
    at, rows, columns = view.at, view.rows, view.columns
    ins, kh, kw = kernels.shape
    window = np.stack([view.of(first + c) for c in range(ins)])
    products = window.astype(np.float64) * kernels
    c, u, v = view.strongest(products)
    *_, (dh, dw) = view.window
    lines = [
        f"{index('y', at)} looks at {_span('row', rows)} and {_span('column', columns)} of x"
        + ("" if dh == dw == 1 else f", in steps of {dh} and {dw}")
        + (f" ({ins} maps; here map {first + c})" if ins > 1 else "")
        + view.padded
    ]
    if kw <= 7:
        titles = (f"x[{first + c}]", f"kernel from map {first + c} to {at[0]}", "products")
        grids = dict(zip(titles, (window[c], kernels[c], products[c]), strict=True))
        lines += side_by_side(grids, {"products": PRODUCT})
    names = [f"map {first + k}" for k in range(ins)] + ["bias"]
    sums = np.append(products.sum(axis=(1, 2)), bias)
    what = "product of each map" if kh * kw == 1 else f"{kh * kw} products of each map added up"
    lines.append(f"the {what}, and the bias:")
    lines += sum_of_numbers(names, sums, float(view.step.y[at]), index("y", at))
    return lines, (c, u, v), view.source(first + c, u, v)


def shared_weight(step: Step, window: Window, gradient: Array, o: int, channel: int, u: int, v: int) -> list[str]:
    """The gradient of one weight of a convolution: a sum over all places of its output map."""
    _, (sh, sw), (ph, pw), (dh, dw) = window
    rows, columns = (np.arange(n) for n in step.y.shape[1:])
    h, w = rows * sh + u * dh - ph, columns * sw + v * dw - pw
    names = [f"dy[{o}, {i}, {j}] x[{channel}, {h[i]}, {w[j]}]" for i in rows.tolist() for j in columns.tolist()]
    place = (o, channel % gradient.shape[1], u, v)
    met, result = _taken(step.x[channel], h, w), index("dweight", place)
    return [
        f"a weight was used at all {step.y[0].size} places of map {o}, and its gradient is a sum over them: {result} =",
        *sum_of_products(names, step.dy[o].ravel(), met.ravel(), float(gradient[place]), result),
    ]


def gradient_of_input(
    view: View, source: Place, maps: range, weight: Array, place: Callable[[int, int, int, int, int], Place]
) -> list[str]:
    """dx of one input: a sum over the outputs in `maps` that saw it; weight[place(o, i, j, u, v)] is what they used."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = view.window
    step, (_, h, w) = view.step, source
    names, a, b = [], [], []
    for o, u, v in product(maps, range(kh), range(kw)):
        (i, left_i), (j, left_j) = divmod(h + ph - u * dh, sh), divmod(w + pw - v * dw, sw)
        if left_i or left_j or not (0 <= i < step.y.shape[1] and 0 <= j < step.y.shape[2]):
            continue
        names.append(f"{index('weight', place(o, i, j, u, v))} {index('dy', (o, i, j))}")
        a.append(weight[place(o, i, j, u, v)])
        b.append(step.dy[o, i, j])
    result = index("dx", source)
    return [
        f"{result} gets gradient from every output that looked at it, times the weight it used:",
        *sum_of_products(names, np.array(a), np.array(b), float(step.dx[source]), result),
    ]


def bias_of_map(step: Step, o: int) -> list[str]:
    if "bias" not in step.gradients:
        return []
    return [f"dbias[{o}] = sum of the {step.dy[o].size} dy of map {o} = {number(step.gradients['bias'][o], PRODUCT)}"]


def _taken(x: Array, rows: Array, columns: Array, outside: float = 0.0) -> Array:
    """x[rows][:, columns], with another number for places outside."""
    inside = np.logical_and.outer((rows >= 0) & (rows < x.shape[0]), (columns >= 0) & (columns < x.shape[1]))
    taken = x[np.ix_(rows.clip(0, x.shape[0] - 1), columns.clip(0, x.shape[1] - 1))]
    return np.where(inside, taken, outside)
