"""Sums over the lanes of many vectors at once: what a weight's gradient ends with where few terms are added before."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vector import (
    LANES,
    VectorType,
    array_of_numbers,
    emit_call,
    emit_splat,
    suffix,
    vector_pointer,
)


@intrinsic
def sum_each(typing, tile):
    """The vector whose lane n is the sum of the lanes of tile[n], for at most LANES vectors; 0 beyond the last.

    In each of log2(LANES) rounds two vectors become one: each half as wide as before, side by side.
    """
    if tile.count > LANES:
        return None

    def code(context, builder, sig, args):
        vectors = cgutils.unpack_tuple(builder, args[0])
        zero = ir.Constant(vectors[0].type, [0.0] * LANES)
        vectors += [zero] * (LANES - len(vectors))
        width = LANES  # lanes over which the parts of one sum are spread
        while width > 1:
            lower = [at + lane for at in range(0, 2 * LANES, width) for lane in range(width // 2)]
            masks = [
                ir.Constant(ir.VectorType(ir.IntType(32), LANES), [lane + up for lane in lower])
                for up in (0, width // 2)
            ]
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [
                builder.fadd(*(builder.shuffle_vector(a, b, mask) for mask in masks))
                for a, b in pairs
            ]
            width //= 2
        return vectors[0]

    return tile.dtype(tile), code


@intrinsic
def store_lanes(typing, array, index, value, first, count):
    """Writes lanes first, ..., first + count - 1 of a vector to the flat positions from `index` on."""
    if not array_of_numbers(array) or value != VectorType(array.dtype):
        return None

    def code(context, builder, sig, args):
        arr, index, vector, first, count = args
        start = builder.sub(index, first)
        pointer = vector_pointer(context, builder, sig.args[0], arr, start)
        numbers = ir.Constant(ir.VectorType(count.type, LANES), list(range(LANES)))
        after = builder.sub(numbers, emit_splat(builder, first))
        mask = builder.icmp_unsigned("<", after, emit_splat(builder, count))
        align = ir.Constant(ir.IntType(32), sig.args[0].dtype.bitwidth // 8)
        emit_call(
            builder,
            f"llvm.masked.store.{suffix(vector.type)}.p0",
            [vector, pointer, align, mask],
            ir.VoidType(),
        )
        return context.get_dummy_value()

    return types.void(array, types.int64, value, types.int64, types.int64), code
