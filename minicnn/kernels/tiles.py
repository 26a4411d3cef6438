"""Register tiles: tuples of vectors, and what is done with many vectors at once.

With `outer` a tile does what makes matrix products fast: every vector that is loaded takes part in several
multiply-adds. The tuple is an LLVM aggregate, which the optimiser takes apart into registers.
"""

from typing import Any

from llvmlite import ir
from numba import types

from minicnn.kernels import LANES

from .vectors import INT32, INT64, VectorType, constant, emit_fma, emit_load, emit_splat, emit_store, generated, shuffle


def tile_of(pointer: Any, count: Any) -> Any:
    """The type of a tile of `count` (a compile-time constant) vectors of the elements that `pointer` points to."""
    return types.UniTuple(VectorType(pointer.dtype), count.literal_value)


def offsets(builder: Any, index: Any, stride: Any, count: int) -> list[Any]:
    """index, index + stride, index + 2 stride, ..."""
    return [builder.add(index, builder.mul(stride, ir.Constant(index.type, i))) for i in range(count)]


def numbers_from(builder: Any, first: Any, count: int) -> list[Any]:
    """first, first + 1, ..."""
    return offsets(builder, first, ir.Constant(first.type, 1), count)


def emit_read(builder: Any, pointer: Any, index: Any) -> Any:
    """The number at position `index`."""
    return builder.load(builder.gep(pointer, [index], inbounds=True))


def vector_at(pointer: Any) -> ir.VectorType:
    """LLVM's type of a vector of the elements that `pointer` points to."""
    return ir.VectorType(pointer.type.pointee, LANES)


@generated(lambda pointer, index, stride, count: tile_of(pointer, count))
def load_tile(builder, pointer, index, stride, count: int):
    """`count` vectors, `stride` elements apart."""
    return [emit_load(builder, pointer, at) for at in offsets(builder, index, stride, count)]


@generated(lambda pointer, index, table, first, count: tile_of(pointer, count))
def load_listed(builder, pointer, index, table, first, count: int):
    """`count` vectors: those at index + table[first], index + table[first + 1], ..."""
    places = [emit_read(builder, table, at) for at in numbers_from(builder, first, count)]
    return [emit_load(builder, pointer, builder.add(index, place)) for place in places]


@generated(lambda pointer, index, stride, count: tile_of(pointer, count))
def splat_tile(builder, pointer, index, stride, count: int):
    """`count` vectors; in all lanes of each the same element, `stride` elements apart."""
    numbers = [emit_read(builder, pointer, at) for at in offsets(builder, index, stride, count)]
    return [emit_splat(builder, number) for number in numbers]


@generated(lambda pointer, value, count: tile_of(pointer, count)(pointer, pointer.dtype, count))
def fill_tile(builder, pointer, value, count: int):
    """`count` vectors with `value` in every lane, in the element type that `pointer` points to."""
    return [emit_splat(builder, value)] * count


@generated(lambda vector, count: types.UniTuple(vector, count.literal_value))
def repeat(builder, vector, count: int):
    """A tile of `count` times the same vector."""
    return [vector] * count


@generated(lambda rows, columns: types.UniTuple(rows.dtype, rows.count * columns.literal_value))
def spread(builder, rows, columns: int):
    """The tile of len(rows) x `columns` vectors whose row i is filled with rows[i]."""
    return [row for row in rows for _ in range(columns)]


@generated(lambda tile, rows, columns: tile)
def outer(builder, tile, rows, columns):
    """tile[i, j] + rows[i] * columns[j]: one multiply-add for each vector of the tile."""
    pairs = [(row, column) for row in rows for column in columns]
    return [emit_fma(builder, column, row, total) for total, (row, column) in zip(tile, pairs, strict=True)]


@generated(lambda tile, other: tile)
def add_tiles(builder, tile, other):
    """tile[i] + other[i]; where `other` is shorter, the rest of the tile stays."""
    return [builder.fadd(a, b) for a, b in zip(tile, other, strict=False)] + tile[len(other) :]


@generated(lambda *_: types.void)
def store_tile(builder, pointer, index, stride, column_stride, tile, rows: int):
    """Writes row i, column j of a tile of `rows` rows to `index + i * stride + j * column_stride`."""
    vectors = iter(tile)
    for row in offsets(builder, index, stride, rows):
        for place in offsets(builder, row, column_stride, len(tile) // rows):
            emit_store(builder, pointer, place, next(vectors))


@generated(lambda images, order, first, size, offset, like: types.UniTuple(VectorType(like.dtype), LANES))
def load_images(builder, images, order, first, size, offset, like):
    """LANES vectors, one an image: bytes `offset` ... of images order[first], order[first + 1], ...

    `size` is the number of bytes of an image; the result has the element type that `like` points to.
    """
    tile = []
    for at in numbers_from(builder, first, LANES):
        index = builder.add(builder.mul(emit_read(builder, order, at), size), offset)
        tile.append(builder.uitofp(emit_load(builder, images, index), vector_at(like)))
    return tile


@generated(lambda images, order, size, offset, like: types.UniTuple(VectorType(like.dtype), 1))
def load_pixels(builder, images, order, size, offset, like):
    """One vector: byte `offset` of images order[0], order[1], ... in the lanes; else like `load_images`."""
    vector = ir.Constant(vector_at(like), ir.Undefined)
    for lane in range(LANES):
        image = emit_read(builder, order, ir.Constant(INT64, lane))
        pixel = emit_read(builder, images, builder.add(builder.mul(image, size), offset))
        number = builder.uitofp(pixel, like.type.pointee)
        vector = builder.insert_element(vector, number, ir.Constant(INT32, lane))
    return [vector]


@generated(lambda whole, like: VectorType(like.dtype))
def load_numbers(builder, whole, like):
    """A vector of LANES whole numbers, in the element type that `like` points to."""
    return builder.sitofp(emit_load(builder, whole, ir.Constant(INT64, 0)), vector_at(like))


@generated(lambda rows: rows)
def transpose(builder, rows):
    """The transpose of LANES vectors of LANES elements, by log2(LANES) rounds of exchanges."""
    distance = LANES // 2
    lanes = range(LANES)
    while distance:
        upper = [i if not i & distance else LANES + i - distance for i in lanes]
        lower = [i + distance if not i & distance else LANES + i for i in lanes]
        for i in lanes:
            if not i & distance:
                a, b = rows[i], rows[i + distance]
                rows[i] = shuffle(builder, a, b, upper)
                rows[i + distance] = shuffle(builder, a, b, lower)
        distance //= 2
    return rows


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


@generated(lambda *_: types.void)
def store_sums(builder, pointer, index, stride, tile, rows: int):
    """Writes the sum of the lanes of each vector in a tile: row i, column j to `index + i * stride + j`."""
    places = [
        place
        for row in offsets(builder, index, stride, rows)
        for place in numbers_from(builder, row, len(tile) // rows)
    ]
    for first in range(0, len(tile), LANES):
        total = _emit_sums(builder, tile[first : first + LANES])
        for lane, place in enumerate(places[first : first + LANES]):
            value = builder.extract_element(total, ir.Constant(INT32, lane))
            builder.store(value, builder.gep(pointer, [place], inbounds=True))
