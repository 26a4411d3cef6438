"""Kernels of the locally connected layer: those of a convolution whose weights are others at every position.

Letters: b block of LANES samples; o output channel; c input channel; i, j output row and column; u, v kernel row
and column. As no two positions share a weight, a tile spans blocks, which do: each weight that is loaded serves
several blocks, each vector of x several output channels. x is padded in columns already, rows are clipped.
"""

from functools import cache
from typing import Any

from numba import prange

from .jit import parallel_kernel
from .simd import LANES, load, splat, store, sum_lanes
from .sums import store_lanes, sum_each
from .tile import fill_tile, load_tile, outer, splat_tile, spread, store_tile


@cache
def correlate(rows: int, columns: int) -> Any:
    """The kernel for tiles of `rows` output channels x `columns` blocks; there must be as many blocks."""
    size = rows * columns

    @parallel_kernel
    def kernel(x, weight, bias, y, row_geometry, column_geometry):
        """y[b, o, i, j] = bias[o, i, j] + sum over c, u, v of weight[i, j, o, c, u, v] x[b, c, i s + u d - p, ...]

        Rows of x beyond its edge count as zero.
        """
        row_stride, row_dilation, row_padding = row_geometry
        column_stride, column_dilation = column_geometry
        out_rows, out_columns, outs, channels, kernel_rows, kernel_columns = weight.shape
        blocks, height, width = x.shape[0], x.shape[2], x.shape[3]
        positions, taps = out_rows * out_columns, channels * kernel_rows * kernel_columns
        x_block, y_block = channels * height * width * LANES, outs * positions * LANES
        out_tiles = (outs + rows - 1) // rows
        for task in prange(positions * out_tiles):
            position = task // out_tiles
            i, j = position // out_columns, position % out_columns
            # The last tile is moved back until it fits: it computes some outputs a second time.
            o = min(task % out_tiles * rows, outs - rows)
            top = i * row_stride - row_padding
            first = max(0, (-top + row_dilation - 1) // row_dilation)
            last = min(kernel_rows, (height - top + row_dilation - 1) // row_dilation)
            for tile_block in range(0, blocks, columns):
                b = min(tile_block, blocks - columns)
                has_bias = bias.size > 0
                tile = (
                    spread(splat_tile(bias, o * positions + position, positions, rows), columns)
                    if has_bias
                    else fill_tile(y, 0.0, size)
                )
                for c in range(channels):
                    for u in range(first, last):
                        row = c * height + top + u * row_dilation
                        x_at = b * x_block + (row * width + j * column_stride) * LANES
                        w_at = (position * outs + o) * taps + (c * kernel_rows + u) * kernel_columns
                        for _ in range(kernel_columns):
                            tile = outer(
                                tile,
                                splat_tile(weight, w_at, taps, rows),
                                load_tile(x, x_at, x_block, columns),
                            )
                            x_at += column_dilation * LANES
                            w_at += 1
                y_at = b * y_block + (o * positions + position) * LANES
                store_tile(y, y_at, positions * LANES, y_block, tile, rows)

    return kernel


@cache
def input_gradient(rows: int, columns: int) -> Any:
    """The kernel for a kernel of `rows` columns, in tiles with `columns` blocks; there must be as many blocks."""
    size = rows * columns

    @parallel_kernel
    def kernel(dy, weight, dx, row_geometry, column_geometry):
        """dx[b, c, h, j s + v d] = sum over o, u, i, j, v of weight[i, j, o, c, u, v] dy[b, o, i, j], i s + u d - p = h

        A task owns a row of dx, to which each output position adds its share for all kernel columns at once.
        """
        row_stride, row_dilation, row_padding = row_geometry
        column_stride, column_dilation = column_geometry
        out_rows, out_columns, outs, channels, kernel_rows, _ = weight.shape
        blocks, height, width = dx.shape[0], dx.shape[2], dx.shape[3]
        positions, taps = out_rows * out_columns, channels * kernel_rows * rows
        dx_block, dy_block = channels * height * width * LANES, outs * positions * LANES
        zero = splat(dx, 0.0)
        for task in prange(channels * height):
            c, h = task // height, task % height
            for tile_block in range(0, blocks, columns):
                # The last tile is moved back until it fits: it computes some rows a second time, from zero.
                b = min(tile_block, blocks - columns)
                for k in range(columns):
                    start = (b + k) * dx_block + task * width * LANES
                    for at in range(start, start + width * LANES, LANES):
                        store(dx, at, zero)
                for u in range(kernel_rows):
                    i = (h + row_padding - u * row_dilation) // row_stride
                    if i * row_stride + u * row_dilation - row_padding != h:
                        continue
                    if i < 0 or i >= out_rows:
                        continue
                    for j in range(out_columns):
                        position = i * out_columns + j
                        w_at = position * outs * taps + (c * kernel_rows + u) * rows
                        dy_at = b * dy_block + position * LANES
                        tile = fill_tile(dy, 0.0, size)
                        for _ in range(outs):
                            tile = outer(
                                tile,
                                splat_tile(weight, w_at, 1, rows),
                                load_tile(dy, dy_at, dy_block, columns),
                            )
                            w_at += taps
                            dy_at += positions * LANES
                        dx_at = b * dx_block + (task * width + j * column_stride) * LANES
                        for n in range(size):
                            v, k = n // columns, n % columns
                            at = dx_at + k * dx_block + v * column_dilation * LANES
                            store(dx, at, load(dx, at) + tile[n])

    return kernel


@cache
def weight_gradient(rows: int, columns: int) -> Any:
    """The kernel for tiles of `rows` output channels x `columns` kernel columns, together LANES at most."""
    size = rows * columns

    @parallel_kernel
    def kernel(x, dy, dweight, dbias, row_geometry, column_geometry):
        """dweight[i, j, o, c, u, v] = sum over b, lanes of dy[b, o, i, j] x[b, c, i s + u d - p, j s + v d]

        and dbias[o, i, j] = sum over b, lanes of dy[b, o, i, j].
        """
        row_stride, row_dilation, row_padding = row_geometry
        column_stride, column_dilation = column_geometry
        out_rows, out_columns, outs, channels, kernel_rows, kernel_columns = dweight.shape
        blocks, height, width = x.shape[0], x.shape[2], x.shape[3]
        positions = out_rows * out_columns
        x_block, dy_block = channels * height * width * LANES, outs * positions * LANES
        out_tiles = (outs + rows - 1) // rows
        tap_tiles = (kernel_columns + columns - 1) // columns
        for position in prange(positions):
            i, j = position // out_columns, position % out_columns
            for cu in range(channels * kernel_rows):
                c, u = cu // kernel_rows, cu % kernel_rows
                row = i * row_stride + u * row_dilation - row_padding
                inside = row >= 0 and row < height
                start = ((c * height + row) * width + j * column_stride) * LANES
                for t in range(out_tiles * tap_tiles):
                    # The last tiles are moved back until they fit: they compute some sums a second time.
                    o = min(t // tap_tiles * rows, outs - rows)
                    v = min(t % tap_tiles * columns, kernel_columns - columns)
                    tile = fill_tile(dy, 0.0, size)
                    x_at = start + v * column_dilation * LANES
                    dy_at = (o * positions + position) * LANES
                    for _ in range(blocks if inside else 0):
                        tile = outer(
                            tile,
                            load_tile(dy, dy_at, positions * LANES, rows),
                            load_tile(x, x_at, column_dilation * LANES, columns),
                        )
                        x_at += x_block
                        dy_at += dy_block
                    total = sum_each(tile)
                    at = ((position * outs + o) * channels * kernel_rows + cu) * kernel_columns + v
                    for r in range(rows):
                        store_lanes(dweight, at, total, r * columns, columns)
                        at += channels * kernel_rows * kernel_columns
            if dbias.size:
                for o in range(outs):
                    at = (o * positions + position) * LANES
                    total_bias = splat(dy, 0.0)
                    for _ in range(blocks):
                        total_bias = total_bias + load(dy, at)
                        at += dy_block
                    dbias[o * positions + position] = sum_lanes(total_bias)

    return kernel
