"""Convolution with fewer multiplications, for kernels 3 or 5 columns wide that move by one.

Winograd's minimal filtering computes m neighbouring outputs y of a filter g of r taps over the n = m + r - 1
inputs x below it as

    y = A^T ((G g) * (B^T x))        with * element by element,

in n multiplications instead of m r. Rows of A, G and B^T belong to n points p: a row of A is 1, p, p^2, ..., one of
G likewise, times what a row of B^T lacks. Summed over channels and kernel rows, the middle of it is a product for each
point and each tile of m columns, with the rows of the image as columns. The gradients are those of this formula:

    dg = G^T ((A dy) * (B^T x))      dx = B ((G g) * (A dy))

Maps "at the points" are (tiles, n, maps, rows): rows of an image come last, since it is along them that the kernel
still moves.

Source: Winograd, Arithmetic complexity of computations (1980); Lavin and Gray, Fast algorithms for convolutional neural
networks (2016), section 3.
"""

from typing import Any

from llvmlite import ir
from numba import types

from minicnn.kernels import LANES

from .points import OUTPUTS, matrices, points
from .tiles import (
    add_tiles,
    emit_read,
    fill_tile,
    load_tile,
    numbers_from,
    outer,
    repeat,
    splat_tile,
    store_tile,
    tile_of,
    vector_at,
)
from .vectors import INT32, INT64, VectorType, constant, emit_fma, emit_load, emit_store, generated, load, pick, splat

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
    return [_weighted_sum(builder, differences if i % 2 else sums, row) for i, row in enumerate(matrix)]


@generated(lambda name, taps, tile: types.UniTuple(tile.dtype, len(_matrix(name.literal_value, taps.literal_value))))
def multiply(builder, name: str, taps: int, tile):
    """The matrix `name` of `matrices(taps)` times a tile."""
    emit = _at_points if name in ("A", "BT") else _from_points
    return emit(builder, tile, _matrix(name, taps), range(1, points(taps) - 1, 2))


def _matrix(name: str, taps: int) -> Any:
    return matrices(taps)[name]


@generated(lambda array, row, column, width, count: tile_of(array, count))
def load_columns(builder, array, row, column, width, count: int):
    """`count` neighbouring vectors from `column` on of the row at `row`; zeros beyond its `width`."""
    tile = []
    for here in numbers_from(builder, column, count):
        inside = builder.icmp_unsigned("<", here, width)
        safe = builder.select(inside, here, ir.Constant(INT64, 0))
        vector = emit_load(builder, array, _column(builder, row, safe))
        tile.append(builder.select(inside, vector, constant(vector.type, 0.0)))
    return tile


@generated(lambda *_: types.void)
def store_columns(builder, array, row, column, width, tile):
    """Writes neighbouring vectors from `column` on into the row at `row`, but none beyond its `width`."""
    for here, vector in zip(numbers_from(builder, column, len(tile)), tile, strict=True):
        with builder.if_then(builder.icmp_unsigned("<", here, width), likely=True):
            emit_store(builder, array, _column(builder, row, here), vector)


def _column(builder: Any, row: Any, column: Any) -> Any:
    return builder.add(row, builder.mul(column, ir.Constant(INT64, LANES)))


@generated(lambda pointer, starts, first, offset: VectorType(pointer.dtype))
def load_scattered(builder, pointer, starts, first, offset):
    """The vector of pointer[starts[first + lane] + offset], with 0 where starts[first + lane] < 0."""
    zero = ir.Constant(INT64, 0)
    vector = constant(vector_at(pointer), 0.0)
    for lane, at in enumerate(numbers_from(builder, first, LANES)):
        start = emit_read(builder, starts, at)
        inside = builder.icmp_signed(">=", start, zero)
        number = emit_read(builder, pointer, builder.select(inside, builder.add(start, offset), zero))
        number = builder.select(inside, number, ir.Constant(number.type, 0.0))
        vector = builder.insert_element(vector, number, ir.Constant(INT32, lane))
    return vector


# --- kernels -------------------------------------------------------------------------------------


