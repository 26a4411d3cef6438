"""A SIMD vector type for Numba: LANES numbers that one instruction handles.

Numba has no such type, but its extension API makes one: a Numba type whose machine representation is
LLVM's `<LANES x float>` (or double), and small code generators ("intrinsics") for what can be done with it.
Inside a kernel `a + b`, `a * 2.0`, `a > b` work on whole vectors; LLVM keeps them in registers, and
splits them where the machine's registers are narrower.

A tuple of vectors is a *register tile*. With `outer` a tile does what makes matrix products fast: every vector
that is loaded takes part in several multiply-adds.
"""

import operator
import os
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from minicnn.errors import ConfigError


def _lanes() -> int:
    """16 with AVX-512, else 8; the environment variable MINICNN_LANES overrides it."""
    forced = os.environ.get("MINICNN_LANES")
    if forced is None:
        return 16 if llvm.get_host_cpu_features().get("avx512f") else 8
    if forced not in ("4", "8", "16"):
        raise ConfigError(f"MINICNN_LANES: expected 4, 8 or 16, got {forced!r}")
    return int(forced)


LANES = _lanes()
#: Accumulators that fit in the machine's vector registers beside the operands.
TILE = 24 if LANES == 16 else 8 if LANES == 8 else 4


class VectorType(types.Type):
    """LANES numbers of one element type."""

    def __init__(self, element: types.Type) -> None:
        self.element = element
        super().__init__(name=f"vector({element} x {LANES})")


class MaskType(types.Type):
    """LANES truth values."""

    def __init__(self) -> None:
        super().__init__(name=f"mask({LANES})")


MASK = MaskType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: VectorType) -> None:
        element = manager.lookup(kind.element).get_data_type()
        super().__init__(manager, kind, ir.VectorType(element, LANES))


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: MaskType) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), LANES))


# --- small helpers of the code generators ------------------------------------------------------


def _constant(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [value] * LANES)


