"""Kernels of the locally connected layer: products of the weights of each position with the window that they see.

Weights are taken as they lie, (positions, outs, taps): to bring them into another order before each run, as for a
convolution, would cost as much as a pass of a block, since there are as many times more of them as there are positions.
x and dx have their padding. starts[p] + table[k] is where tap k of the window of position p is.
"""

from typing import Any

from minicnn.kernels import LANES

from .pool import clear
from .tiles import fill_tile, load_tile, outer, splat_tile, store_tile
from .vectors import load, store


def forward(rows: int) -> Any:
    """The kernel for tiles of `rows` outputs; there must be as many."""

    def kernel(task, x, weight, bias, y, starts, table, outs, taps, positions, has_bias):
        """y[o, p] = bias[o, p] + sum over k of weight[p, o, k] x[starts[p] + table[k]] for position p = task

        Each sum is in the order of k, whatever the tile.
        """
        for tile_row in range(0, outs, rows):
            # The last tile is moved back until it fits: it computes some outputs a second time.
            o = min(tile_row, outs - rows)
            tile = splat_tile(bias, o * positions + task, positions, rows) if has_bias else fill_tile(y, 0.0, rows)
            w_at = (task * outs + o) * taps
            for k in range(taps):
                weights = splat_tile(weight, w_at + k, taps, rows)
                tile = outer(tile, weights, load_tile(x, starts[task] + table[k], 0, 1))
            at = (o * positions + task) * LANES
            store_tile(y, at, positions * LANES, 0, tile, rows)

    return kernel


def backward(rows: int) -> Any:
    """The kernel for tiles of `rows` taps; there must be as many."""

    def kernel(task, dy, weight, dx, starts, table, outs, taps, positions, vectors):
        """dx[starts[p] + table[k]] = sum over p and o of weight[p, o, k] dy[o, p]

        All positions are one task, as a place of dx, of which there are `vectors`, lies in the windows of several.
        """
        clear(dx, 0, vectors)
        for p in range(positions):
            for tile_row in range(0, taps, rows):
                # The last tile is moved back until it fits; what the one before has added is not added again.
                first = min(tile_row, taps - rows)
                tile = fill_tile(dx, 0.0, rows)
                w_at = p * outs * taps + first
                for o in range(outs):
                    weights = splat_tile(weight, w_at, 1, rows)
                    tile = outer(tile, weights, load_tile(dy, (o * positions + p) * LANES, 0, 1))
                    w_at += taps
                for n in range(rows):
                    if first + n >= tile_row:
                        at = starts[p] + table[first + n]
                        store(dx, at, load(dx, at) + tile[n])

    return kernel
