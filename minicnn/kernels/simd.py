"""What can be done with a SIMD vector (see `vector`): small code generators ("intrinsics") that Numba calls.

Inside a kernel `a + b`, `a * 2.0`, `a > b` work on whole vectors; LLVM keeps them in registers, and
splits them where the machine's registers are narrower.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin

from .vector import (
    LANES,
    MASK,
    MaskType,
    VectorType,
    array_of_numbers,
    emit_call,
    emit_fma,
    emit_load,
    emit_splat,
    emit_store,
    suffix,
    vector_pointer,
)

# --- memory --------------------------------------------------------------------------------------


@intrinsic
def load(typing, array, index):
    """The LANES elements of a contiguous array from flat position `index` on."""
    if not array_of_numbers(array):
        return None

    def code(context, builder, sig, args):
        return emit_load(context, builder, sig.args[0], *args)

    return VectorType(array.dtype)(array, types.int64), code


@intrinsic
def store(typing, array, index, value):
    """Writes a vector to the flat position `index` of a contiguous array."""
    if not array_of_numbers(array) or value != VectorType(array.dtype):
        return None

    def code(context, builder, sig, args):
        emit_store(context, builder, sig.args[0], *args)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), code


@intrinsic
def store_first(typing, array, index, value, count):
    """Like `store`, but writes the first `count` lanes only."""
    if not array_of_numbers(array) or value != VectorType(array.dtype):
        return None

    def code(context, builder, sig, args):
        arr, index, vector, count = args
        pointer = vector_pointer(context, builder, sig.args[0], arr, index)
        numbers = ir.Constant(ir.VectorType(count.type, LANES), list(range(LANES)))
        mask = builder.icmp_signed("<", numbers, emit_splat(builder, count))
        align = ir.Constant(ir.IntType(32), sig.args[0].dtype.bitwidth // 8)
        emit_call(
            builder,
            f"llvm.masked.store.{suffix(vector.type)}.p0",
            [vector, pointer, align, mask],
            ir.VoidType(),
        )
        return context.get_dummy_value()

    return types.void(array, types.int64, value, types.int64), code


# --- arithmetic ----------------------------------------------------------------------------------


@intrinsic
def splat(typing, array, value):
    """`value` in every lane, in the element type of `array`."""
    element = array.dtype

    def code(context, builder, sig, args):
        return emit_splat(builder, context.cast(builder, args[1], sig.args[1], element))

    return VectorType(element)(array, value), code


@intrinsic
def absolute(typing, a):
    """|a|"""

    def code(context, builder, sig, args):
        return emit_call(builder, f"llvm.fabs.{suffix(args[0].type)}", [args[0]], args[0].type)

    return a(a), code


@intrinsic
def copysign(typing, a, sign):
    """|a| with the sign of `sign`."""

    def code(context, builder, sig, args):
        return emit_call(builder, f"llvm.copysign.{suffix(args[0].type)}", list(args), args[0].type)

    return a(a, sign), code


@intrinsic
def sum_lanes(typing, a):
    """The sum of the lanes, a number."""

    def code(context, builder, sig, args):
        (vector,) = args
        element = vector.type.element
        zero = ir.Constant(element, -0.0)
        name = f"llvm.vector.reduce.fadd.{suffix(vector.type)}"
        return emit_call(builder, name, [zero, vector], element, fastmath=("reassoc",))

    return a.element(a), code


@intrinsic
def count_lanes(typing, mask):
    """In how many lanes the mask holds."""

    def code(context, builder, sig, args):
        bits = builder.bitcast(args[0], ir.IntType(LANES))
        return builder.zext(builder.ctpop(bits), ir.IntType(64))

    return types.int64(mask), code


@intrinsic
def first_lanes(typing, count):
    """The mask that holds in the first `count` lanes."""

    def code(context, builder, sig, args):
        numbers = ir.Constant(ir.VectorType(ir.IntType(64), LANES), list(range(LANES)))
        return builder.icmp_signed("<", numbers, emit_splat(builder, args[0]))

    return MASK(types.int64), code


#: x + ROUND, for float32 |x| < 2^22, is x rounded to a whole number n, and n stands in its lowest bits. The
#: functions below read it there, in integers, where no optimiser can turn (x + ROUND) - ROUND back into x.
ROUND = 1.5 * 2**23


def _whole_number(builder: Any, shifted: Any) -> Any:
    integers = ir.VectorType(ir.IntType(32), LANES)
    bits_of_round = ir.Constant(integers, [0x4B400000] * LANES)
    return builder.sub(builder.bitcast(shifted, integers), bits_of_round)


@intrinsic
def whole_number(typing, shifted):
    """n, for a float32 vector of n + ROUND."""

    def code(context, builder, sig, args):
        return builder.sitofp(_whole_number(builder, args[0]), args[0].type)

    return shifted(shifted), code


def _power_of_two(builder: Any, n: Any) -> Any:
    biased = builder.add(n, ir.Constant(n.type, [127] * LANES))
    bits = builder.shl(biased, ir.Constant(n.type, [23] * LANES))
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
        half = builder.ashr(n, ir.Constant(n.type, [1] * LANES))
        a = builder.fmul(a, _power_of_two(builder, half))
        return builder.fmul(a, _power_of_two(builder, builder.sub(n, half)))

    return a(a, shifted), code


def _each_lane(name: str) -> Any:
    """An intrinsic that calls the C library's float64 function `name` on every lane."""

    @intrinsic
    def function(typing, a):
        def code(context, builder, sig, args):
            (vector,) = args
            result = vector
            for lane in range(LANES):
                index = ir.Constant(ir.IntType(32), lane)
                value = builder.extract_element(vector, index)
                value = emit_call(builder, name, [value], value.type)
                result = builder.insert_element(result, value, index)
            return result

        return a(a), code

    return function


