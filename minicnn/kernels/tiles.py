"""Register tiles: tuples of vectors, and what is done with many vectors at once.

With `outer` a tile does what makes matrix products fast: every vector that is loaded takes part in several
multiply-adds. The tuple is an LLVM aggregate, which the optimiser takes apart into registers.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minicnn.kernels import LANES

from .vectors import VectorType, constant, emit_fma, emit_load, emit_splat, emit_store, is_pointer, shuffle


def offsets(builder: Any, index: Any, stride: Any, count: int) -> list[Any]:
    """index, index + stride, index + 2 stride, ..."""
    return [builder.add(index, builder.mul(stride, ir.Constant(index.type, i))) for i in range(count)]


def emit_read(builder: Any, pointer: Any, index: Any) -> Any:
    """The number at position `index`."""
    return builder.load(builder.gep(pointer, [index], inbounds=True))


@intrinsic(prefer_literal=True)
def load_tile(typing, pointer, index, stride, count):
    """`count` (a compile-time number) vectors, `stride` elements apart."""
    if not is_pointer(pointer) or not isinstance(count, types.IntegerLiteral):
        return None
    tile = types.UniTuple(VectorType(pointer.dtype), count.literal_value)

    def code(context, builder, sig, args):
        pointer, index, stride, _ = args
        places = offsets(builder, index, stride, tile.count)
        return context.make_tuple(builder, tile, [emit_load(builder, pointer, at) for at in places])

    return tile(pointer, types.int64, types.int64, count), code


@intrinsic(prefer_literal=True)
def load_listed(typing, pointer, index, table, first, count):
    """`count` vectors: those at index + table[first], index + table[first + 1], ..."""
    if not is_pointer(pointer) or not isinstance(count, types.IntegerLiteral):
        return None
    tile = types.UniTuple(VectorType(pointer.dtype), count.literal_value)

    def code(context, builder, sig, args):
        pointer, index, table, first, _ = args
        entries = offsets(builder, first, ir.Constant(first.type, 1), tile.count)
        places = [builder.add(index, emit_read(builder, table, at)) for at in entries]
        return context.make_tuple(builder, tile, [emit_load(builder, pointer, at) for at in places])

    return tile(pointer, types.int64, table, types.int64, count), code


@intrinsic(prefer_literal=True)
def splat_tile(typing, pointer, index, stride, count):
    """`count` vectors; in all lanes of each the same element, `stride` elements apart."""
    if not is_pointer(pointer) or not isinstance(count, types.IntegerLiteral):
        return None
    tile = types.UniTuple(VectorType(pointer.dtype), count.literal_value)

    def code(context, builder, sig, args):
        pointer, index, stride, _ = args
        places = offsets(builder, index, stride, tile.count)
        vectors = [emit_splat(builder, emit_read(builder, pointer, at)) for at in places]
        return context.make_tuple(builder, tile, vectors)

    return tile(pointer, types.int64, types.int64, count), code


@intrinsic(prefer_literal=True)
def fill_tile(typing, pointer, value, count):
    """`count` vectors with `value` in every lane, in the element type that `pointer` points to."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    tile = types.UniTuple(VectorType(pointer.dtype), count.literal_value)

    def code(context, builder, sig, args):
        number = context.cast(builder, args[1], sig.args[1], pointer.dtype)
        return context.make_tuple(builder, tile, [emit_splat(builder, number)] * tile.count)

    return tile(pointer, value, count), code


@intrinsic(prefer_literal=True)
def spread(typing, rows, columns):
    """The tile of len(rows) x `columns` vectors whose row i is filled with rows[i]."""
    if not isinstance(columns, types.IntegerLiteral):
        return None
    number = columns.literal_value
    tile = types.UniTuple(rows.dtype, rows.count * number)

    def code(context, builder, sig, args):
        vectors = cgutils.unpack_tuple(builder, args[0])
        return context.make_tuple(builder, tile, [v for v in vectors for _ in range(number)])

    return tile(rows, columns), code


@intrinsic
def outer(typing, tile, rows, columns):
    """tile[i, j] + rows[i] * columns[j]: one multiply-add for each vector of the tile."""
    if tile.count != rows.count * columns.count:
        return None

    def code(context, builder, sig, args):
        sums, left, right = (cgutils.unpack_tuple(builder, a) for a in args)
        result = [
            emit_fma(builder, b, a, sums[i * len(right) + j]) for i, a in enumerate(left) for j, b in enumerate(right)
        ]
        return context.make_tuple(builder, tile, result)

    return tile(tile, rows, columns), code


@intrinsic
def add_tiles(typing, tile, other):
    """tile[i] + other[i]; where `other` is shorter, the rest of the tile stays."""

    def code(context, builder, sig, args):
        left, right = (cgutils.unpack_tuple(builder, a) for a in args)
        sums = [builder.fadd(a, b) for a, b in zip(left, right, strict=False)]
        return context.make_tuple(builder, tile, sums + left[len(sums) :])

    return tile(tile, other), code


@intrinsic(prefer_literal=True)
def take(typing, tile, first, last):
    """tile[first:last]"""
    chosen = slice(first.literal_value, last.literal_value)
    result = types.UniTuple(tile.dtype, chosen.stop - chosen.start)

    def code(context, builder, sig, args):
        vectors = cgutils.unpack_tuple(builder, args[0])[chosen]
        return context.make_tuple(builder, result, vectors)

    return result(tile, first, last), code


