"""Convolution between chosen pairs of maps: what `Conv2d` does with a table of connections."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minicnn.errors import ShapeError
from minicnn.kernels import connected as kernels
from minicnn.kernels.conv import spread_columns
from minicnn.kernels.tile import choose_tile
from minicnn.kernels.vector import LANES

from .base import Array, Shape, Window
from .initialization import Fans

#: Memory that a layer keeps: `Layer._buffer`.
Room = Callable[[str, Shape, DTypeLike], Array]
#: Vectors that the machine can hold at once.
REGISTERS = 32 if LANES == 16 else 16

#: Rows: the maps of S2; columns: those of C3. Source: LeCun et al. (1998), table I.
LENET5 = """
X . . . X X X . . X X X X . X X
X X . . . X X X . . X X X X . X
X X X . . . X X X . . X . X X X
. X X X . . X X X X . . X . X X
. . X X X . . X X X X . X X . X
. . . X X X . . X X X X . X X X
"""

Table = NDArray[np.bool_]


def _picture(text: str) -> Table:
    """The table (out, in) of a picture whose rows are inputs, as in the paper."""
    rows = [line.split() for line in text.strip().splitlines()]
    return np.array([[mark == "X" for mark in row] for row in rows]).T


NAMED: Mapping[str, Table] = {"lenet5": _picture(LENET5)}


def check_table(connections: Any, out_channels: int, in_channels: int) -> Table:
    """`connections`, a name or rows of truth values, as a boolean array (out_channels, in_channels).

    Raises ShapeError for an unknown name, another shape, other values than true, false, 1 and 0, and an output
    without any input.
    """
    place, wanted = "Conv2d: connections", (out_channels, in_channels)
    if isinstance(connections, str):
        if connections not in NAMED:
            raise ShapeError(
                f"{place}: expected {' or '.join(NAMED)} or a table {wanted}, received {connections!r}"
            )
        table: NDArray[Any] = NAMED[connections]
    else:
        try:
            table = np.asarray(connections)
        except ValueError:  # rows of several lengths
            table = np.empty(0)
        if table.dtype.kind not in "biu" or not np.isin(table, (0, 1)).all():
            raise ShapeError(
                f"{place}: expected rows of true and false, or 1 and 0, received {connections!r:.60}"
            )
    if table.shape != wanted:
        raise ShapeError(
            f"{place}: expected a row for each of {out_channels} outputs with a truth value for each of "
            f"{in_channels} inputs, received {table.shape}"
        )
    empty = np.flatnonzero(~table.any(axis=1))
    if len(empty):
        raise ShapeError(
            f"{place}: expected an input for each output, received none for output {empty[0]}"
        )
    return table.astype(np.bool_)


class Connections:
    """Which output is connected with which input, as lists that kernels walk along.

    Connections are numbered in row-major order of the table (out, in), and so are their kernels in the weight
    (connections, kernel rows, kernel columns).
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.outputs, self.inputs = np.nonzero(table)
        #: The numbers of the connections in the order of their inputs.
        self.by_input = np.argsort(self.inputs, kind="stable")
        self.first_of_output = _starts(table.sum(axis=1))
        self.first_of_input = _starts(table.sum(axis=0))

    def __len__(self) -> int:
        return len(self.outputs)

    def fans(self, taps: int) -> Fans:
        """With kernels of `taps` weights: a unit has that many inputs for each map that it is connected with."""
        ins, outs = taps * self.table.sum(axis=1), taps * self.table.sum(axis=0)
        return Fans(ins[self.outputs].reshape(-1, 1, 1), outs[self.inputs].reshape(-1, 1, 1), ins)

    def full(self, weight: Array) -> Array:
        """The weight as (out, in, kernel rows, kernel columns), 0 where nothing is connected."""
        full = np.zeros((*self.table.shape, *weight.shape[1:]), weight.dtype)
        full[self.outputs, self.inputs] = weight
        return full

    def forward(
        self, x: Array, weight: Array, bias: Array, y: Array, window: Window, room: Room
    ) -> None:
        """y of a convolution of x with that window."""
        _, rows, columns = weight.shape
        lists = (self.first_of_output, self.inputs, rows * columns * np.arange(len(self)))
        _correlate(x, weight, bias, y, lists, (columns, 1), window, room)

    def input_gradient(
        self, dy: Array, weight: Array, dx: Array, window: Window, room: Room
    ) -> None:
        """dx, a convolution of dy, with zeros between its elements for strides, with kernels turned by 180 degrees."""
        size, strides, padding, dilation = window
        if strides != (1, 1):
            rows, columns = ((n - 1) * s + 1 for n, s in zip(dy.shape[2:4], strides, strict=True))
            apart = room("dy apart", (*dy.shape[:2], rows, columns, LANES), dy.dtype)
            spread_columns(dy, apart, *strides, 0)
            dy = apart
        taps = size[0] * size[1]
        # Read from its last element backwards, a kernel is turned.
        lists = (self.first_of_input, self.outputs[self.by_input], taps * self.by_input + taps - 1)
        around = tuple(d * (k - 1) - p for d, k, p in zip(dilation, size, padding, strict=True))
        way_back = size, (1, 1), (around[0], around[1]), dilation
        no_bias = np.empty(0, dy.dtype)
        _correlate(dy, weight, no_bias, dx, lists, (-size[1], -1), way_back, room)

    def weight_gradient(
        self, x: Array, dy: Array, dweight: Array, dbias: Array, window: Window, room: Room
    ) -> None:
        _, strides, padding, dilation = window
        x = _padded(x, padding[1], x.shape[3] + 2 * padding[1], room)
        counts = np.diff(self.first_of_input)
        # No tile may have more rows than an input has connections.
        rows, columns = choose_tile(int(counts[counts > 0].min()), dweight.shape[2])
        planes = self.outputs[self.by_input] * math.prod(dy.shape[2:4]) * LANES
        kernel = kernels.weight_gradient(rows, columns, strides[1], dilation[1])
        geometry = (strides[0], dilation[0], padding[0])
        kernel(x, dy, dweight, dbias, self.first_of_input, self.by_input, planes, geometry)