libm_exp = _each_lane("exp")
libm_tanh = _each_lane("tanh")


# --- operators -----------------------------------------------------------------------------------


def _operands(context: Any, builder: Any, sig: Any, args: Any) -> list[Any]:
    """Both operands as vectors: a plain number is cast to the element type and splat."""
    vector = next(kind for kind in sig.args if isinstance(kind, VectorType))
    return [
        value
        if isinstance(kind, VectorType)
        else emit_splat(builder, context.cast(builder, value, kind, vector.element))
        for kind, value in zip(sig.args, args, strict=True)
    ]


@intrinsic
def fma(typing, a, b, c):
    """a * b + c, rounded once; each of the three may be a plain number, but not all."""
    vectors = [kind for kind in (a, b, c) if isinstance(kind, VectorType)]
    if not vectors or any(kind != vectors[0] for kind in vectors):
        return None

    def code(context, builder, sig, args):
        return emit_fma(builder, *_operands(context, builder, sig, args))

    return vectors[0](a, b, c), code


@intrinsic
def select(typing, mask, a, b):
    """a where the mask holds, b elsewhere; one of the two may be a plain number."""
    vectors = [kind for kind in (a, b) if isinstance(kind, VectorType)]
    if mask != MASK or not vectors or vectors[0] != vectors[-1]:
        return None

    def code(context, builder, sig, args):
        choices = _operands(context, builder, signature(vectors[0], *sig.args[1:]), args[1:])
        return builder.select(args[0], *choices)

    return vectors[0](mask, a, b), code


def _binary_operator(function: Any, instruction: Any, result: Any) -> None:
    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            if kws or len(args) != 2:
                return None
            vectors = [a for a in args if isinstance(a, VectorType)]
            others = [a for a in args if not isinstance(a, VectorType)]
            if not vectors or vectors[0] != vectors[-1]:
                return None
            if any(not isinstance(other, types.Number) for other in others):
                return None
            return signature(result or vectors[0], *args)

    for kinds in (
        (VectorType, VectorType),
        (VectorType, types.Number),
        (types.Number, VectorType),
    ):

        @lower_builtin(function, *kinds)
        def lower(context, builder, sig, args):
            return instruction(builder, *_operands(context, builder, sig, args))


_binary_operator(operator.add, lambda builder, a, b: builder.fadd(a, b), None)
_binary_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b), None)
_binary_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b), None)
_binary_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b), None)
for _function, _sign in (
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.eq, "=="),
):
    _binary_operator(
        _function, lambda builder, a, b, sign=_sign: builder.fcmp_ordered(sign, a, b), MASK
    )
_binary_operator(operator.ne, lambda builder, a, b: builder.fcmp_unordered("!=", a, b), MASK)


def _mask_operator(function: Any, instruction: Any) -> None:
    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            return signature(MASK, MASK, MASK) if tuple(args) == (MASK, MASK) else None

    @lower_builtin(function, MaskType, MaskType)
    def lower(context, builder, sig, args):
        return instruction(builder, *args)


_mask_operator(operator.and_, lambda builder, a, b: builder.and_(a, b))
_mask_operator(operator.or_, lambda builder, a, b: builder.or_(a, b))
