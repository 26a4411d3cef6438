"""Pooling kernels, one of each kind for every kernel size, so that the loop over a window is unrolled.

A window is clipped to the map: maximum pooling pads with minus infinity, mean pooling with zero.
Letters: i, j output row and column; u, v row and column in the map. `geometry` is (stride of rows, of columns,
padding of rows, of columns).
"""

from functools import cache
from typing import Any

import numpy as np
from numba import prange

from .jit import inlined, parallel_kernel
from .simd import LANES, load, select, splat, store


@inlined
def _tiled(shape, out_shape, rows, columns, geometry):
    """True if each place of the map lies in exactly one window."""
    return (
        geometry == (rows, columns, 0, 0)
        and out_shape[2] * rows == shape[2]
        and out_shape[3] * columns == shape[3]
    )


@cache
def max_forward(rows: int, columns: int) -> Any:
    @parallel_kernel
    def kernel(x, y, winner, geometry, floor):
        """y = the maximum of each window; winner = where in its window, u' columns + v', the first one is.

        `floor` is minus infinity, or a number that nothing below it wins against: then there is no such place.
        """
        row_stride, column_stride, row_padding, column_padding = geometry
        blocks, channels, height, width, _ = x.shape
        out_rows, out_columns = y.shape[2], y.shape[3]
        for plane in prange(blocks * channels):
            for i in range(out_rows):
                top = i * row_stride - row_padding
                for j in range(out_columns):
                    left = j * column_stride - column_padding
                    start = ((plane * height + top) * width + left) * LANES
                    best = splat(x, floor)
                    nowhere = rows * columns
                    first = max(0, -top) * columns + max(0, -left)
                    place = splat(x, first if floor == -np.inf else nowhere)
                    for u in range(rows):
                        for v in range(columns):
                            if 0 <= top + u < height and 0 <= left + v < width:
                                value = load(x, start + (u * width + v) * LANES)
                                # A NaN wins, as in PyTorch.
                                better = (value > best) | (value != value)
                                best = select(better, value, best)
                                place = select(better, splat(x, u * columns + v), place)
                    at = ((plane * out_rows + i) * out_columns + j) * LANES
                    store(y, at, best)
                    store(winner, at, place)

    return kernel


@cache
def max_backward(rows: int, columns: int) -> Any:
    @parallel_kernel
    def kernel(dy, winner, dx, geometry):
        """dx = the sum of the dy of all windows in which a place won."""
        row_stride, column_stride, row_padding, column_padding = geometry
        blocks, channels, height, width, _ = dx.shape
        out_rows, out_columns = dy.shape[2], dy.shape[3]
        zero = splat(dx, 0.0)
        tiled = _tiled(dx.shape, dy.shape, rows, columns, geometry)
        for plane in prange(blocks * channels):
            if not tiled:
                for k in range(plane * height * width, (plane + 1) * height * width):
                    store(dx, k * LANES, zero)
            for i in range(out_rows):
                top = i * row_stride - row_padding
                for j in range(out_columns):
                    left = j * column_stride - column_padding
                    start = ((plane * height + top) * width + left) * LANES
                    at = ((plane * out_rows + i) * out_columns + j) * LANES
                    gradient, place = load(dy, at), load(winner, at)
                    for u in range(rows):
                        for v in range(columns):
                            k = start + (u * width + v) * LANES
                            share = select(place == u * columns + v, gradient, zero)
                            if tiled:
                                store(dx, k, share)
                            elif 0 <= top + u < height and 0 <= left + v < width:
                                store(dx, k, load(dx, k) + share)

    return kernel


@inlined
def _divisor(i, j, rows, columns, geometry, shape, count_include_pad):
    """By how many a window's sum is divided: padding may count, but what ceil_mode adds beyond it does not."""
    row_stride, column_stride, row_padding, column_padding = geometry
    top, left = i * row_stride - row_padding, j * column_stride - column_padding
    if count_include_pad:
        bottom = min(top + rows, shape[2] + row_padding)
        right = min(left + columns, shape[3] + column_padding)
    else:
        bottom, right = min(top + rows, shape[2]), min(left + columns, shape[3])
        top, left = max(top, 0), max(left, 0)
    return (bottom - top) * (right - left)


@cache
def mean_forward(rows: int, columns: int) -> Any:
    @parallel_kernel
    def kernel(x, y, geometry, count_include_pad):
        """y = the sum of each window / its number of places."""
        row_stride, column_stride, row_padding, column_padding = geometry
        blocks, channels, height, width, _ = x.shape
        out_rows, out_columns = y.shape[2], y.shape[3]
        for plane in prange(blocks * channels):
            for i in range(out_rows):
                top = i * row_stride - row_padding
                for j in range(out_columns):
                    left = j * column_stride - column_padding
                    start = ((plane * height + top) * width + left) * LANES
                    total = splat(x, 0.0)
                    for u in range(rows):
                        for v in range(columns):
                            if 0 <= top + u < height and 0 <= left + v < width:
                                total = total + load(x, start + (u * width + v) * LANES)
                    divisor = _divisor(i, j, rows, columns, geometry, x.shape, count_include_pad)
                    at = ((plane * out_rows + i) * out_columns + j) * LANES
                    store(y, at, total * (1.0 / divisor))

    return kernel


@cache
def mean_backward(rows: int, columns: int) -> Any:
    @parallel_kernel
    def kernel(dy, dx, geometry, count_include_pad):
        """dx = the sum of dy / (number of places) over all windows that a place lies in."""
        row_stride, column_stride, row_padding, column_padding = geometry
        blocks, channels, height, width, _ = dx.shape
        out_rows, out_columns = dy.shape[2], dy.shape[3]
        zero = splat(dx, 0.0)
        tiled = _tiled(dx.shape, dy.shape, rows, columns, geometry)
        for plane in prange(blocks * channels):
            if not tiled:
                for k in range(plane * height * width, (plane + 1) * height * width):
                    store(dx, k * LANES, zero)
            for i in range(out_rows):
                top = i * row_stride - row_padding
                for j in range(out_columns):
                    left = j * column_stride - column_padding
                    start = ((plane * height + top) * width + left) * LANES
                    at = ((plane * out_rows + i) * out_columns + j) * LANES
                    divisor = _divisor(i, j, rows, columns, geometry, dx.shape, count_include_pad)
                    share = load(dy, at) * (1.0 / divisor)
                    for u in range(rows):
                        for v in range(columns):
                            k = start + (u * width + v) * LANES
                            if tiled:
                                store(dx, k, share)
                            elif 0 <= top + u < height and 0 <= left + v < width:
                                store(dx, k, load(dx, k) + share)

    return kernel
