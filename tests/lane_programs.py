"""Small programs around kernels and layers."""

import math

import numpy as np

from minicnn.engine import cache
from minicnn.engine.lanes import pack, unpack
from minicnn.engine.work import Work
from minicnn.kernels import LANES


def work_for(samples, dtype, training=False):
    """For a batch of so many images; what it computes stays in memory."""
    return Work(-(-samples // LANES), dtype, training, True)


def filled(work, x):
    """The array (N, ...) as the rows of a batch."""
    rows = work.rows(math.prod(x.shape[1:]))
    rows.array[: len(x)] = x.reshape(len(x), -1)
    return rows


def content(packed, work):
    """What is in a map: (blocks, ..., LANES)."""
    buffer = packed.buffer
    blocks = buffer.arena.array.reshape(work.blocks, -1)
    part = blocks[:, buffer.offset : buffer.offset + packed.vectors * LANES]
    return part.reshape(work.blocks, *packed.shape, LANES)


def in_lanes(layer, x, dy=None, training=False):
    """(y, dx) of a layer for x and dy (N, ...), NaN and all, which its public methods would refuse."""
    work = work_for(len(x), x.dtype, training)
    y, backward = layer.declare(work, pack(work, filled(work, x), x.shape[1:]))
    results = [work.rows(y.vectors)]
    unpack(work, y, results[0])
    shapes = [y.shape]
    if dy is not None:
        dx = backward(pack(work, filled(work, dy), dy.shape[1:]), True)
        results.append(work.rows(dx.vectors))
        unpack(work, dx, results[1])
        shapes.append(dx.shape)
    work.finish().run(len(x))
    arrays = [rows.array[: len(x)].reshape(len(x), *shape) for rows, shape in zip(results, shapes, strict=True)]
    return arrays[0], arrays[1] if dy is not None else np.empty(0)


def forget(monkeypatch, *names):
    """Lets kernels of these names be neither in memory nor in a file, until they have been compiled again."""
    forgotten, read, write = {*names}, cache._read, cache._write
    kept = {key: value for key, value in cache._addresses.items() if str(key[0]) not in forgotten}
    monkeypatch.setattr(cache, "_addresses", kept)

    def wrapped_read(request):
        return None if str(request[0]) in forgotten else read(request)

    def wrapped_write(request, symbol, content):
        forgotten.discard(str(request[0]))
        write(request, symbol, content)

    monkeypatch.setattr(cache, "_read", wrapped_read)
    monkeypatch.setattr(cache, "_write", wrapped_write)
