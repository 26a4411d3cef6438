"""Copies of maps, and their sums."""

from minicnn.kernels import LANES

from .vectors import load, splat, store


def copy(task, x, y):
    """y = x"""
    store(y, task * LANES, load(x, task * LANES))


def add(task, a, b, y):
    """y = a + b, where y may be one of them"""
    at = task * LANES
    store(y, at, load(a, at) + load(b, at))


def frame(task, source, target, height, width, above, left, rows, columns):
    """target[c, above + i, left + j] = source[c, i, j] for map c = task, and 0 around it, in rows x columns."""
    zero = splat(target, 0.0)
    at, source_at = task * rows * columns * LANES, task * height * width * LANES
    for row in range(rows):
        inside = above <= row < above + height
        for column in range(columns):
            if inside and left <= column < left + width:
                store(target, at, load(source, source_at))
                source_at += LANES
            else:
                store(target, at, zero)
            at += LANES


def cut(task, source, target, height, width, above, left, rows, columns):
    """The way back: target[c, i, j] = source[c, above + i, left + j] for map c = task."""
    at = task * height * width * LANES
    for row in range(above, above + height):
        start = ((task * rows + row) * columns + left) * LANES
        for source_at in range(start, start + width * LANES, LANES):
            store(target, at, load(source, source_at))
            at += LANES