def _correlate(
    x: Array,
    weight: Array,
    bias: Array,
    y: Array,
    lists: tuple[Array, Array, Array],
    steps: tuple[int, int],
    window: Window,
    room: Room,
) -> None:
    """See kernels.correlate, of which this chooses the fastest that the window allows."""
    size, strides, padding, dilation = window
    width, members, taps = y.shape[3], x.shape[3], size[1]
    slides = strides[1] == dilation[1] == 1
    most = (REGISTERS - taps) // 2
    if slides and width + members < REGISTERS:  # a whole row at once, which needs no padding
        kernel = kernels.correlate(width, 1, taps, members, -padding[1])
    else:
        x = _padded(x, padding[1], (width - 1) * strides[1] + dilation[1] * (taps - 1) + 1, room)
        if slides and most > 3:
            columns = -(-width // -(-width // most))
            kernel = kernels.correlate(columns, 1, taps, columns + taps - 1)
        else:
            kernel = kernels.correlate(choose_tile(1, width)[1], strides[1])
    geometry = (strides[0], dilation[0], padding[0], dilation[1])
    kernel(x, weight.ravel(), bias, y, *lists, steps, size, geometry)


def _padded(x: Array, left: int, width: int, room: Room) -> Array:
    """x with `left` columns of zeros before it, or that many less if negative, in `width` columns."""
    if left == 0 and width == x.shape[3]:
        return x
    padded = room("padded", (*x.shape[:3], width, LANES), x.dtype)
    spread_columns(x, padded, 1, 1, left)
    return padded


def _starts(counts: NDArray[np.int_]) -> NDArray[np.int64]:
    """Where each of several lists of these lengths begins in the list of all, and the end of the last."""
    return np.concatenate([[0], np.cumsum(counts)])
