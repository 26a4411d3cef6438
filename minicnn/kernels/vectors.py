"""The vector type: LANES numbers that are treated alike, and what can be done with them.

Numba has no such type, but its extension API makes one: a Numba type whose machine representation is LLVM's
`<16 x float>` (or double, or i32). LLVM keeps it in one register where the machine has registers that wide, else in
several. Inside a kernel `a + b`, `a * 2.0`, `a > b` work on whole vectors; the functions here are small code generators
("intrinsics") that Numba calls.

Every operation is rounded as IEEE 754 says, and nothing is reordered: no machine computes another result.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from minicnn.kernels import LANES

INT32 = ir.IntType(32)


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
BITS = VectorType(types.uint32)  # random numbers are made of them


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: VectorType) -> None:
        element = manager.lookup(kind.element).get_data_type()
        super().__init__(manager, kind, ir.VectorType(element, LANES))


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: MaskType) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), LANES))


# --- what code generators share ----------------------------------------------------------------


def constant(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [value] * LANES)


def numbered(element: ir.Type) -> ir.Constant:
    """The vector 0, 1, 2, ..."""
    return ir.Constant(ir.VectorType(element, LANES), list(range(LANES)))


def shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    """The vector whose lane n is element order[n] of a and b, one behind the other."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(order)), order))


def emit_splat(builder: Any, scalar: Any) -> Any:
    vector = ir.VectorType(scalar.type, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
    return shuffle(builder, first, undefined, [0] * LANES)


def emit_call(builder: Any, name: str, arguments: list[Any], result: Any) -> Any:
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def suffix(vector: ir.VectorType) -> str:
    return f"v{LANES}f{32 if isinstance(vector.element, ir.FloatType) else 64}"


def emit_fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return emit_call(builder, f"llvm.fma.{suffix(a.type)}", [a, b, c], a.type)


def vector_pointer(builder: Any, pointer: Any, index: Any) -> Any:
    vector = ir.VectorType(pointer.type.pointee, LANES)
    return builder.bitcast(builder.gep(pointer, [index], inbounds=True), vector.as_pointer())


def element_bytes(pointer: Any) -> int:
    return {"float": 4, "double": 8, "i64": 8}.get(str(pointer.type.pointee), 1)


def emit_load(builder: Any, pointer: Any, index: Any) -> Any:
    return builder.load(vector_pointer(builder, pointer, index), align=element_bytes(pointer))


def emit_store(builder: Any, pointer: Any, index: Any, value: Any) -> None:
    builder.store(value, vector_pointer(builder, pointer, index), align=element_bytes(pointer))


def is_pointer(kind: Any) -> bool:
    return isinstance(kind, types.CPointer)


# --- memory --------------------------------------------------------------------------------------


@intrinsic
def load(typing, pointer, index):
    """The LANES elements from position `index` on."""
    if not is_pointer(pointer):
        return None

    def code(context, builder, sig, args):
        return emit_load(builder, *args)

    return VectorType(pointer.dtype)(pointer, types.int64), code


@intrinsic
def store(typing, pointer, index, value):
    """Writes a vector to the positions from `index` on."""
    if not is_pointer(pointer) or value != VectorType(pointer.dtype):
        return None

    def code(context, builder, sig, args):
        emit_store(builder, *args)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, value), code


@intrinsic
def splat(typing, pointer, value):
    """`value` in every lane, in the element type that `pointer` points to."""
    element = pointer.dtype

    def code(context, builder, sig, args):
        return emit_splat(builder, context.cast(builder, args[1], sig.args[1], element))

    return VectorType(element)(pointer, value), code


@intrinsic
def pick(typing, a, lane):
    """One lane, a number."""

    def code(context, builder, sig, args):
        return builder.extract_element(*args)

    return a.element(a, types.int64), code


# --- arithmetic ----------------------------------------------------------------------------------


def _unary(name: str) -> Any:
    @intrinsic
    def function(typing, a):
        def code(context, builder, sig, args):
            return emit_call(builder, f"llvm.{name}.{suffix(args[0].type)}", [args[0]], args[0].type)

        return a(a), code

    return function


absolute, square_root = _unary("fabs"), _unary("sqrt")


@intrinsic
def copysign(typing, a, sign):
    """|a| with the sign of `sign`."""

    def code(context, builder, sig, args):
        return emit_call(builder, f"llvm.copysign.{suffix(args[0].type)}", list(args), args[0].type)

    return a(a, sign), code


@intrinsic
def sum_lanes(typing, a):
    """The sum of the lanes, a number: of halves, of quarters, and so on, on every machine."""

    def code(context, builder, sig, args):
        (vector,) = args
        width = LANES
        while width > 1:
            width //= 2
            lower = shuffle(builder, vector, vector, list(range(width)))
            upper = shuffle(builder, vector, vector, list(range(width, 2 * width)))
            vector = builder.fadd(lower, upper)
        return builder.extract_element(vector, ir.Constant(INT32, 0))

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
        return builder.icmp_signed("<", numbered(ir.IntType(64)), emit_splat(builder, args[0]))

    return MASK(types.int64), code


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


def polynomial(*coefficients: float) -> Any:
    """A function of a vector: the polynomial with these coefficients, the first that of the highest power."""

    @intrinsic
    def function(typing, x):
        def code(context, builder, sig, args):
            total = constant(args[0].type, coefficients[0])
            for coefficient in coefficients[1:]:
                total = emit_fma(builder, total, args[0], constant(args[0].type, coefficient))
            return total

        return x(x), code

    return function


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

    for kinds in ((VectorType, VectorType), (VectorType, types.Number), (types.Number, VectorType)):

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
    _binary_operator(_function, lambda builder, a, b, sign=_sign: builder.fcmp_ordered(sign, a, b), MASK)
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
