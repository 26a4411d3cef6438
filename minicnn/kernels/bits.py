"""What is done with the bits of vectors: powers of two, a first guess of 1 / x, random numbers."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minicnn.kernels import LANES

from .vectors import BITS, INT32, VectorType, constant, emit_splat, numbered

#: x + ROUND, for float32 |x| < 2^22, is x rounded to a whole number n, and n stands in its lowest bits. The
#: functions below read it there, in integers.
ROUND = 1.5 * 2**23


def _whole_number(builder: Any, shifted: Any) -> Any:
    integers = ir.VectorType(INT32, LANES)
    return builder.sub(builder.bitcast(shifted, integers), constant(integers, 0x4B400000))


@intrinsic
def whole_number(typing, shifted):
    """n, for a float32 vector of n + ROUND."""

    def code(context, builder, sig, args):
        return builder.sitofp(_whole_number(builder, args[0]), args[0].type)

    return shifted(shifted), code


def _power_of_two(builder: Any, n: Any) -> Any:
    biased = builder.add(n, constant(n.type, 127))
    bits = builder.shl(biased, constant(n.type, 23))
    return builder.bitcast(bits, ir.VectorType(ir.FloatType(), LANES))


@intrinsic
def power_of_two(typing, shifted):
    """2^n, for a float32 vector of n + ROUND with n from -126 to 127."""

    def code(context, builder, sig, args):
        return _power_of_two(builder, _whole_number(builder, args[0]))

    return shifted(shifted), code


@intrinsic
def times_power_of_two(typing, a, shifted):
    """a 2^n, for a float32 vector of n + ROUND with n from -252 to 254."""

    def code(context, builder, sig, args):
        a, shifted = args
        n = _whole_number(builder, shifted)
        # In two factors, since 2^n itself may be too small for a normal number.
        half = builder.ashr(n, constant(n.type, 1))
        a = builder.fmul(a, _power_of_two(builder, half))
        return builder.fmul(a, _power_of_two(builder, builder.sub(n, half)))

    return a(a, shifted), code


@intrinsic
def rough_reciprocal(typing, a):
    """1 / a within 13 %, for float32 a > 0 whose reciprocal is a normal number: a subtraction of bits, no division.

    Source: Blinn, Floating-point tricks (1997). The processors' own instructions for it differ from one to another.
    """

    def code(context, builder, sig, args):
        integers = ir.VectorType(INT32, LANES)
        bits = builder.bitcast(args[0], integers)
        return builder.bitcast(builder.sub(constant(integers, 0x7EF311C3), bits), args[0].type)

    return a(a), code


@intrinsic
def scaled(typing, a):
    """(m, n + ROUND) with a = 2^n m and m from sqrt(1/2) to sqrt(2), for normal float32 a > 0."""
    pair = types.UniTuple(a, 2)

    def code(context, builder, sig, args):
        integers = ir.VectorType(INT32, LANES)
        bits = builder.bitcast(args[0], integers)
        above = builder.sub(bits, constant(integers, 0x3F3504F3))  # sqrt(1/2)
        exponent = builder.ashr(above, constant(integers, 23))
        kept = builder.sub(bits, builder.shl(exponent, constant(integers, 23)))
        shifted = builder.add(exponent, constant(integers, 0x4B400000))
        both = [builder.bitcast(part, args[0].type) for part in (kept, shifted)]
        return context.make_tuple(builder, pair, both)

    return pair(a), code


@intrinsic
def hashed(typing, start, step, key):
    """32 random bits for each of the numbers start + lane step, each a hash of it and of the 64 bits of `key`.

    Two rounds of the mixer "lowbias32" of Wellons (Prospecting for hash functions, 2018), half of the key before each.
    """

    def code(context, builder, sig, args):
        start, step, key = args
        integers = ir.VectorType(INT32, LANES)

        def low(number: Any) -> Any:
            return emit_splat(builder, builder.trunc(number, INT32))

        lanes = builder.mul(numbered(INT32), low(step))
        x = builder.add(lanes, low(start))
        for half in (key, builder.lshr(key, ir.Constant(key.type, 32))):
            x = builder.xor(x, low(half))
            for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
                x = builder.xor(x, builder.lshr(x, constant(integers, shift)))
                x = builder.mul(x, constant(integers, factor))
        return x

    return BITS(types.int64, types.int64, types.uint64), code


@intrinsic
def uniform(typing, bits, pointer):
    """Numbers from 0 to below 1, of the upper 24 of the bits, in the element type that `pointer` points to."""
    vector = VectorType(pointer.dtype)

    def code(context, builder, sig, args):
        bits = builder.lshr(args[0], constant(args[0].type, 8))
        target = context.get_value_type(vector)
        return builder.fmul(builder.uitofp(bits, target), constant(target, 2.0**-24))

    return vector(bits, pointer), code
