"""Convolution between chosen pairs of maps only: `correlate` (forward, and dx) and `weight_gradient`.

A connection n leads from one map to another and has a kernel of its own. Those that end in map m are numbers
first[m] ... first[m + 1] - 1 of a list, whose entries are the map that it comes from and the place of its kernel.
Letters otherwise as in `conv.py`.
"""

from functools import cache
from typing import Any

from numba import prange

from .jit import parallel_kernel
from .simd import LANES, load, splat, sum_lanes
from .tile import fill_tile, load_rows, load_tile, outer, slide, splat_tile, spread, store_tile


@cache
def correlate(columns: int, stride: int, taps: int = 0, members: int = 0, shift: int = 0) -> Any:
    """The kernel for tiles of `columns` output columns of one map.

    With `taps`, the width of the kernels (stride and column dilation are 1), `members` vectors of a row of x are
    loaded at once, and slide past the weights in registers: output j of a tile is sum over v of w[v] x[j + v + shift],
    where members that are not there count as zero. Without, each tap loads its own.
    """

    @parallel_kernel
    def kernel(x, weight, bias, y, first, sources, starts, steps, kernel_shape, geometry):
        """y[b, m] = bias[m] + sum over n from first[m] to first[m + 1] of x[b, sources[n]] * kernel n

        Element (u, v) of kernel n is read at starts[n] + u su + v sv with steps = (su, sv), which serves the
        turned-round kernels of dx as well.
        """
        kernel_rows, kernel_columns = kernel_shape
        row_stride, row_dilation, row_padding, column_dilation = geometry
        u_step, v_step = steps
        blocks, maps, out_rows, out_columns, _ = y.shape
        channels, height, width = x.shape[1], x.shape[2], x.shape[3]
        for task in prange(blocks * maps):
            b, m = task // maps, task % maps
            for i in range(out_rows):
                top = i * row_stride - row_padding
                begin = max(0, (-top + row_dilation - 1) // row_dilation)
                end = min(kernel_rows, (height - top + row_dilation - 1) // row_dilation)
                for tile_column in range(0, out_columns, columns):
                    # The last tile is moved back until it fits: it computes some outputs a second time.
                    j = min(tile_column, out_columns - columns)
                    has_bias = bias.size > 0
                    tile = (
                        spread(splat_tile(bias, m, 1, 1), columns)
                        if has_bias
                        else fill_tile(y, 0.0, columns)
                    )
                    for n in range(first[m], first[m + 1]):
                        x_map = (b * channels + sources[n]) * height
                        for u in range(begin, end):
                            x_at = ((x_map + top + u * row_dilation) * width + j * stride) * LANES
                            w_at = starts[n] + u * u_step
                            if taps:
                                row = load_tile(x, x_at, LANES, members)
                                tile = slide(tile, row, weight, w_at, 0, v_step, 1, taps, shift)
                            else:
                                for _ in range(kernel_columns):
                                    tile = outer(
                                        tile,
                                        splat_tile(weight, w_at, 1, 1),
                                        load_tile(x, x_at, stride * LANES, columns),
                                    )
                                    x_at += column_dilation * LANES
                                    w_at += v_step
                    y_at = ((task * out_rows + i) * out_columns + j) * LANES
                    store_tile(y, y_at, LANES, LANES, tile, 1)

    return kernel


@cache
def weight_gradient(rows: int, columns: int, stride: int, dilation: int) -> Any:
    """The kernel for tiles of `rows` connections from one map x `columns` neighbouring kernel columns."""
    size = rows * columns
    x_step, tap_step = stride * LANES, dilation * LANES

    @parallel_kernel
    def kernel(x, dy, dweight, dbias, first, numbers, planes, geometry):
        """dweight[n, u, v] = sum over b, i, j, lanes of dy[b, o, i, j] x[b, c, i s + u d - p, j s + v d - p]

        for each connection n from map c to map o, and dbias[o] = sum of dy[b, o, i, j]. The connections from map c
        are numbers[k] for k from first[c] to first[c + 1]; planes[k] is where the map begins that they lead to.
        """
        row_stride, row_dilation, row_padding = geometry
        _, kernel_rows, kernel_columns = dweight.shape
        blocks, out_channels, out_rows, out_columns, _ = dy.shape
        channels, height, width = x.shape[1], x.shape[2], x.shape[3]
        plane = out_rows * out_columns * LANES
        for task in prange(channels * kernel_rows):
            c, u = task // kernel_rows, task % kernel_rows
            # Output rows whose input row i s + u d - p lies inside x.
            shift = u * row_dilation - row_padding
            top = max(0, (-shift + row_stride - 1) // row_stride)
            bottom = min(out_rows, (height - shift + row_stride - 1) // row_stride)
            for tile_row in range(first[c], first[c + 1], rows):
                # The last tile is moved back until it fits: it computes some sums a second time.
                k = min(tile_row, first[c + 1] - rows)
                for tile_column in range(0, kernel_columns, columns):
                    v = min(tile_column, kernel_columns - columns)
                    tile = fill_tile(dy, 0.0, size)
                    for b in range(blocks):
                        x_start = ((b * channels + c) * height + shift) * width * LANES
                        dy_start = b * out_channels * plane
                        for i in range(top, bottom):
                            x_at = x_start + i * row_stride * width * LANES + v * tap_step
                            dy_at = dy_start + i * out_columns * LANES
                            for _ in range(out_columns):
                                tile = outer(
                                    tile,
                                    load_rows(dy, planes, k, dy_at, rows),
                                    load_tile(x, x_at, tap_step, columns),
                                )
                                x_at += x_step
                                dy_at += LANES
                    for t in range(size):
                        n = numbers[k + t // columns]
                        dweight[n, u, v + t % columns] = sum_lanes(tile[t])
        if dbias.size:
            for o in prange(out_channels):
                total = splat(dy, 0.0)
                for b in range(blocks):
                    start = (b * out_channels + o) * plane
                    for place in range(start, start + plane, LANES):
                        total = total + load(dy, place)
                dbias[o] = sum_lanes(total)

    return kernel
