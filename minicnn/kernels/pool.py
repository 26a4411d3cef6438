"""Pooling kernels. A task is a map of a block.

A window is clipped to the map: maximum pooling pads with minus infinity, mean pooling with zero.
Letters: i, j output row and column; u, v row and column in a window; s stride, p padding, rows before columns.
"""

import numpy as np

from minicnn.kernels import LANES

from .compile import inlined
from .vectors import load, select, splat, store


def max_forward(task, x, y, argmax, height, width, out_rows, out_columns, rows, columns, s, t, p, q, floor):
    """y = the maximum of each window; argmax = where in its window, u columns + v, the first one is.

    `floor` is minus infinity, or a number that nothing below it wins against: then there is no such place.
    """
    x_map, at = task * height * width, task * out_rows * out_columns * LANES
    for i in range(out_rows):
        top = i * s - p
        u_first, u_last = max(0, -top), min(rows, height - top)
        for j in range(out_columns):
            left = j * t - q
            start = (x_map + top * width + left) * LANES
            best = splat(x, floor)
            if rows == 2 and columns == 2 and p == 0 and q == 0:
                place = splat(x, 0.0 if floor == -np.inf else 4.0)
                if top + 1 < height and left + 1 < width:
                    best, place = _larger(x, start, 0.0, best, place)
                    best, place = _larger(x, start + LANES, 1.0, best, place)
                    best, place = _larger(x, start + width * LANES, 2.0, best, place)
                    best, place = _larger(x, start + (width + 1) * LANES, 3.0, best, place)
                    store(y, at, best)
                    store(argmax, at, place)
                    at += LANES
                    continue
            v_first, v_last = max(0, -left), min(columns, width - left)
            first = u_first * columns + v_first
            place = splat(x, float(first) if floor == -np.inf else float(rows * columns))
            for u in range(u_first, u_last):
                for v in range(v_first, v_last):
                    number = float(u * columns + v)
                    best, place = _larger(x, start + (u * width + v) * LANES, number, best, place)
            store(y, at, best)
            store(argmax, at, place)
            at += LANES


@inlined
def are_tiles(height, width, out_rows, out_columns, rows, columns, s, t, p, q):
    """Whether the windows cover each place of a map once."""
    tiled = s == rows and t == columns and p == 0 and q == 0
    return tiled and out_rows * rows == height and out_columns * columns == width


@inlined
def clear(dx, first, places):
    """dx = 0 in that many places, from number `first` on."""
    for k in range(first, first + places):
        store(dx, k * LANES, splat(dx, 0.0))


@inlined
def _larger(x, at, number, best, place):
    """The larger of `best` and the vector at `at`, and where it is. A NaN wins, as in PyTorch."""
    value = load(x, at)
    better = (value > best) | (value != value)
    return select(better, value, best), select(better, splat(x, number), place)


def max_backward(task, dy, argmax, dx, height, width, out_rows, out_columns, rows, columns, s, t, p, q):
    """dx = the sum of the dy of all windows in which a place won."""
    dx_map, at = task * height * width, task * out_rows * out_columns * LANES
    tiled = are_tiles(height, width, out_rows, out_columns, rows, columns, s, t, p, q)
    zero = splat(dx, 0.0)
    if not tiled:
        clear(dx, dx_map, height * width)
    for i in range(out_rows):
        top = i * s - p
        u_first, u_last = max(0, -top), min(rows, height - top)
        for j in range(out_columns):
            left = j * t - q
            start = (dx_map + top * width + left) * LANES
            gradient, place = load(dy, at), load(argmax, at)
            at += LANES
            if tiled and rows == 2 and columns == 2:
                store(dx, start, select(place == 0.0, gradient, zero))
                store(dx, start + LANES, select(place == 1.0, gradient, zero))
                store(dx, start + width * LANES, select(place == 2.0, gradient, zero))
                store(dx, start + (width + 1) * LANES, select(place == 3.0, gradient, zero))
                continue
            for u in range(u_first, u_last):
                for v in range(max(0, -left), min(columns, width - left)):
                    k = start + (u * width + v) * LANES
                    share = select(place == float(u * columns + v), gradient, zero)
                    store(dx, k, share if tiled else load(dx, k) + share)


@inlined
def _divisor(i, j, height, width, rows, columns, s, t, p, q, count_include_pad):
    """By how many a window's sum is divided: padding may count, but what ceil_mode adds beyond it does not."""
    top, left = i * s - p, j * t - q
    bottom, right = min(top + rows, height + p), min(left + columns, width + q)
    if not count_include_pad:
        top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, height), min(right, width)
    return (bottom - top) * (right - left)


def mean_forward(task, x, y, height, width, out_rows, out_columns, rows, columns, s, t, p, q, count_include_pad):
    """y = the sum of each window / its number of places."""
    x_map, at = task * height * width, task * out_rows * out_columns * LANES
    for i in range(out_rows):
        top = i * s - p
        u_first, u_last = max(0, -top), min(rows, height - top)
        for j in range(out_columns):
            left = j * t - q
            start = (x_map + top * width + left) * LANES
            inside = top + 1 < height and left + 1 < width and p == 0 and q == 0
            if rows == 2 and columns == 2 and inside:
                total = load(x, start) + load(x, start + LANES)
                total = total + load(x, start + width * LANES)
                store(y, at, (total + load(x, start + (width + 1) * LANES)) * 0.25)
                at += LANES
                continue
            total = splat(x, 0.0)
            for u in range(u_first, u_last):
                for v in range(max(0, -left), min(columns, width - left)):
                    total = total + load(x, start + (u * width + v) * LANES)
            divisor = _divisor(i, j, height, width, rows, columns, s, t, p, q, count_include_pad)
            store(y, at, total * (1.0 / divisor))
            at += LANES


def mean_backward(task, dy, dx, height, width, out_rows, out_columns, rows, columns, s, t, p, q, count_include_pad):
    """dx = the sum of dy / (number of places) over all windows that a place lies in."""
    dx_map, at = task * height * width, task * out_rows * out_columns * LANES
    tiled = are_tiles(height, width, out_rows, out_columns, rows, columns, s, t, p, q)
    if not tiled:
        clear(dx, dx_map, height * width)
    for i in range(out_rows):
        top = i * s - p
        u_first, u_last = max(0, -top), min(rows, height - top)
        for j in range(out_columns):
            left = j * t - q
            start = (dx_map + top * width + left) * LANES
            divisor = _divisor(i, j, height, width, rows, columns, s, t, p, q, count_include_pad)
            share = load(dy, at) * (1.0 / divisor)
            at += LANES
            for u in range(u_first, u_last):
                for v in range(max(0, -left), min(columns, width - left)):
                    k = start + (u * width + v) * LANES
                    store(dx, k, share if tiled else load(dx, k) + share)
