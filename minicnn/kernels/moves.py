"""Copies of maps."""

from minicnn.kernels import LANES

from .vectors import load, store


def place(task, source, target, height, width, target_map, start, line, step):
    """target[c, start + i line + j step] = source[c, i, j] for map c = task; `target` has `target_map` places a map."""
    from_ = task * height * width
    to = task * target_map + start
    for i in range(height):
        for j in range(width):
            value = load(source, (from_ + i * width + j) * LANES)
            store(target, (to + i * line + j * step) * LANES, value)


def cut(task, source, target, height, width, source_map, start, line):
    """target[c, i, j] = source[c, start + i line + j] for map c = task; `source` has `source_map` places a map."""
    from_ = task * source_map + start
    to = task * height * width
    for i in range(height):
        for j in range(width):
            value = load(source, (from_ + i * line + j) * LANES)
            store(target, (to + i * width + j) * LANES, value)
