"""Dense kernels: `matrix_product` (forward, and dx) and `weight_gradient`.

Letters: b block of LANES samples; o output feature; k input feature; n sample.
"""

from functools import cache
from typing import Any

from numba import prange

from .jit import parallel_kernel
from .simd import LANES, load, splat, store, store_first, sum_lanes
from .tile import fill_tile, load_tile, outer, splat_tile, spread, store_tile


@cache
def matrix_product(rows: int, columns: int) -> Any:
    """The kernel for tiles of `rows` output features x `columns` blocks."""

    @parallel_kernel
    def kernel(x, weight, bias, y, out_step, in_step):
        """y[b, o] = bias[o] + sum over k of weight[o out_step + k in_step] x[b, k]"""
        blocks, inputs, _ = x.shape
        outputs = y.shape[1]
        whole = blocks // columns * columns
        for task in prange((outputs + rows - 1) // rows):
            # The last tile is moved back until it fits: it computes some outputs a second time.
            o = min(task * rows, outputs - rows)
            for b in range(0, whole, columns):
                if bias.size:
                    tile = spread(splat_tile(bias, o, 1, rows), columns)
                else:
                    tile = spread(fill_tile(x, 0.0, rows), columns)
                for k in range(inputs):
                    tile = outer(
                        tile,
                        splat_tile(weight, o * out_step + k * in_step, out_step, rows),
                        load_tile(x, (b * inputs + k) * LANES, inputs * LANES, columns),
                    )
                store_tile(y, (b * outputs + o) * LANES, LANES, outputs * LANES, tile, rows)
            for b in range(whole, blocks):
                line = splat_tile(bias, o, 1, rows) if bias.size else fill_tile(x, 0.0, rows)
                for k in range(inputs):
                    line = outer(
                        line,
                        splat_tile(weight, o * out_step + k * in_step, out_step, rows),
                        load_tile(x, (b * inputs + k) * LANES, LANES, 1),
                    )
                store_tile(y, (b * outputs + o) * LANES, LANES, LANES, line, rows)

    return kernel


@cache
def weight_gradient(rows: int, columns: int) -> Any:
    """The kernel for tiles of `rows` output features x `columns` vectors of input features."""
    size = rows * columns

    @parallel_kernel
    def kernel(samples, dy, dweight, dbias):
        """dweight[o, k] = sum over n of dy[n, o] x[n, k] and dbias[o] = sum over n of dy[n, o]

        `samples` is x with one sample a row, so that LANES weights stand side by side and no sum over lanes
        is needed; its rows are at least `columns` vectors long and whole vectors (what lies beyond the
        features does not matter).
        """
        blocks, outputs, _ = dy.shape
        inputs = dweight.shape[1]
        row = samples.shape[1]
        vectors = row // LANES
        for task in prange((outputs + rows - 1) // rows):
            o = min(task * rows, outputs - rows)
            for tile_vector in range(0, vectors, columns):
                k = min(tile_vector, vectors - columns) * LANES
                tile = fill_tile(dy, 0.0, size)
                for b in range(blocks):
                    for lane in range(LANES):
                        tile = outer(
                            tile,
                            splat_tile(dy, (b * outputs + o) * LANES + lane, LANES, rows),
                            load_tile(samples, (b * LANES + lane) * row + k, LANES, columns),
                        )
                for n in range(size):
                    at = k + n % columns * LANES
                    start = (o + n // columns) * inputs + at
                    if at + LANES <= inputs:
                        store(dweight, start, tile[n])
                    elif at < inputs:
                        store_first(dweight, start, tile[n], inputs - at)
            if dbias.size:
                for r in range(rows):
                    total = splat(dy, 0.0)
                    for b in range(blocks):
                        total = total + load(dy, (b * outputs + o + r) * LANES)
                    dbias[o + r] = sum_lanes(total)

    return kernel
