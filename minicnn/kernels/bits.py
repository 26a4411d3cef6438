"""What is done with the bits of vectors: powers of two, a first guess of 1 / x, random numbers."""

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types

from minicnn.kernels import LANES

from .vectors import BITS, INT32, INT64, VectorType, by_type, constant, emit_splat, generated, numbered

INTEGERS = ir.VectorType(INT32, LANES)

#: ROUND. x + ROUND, for |x| < 2^22 in float32 or 2^51 in float64, is x rounded to a whole number n, which stands in its
#: lowest bits. The functions below read it there, in integers.
round_ = by_type(1.5 * 2**23, 1.5 * 2**52)


class _Layout(NamedTuple):
    """Where the bits of a float are, and those of some numbers, as vectors of integers."""

    integers: ir.VectorType
    mantissa: int
    bias: int
    round: int
    root_of_half: int


def _layout(vector: ir.VectorType) -> _Layout:
    if isinstance(vector.element, ir.FloatType):
        return _Layout(INTEGERS, 23, 127, 0x4B400000, 0x3F3504F3)
    return _Layout(ir.VectorType(INT64, LANES), 52, 1023, 0x4338000000000000, 0x3FE6A09E667F3BCD)


def _whole_number(builder: Any, shifted: Any) -> Any:
    of = _layout(shifted.type)
    return builder.sub(builder.bitcast(shifted, of.integers), constant(of.integers, of.round))


def _power_of_two(builder: Any, n: Any, vector: ir.VectorType) -> Any:
    of = _layout(vector)
    biased = builder.add(n, constant(n.type, of.bias))
    return builder.bitcast(builder.shl(biased, constant(n.type, of.mantissa)), vector)


@generated(lambda shifted: shifted)
def power_of_two(builder, shifted):
    """2^n, for a vector of n + ROUND, where that is a normal number."""
    return _power_of_two(builder, _whole_number(builder, shifted), shifted.type)


@generated(lambda a, shifted: a)
def times_power_of_two(builder, a, shifted):
    """a 2^n, for a vector of n + ROUND with n from -252 to 254, in float64 from -2044 to 2046."""
    n = _whole_number(builder, shifted)
    # In two factors, since 2^n itself may be too small for a normal number.
    half = builder.ashr(n, constant(n.type, 1))
    a = builder.fmul(a, _power_of_two(builder, half, a.type))
    return builder.fmul(a, _power_of_two(builder, builder.sub(n, half), a.type))


def emit_rough_reciprocal(builder: Any, a: Any) -> Any:
    """1 / a within 13 %, for float32 a > 0 whose reciprocal is a normal number: a subtraction of bits, no division.

    Source: Blinn, Floating-point tricks (1997). The processors' own instructions for it differ from one to another.
    """
    bits = builder.bitcast(a, INTEGERS)
    return builder.bitcast(builder.sub(constant(INTEGERS, 0x7EF311C3), bits), a.type)


@generated(lambda a: types.UniTuple(a, 2))
def scaled(builder, a):
    """(m, n + ROUND) with a = 2^n m and m from sqrt(1/2) to sqrt(2), for normal a > 0."""
    of = _layout(a.type)
    bits = builder.bitcast(a, of.integers)
    above = builder.sub(bits, constant(of.integers, of.root_of_half))
    exponent = builder.ashr(above, constant(of.integers, of.mantissa))
    kept = builder.sub(bits, builder.shl(exponent, constant(of.integers, of.mantissa)))
    shifted = builder.add(exponent, constant(of.integers, of.round))
    return [builder.bitcast(part, a.type) for part in (kept, shifted)]


@generated(lambda start, step, key: BITS)
def hashed(builder, start, step, key):
    """32 random bits for each of the numbers start + lane step, each a hash of it and of the 64 bits of `key`.

    Two rounds of the mixer "lowbias32" of Wellons (Prospecting for hash functions, 2018), half of the key before each.
    """

    def low(number: Any) -> Any:
        return emit_splat(builder, builder.trunc(number, INT32))

    x = builder.add(builder.mul(numbered(INT32), low(step)), low(start))
    for half in (key, builder.lshr(key, ir.Constant(key.type, 32))):
        x = builder.xor(x, low(half))
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
            x = builder.xor(x, builder.lshr(x, constant(INTEGERS, shift)))
            x = builder.mul(x, constant(INTEGERS, factor))
    return x


@generated(lambda bits, pointer: VectorType(pointer.dtype))
def uniform(builder, bits, pointer):
    """Numbers from 0 to below 1, of the upper 24 of the bits, in the element type that `pointer` points to."""
    target = ir.VectorType(pointer.type.pointee, LANES)
    upper = builder.lshr(bits, constant(INTEGERS, 8))
    return builder.fmul(builder.uitofp(upper, target), constant(target, 2.0**-24))
