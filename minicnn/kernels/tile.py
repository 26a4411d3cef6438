"""Register tiles: tuples of vectors, and how large they should be.

With `outer` a tile does what makes matrix products fast: every vector that is loaded takes part in several
multiply-adds. The tuple is an LLVM aggregate, which the optimiser takes apart into registers.
"""

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vector import (
    LANES,
    VectorType,
    array_of_numbers,
    emit_fma,
    emit_load,
    emit_splat,
    emit_store,
    make_tile,
    offsets,
)

#: Accumulators that fit in the machine's vector registers beside the operands.
TILE = 24 if LANES == 16 else 8 if LANES == 8 else 4

#: Columns of a plane from which on all are covered alike: the last, partly filled tile of a row then matters little,
#: and images of many widths (lines of writing) need no kernels of their own. The number that stands for them is
#: divided by nearly every tile.
WIDE, ANY_WIDTH = 33, 5040


@cache
def choose_tile(rows: int, columns: int, most_rows: int = TILE) -> tuple[int, int]:
    """The best (rows, columns) of a tile to cover a plane of rows x columns.

    Counted are cycles per useful multiply-add on a machine that does two multiply-adds and two loads a cycle,
    with a latency of four; a tile that does not divide the plane computes some of it twice.
    """
    columns = columns if columns < WIDE else ANY_WIDTH

    def cost(tile: tuple[int, int]) -> tuple[float, float]:
        r, c = tile
        tiles = -(-rows // r) * -(-columns // c)
        return tiles * max(r * c / 2, (r + c) / 2, 4), (r + c) / (r * c)

    candidates = [
        (r, c)
        for r in range(1, min(rows, most_rows) + 1)
        for c in range(1, min(columns, TILE // r) + 1)
    ]
    return min(candidates, key=cost)


@intrinsic(prefer_literal=True)
def load_tile(typing, array, index, stride, count):
    """`count` (a compile-time number) vectors, `stride` elements apart."""
    if not array_of_numbers(array) or not isinstance(count, types.IntegerLiteral):
        return None
    number = count.literal_value
    tile = types.UniTuple(VectorType(array.dtype), number)

    def code(context, builder, sig, args):
        arr, index, stride, _ = args
        vectors = [
            emit_load(context, builder, sig.args[0], arr, offset)
            for offset in offsets(builder, index, stride, number)
        ]
        return make_tile(context, builder, tile, vectors)

    return tile(array, types.int64, types.int64, count), code


@intrinsic(prefer_literal=True)
def load_rows(typing, array, starts, first, offset, count):
    """`count` vectors: those at starts[first] + offset, starts[first + 1] + offset, ..."""
    if not array_of_numbers(array) or not isinstance(count, types.IntegerLiteral):
        return None
    number = count.literal_value
    tile = types.UniTuple(VectorType(array.dtype), number)

    def code(context, builder, sig, args):
        arr, starts, first, offset, _ = args
        data = context.make_array(sig.args[1])(context, builder, starts).data
        vectors = []
        for place in offsets(builder, first, ir.Constant(first.type, 1), number):
            start = builder.load(builder.gep(data, [place], inbounds=True))
            at = builder.add(start, offset)
            vectors.append(emit_load(context, builder, sig.args[0], arr, at))
        return make_tile(context, builder, tile, vectors)

    return tile(array, starts, types.int64, types.int64, count), code


@intrinsic(prefer_literal=True)
def splat_tile(typing, array, index, stride, count):
    """`count` vectors; in all lanes of each the same element, `stride` elements apart."""
    if not array_of_numbers(array) or not isinstance(count, types.IntegerLiteral):
        return None
    number = count.literal_value
    tile = types.UniTuple(VectorType(array.dtype), number)

    def code(context, builder, sig, args):
        arr, index, stride, _ = args
        data = context.make_array(sig.args[0])(context, builder, arr).data
        vectors = [
            emit_splat(builder, builder.load(builder.gep(data, [offset], inbounds=True)))
            for offset in offsets(builder, index, stride, number)
        ]
        return make_tile(context, builder, tile, vectors)

    return tile(array, types.int64, types.int64, count), code


@intrinsic(prefer_literal=True)
def fill_tile(typing, array, value, count):
    """`count` vectors of the element type of `array` with `value` in every lane."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    tile = types.UniTuple(VectorType(array.dtype), count.literal_value)

    def code(context, builder, sig, args):
        number = context.cast(builder, args[1], sig.args[1], array.dtype)
        return make_tile(context, builder, tile, [emit_splat(builder, number)] * tile.count)

    return tile(array, value, count), code


@intrinsic(prefer_literal=True)
def spread(typing, rows, columns):
    """The tile of len(rows) x `columns` vectors whose row i is filled with rows[i]."""
    if not isinstance(columns, types.IntegerLiteral):
        return None
    number = columns.literal_value
    tile = types.UniTuple(rows.dtype, rows.count * number)

    def code(context, builder, sig, args):
        vectors = cgutils.unpack_tuple(builder, args[0])
        return make_tile(context, builder, tile, [v for v in vectors for _ in range(number)])

    return tile(rows, columns), code


@intrinsic
def outer(typing, tile, rows, columns):
    """tile[i, j] + rows[i] * columns[j]: one multiply-add for each vector of the tile."""
    if tile.count != rows.count * columns.count:
        return None

    def code(context, builder, sig, args):
        accumulators, left, right = (cgutils.unpack_tuple(builder, a) for a in args)
        result = [
            emit_fma(builder, b, a, accumulators[i * len(right) + j])
            for i, a in enumerate(left)
            for j, b in enumerate(right)
        ]
        return make_tile(context, builder, sig.return_type, result)

    return tile(tile, rows, columns), code


@intrinsic(prefer_literal=True)
def slide(typing, tile, x, weight, index, row_step, tap_step, rows, taps, shift):
    """tile[i, j] + the sum over v < taps of w[i, v] x[j + v + shift], over those v for which x has that member.

    `x` is a tuple of vectors, w[i, v] the element of `weight` at `index + i row_step + v tap_step`.
    """
    if not all(isinstance(kind, types.IntegerLiteral) for kind in (rows, taps, shift)):
        return None
    height, number, offset = rows.literal_value, taps.literal_value, shift.literal_value
    width = tile.count // height

    def code(context, builder, sig, args):
        accumulators, columns = (cgutils.unpack_tuple(builder, a) for a in args[:2])
        data = context.make_array(sig.args[2])(context, builder, args[2]).data
        starts = offsets(builder, args[3], args[4], height)
        for v in range(number):
            places = [j for j in range(width) if 0 <= j + v + offset < len(columns)]
            for i, row in enumerate(starts):
                at = builder.add(row, builder.mul(args[5], ir.Constant(row.type, v)))
                w = emit_splat(builder, builder.load(builder.gep(data, [at], inbounds=True)))
                for j in places:
                    k = i * width + j
                    accumulators[k] = emit_fma(builder, columns[j + v + offset], w, accumulators[k])
        return make_tile(context, builder, sig.return_type, accumulators)

    integer = types.int64
    return tile(tile, x, weight, integer, integer, integer, rows, taps, shift), code


@intrinsic(prefer_literal=True)
def store_tile(typing, array, index, stride, column_stride, tile, rows):
    """Writes row i, column j of a tile of `rows` rows to `index + i * stride + j * column_stride`."""
    if not array_of_numbers(array) or not isinstance(rows, types.IntegerLiteral):
        return None
    number = rows.literal_value
    columns = tile.count // number

    def code(context, builder, sig, args):
        arr, index, stride, column_stride, tile, _ = args
        vectors = iter(cgutils.unpack_tuple(builder, tile))
        for row in offsets(builder, index, stride, number):
            for offset in offsets(builder, row, column_stride, columns):
                emit_store(context, builder, sig.args[0], arr, offset, next(vectors))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64, tile, rows), code


@intrinsic
def load_images(typing, images, order, first, size, offset, like):
    """LANES vectors, one an image: bytes `offset` ... of images order[first], order[first + 1], ...

    `size` is the number of bytes of an image; the result has the element type of the array `like`.
    """
    if not array_of_numbers(images) or not array_of_numbers(order):
        return None
    tile = types.UniTuple(VectorType(like.dtype), LANES)

    def code(context, builder, sig, args):
        images, order, first, size, offset, _ = args
        numbers = context.make_array(sig.args[1])(context, builder, order).data
        vectors = []
        for lane in range(LANES):
            at = builder.add(first, ir.Constant(first.type, lane))
            image = builder.load(builder.gep(numbers, [at], inbounds=True))
            index = builder.add(builder.mul(image, size), offset)
            raw = emit_load(context, builder, sig.args[0], images, index)
            vectors.append(builder.uitofp(raw, context.get_value_type(tile.dtype)))
        return make_tile(context, builder, tile, vectors)

    integer = types.int64
    return tile(images, order, integer, integer, integer, like), code


@intrinsic
def transpose(typing, rows):
    """The transpose of LANES vectors of LANES elements, by log2(LANES) rounds of exchanges."""

    def code(context, builder, sig, args):
        vectors = cgutils.unpack_tuple(builder, args[0])
        distance = LANES // 2
        lanes = range(LANES)

        def shuffle(a: Any, b: Any, order: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), order)
            return builder.shuffle_vector(a, b, mask)

        while distance:
            upper = [i if not i & distance else LANES + i - distance for i in lanes]
            lower = [i + distance if not i & distance else LANES + i for i in lanes]
            for i in lanes:
                if not i & distance:
                    a, b = vectors[i], vectors[i + distance]
                    vectors[i], vectors[i + distance] = shuffle(a, b, upper), shuffle(a, b, lower)
            distance //= 2
        return make_tile(context, builder, sig.return_type, vectors)

    return rows(rows), code
