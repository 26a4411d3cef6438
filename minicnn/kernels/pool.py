"""Pooling kernels. A window is clipped to the map: maximum pooling pads with minus infinity, mean pooling with 0.

Letters: i, j output row and column; u, v row and column of the map. `window` is (kernel rows, columns, stride
rows, columns, padding rows, columns).
"""

import numpy as np
from numba import prange

from .jit import inlined, parallel_kernel
from .simd import LANES, load, select, splat, store


@inlined
def _clipped(i, stride, kernel, padding, size):  # type: ignore[no-untyped-def]
    """First and last + 1 place of window i inside the map."""
    start = i * stride - padding
    return max(start, 0), min(start + kernel, size)


@inlined
def _tiled(shape, window, out_shape):  # type: ignore[no-untyped-def]
    """True if each place of the map lies in exactly one window."""
    kernel_rows, kernel_columns, row_stride, column_stride, row_padding, column_padding = window
    return (
        kernel_rows == row_stride
        and kernel_columns == column_stride
        and row_padding == 0
        and column_padding == 0
        and out_shape[2] * kernel_rows == shape[2]
        and out_shape[3] * kernel_columns == shape[3]
    )


@parallel_kernel
def max_forward(x, y, winner, window):  # type: ignore[no-untyped-def]
    """y = the maximum of each window; winner = the place in the map, u width + v, of the first one."""
    kernel_rows, kernel_columns, row_stride, column_stride, row_padding, column_padding = window
    blocks, channels, height, width, _ = x.shape
    out_rows, out_columns = y.shape[2], y.shape[3]
    for plane in prange(blocks * channels):
        for i in range(out_rows):
            top, bottom = _clipped(i, row_stride, kernel_rows, row_padding, height)
            for j in range(out_columns):
                left, right = _clipped(j, column_stride, kernel_columns, column_padding, width)
                best = splat(x, -np.inf)
                place = splat(x, top * width + left)
                for u in range(top, bottom):
                    for v in range(left, right):
                        value = load(x, ((plane * height + u) * width + v) * LANES)
                        better = (value > best) | (value != value)  # a NaN wins, as in PyTorch
                        best = select(better, value, best)
                        place = select(better, splat(x, u * width + v), place)
                at = ((plane * out_rows + i) * out_columns + j) * LANES
                store(y, at, best)
                store(winner, at, place)


@parallel_kernel
def max_backward(dy, winner, dx, window):  # type: ignore[no-untyped-def]
    """dx = the sum of the dy of all windows in which a place won."""
    kernel_rows, kernel_columns, row_stride, column_stride, row_padding, column_padding = window
    blocks, channels, height, width, _ = dx.shape
    out_rows, out_columns = dy.shape[2], dy.shape[3]
    zero = splat(dx, 0.0)
    tiled = _tiled(dx.shape, window, dy.shape)
    for plane in prange(blocks * channels):
        if not tiled:
            for k in range(plane * height * width, (plane + 1) * height * width):
                store(dx, k * LANES, zero)
        for i in range(out_rows):
            top, bottom = _clipped(i, row_stride, kernel_rows, row_padding, height)
            for j in range(out_columns):
                left, right = _clipped(j, column_stride, kernel_columns, column_padding, width)
                at = ((plane * out_rows + i) * out_columns + j) * LANES
                gradient, place = load(dy, at), load(winner, at)
                for u in range(top, bottom):
                    for v in range(left, right):
                        k = ((plane * height + u) * width + v) * LANES
                        share = select(place == splat(dx, u * width + v), gradient, zero)
                        store(dx, k, share if tiled else load(dx, k) + share)


@inlined
def _divisor(i, j, window, shape, count_include_pad):  # type: ignore[no-untyped-def]
    """By how many a window's sum is divided: padding may count, but what ceil_mode adds beyond it does not."""
    kernel_rows, kernel_columns, row_stride, column_stride, row_padding, column_padding = window
    top, left = i * row_stride - row_padding, j * column_stride - column_padding
    if count_include_pad:
        bottom = min(top + kernel_rows, shape[2] + row_padding)
        right = min(left + kernel_columns, shape[3] + column_padding)
    else:
        bottom, right = min(top + kernel_rows, shape[2]), min(left + kernel_columns, shape[3])
        top, left = max(top, 0), max(left, 0)
    return (bottom - top) * (right - left)


@parallel_kernel
def mean_forward(x, y, window, count_include_pad):  # type: ignore[no-untyped-def]
    """y = the sum of each window / its number of places."""
    kernel_rows, kernel_columns, row_stride, column_stride, row_padding, column_padding = window
    blocks, channels, height, width, _ = x.shape
    out_rows, out_columns = y.shape[2], y.shape[3]
    for plane in prange(blocks * channels):
        for i in range(out_rows):
            top, bottom = _clipped(i, row_stride, kernel_rows, row_padding, height)
            for j in range(out_columns):
                left, right = _clipped(j, column_stride, kernel_columns, column_padding, width)
                total = splat(x, 0.0)
                for u in range(top, bottom):
                    for v in range(left, right):
                        total = total + load(x, ((plane * height + u) * width + v) * LANES)
                divisor = _divisor(i, j, window, x.shape, count_include_pad)
                at = ((plane * out_rows + i) * out_columns + j) * LANES
                store(y, at, total * (1.0 / divisor))


@parallel_kernel
def mean_backward(dy, dx, window, count_include_pad):  # type: ignore[no-untyped-def]
    """dx = the sum of dy / (number of places) over all windows that a place lies in."""
    kernel_rows, kernel_columns, row_stride, column_stride, row_padding, column_padding = window
    blocks, channels, height, width, _ = dx.shape
    out_rows, out_columns = dy.shape[2], dy.shape[3]
    zero = splat(dx, 0.0)
    tiled = _tiled(dx.shape, window, dy.shape)
    for plane in prange(blocks * channels):
        if not tiled:
            for k in range(plane * height * width, (plane + 1) * height * width):
                store(dx, k * LANES, zero)
        for i in range(out_rows):
            top, bottom = _clipped(i, row_stride, kernel_rows, row_padding, height)
            for j in range(out_columns):
                left, right = _clipped(j, column_stride, kernel_columns, column_padding, width)
                at = ((plane * out_rows + i) * out_columns + j) * LANES
                divisor = _divisor(i, j, window, dx.shape, count_include_pad)
                share = load(dy, at) * (1.0 / divisor)
                for u in range(top, bottom):
                    for v in range(left, right):
                        k = ((plane * height + u) * width + v) * LANES
                        store(dx, k, share if tiled else load(dx, k) + share)
