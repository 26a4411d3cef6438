"""Convolution with fewer multiplications, for kernels 3 or 5 columns wide that move by one.

Winograd's minimal filtering computes m neighbouring outputs y of a filter g of r taps over the n = m + r - 1
inputs x below it as

    y = A^T ((G g) * (B^T x))        with * element by element,

in n multiplications instead of m r. Rows of A, G and B^T belong to n points p: a row of A is 1, p, p^2, ..., one of
G likewise, times what a row of B^T lacks. Summed over channels and kernel rows, the middle of it is a convolution
for each point, with a kernel one column wide, for which `conv.correlate` and `conv.weight_gradient` have groups. The
gradients are those of this formula:

    dg = G^T ((A dy) * (B^T x))      dx = B ((G g) * (A dy))

Arrays "at the points" are (blocks, n * channels, tiles, rows, LANES): rows of an image come last, since it is along
them that the kernel still moves.

Source: Winograd, Arithmetic complexity of computations (1980); Lavin and Gray, Fast algorithms for convolutional neural
networks (2016), section 3.
"""

from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import get_thread_id, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import parallel_kernel
from .simd import LANES, fma, load, splat, store_first, sum_lanes
from .tile import fill_tile, load_tile, outer, splat_tile, store_tile
from .vector import (
    VectorType,
    constant,
    emit_fma,
    emit_load,
    emit_store,
    make_tile,
)

#: m, by the taps r. A larger one saves more multiplications, and costs more additions and accuracy.
OUTPUTS = {3: 4, 5: 5}
#: The points, by their number n: 0, then pairs of opposite ones, and infinity where that leaves one over. Chosen
#: for small rounding errors, about twice those of a plain sum.
POINTS = {6: (0, 0.5, -0.5, 1.5, -1.5), 9: (0, 0.5, -0.5, 1, -1, 1.5, -1.5, 4, -4)}


def points(taps: int) -> int:
    """n"""
    return OUTPUTS[taps] + taps - 1


@cache
def matrices(taps: int) -> dict[str, Any]:
    """A and B, their transposes, and G, in float64."""
    n, finite = points(taps), np.array(POINTS[points(taps)])
    has_infinity = len(finite) < n

    def powers(count: int) -> Any:
        table = finite[:, None] ** np.arange(count)
        return np.vstack([table, np.arange(count) == count - 1]) if has_infinity else table

    # B^T undoes the evaluation of polynomials at the points; its rows are Lagrange's polynomials.
    bt = np.zeros((n, n))
    for i, point in enumerate(finite):
        others = np.delete(finite, i)
        bt[i, : len(finite)] = np.poly(others)[::-1] / np.prod(point - others)
    if has_infinity:
        bt[-1] = np.poly(finite)[::-1]
    bt[abs(bt) < 1e-12] = 0
    scale = np.linalg.norm(bt, axis=1, keepdims=True)
    a, bt = powers(OUTPUTS[taps]), bt / scale
    return {"A": a, "AT": a.T, "B": bt.T, "BT": bt, "G": powers(taps) * scale}


# --- on register tiles ---------------------------------------------------------------------------


def _weighted_sum(builder: Any, vectors: list[Any], weights: Any) -> Any:
    """Of those vectors that are not None; None if all weights are zero."""
    total = None
    for vector, weight in zip(vectors, weights, strict=True):
        if vector is None or weight == 0:
            continue
        factor = constant(vector.type, weight)
        if total is not None:
            total = emit_fma(builder, vector, factor, total)
        else:
            total = vector if weight == 1 else builder.fmul(vector, factor)
    return total


def _at_points(builder: Any, x: list[Any], matrix: Any, pairs: range) -> list[Any]:
    """matrix x, whose rows belong to points: those of p and -p differ in the sign of odd columns."""
    y: list[Any] = []
    for i, row in enumerate(matrix):
        if i - 1 not in pairs:
            even = _weighted_sum(builder, x[0::2], row[0::2])
            odd = _weighted_sum(builder, x[1::2], row[1::2])
        if i - 1 in pairs:
            y.append(builder.fsub(even, odd))
        elif even is None or odd is None:
            y.append(odd if even is None else even)
        else:
            y.append(builder.fadd(even, odd))
    return y


def _from_points(builder: Any, x: list[Any], matrix: Any, pairs: range) -> list[Any]:
    """matrix x, whose columns belong to points: those of p and -p differ in the sign of odd rows."""
    sums, differences = list(x), list(x)
    for i in pairs:
        sums[i], sums[i + 1] = builder.fadd(x[i], x[i + 1]), None
        differences[i], differences[i + 1] = builder.fsub(x[i], x[i + 1]), None
    return [
        _weighted_sum(builder, differences if i % 2 else sums, row) for i, row in enumerate(matrix)
    ]


