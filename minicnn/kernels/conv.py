"""Convolution kernels: `correlate` (forward, and dx) and `weight_gradient`, each around a register tile.

Letters: b block of LANES samples; g group; o output channel; c input channel; i, j output row and column;
u, v kernel row and column. All positions are flat element numbers, so one multiply away from the formula.
"""

from functools import cache
from typing import Any

import numba
from numba import get_thread_id, prange

from .jit import parallel_kernel
from .simd import LANES, load, splat, store, store_first, sum_lanes
from .sums import sum_each
from .tile import fill_tile, load_tile, outer, slide, splat_tile, spread, store_tile

#: Vectors of dy that stay in the first-level cache while all taps of a kernel column pass over them.
BAND = 320


@cache
def correlate(rows: int, columns: int, stride: int, edge: int = 0, taps: int = 1) -> Any:
    """The kernel for tiles of `rows` output channels x `columns` output columns.

    `edge` columns at both ends of an output row see a part of the kernel only, whose width is `taps` (both need
    stride and column dilation 1). They have tiles of their own, which leave out what lies beyond the edge of x.
    """
    size, edge_size, reach, left_shift = rows * columns, rows * edge, taps - 1, -edge

    @parallel_kernel
    def kernel(x, weight, bias, y, kernel_shape, row_geometry, column_dilation, weight_layout):
        """y[b, o, i, j] = bias[o] + sum over c, u, v of w[o, c, u, v] x[b, c, i s + u d - p, j s + v d - edge]

        Rows of x beyond its edge count as zero. The weights are read at start + g sg + o so + c sc + u su + v sv
        with weight_layout = (start, sg, so, sc, su, sv), which serves the turned-round, transposed weights of dx
        as well.
        """
        groups, channels, kernel_rows, kernel_columns = kernel_shape
        row_stride, row_dilation, row_padding = row_geometry
        start, group_step, out_step, in_step, u_step, v_step = weight_layout
        blocks, out_channels, out_rows, out_columns, _ = y.shape
        height, width = x.shape[2], x.shape[3]
        group_outs = out_channels // groups
        out_tiles = (group_outs + rows - 1) // rows
        y_plane = out_rows * out_columns * LANES
        for task in prange(blocks * groups * out_tiles):
            b = task // (groups * out_tiles)
            g = task // out_tiles % groups
            # The last tile is moved back until it fits: it computes some outputs a second time.
            o = min(task % out_tiles * rows, group_outs - rows)
            bias_at = g * group_outs + o
            y_start = (b * out_channels + bias_at) * y_plane
            x_start = (b * groups + g) * channels * height * width * LANES
            w_start = start + g * group_step + o * out_step
            for i in range(out_rows):
                top = i * row_stride - row_padding
                first = max(0, (-top + row_dilation - 1) // row_dilation)
                last = min(kernel_rows, (height - top + row_dilation - 1) // row_dilation)
                y_row = y_start + i * out_columns * LANES
                for tile_column in range(edge, out_columns - edge, columns):
                    j = min(tile_column, out_columns - edge - columns)
                    has_bias = bias.size > 0
                    tile = (
                        spread(splat_tile(bias, bias_at, 1, rows), columns)
                        if has_bias
                        else fill_tile(y, 0.0, size)
                    )
                    for c in range(channels):
                        for u in range(first, last):
                            x_at = x_start + ((c * height + top + u * row_dilation) * width) * LANES
                            x_at += (j * stride - edge) * LANES
                            w_at = w_start + c * in_step + u * u_step
                            for _ in range(kernel_columns):
                                tile = outer(
                                    tile,
                                    splat_tile(weight, w_at, out_step, rows),
                                    load_tile(x, x_at, stride * LANES, columns),
                                )
                                x_at += column_dilation * LANES
                                w_at += v_step
                    store_tile(y, y_row + j * LANES, y_plane, LANES, tile, rows)
                if edge:
                    left = right = fill_tile(y, 0.0, edge_size)
                    for c in range(channels):
                        for u in range(first, last):
                            x_at = x_start + ((c * height + top + u * row_dilation) * width) * LANES
                            w_at = w_start + c * in_step + u * u_step
                            near = load_tile(x, x_at, LANES, reach)
                            left = slide(
                                left, near, weight, w_at, out_step, v_step, rows, taps, left_shift
                            )
                    store_tile(y, y_row, y_plane, LANES, left, rows)
                    for c in range(channels):
                        for u in range(first, last):
                            x_at = x_start + ((c * height + top + u * row_dilation) * width) * LANES
                            w_at = w_start + c * in_step + u * u_step
                            far = load_tile(x, x_at + (width - reach) * LANES, LANES, reach)
                            right = slide(right, far, weight, w_at, out_step, v_step, rows, taps, 0)
                    store_tile(y, y_row + (out_columns - edge) * LANES, y_plane, LANES, right, rows)

    return kernel


def gradient_room(rows: int, columns: int, kernel_rows: int, kernel_columns: int) -> int:
    """The vectors that `weight_gradient` of a tile of rows x columns needs for partial sums."""
    tiles = kernel_rows * -(-kernel_columns // columns)
    return int(numba.config.NUMBA_NUM_THREADS) * tiles * rows * columns


@cache
def weight_gradient(rows: int, columns: int, stride: int, dilation: int) -> Any:
    """The kernel for tiles of `rows` output channels x `columns` (at most LANES) neighbouring kernel columns."""
    size = rows * columns
    x_step, tap_step = stride * LANES, dilation * LANES

    @parallel_kernel
    def kernel(x, dy, dweight, dbias, sums, groups, row_geometry):
        """dweight[o, c, u, v] = sum over b, i, j, lanes of dy[b, o, i, j] x[b, c, i s + u d - p, j s + v d]

        and dbias[o] = sum of dy[b, o, i, j]. `sums` is room for `gradient_room` vectors, the tiles under way.
        """
        row_stride, row_dilation, row_padding = row_geometry
        _, channels, kernel_rows, kernel_columns = dweight.shape
        blocks, out_channels, out_rows, out_columns, _ = dy.shape
        height, width = x.shape[2], x.shape[3]
        group_outs = out_channels // groups
        out_tiles = (group_outs + rows - 1) // rows
        tap_tiles = (kernel_columns + columns - 1) // columns
        plane = out_rows * out_columns * LANES
        shared = kernel_rows * tap_tiles > 1  # dy is, by several tiles
        band_rows = max(1, BAND // (rows * out_columns)) if shared else max(1, out_rows)
        bands = (out_rows + band_rows - 1) // band_rows
        for task in prange(groups * out_tiles * channels):
            c = task % channels
            g = task // (channels * out_tiles)
            # The last tile is moved back until it fits: it computes some sums a second time.
            o = g * group_outs + min(task // channels % out_tiles * rows, group_outs - rows)
            mine = get_thread_id() * kernel_rows * tap_tiles * size * LANES
            # Band by band of rows, so that dy and x stay in the first-level cache for all taps.
            for band in range(blocks * bands):
                b = band // bands
                top = band % bands * band_rows
                bottom = min(top + band_rows, out_rows)
                dy_start = (b * out_channels + o) * plane
                for u in range(kernel_rows):
                    # Output rows whose input row i s + u d - p lies inside x.
                    shift = u * row_dilation - row_padding
                    first = max(top, (-shift + row_stride - 1) // row_stride)
                    last = min(bottom, (height - shift + row_stride - 1) // row_stride)
                    x_start = (((b * groups + g) * channels + c) * height + shift) * width * LANES
                    for t in range(tap_tiles):
                        v = min(t * columns, kernel_columns - columns)
                        partial = mine + (u * tap_tiles + t) * size * LANES
                        tile = (
                            fill_tile(dy, 0.0, size)
                            if band == 0
                            else load_tile(sums, partial, LANES, size)
                        )
                        for i in range(first, last):
                            x_at = x_start + i * row_stride * width * LANES + v * tap_step
                            dy_at = dy_start + i * out_columns * LANES
                            for _ in range(out_columns):
                                tile = outer(
                                    tile,
                                    load_tile(dy, dy_at, plane, rows),
                                    load_tile(x, x_at, tap_step, columns),
                                )
                                x_at += x_step
                                dy_at += LANES
                        store_tile(sums, partial, columns * LANES, LANES, tile, rows)
            for r in range(rows):
                for u in range(kernel_rows):
                    for t in range(tap_tiles):
                        v = min(t * columns, kernel_columns - columns)
                        partial = mine + (u * tap_tiles + t) * size * LANES + r * columns * LANES
                        totals = sum_each(load_tile(sums, partial, LANES, columns))
                        at = ((o + r) * channels + c) * kernel_rows + u
                        store_first(dweight, at * kernel_columns + v, totals, columns)
                if dbias.size and c == 0:
                    total_bias = splat(dy, 0.0)
                    for b in range(blocks):
                        dy_start = (b * out_channels + o + r) * plane
                        for k in range(dy_start, dy_start + plane, LANES):
                            total_bias = total_bias + load(dy, k)
                    dbias[o + r] = sum_lanes(total_bias)

    return kernel


@parallel_kernel
def spread_columns(x, y, row_step, column_step, left):
    """y = 0, but y[b, c, i row_step, left + j column_step] = x[b, c, i, j] where that column exists."""
    blocks, channels, height, width, _ = x.shape
    rows, columns = y.shape[2], y.shape[3]
    zero = splat(x, 0.0)
    for plane in prange(blocks * channels):
        for k in range(plane * rows * columns, (plane + 1) * rows * columns):
            store(y, k * LANES, zero)
        for i in range(height):
            for j in range(width):
                column = left + j * column_step
                if 0 <= column < columns:
                    at = (plane * rows + i * row_step) * columns + column
                    store(y, at * LANES, load(x, ((plane * height + i) * width + j) * LANES))
