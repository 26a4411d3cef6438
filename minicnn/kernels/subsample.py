"""Subsampling kernels, one of each kind for every window size, so that the loop over a window is unrolled.

Letters: i, j output row and column; u, v row and column in the window. `strides` are those of rows and columns.
"""

from functools import cache
from typing import Any

from numba import prange

from .jit import parallel_kernel
from .simd import LANES, fma, load, splat, store, sum_lanes


@cache
def forward(rows: int, columns: int) -> Any:
    @parallel_kernel
    def kernel(x, weight, bias, sums, y, strides):
        """sums = the sum of each window; y = weight[c] sums + bias[c]."""
        row_stride, column_stride = strides
        blocks, channels, height, width, _ = x.shape
        out_rows, out_columns = y.shape[2], y.shape[3]
        for plane in prange(blocks * channels):
            factor, term = splat(x, weight[plane % channels]), splat(x, bias[plane % channels])
            for i in range(out_rows):
                start = (plane * height + i * row_stride) * width * LANES
                at = (plane * out_rows + i) * out_columns * LANES
                for j in range(out_columns):
                    corner = start + j * column_stride * LANES
                    total = splat(x, 0.0)
                    for u in range(rows):
                        for v in range(columns):
                            total = total + load(x, corner + (u * width + v) * LANES)
                    store(sums, at + j * LANES, total)
                    store(y, at + j * LANES, fma(total, factor, term))

    return kernel


@cache
def backward(rows: int, columns: int) -> Any:
    @parallel_kernel
    def kernel(dy, weight, dx, strides):
        """dx = the sum of weight[c] dy over all windows that a place lies in."""
        row_stride, column_stride = strides
        blocks, channels, height, width, _ = dx.shape
        out_rows, out_columns = dy.shape[2], dy.shape[3]
        zero = splat(dx, 0.0)
        tiled = strides == (rows, columns)
        tiled = tiled and out_rows * rows == height and out_columns * columns == width
        for plane in prange(blocks * channels):
            factor = splat(dx, weight[plane % channels])
            if not tiled:
                for k in range(plane * height * width, (plane + 1) * height * width):
                    store(dx, k * LANES, zero)
            for i in range(out_rows):
                start = (plane * height + i * row_stride) * width * LANES
                at = (plane * out_rows + i) * out_columns * LANES
                for j in range(out_columns):
                    corner = start + j * column_stride * LANES
                    share = load(dy, at + j * LANES) * factor
                    for u in range(rows):
                        for v in range(columns):
                            k = corner + (u * width + v) * LANES
                            store(dx, k, share if tiled else load(dx, k) + share)

    return kernel


@parallel_kernel
def parameter_gradients(sums, dy, dweight, dbias):
    """dweight[c] = sum of dy sums and dbias[c] = sum of dy; sums and dy are (blocks, channels, places, LANES)."""
    blocks, channels, places, _ = dy.shape
    for c in prange(channels):
        products, total = splat(dy, 0.0), splat(dy, 0.0)
        for b in range(blocks):
            start = (b * channels + c) * places * LANES
            for k in range(start, start + places * LANES, LANES):
                gradient = load(dy, k)
                products = fma(gradient, load(sums, k), products)
                total = total + gradient
        dweight[c] = sum_lanes(products)
        dbias[c] = sum_lanes(total)