@intrinsic(prefer_literal=True)
def multiply(typing, name, taps, tile):
    """The matrix `name` of `matrices(taps)` times a tile."""
    matrix = matrices(taps.literal_value)[name.literal_value]
    pairs = range(1, points(taps.literal_value) - 1, 2)
    emit = _at_points if name.literal_value in ("A", "BT") else _from_points
    result = types.UniTuple(tile.dtype, len(matrix))

    def code(context, builder, sig, args):
        vectors = cgutils.unpack_tuple(builder, args[2])
        return make_tile(context, builder, result, emit(builder, vectors, matrix, pairs))

    return result(name, taps, tile), code


@intrinsic(prefer_literal=True)
def load_columns(typing, array, row, column, width, count):
    """`count` neighbouring vectors from `column` on of the row at `row`; zeros beyond its `width`."""
    number = count.literal_value
    tile = types.UniTuple(VectorType(array.dtype), number)

    def code(context, builder, sig, args):
        array, row, column, width, _ = args
        vectors = []
        for i in range(number):
            here = builder.add(column, ir.Constant(column.type, i))
            inside = builder.icmp_unsigned("<", here, width)
            safe = builder.select(inside, here, ir.Constant(here.type, 0))
            index = builder.add(row, builder.mul(safe, ir.Constant(safe.type, LANES)))
            vector = emit_load(context, builder, sig.args[0], array, index)
            vectors.append(builder.select(inside, vector, constant(vector.type, 0.0)))
        return make_tile(context, builder, tile, vectors)

    integer = types.int64
    return tile(array, integer, integer, integer, count), code


@intrinsic
def store_columns(typing, array, row, column, width, tile):
    """Writes neighbouring vectors from `column` on into the row at `row`, but none beyond its `width`."""

    def code(context, builder, sig, args):
        array, row, column, width, tile = args
        for i, vector in enumerate(cgutils.unpack_tuple(builder, tile)):
            here = builder.add(column, ir.Constant(column.type, i))
            with builder.if_then(builder.icmp_unsigned("<", here, width), likely=True):
                index = builder.add(row, builder.mul(here, ir.Constant(here.type, LANES)))
                emit_store(context, builder, sig.args[0], array, index, vector)
        return context.get_dummy_value()

    integer = types.int64
    return types.void(array, integer, integer, integer, tile), code


@intrinsic
def add_tiles(typing, tile, other):
    """tile[i] + other[i]; where `other` is shorter, the rest of the tile stays."""

    def code(context, builder, sig, args):
        left, right = (cgutils.unpack_tuple(builder, a) for a in args)
        sums = [builder.fadd(a, b) for a, b in zip(left, right, strict=False)]
        return make_tile(context, builder, tile, sums + left[len(sums) :])

    return tile(tile, other), code


@intrinsic(prefer_literal=True)
def take(typing, tile, first, last):
    """tile[first:last]"""
    chosen = slice(first.literal_value, last.literal_value)
    result = types.UniTuple(tile.dtype, chosen.stop - chosen.start)

    def code(context, builder, sig, args):
        return make_tile(context, builder, result, cgutils.unpack_tuple(builder, args[0])[chosen])

    return result(tile, first, last), code


@intrinsic
def pick(typing, a, lane):
    """One lane, a number."""

    def code(context, builder, sig, args):
        return builder.extract_element(*args)

    return a.element(a, types.int64), code


# --- kernels -------------------------------------------------------------------------------------


@cache
def to_points(name: str, taps: int) -> Any:
    """The kernel for B^T x, of tiles of n columns, or A dy, of m columns; both move by m columns a tile."""
    n, step = points(taps), OUTPUTS[taps]
    width_in = matrices(taps)[name].shape[1]

    @parallel_kernel
    def kernel(x, y, left, top):
        """y[b, p channels + c, t, top + i] = the p-th of the products with x[b, c, i, t m - left ...].

        All other rows of y are zero, as is x beyond its edge.
        """
        blocks, channels, height, width, _ = x.shape
        _, _, tiles, rows, _ = y.shape
        between = channels * tiles * rows * LANES
        for plane in prange(blocks * channels):
            b, c = plane // channels, plane % channels
            for t in range(tiles):
                y_at = ((b * n * channels + c) * tiles + t) * rows * LANES
                first = t * step - left
                inside = first >= 0 and first + width_in <= width
                zeros = fill_tile(x, 0.0, n)
                for i in range(top):
                    store_tile(y, y_at + i * LANES, between, LANES, zeros, n)
                for i in range(top + height, rows):
                    store_tile(y, y_at + i * LANES, between, LANES, zeros, n)
                for i in range(height):
                    row = (plane * height + i) * width * LANES
                    if inside:
                        tile = load_tile(x, row + first * LANES, LANES, width_in)
                    else:
                        tile = load_columns(x, row, first, width, width_in)
                    products = multiply(name, taps, tile)
                    store_tile(y, y_at + (top + i) * LANES, between, LANES, products, n)

    return kernel


def room(taps: int, size: int) -> int:
    """The vectors that `outputs` needs for itself, with tiles of `size` vectors."""
    return int(numba.config.NUMBA_NUM_THREADS) * points(taps) * size


