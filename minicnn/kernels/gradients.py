"""The gradients of weights and biases: sums over places, over the images of a block, and over blocks.

All orders are fixed. Over places a sum runs in row-major order, over lanes as a tree, over blocks and over images one
after the other.
"""

from typing import Any

from minicnn.kernels import LANES

from .tiles import add_tiles, fill_tile, load_listed, load_tile, outer, store_sums
from .vectors import fma, load, pick, splat, store, sum_lanes

#: Vectors that are added up side by side where one alone would have to wait for each sum.
CHAINS = 8


def tap_gradient(rows: int, columns: int) -> Any:
    """The kernel for tiles of `rows` maps of dy x `columns` taps, at most LANES; there must be as many."""
    size = rows * columns

    def kernel(task, dy, x, sums, panels, table, outs, taps, dy_map, height, width, dy_line, x_line, x_step):
        """sums[o, t] = sum over i, j and lanes of dy[o, i, j] x[table[t] + i x_line + j x_step]

        for all `outs` maps and `taps` taps. panels[task] says where dy, x and sums begin.
        """
        dy_start, x_start, sums_start = panels[task * 3], panels[task * 3 + 1], panels[task * 3 + 2]
        for tile_row in range(0, outs, rows):
            # The last tile is moved back until it fits: it computes some sums a second time.
            o = min(tile_row, outs - rows)
            for tile_column in range(0, taps, columns):
                t = min(tile_column, taps - columns)
                tile = fill_tile(dy, 0.0, size)
                for i in range(height):
                    dy_at = dy_start + o * dy_map + i * dy_line
                    x_at = x_start + i * x_line
                    for _ in range(width):
                        tile = outer(tile, load_tile(dy, dy_at, dy_map, rows), load_listed(x, x_at, table, t, columns))
                        dy_at += LANES
                        x_at += x_step
                store_sums(sums, sums_start + o * taps + t, taps, tile, rows)

    return kernel


def sum_places(task, dy, sums, places):
    """sums[o] = sum of dy[o, k] over all places k and lanes, for map o = task."""
    start = task * places * LANES
    whole = places // CHAINS * CHAINS
    tile = fill_tile(dy, 0.0, CHAINS)
    for k in range(0, whole, CHAINS):
        tile = add_tiles(tile, load_tile(dy, start + k * LANES, LANES, CHAINS))
    total = splat(dy, 0.0)
    for k in range(whole, places):
        total = total + load(dy, start + k * LANES)
    for n in range(CHAINS):
        total = total + tile[n]
    sums[task] = sum_lanes(total)


def sum_rows(task, rows, target, size, count):
    """target[k] = rows[0, k] + rows[1, k] + ... over `count` rows, for the CHAINS x LANES elements k from there on."""
    first = task * CHAINS * LANES
    last = min(first + CHAINS * LANES, size)
    whole = last - (last - first) % LANES
    for k in range(first, whole, LANES):
        total = load(rows, k)
        for n in range(1, count):
            total = total + load(rows, n * size + k)
        store(target, k, total)
    for k in range(whole, last):
        number = rows[k]
        for n in range(1, count):
            number += rows[n * size + k]
        target[k] = number


def sum_listed(task, sums, table, target, count, size, blocks):
    """target[k] = sums[0, table[k]] + sums[1, table[k]] + ... over all blocks, whose rows have `size` elements."""
    for k in range(count):
        number = sums[table[k]]
        for b in range(1, blocks):
            number += sums[b * size + table[k]]
        target[k] = number


def narrow(task, x, dy, dweight, outs, row, ins, samples):
    """dweight[o, k] = sum over n of dy[n, o] x[n, k] for output o = task and fewer than LANES inputs k."""
    total = splat(x, 0.0)
    for n in range(samples):
        total = fma(load(x, n * row), dy[n * outs + task], total)
    for k in range(ins):
        dweight[task * ins + k] = pick(total, k)
