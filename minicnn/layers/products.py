"""How layers ask for the matrix product of `kernels.product`: tables, panels, and the tile that suits the shape."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from minicnn.engine.arrays import Array
from minicnn.engine.cache import Kernels, menus, vector_registers
from minicnn.engine.work import Argument, Rows, Work
from minicnn.kernels import LANES

kernels, gradients = Kernels("product"), Kernels("gradients")

#: Tiles (rows, columns), measured on machines with 32 registers of a whole vector (AVX-512) and with fewer. A short
#: list, so that a new shape needs no new kernel.
WIDE = ((16, 1), (8, 2), (6, 4), (6, 1), (2, 8), (1, 8), (1, 1))
NARROW = ((6, 1), (4, 1), (2, 2), (1, 4), (1, 1))


def menu() -> tuple[tuple[int, int], ...]:
    return WIDE if vector_registers() == 32 else NARROW


menus[kernels.product] = menu


@cache
def choose_tile(outs: int, width: int) -> tuple[int, int]:
    """The tile of the menu that covers outs x width in the least time; the last of a row overlaps the one before."""
    # Half cycles of a multiply-add; sums wait for each other for 4 cycles.
    cycles = 1 if vector_registers() == 32 else 2

    def cost(tile: tuple[int, int]) -> tuple[float, float]:
        rows, columns = tile
        tiles = -(-outs // rows) * -(-width // columns)
        loads = (rows + columns) / (rows * columns)
        return tiles * (max(cycles * rows * columns / 2, 4) + 0.2), loads

    return min((t for t in menu() if t[0] <= outs and t[1] <= width), key=cost)


def product(
    declare: Callable[..., None],
    x: Argument,
    w: Argument,
    bias: Argument | None,
    y: Argument,
    panels: Sequence[tuple[int, int, int, int, int, int]],
    table: Array,
    *,
    outs: int,
    width: int = 1,
    x_step: Argument = LANES,
    y_row: int = LANES,
    y_step: Argument = LANES,
    w_row: int = 1,
    w_step: int | None = None,
) -> None:
    """Declares a product, see `kernels.product.product`, with `work.call` or another of its kind.

    Unless it says otherwise, the weights of all `outs` lie side by side, and columns of x and rows of y one behind the
    other.
    """
    kernel = kernels.product if w_row == 1 else kernels.product_of_rows
    kernel, w_step = kernel(*choose_tile(outs, width)), outs if w_step is None else w_step
    shape: tuple[Any, ...] = (outs, w_row, w_step, width, x_step, y_row, y_step)
    places = np.array(panels, np.int64)
    table = np.ascontiguousarray(table, np.int64)
    declare(kernel, x, w, w if bias is None else bias, y, places, table, *shape, tasks=len(panels))


def transposed(work: Work, matrix: Array, rows: int) -> Array:
    """A matrix of `rows` rows, the other way round: remade before each run, as weights change."""
    columns = matrix.size // rows
    target = work.shared(matrix.size)
    work.before(kernels.transpose_matrix, matrix, target, rows, columns, tasks=-(-rows // 16), grain=4)
    return target


def picked(work: Work, source: Array, table: Array) -> Array:
    """source[table], remade before each run."""
    target = work.shared(table.size)
    flat = np.ascontiguousarray(table.ravel(), np.int64)
    work.before(kernels.pick_all, source, flat, target, table.size)
    return target


def sum_rows(work: Work, rows: Rows, target: Array) -> None:
    """target[k] = the sum over n of rows[n, k], one after the other: of what blocks have, or samples."""
    count, size = rows.array.shape
    tasks = -(-size // (8 * LANES))
    work.after(gradients.sum_rows, rows, target, size, count, tasks=tasks, grain=8)