def _splat(builder: Any, scalar: Any) -> Any:
    vector = ir.VectorType(scalar.type, LANES)
    first = builder.insert_element(
        ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _call(builder: Any, name: str, arguments: list[Any], result: Any, **options: Any) -> Any:
    kind = ir.FunctionType(result, [a.type for a in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments, **options)


def _suffix(vector: ir.VectorType) -> str:
    return f"v{LANES}f{32 if isinstance(vector.element, ir.FloatType) else 64}"


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _call(builder, f"llvm.fma.{_suffix(a.type)}", [a, b, c], a.type)


def _vector_pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    element = context.get_data_type(kind.dtype)
    return builder.bitcast(
        builder.gep(data, [index], inbounds=True), ir.VectorType(element, LANES).as_pointer()
    )


def _load(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    pointer = _vector_pointer(context, builder, kind, array, index)
    return builder.load(pointer, align=kind.dtype.bitwidth // 8)


def _store(context: Any, builder: Any, kind: Any, array: Any, index: Any, value: Any) -> None:
    pointer = _vector_pointer(context, builder, kind, array, index)
    builder.store(value, pointer, align=kind.dtype.bitwidth // 8)


def _offsets(builder: Any, index: Any, stride: Any, count: int) -> list[Any]:
    """index, index + stride, index + 2 stride, ..."""
    return [
        builder.add(index, builder.mul(stride, ir.Constant(index.type, i))) for i in range(count)
    ]


def _pack_tuple(context: Any, builder: Any, kind: Any, values: list[Any]) -> Any:
    return context.make_tuple(builder, kind, values)


def _array_of_numbers(array: Any) -> bool:
    return isinstance(array, types.Array) and array.layout == "C"


# --- memory --------------------------------------------------------------------------------------


@intrinsic
def load(typing, array, index):
    """The LANES elements of a contiguous array from flat position `index` on."""
    if not _array_of_numbers(array):
        return None

    def code(context, builder, sig, args):
        return _load(context, builder, sig.args[0], *args)

    return VectorType(array.dtype)(array, types.int64), code


@intrinsic
def store(typing, array, index, value):
    """Writes a vector to the flat position `index` of a contiguous array."""
    if not _array_of_numbers(array) or value != VectorType(array.dtype):
        return None

    def code(context, builder, sig, args):
        _store(context, builder, sig.args[0], *args)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), code


@intrinsic
def store_first(typing, array, index, value, count):
    """Like `store`, but writes the first `count` lanes only."""
    if not _array_of_numbers(array) or value != VectorType(array.dtype):
        return None

    def code(context, builder, sig, args):
        arr, index, vector, count = args
        pointer = _vector_pointer(context, builder, sig.args[0], arr, index)
        numbers = ir.Constant(ir.VectorType(count.type, LANES), list(range(LANES)))
        mask = builder.icmp_signed("<", numbers, _splat(builder, count))
        align = ir.Constant(ir.IntType(32), sig.args[0].dtype.bitwidth // 8)
        _call(
            builder,
            f"llvm.masked.store.{_suffix(vector.type)}.p0",
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
        return _splat(builder, context.cast(builder, args[1], sig.args[1], element))

    return VectorType(element)(array, value), code


@intrinsic
def absolute(typing, a):
    """|a|"""

    def code(context, builder, sig, args):
        return _call(builder, f"llvm.fabs.{_suffix(args[0].type)}", [args[0]], args[0].type)

    return a(a), code


@intrinsic
def copysign(typing, a, sign):
    """|a| with the sign of `sign`."""

    def code(context, builder, sig, args):
        return _call(builder, f"llvm.copysign.{_suffix(args[0].type)}", list(args), args[0].type)

    return a(a, sign), code


@intrinsic
def sum_lanes(typing, a):
    """The sum of the lanes, a number."""

    def code(context, builder, sig, args):
        (vector,) = args
        element = vector.type.element
        zero = ir.Constant(element, -0.0)
        name = f"llvm.vector.reduce.fadd.{_suffix(vector.type)}"
        return _call(builder, name, [zero, vector], element, fastmath=("reassoc",))

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
        return builder.icmp_signed("<", numbers, _splat(builder, args[0]))

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
                value = _call(builder, name, [value], value.type)
                result = builder.insert_element(result, value, index)
            return result

        return a(a), code

    return function


libm_exp = _each_lane("exp")
libm_tanh = _each_lane("tanh")


@intrinsic
def load_images(typing, images, order, first, size, offset, like):
    """LANES vectors, one an image: bytes `offset` ... of images order[first], order[first + 1], ...

    `size` is the number of bytes of an image; the result has the element type of the array `like`.
    """
    if not _array_of_numbers(images) or not _array_of_numbers(order):
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
            raw = _load(context, builder, sig.args[0], images, index)
            vectors.append(builder.uitofp(raw, context.get_value_type(tile.dtype)))
        return _pack_tuple(context, builder, tile, vectors)

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
        return _pack_tuple(context, builder, sig.return_type, vectors)

    return rows(rows), code


# --- operators -----------------------------------------------------------------------------------


def _operands(context: Any, builder: Any, sig: Any, args: Any) -> list[Any]:
    """Both operands as vectors: a plain number is cast to the element type and splat."""
    vector = next(kind for kind in sig.args if isinstance(kind, VectorType))
    return [
        value
        if isinstance(kind, VectorType)
        else _splat(builder, context.cast(builder, value, kind, vector.element))
        for kind, value in zip(sig.args, args, strict=True)
    ]


@intrinsic
def fma(typing, a, b, c):
    """a * b + c, rounded once; each of the three may be a plain number, but not all."""
    vectors = [kind for kind in (a, b, c) if isinstance(kind, VectorType)]
    if not vectors or any(kind != vectors[0] for kind in vectors):
        return None

    def code(context, builder, sig, args):
        return _fma(builder, *_operands(context, builder, sig, args))

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


# --- register tiles ------------------------------------------------------------------------------


@intrinsic(prefer_literal=True)
def load_tile(typing, array, index, stride, count):
    """`count` (a compile-time number) vectors, `stride` elements apart."""
    if not _array_of_numbers(array) or not isinstance(count, types.IntegerLiteral):
        return None
    number = count.literal_value
    tile = types.UniTuple(VectorType(array.dtype), number)

    def code(context, builder, sig, args):
        arr, index, stride, _ = args
        vectors = [
            _load(context, builder, sig.args[0], arr, offset)
            for offset in _offsets(builder, index, stride, number)
        ]
        return _pack_tuple(context, builder, tile, vectors)

    return tile(array, types.int64, types.int64, count), code


@intrinsic(prefer_literal=True)
def splat_tile(typing, array, index, stride, count):
    """`count` vectors; in all lanes of each the same element, `stride` elements apart."""
    if not _array_of_numbers(array) or not isinstance(count, types.IntegerLiteral):
        return None
    number = count.literal_value
    tile = types.UniTuple(VectorType(array.dtype), number)

    def code(context, builder, sig, args):
        arr, index, stride, _ = args
        data = context.make_array(sig.args[0])(context, builder, arr).data
        vectors = [
            _splat(builder, builder.load(builder.gep(data, [offset], inbounds=True)))
            for offset in _offsets(builder, index, stride, number)
        ]
        return _pack_tuple(context, builder, tile, vectors)

    return tile(array, types.int64, types.int64, count), code


@intrinsic(prefer_literal=True)
def fill_tile(typing, array, value, count):
    """`count` vectors of the element type of `array` with `value` in every lane."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    tile = types.UniTuple(VectorType(array.dtype), count.literal_value)

    def code(context, builder, sig, args):
        number = context.cast(builder, args[1], sig.args[1], array.dtype)
        return _pack_tuple(context, builder, tile, [_splat(builder, number)] * tile.count)

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
        return _pack_tuple(context, builder, tile, [v for v in vectors for _ in range(number)])

    return tile(rows, columns), code


@intrinsic
def outer(typing, tile, rows, columns):
    """tile[i, j] + rows[i] * columns[j]: one multiply-add for each vector of the tile."""
    if tile.count != rows.count * columns.count:
        return None

    def code(context, builder, sig, args):
        accumulators, left, right = (cgutils.unpack_tuple(builder, a) for a in args)
        result = [
            _fma(builder, b, a, accumulators[i * len(right) + j])
            for i, a in enumerate(left)
            for j, b in enumerate(right)
        ]
        return _pack_tuple(context, builder, sig.return_type, result)

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
        starts = _offsets(builder, args[3], args[4], height)
        for v in range(number):
            places = [j for j in range(width) if 0 <= j + v + offset < len(columns)]
            for i, row in enumerate(starts):
                at = builder.add(row, builder.mul(args[5], ir.Constant(row.type, v)))
                w = _splat(builder, builder.load(builder.gep(data, [at], inbounds=True)))
                for j in places:
                    k = i * width + j
                    accumulators[k] = _fma(builder, columns[j + v + offset], w, accumulators[k])
        return _pack_tuple(context, builder, sig.return_type, accumulators)

    integer = types.int64
    return tile(tile, x, weight, integer, integer, integer, rows, taps, shift), code


@intrinsic(prefer_literal=True)
def store_tile(typing, array, index, stride, column_stride, tile, rows):
    """Writes row i, column j of a tile of `rows` rows to `index + i * stride + j * column_stride`."""
    if not _array_of_numbers(array) or not isinstance(rows, types.IntegerLiteral):
        return None
    number = rows.literal_value
    columns = tile.count // number

    def code(context, builder, sig, args):
        arr, index, stride, column_stride, tile, _ = args
        vectors = iter(cgutils.unpack_tuple(builder, tile))
        for row in _offsets(builder, index, stride, number):
            for offset in _offsets(builder, row, column_stride, columns):
                _store(context, builder, sig.args[0], arr, offset, next(vectors))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64, tile, rows), code