@intrinsic(prefer_literal=True)
def store_tile(typing, pointer, index, stride, column_stride, tile, rows):
    """Writes row i, column j of a tile of `rows` rows to `index + i * stride + j * column_stride`."""
    if not is_pointer(pointer) or not isinstance(rows, types.IntegerLiteral):
        return None
    number = rows.literal_value
    columns = tile.count // number

    def code(context, builder, sig, args):
        pointer, index, stride, column_stride, tile, _ = args
        vectors = iter(cgutils.unpack_tuple(builder, tile))
        for row in offsets(builder, index, stride, number):
            for offset in offsets(builder, row, column_stride, columns):
                emit_store(builder, pointer, offset, next(vectors))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64, types.int64, tile, rows), code


@intrinsic
def load_images(typing, images, order, first, size, offset, like):
    """LANES vectors, one an image: bytes `offset` ... of images order[first], order[first + 1], ...

    `size` is the number of bytes of an image; the result has the element type that `like` points to.
    """
    tile = types.UniTuple(VectorType(like.dtype), LANES)

    def code(context, builder, sig, args):
        images, order, first, size, offset, _ = args
        vectors = []
        for at in offsets(builder, first, ir.Constant(first.type, 1), LANES):
            index = builder.add(builder.mul(emit_read(builder, order, at), size), offset)
            raw = emit_load(builder, images, index)
            vectors.append(builder.uitofp(raw, context.get_value_type(tile.dtype)))
        return context.make_tuple(builder, tile, vectors)

    integer = types.int64
    return tile(images, order, integer, integer, integer, like), code


@intrinsic
def load_pixels(typing, images, order, size, offset, like):
    """One vector: byte `offset` of images order[0], order[1], ... in the lanes; else like `load_images`."""
    tile = types.UniTuple(VectorType(like.dtype), 1)

    def code(context, builder, sig, args):
        images, order, size, offset, _ = args
        element = context.get_value_type(tile.dtype).element
        vector = ir.Constant(ir.VectorType(element, LANES), ir.Undefined)
        for lane in range(LANES):
            image = emit_read(builder, order, ir.Constant(size.type, lane))
            raw = emit_read(builder, images, builder.add(builder.mul(image, size), offset))
            number = builder.uitofp(raw, element)
            vector = builder.insert_element(vector, number, ir.Constant(ir.IntType(32), lane))
        return context.make_tuple(builder, tile, [vector])

    return tile(images, order, types.int64, types.int64, like), code


@intrinsic
def load_numbers(typing, whole, like):
    """A vector of LANES whole numbers, in the element type that `like` points to."""
    vector = VectorType(like.dtype)

    def code(context, builder, sig, args):
        number = emit_load(builder, args[0], ir.Constant(ir.IntType(64), 0))
        return builder.sitofp(number, context.get_value_type(vector))

    return vector(whole, like), code


@intrinsic
def transpose(typing, rows):
    """The transpose of LANES vectors of LANES elements, by log2(LANES) rounds of exchanges."""

    def code(context, builder, sig, args):
        vectors = cgutils.unpack_tuple(builder, args[0])
        distance = LANES // 2
        lanes = range(LANES)
        while distance:
            upper = [i if not i & distance else LANES + i - distance for i in lanes]
            lower = [i + distance if not i & distance else LANES + i for i in lanes]
            for i in lanes:
                if not i & distance:
                    a, b = vectors[i], vectors[i + distance]
                    vectors[i] = shuffle(builder, a, b, upper)
                    vectors[i + distance] = shuffle(builder, a, b, lower)
            distance //= 2
        return context.make_tuple(builder, sig.return_type, vectors)

    return rows(rows), code


def _emit_sums(builder: Any, vectors: list[Any]) -> Any:
    """The vector whose lane n is the sum of the lanes of vectors[n], by the tree of `sum_lanes`.

    In each of log2(LANES) rounds two vectors become one: each half as wide as before, side by side.
    """
    vectors = vectors + [constant(vectors[0].type, 0.0)] * (LANES - len(vectors))
    width = LANES  # lanes over which the parts of one sum are spread
    while width > 1:
        lower = [at + lane for at in range(0, 2 * LANES, width) for lane in range(width // 2)]
        upper = [lane + width // 2 for lane in lower]
        vectors = [
            builder.fadd(shuffle(builder, a, b, lower), shuffle(builder, a, b, upper))
            for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        width //= 2
    return vectors[0]


@intrinsic(prefer_literal=True)
def store_sums(typing, pointer, index, stride, tile, rows):
    """Writes the sum of the lanes of each vector in a tile: row i, column j to `index + i * stride + j`."""
    if not is_pointer(pointer) or not isinstance(rows, types.IntegerLiteral):
        return None
    number = rows.literal_value
    columns = tile.count // number

    def code(context, builder, sig, args):
        pointer, index, stride, tile, _ = args
        vectors = cgutils.unpack_tuple(builder, tile)
        places = [
            builder.add(row, ir.Constant(row.type, j))
            for row in offsets(builder, index, stride, number)
            for j in range(columns)
        ]
        for first in range(0, len(vectors), LANES):
            total = _emit_sums(builder, vectors[first : first + LANES])
            for lane, place in enumerate(places[first : first + LANES]):
                value = builder.extract_element(total, ir.Constant(ir.IntType(32), lane))
                builder.store(value, builder.gep(pointer, [place], inbounds=True))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64, tile, rows), code