def to_points(name: str, taps: int) -> Any:
    """The kernel for B^T x, of tiles of n columns, or A dy, of m columns; both move by m columns a tile."""
    n, step = points(taps), OUTPUTS[taps]
    width_in = matrices(taps)[name].shape[1]

    def kernel(task, x, y, maps, height, width, left, tiles, top, rows):
        """y[t, p, c, top + i] = the p-th of the products with x[c, i, t m - left ...] for c = task.

        x is zero beyond its edge, and so are all other rows of y.
        """
        between = maps * rows * LANES
        for t in range(tiles):
            first = t * step - left
            inside = first >= 0 and first + width_in <= width
            y_at = (t * n * maps * rows + task * rows) * LANES
            for i in range(top):
                store_tile(y, y_at + i * LANES, between, LANES, fill_tile(y, 0.0, n), n)
            for i in range(top + height, rows):
                store_tile(y, y_at + i * LANES, between, LANES, fill_tile(y, 0.0, n), n)
            y_at += top * LANES
            for i in range(height):
                row = (task * height + i) * width * LANES
                if inside:
                    tile = load_tile(x, row + first * LANES, LANES, width_in)
                else:
                    tile = load_columns(x, row, first, width, width_in)
                products = multiply(name, taps, tile)
                store_tile(y, y_at + i * LANES, between, LANES, products, n)

    return kernel


def outputs(taps: int) -> Any:
    """The kernel for y = A^T v + bias."""
    n, step = points(taps), OUTPUTS[taps]

    def kernel(task, v, bias, y, has_bias, maps, height, width, first):
        """y[o, i, first ...] = the products with v[:, o, i] + bias[o] for o = task; not beyond the width of y."""
        level = splat_tile(bias, task, 1, 1)[0] if has_bias else splat(y, 0.0)
        for i in range(height):
            tile = load_tile(v, (task * height + i) * LANES, maps * height * LANES, n)
            tile = multiply("AT", taps, tile)
            row = (task * height + i) * width * LANES
            store_columns(y, row, first, width, add_tiles(tile, repeat(level, step)))

    return kernel


def inputs(taps: int) -> Any:
    """The kernel for dx = B dv, which is added to what the tile before has left in the columns that both reach."""
    n, step = points(taps), OUTPUTS[taps]
    overlap = n - step

    def kernel(task, dv, dx, maps, height, width, first, again):
        """dx[c, i, first ...] (+)= the products with dv[:, c, i] for c = task; not beyond the width of dx."""
        for i in range(height):
            tile = load_tile(dv, (task * height + i) * LANES, maps * height * LANES, n)
            tile = multiply("B", taps, tile)
            row = (task * height + i) * width * LANES
            if again:
                tile = add_tiles(tile, load_columns(dx, row, first, width, overlap))
            store_columns(dx, row, first, width, tile)

    return kernel


def weights_to_points(taps: int) -> Any:
    """The kernel for G g."""
    n = points(taps)

    def kernel(task, weight, starts, g, u, count):
        """u[p, k] = sum over v of g[p, v] weight[starts[k] + v] for LANES of the `count` k; 0 where starts[k] < 0."""
        first = task * LANES
        tile = fill_tile(u, 0.0, n)
        for v in range(taps):
            row = load_scattered(weight, starts, first, v)
            tile = outer(tile, splat_tile(g, v, taps, n), repeat(row, 1))
        store_tile(u, first, count, 0, tile, n)

    return kernel


def weights_from_points(taps: int) -> Any:
    """The kernel for dg = G^T du."""
    n = points(taps)

    def kernel(task, sums, starts, g, dweight, count, size, blocks):
        """dweight[starts[k] + v] = sum over p of g[p, v] du[p, k], where du[p, k] = sum over blocks of sums[b, p, k].

        For the LANES k from task LANES on, except where starts[k] < 0; rows of `sums` have `size` elements.
        """
        first = min(task * LANES, count - LANES) if count >= LANES else 0
        tile = fill_tile(dweight, 0.0, taps)
        for p in range(n):
            at = p * count + first
            du = load(sums, at)
            for b in range(1, blocks):
                du = du + load(sums, b * size + at)
            tile = outer(tile, repeat(du, 1), splat_tile(g, p * taps, 1, taps))
        for lane in range(min(LANES, count)):
            start = starts[first + lane]
            if start >= 0:
                for v in range(taps):
                    dweight[start + v] = pick(tile[v], lane)

    return kernel
