"""The passes of a convolution as its formulas say them, for any stride, padding, dilation and groups."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from minicnn.engine.arrays import Array, Shape
from minicnn.engine.cache import Kernels, menus, vector_registers
from minicnn.engine.memory import Map
from minicnn.engine.work import Argument, Work
from minicnn.kernels import LANES

from ..arguments import Pair, Window
from ..products import picked, product, sum_rows, transposed

gradients, moves = Kernels("gradients"), Kernels("moves")

#: Tiles of the gradient of weights (maps of dy, taps), as in `products`.
WIDE = ((6, 4), (4, 4), (1, 8), (8, 1), (1, 1))
NARROW = ((2, 3), (1, 4), (4, 1), (1, 1))


def menu() -> tuple[tuple[int, int], ...]:
    """The tiles for this machine."""
    return WIDE if vector_registers() == 32 else NARROW


menus[gradients.tap_gradient] = menu


class Geometry(NamedTuple):
    """What a convolution is, apart from its weights."""

    outs: int
    channels: int  # of the input
    window: Window
    ends: Pair  # padding below and to the right
    groups: int


class Direct:
    """A convolution of one map, and its gradients.

    weight   its elements
    numbers  which of them is where in (outs, channels // groups, kernel rows, kernel columns), -1 for a zero; None if
             they are in this order
    """

    def __init__(self, work: Work, geometry: Geometry, weight: Array, numbers: Array | None = None) -> None:
        outs, channels, (kernel, *_), _, groups = geometry
        self.work, self.geometry, self.weight = work, geometry, weight.reshape(-1)
        self.in_order = numbers is None
        if numbers is None:
            numbers = np.arange(weight.size).reshape(outs, channels // groups, *kernel)
        self.numbers = numbers

    @classmethod
    def cost(cls, geometry: Geometry, x_shape: Shape, y_shape: Shape) -> float:
        """Multiply-adds of vectors in a pass, and what takes as long as others; infinite if it cannot be used."""
        return math.prod(y_shape) * geometry.channels // geometry.groups * math.prod(geometry.window[0])

    def forward(self, x: Map, bias: Array | None, y: Map) -> None:
        """y[o, i, j] = bias[o] + sum over k = (c, u, v) of weight[o, k] x[c, i s + u d - p, j s + v d - p]"""
        outs, channels, (_, stride, _, _), _, groups = self.geometry
        x = self.prepare(x)
        _, height, width = x.shape
        _, out_rows, out_columns = y.shape
        group_outs, group_channels = outs // groups, channels // groups
        taps = len(self._table)
        if self.in_order and groups == 1:
            packed = transposed(self.work, self.weight, outs)
        else:
            order = self.numbers.reshape(groups, group_outs, taps).swapaxes(1, 2)
            packed = picked(self.work, self.weight, order)
        panels = [
            (
                (g * group_channels * height + i * stride[0]) * width * LANES,
                g * taps * group_outs,
                (g * group_outs * out_rows + i) * out_columns * LANES,
                -1 if bias is None else g * group_outs,
                0,
                taps,
            )
            for g in range(groups)
            for i in range(out_rows)
        ]
        product(
            self.work.call,
            x,
            packed,
            bias,
            y,
            panels,
            self._table,
            outs=group_outs,
            width=out_columns,
            x_step=stride[1] * LANES,
            y_row=out_rows * out_columns * LANES,
        )

    def prepare(self, x: Map) -> Map:
        """x with its padding, and where in it the taps of a window lie."""
        _, channels, (kernel, _, padding, dilation), ends, groups = self.geometry
        self._x = framed(self.work, x, padding, ends)
        _, height, width = self._x.shape
        c, u, v = np.indices((channels // groups, *kernel))
        self._table = LANES * ((c * height + u * dilation[0]) * width + v * dilation[1]).ravel()
        return self._x

    def weight_gradient(self, dy: Map, dweight: Array) -> None:
        """dweight[o, c, u, v] = sum over n, i, j of dy[n, o, i, j] x[n, c, i s + u d - p, j s + v d - p]"""
        outs, channels, (_, stride, _, _), _, groups = self.geometry
        (_, height, width), (_, out_rows, out_columns) = self._x.shape, dy.shape
        places = out_rows * out_columns
        group_outs, taps = outs // groups, len(self._table)
        panels = [
            (g * group_outs * places * LANES, g * channels // groups * height * width * LANES, g * group_outs * taps)
            for g in range(groups)
        ]
        sums = self.work.numbers(self.numbers.size)
        dy_steps = (places * LANES, out_rows, out_columns, out_columns * LANES)
        x_steps = (stride[0] * width * LANES, stride[1] * LANES)
        tap_gradient(self.work.call, dy, self._x, sums, panels, self._table, group_outs, *dy_steps, *x_steps)
        if self.in_order:
            sum_rows(self.work, sums, dweight)
            return
        order = np.argsort(self.numbers.ravel(), kind="stable")[-dweight.size :]
        table = np.ascontiguousarray(order, np.int64)
        rest = (dweight.size, self.numbers.size, self.work.blocks)
        self.work.after(gradients.sum_listed, sums, table, dweight, *rest)

    def input_gradient(self, dy: Map, dx: Map) -> None:
        """dx[c, h, w] = sum over o, u, v of weight[o, c, u, v] dy[o, i, j] with i s + u d - p = h, likewise w.

        With stride s, rows h whose h + p leaves another remainder on division by s meet other taps u, and columns
        likewise: each pair of remainders is a product of its own, in which neighbouring i and j lie side by side.
        """
        outs, channels, (kernel, stride, padding, dilation), _, groups = self.geometry
        _, height, width = dx.shape
        _, out_rows, out_columns = dy.shape
        group_outs, group_channels = outs // groups, channels // groups
        reach = dilation[1] * (kernel[1] - 1)
        left = max(0, -(-(reach - padding[1]) // stride[1]))
        right = max(0, (width - 1 + padding[1]) // stride[1] - out_columns + 1)
        dy = framed(self.work, dy, (0, left), (0, right))
        line = dy.shape[2]
        shape = (groups, group_outs, group_channels, *kernel)
        numbers = self.numbers.reshape(shape)
        for row_rest, column_rest in np.ndindex(*stride):
            rows = _taps(kernel[0], dilation[0], stride[0], row_rest)
            columns = _taps(kernel[1], dilation[1], stride[1], column_rest)
            first_column = (column_rest - padding[1]) % stride[1]
            count = len(range(first_column, width, stride[1]))
            if count == 0:
                continue
            # In the order (u, v, o), so that rows of dy beyond its edge are left out by a first and a last k.
            chosen = numbers[:, :, :, [u for u, _ in rows]][..., [v for v, _ in columns]]
            packed = picked(self.work, self.weight, chosen.transpose(0, 3, 4, 1, 2))
            table = [
                LANES * (o * out_rows * line - above * line - before)
                for _, above in rows
                for _, before in columns
                for o in range(group_outs)
            ]
            each = len(columns) * group_outs  # of a row of taps
            start = (first_column + padding[1]) // stride[1] + left
            panels = []
            for g in range(groups):
                for h in range((row_rest - padding[0]) % stride[0], height, stride[0]):
                    i = (h + padding[0]) // stride[0]
                    inside = [k for k, (_, above) in enumerate(rows) if 0 <= i - above < out_rows]
                    first, last = (inside[0], inside[-1] + 1) if inside else (0, 0)
                    panels.append(
                        (
                            ((g * group_outs * out_rows + i) * line + start) * LANES,
                            g * len(table) * group_channels,
                            ((g * group_channels * height + h) * width + first_column) * LANES,
                            -1,
                            first * each,
                            last * each,
                        )
                    )
            product(
                self.work.call,
                dy,
                packed,
                None,
                dx,
                panels,
                np.array(table or [0]),
                outs=group_channels,
                width=count,
                y_row=height * width * LANES,
                y_step=stride[1] * LANES,
            )


def _taps(count: int, dilation: int, stride: int, rest: int) -> list[tuple[int, int]]:
    """The taps u with u d = rest modulo the stride, each with the places that it lies above (u d - rest) / s."""
    return [(u, (u * dilation - rest) // stride) for u in range(count) if (u * dilation - rest) % stride == 0]


def framed(work: Work, x: Map, before: Pair, behind: Pair) -> Map:
    """x with zeros around it: `before` (above, left) and `behind` (below, right)."""
    if before == behind == (0, 0):
        return x
    channels, height, width = x.shape
    rows, line = height + before[0] + behind[0], width + before[1] + behind[1]
    target = work.map((channels, rows, line))
    size = (height, width, *before, rows, line)
    work.call(moves.frame, x, target, *size, tasks=channels)
    return target


def unframed(work: Work, x: Map, shape: Shape, before: Pair) -> Map:
    """The way back: the map of that shape, without the rows and columns around it."""
    if x.shape == shape:
        return x
    target = work.map(shape)
    work.call(moves.cut, x, target, *shape[1:], *before, *x.shape[1:], tasks=shape[0])
    return target


def stay(work: Work, x: Map) -> Map:
    """x, or a copy of it, for calls that come after all blocks."""
    if work.keep:
        return x
    target = work.map(x.shape, kept=True)
    work.call(moves.frame, x, target, 1, x.vectors, 0, 0, 1, x.vectors)
    return target


def tap_gradient(
    declare: Callable[..., None],
    dy: Map,
    x: Map,
    sums: Argument,
    panels: ArrayLike,
    table: Array,
    outs: int,
    *sizes: Argument,
) -> None:
    """Declares `kernels.gradients.tap_gradient`, whose arguments these are, with `work.call` or another of its kind.

    Its tile is the one that covers outs x taps in the least time. `sizes`: dy_map, height, width, dy_line, x_line,
    x_step.
    """
    taps, wide = len(table), vector_registers() == 32

    def cost(tile: tuple[int, int]) -> tuple[float, int]:
        rows, columns = tile
        count = -(-outs // rows) * -(-taps // columns)
        fma = rows * columns * (1 if wide else 2)
        return count * (max(fma, rows + columns, 8) + 3), -rows * columns

    kernel = gradients.tap_gradient(*min((t for t in menu() if t[0] <= outs and t[1] <= taps), key=cost))
    places = np.array(panels, np.int64)
    declare(kernel, dy, x, sums, places, table, outs, taps, *sizes, tasks=len(places))


def bias_gradient(work: Work, dy: Map, dbias: Array) -> None:
    """dbias[o] = sum over n, i, j of dy[n, o, i, j]"""
    sums = work.numbers(dbias.size)
    places = dy.vectors // dbias.size
    work.call(gradients.sum_places, dy, sums, places, tasks=dbias.size)
    sum_rows(work, sums, dbias)