@cache
def outputs(taps: int, rows: int, columns: int) -> Any:
    """The kernel for y, in tiles of `rows` output channels x `columns` output rows x m output columns."""
    n, step, size = points(taps), OUTPUTS[taps], rows * columns

    @parallel_kernel
    def kernel(x_at_points, u, bias, y, own, groups):
        """y = A^T (sum over c, k of u[p, o, c, k] x_at_points[b, p, c, t, i + k]) + bias

        `own` has n tiles for each thread: small enough for the first-level cache, where all of y at the points is not.
        """
        blocks, out_channels, out_rows, width, _ = y.shape
        _, planes, tiles, height, _ = x_at_points.shape
        group_outs, channels = out_channels // groups, planes // (n * groups)
        out_tiles = (group_outs + rows - 1) // rows
        kernel_rows = height - out_rows + 1
        out_step = channels * kernel_rows
        for task in prange(blocks * groups * out_tiles):
            b = task // (groups * out_tiles)
            g = task // out_tiles % groups
            # The last tile is moved back until it fits: it computes some outputs a second time.
            o = g * group_outs + min(task % out_tiles * rows, group_outs - rows)
            mine = get_thread_id() * n * size * LANES
            for tile_row in range(0, out_rows, columns):
                i = min(tile_row, out_rows - columns)
                for t in range(tiles):
                    for p in range(n):
                        tile = fill_tile(y, 0.0, size)
                        w_at = (p * out_channels + o) * out_step
                        plane = ((b * n + p) * groups + g) * channels
                        for c in range(channels):
                            x_at = (((plane + c) * tiles + t) * height + i) * LANES
                            for _ in range(kernel_rows):
                                tile = outer(
                                    tile,
                                    splat_tile(u, w_at, out_step, rows),
                                    load_tile(x_at_points, x_at, LANES, columns),
                                )
                                x_at += LANES
                                w_at += 1
                        store_tile(own, mine + p * size * LANES, columns * LANES, LANES, tile, rows)
                    for r in range(rows):
                        level = bias[o + r] if bias.size else 0.0
                        y_start = ((b * out_channels + o + r) * out_rows + i) * width * LANES
                        for j in range(columns):
                            at = mine + (r * columns + j) * LANES
                            tile = multiply("AT", taps, load_tile(own, at, size * LANES, n))
                            tile = add_tiles(tile, fill_tile(y, level, step))
                            store_columns(y, y_start + j * width * LANES, t * step, width, tile)

    return kernel


@cache
def inputs_from_points(taps: int) -> Any:
    """The kernel for dx = B dv: tiles of n columns, which are added up where they overlap."""
    n, step = points(taps), OUTPUTS[taps]
    overlap = n - step

    @parallel_kernel
    def kernel(dv, dx, left):
        blocks, channels, height, width, _ = dx.shape
        tiles = dv.shape[2]
        between = channels * tiles * height * LANES
        for plane in prange(blocks * channels):
            b, c = plane // channels, plane % channels
            for i in range(height):
                row = (plane * height + i) * width * LANES
                common = fill_tile(dv, 0.0, overlap)
                for t in range(tiles):
                    at = (((b * n * channels + c) * tiles + t) * height + i) * LANES
                    tile = multiply("B", taps, load_tile(dv, at, between, n))
                    tile = add_tiles(tile, common)
                    store_columns(dx, row, t * step - left, width, take(tile, 0, step))
                    common = take(tile, step, n)
                store_columns(dx, row, tiles * step - left, width, common)

    return kernel


@parallel_kernel
def weights_to_points(weight, g, u):
    """u[p, k] = sum over v of G[p, v] weight[k, v], for all kernel rows k.

    g[part, v] is a vector of neighbouring G[p, v], p in a row.
    """
    n, parts, taps = len(u), g.shape[0], g.shape[1]
    for k in prange(len(weight)):
        for part in range(parts):
            total = splat(g, 0.0)
            for v in range(taps):
                total = fma(load(g, (part * taps + v) * LANES), weight[k, v], total)
            for lane in range(min(LANES, n - part * LANES)):
                u[part * LANES + lane, k] = pick(total, lane)


@parallel_kernel
def weights_from_points(du, g, dweight, dy, dbias):
    """dweight[o, k, v] = sum over p of G[p, v] du[p, o, k], and dbias[o] = sum over b, i, j, lanes of dy[b, o, i, j].

    g[part, p] is a vector of neighbouring G[p, v], v in a row.
    """
    channels, kernel_rows, taps = dweight.shape
    plane = dy.shape[2] * dy.shape[3] * LANES
    parts, n = g.shape[0], g.shape[1]
    for o in prange(channels):
        for k in range(kernel_rows):
            for part in range(parts):
                total = splat(g, 0.0)
                for p in range(n):
                    total = fma(load(g, (part * n + p) * LANES), du[p, o, k], total)
                at = (o * kernel_rows + k) * taps + part * LANES
                store_first(dweight, at, total, min(LANES, taps - part * LANES))
        if dbias.size:
            sums = splat(dy, 0.0)
            for b in range(len(dy)):
                start = (b * channels + o) * plane
                for at in range(start, start + plane, LANES):
                    sums = sums + load(dy, at)
            dbias[o] = sum_lanes(sums)
