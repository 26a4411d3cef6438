"""The matrix product that all linear layers are made of.

    y[o, j] = bias[o] + sum over k of w[k, o] x[k, j]

Rows o are output channels or features, columns j places of a map, and each element of x and y is a vector: the value of
one place in the LANES images of a block. Where x[k, j] lies, a table of offsets says: `table[k]`. So one kernel serves
convolution with any stride, dilation and groups, dense layers, and their gradients. The weights lie in the order in
which they are needed, all outputs of a k side by side: `transpose_matrix` and `pick_all` bring them there.
"""

from typing import Any

from minicnn.kernels import LANES

from .tiles import fill_tile, load_tile, outer, splat_tile, spread, store_tile, transpose


def product(rows: int, columns: int) -> Any:
    """The kernel for tiles of `rows` x `columns` vectors; no product may be smaller."""
    return _product(rows, columns, False)


def product_of_rows(rows: int, columns: int) -> Any:
    """The same for weights that lie the other way round, those of two outputs `w_row` apart: slower."""
    return _product(rows, columns, True)


def _product(rows: int, columns: int, by_rows: bool) -> Any:
    size = rows * columns

    def kernel(task, x, w, bias, y, panels, table, outs, w_row, w_step, width, x_step, y_row, y_step):
        """y = a panel of the product: `outs` rows, and `width` columns that lie `x_step` apart in x and `y_step` in y.

        panels[task] says where it begins in x, w, y and bias (-1: no bias), and its first and last k. Each sum is in
        the order of k, whatever the tile.
        """
        row = w_row if by_rows else 1  # which the compiler knows
        at = task * 6
        x_start, w_start, y_start = panels[at], panels[at + 1], panels[at + 2]
        bias_start, first, last = panels[at + 3], panels[at + 4], panels[at + 5]
        for tile_row in range(0, outs, rows):
            # The last tile is moved back until it fits: it computes some outputs a second time.
            o = min(tile_row, outs - rows)
            for tile_column in range(0, width, columns):
                j = min(tile_column, width - columns)
                x_at = x_start + j * x_step
                w_at = w_start + o * row + first * w_step
                if bias_start < 0:
                    tile = fill_tile(y, 0.0, size)
                else:
                    tile = spread(splat_tile(bias, bias_start + o, 1, rows), columns)
                for k in range(first, last):
                    weights = splat_tile(w, w_at, row, rows)
                    tile = outer(tile, weights, load_tile(x, x_at + table[k], x_step, columns))
                    w_at += w_step
                store_tile(y, y_start + o * y_row + j * y_step, y_row, y_step, tile, rows)

    return kernel


def transpose_matrix(task, source, target, rows, columns):
    """target[j, i] = source[i, j] for the LANES rows i from task LANES on."""
    first = task * LANES
    count = min(LANES, rows - first)
    whole = columns // LANES * LANES if count == LANES else 0
    for j in range(0, whole, LANES):
        tile = transpose(load_tile(source, first * columns + j, columns, LANES))
        store_tile(target, j * rows + first, rows, 0, tile, LANES)
    for j in range(whole, columns):
        for i in range(first, first + count):
            target[j * rows + i] = source[i * columns + j]


def pick_all(task, source, table, target, size):
    """target[i] = source[table[i]], or 0 where that is negative."""
    for i in range(size):
        target[i] = source[table[i]] if table[i] >= 0 else 0.0
