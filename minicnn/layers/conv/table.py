"""Convolution between chosen pairs of maps: what `Conv2d` does with a table of connections."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.checks import told
from minicnn.engine.arrays import Array
from minicnn.errors import ShapeError

from ..initializers import Fans

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
            raise ShapeError(f"{place}: expected {' or '.join(NAMED)} or a table {wanted}, received {connections!r}")
        table: NDArray[Any] = NAMED[connections]
    else:
        try:
            table = np.asarray(connections)
        except ValueError:  # rows of several lengths
            table = np.empty(0)
        if table.dtype.kind not in "biu" or not np.isin(table, (0, 1)).all():
            raise ShapeError(f"{place}: expected rows of true and false, or 1 and 0, received {told(connections)}")
    if table.shape != wanted:
        raise ShapeError(
            f"{place}: expected a row for each of {out_channels} outputs with a truth value for each of "
            f"{in_channels} inputs, received {table.shape}"
        )
    empty = np.flatnonzero(~table.any(axis=1))
    if len(empty):
        raise ShapeError(f"{place}: expected an input for each output, received none for output {empty[0]}")
    return table.astype(np.bool_)


class Connections:
    """Which output is connected with which input.

    Connections are numbered in row-major order of the table (out, in), and so are their kernels in the weight
    (connections, kernel rows, kernel columns). They are computed as a convolution of all pairs whose other kernels are
    zeros: that does more multiplications than there are connections, and with Winograd's way takes less time.
    """

    def __init__(self, table: Table) -> None:
        table.flags.writeable = False  # programs rely on it
        self.table = table
        self.outputs, self.inputs = np.nonzero(table)

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

    def numbers(self, kernel_size: tuple[int, int]) -> NDArray[np.int64]:
        """Where in the weight each element of `full` is, -1 where nothing is connected."""
        taps = kernel_size[0] * kernel_size[1]
        numbers = np.full((*self.table.shape, *kernel_size), -1)
        numbers[self.outputs, self.inputs] = np.arange(len(self) * taps).reshape(-1, *kernel_size)
        return numbers
