"""Subsampling kernels. A task is a map of a block.

Letters: i, j output row and column; u, v row and column in a window, which has rows x columns; s, t strides of both.
"""

from minicnn.kernels import LANES

from .pool import are_tiles, clear
from .vectors import fma, load, splat, store, sum_lanes


def forward(task, x, weight, bias, sums, y, height, width, out_rows, out_columns, rows, columns, s, t):
    """sums = the sum of each window; y = weight[c] sums + bias[c] for map c = task."""
    x_map, at = task * height * width, task * out_rows * out_columns * LANES
    factor, term = splat(x, weight[task]), splat(x, bias[task])
    for i in range(out_rows):
        for j in range(out_columns):
            start = (x_map + i * s * width + j * t) * LANES
            if rows == 2 and columns == 2:
                total = load(x, start) + load(x, start + LANES)
                total = total + load(x, start + width * LANES)
                total = total + load(x, start + (width + 1) * LANES)
            else:
                total = splat(x, 0.0)
                for u in range(rows):
                    for v in range(columns):
                        total = total + load(x, start + (u * width + v) * LANES)
            store(sums, at, total)
            store(y, at, fma(total, factor, term))
            at += LANES


def backward(task, dy, weight, dx, height, width, out_rows, out_columns, rows, columns, s, t):
    """dx = the sum of weight[c] dy over all windows that a place lies in, for map c = task."""
    dx_map, at = task * height * width, task * out_rows * out_columns * LANES
    tiled = are_tiles(height, width, out_rows, out_columns, rows, columns, s, t, 0, 0)
    if not tiled:
        clear(dx, dx_map, height * width)
    factor = splat(dx, weight[task])
    for i in range(out_rows):
        for j in range(out_columns):
            start = (dx_map + i * s * width + j * t) * LANES
            share = load(dy, at) * factor
            at += LANES
            for u in range(rows):
                for v in range(columns):
                    k = start + (u * width + v) * LANES
                    store(dx, k, share if tiled else load(dx, k) + share)


def gradients(task, sums, dy, dweight, dbias, places):
    """dweight[c] = sum of dy sums and dbias[c] = sum of dy over all places and lanes, for map c = task."""
    products, total = splat(dy, 0.0), splat(dy, 0.0)
    for k in range(task * places, (task + 1) * places):
        gradient = load(dy, k * LANES)
        products = fma(gradient, load(sums, k * LANES), products)
        total = total + gradient
    dweight[task] = sum_lanes(products)
    dbias[task] = sum_lanes(total)
