"""The vector type: LANES numbers that are treated alike, and what can be done with them.

Numba has no such type, but its extension API makes one: a Numba type whose machine representation is LLVM's
`<16 x float>` (or double, or i32). LLVM keeps it in one register where the machine has registers that wide, else in
several. Inside a kernel `a + b`, `a * 2.0`, `a > b` work on whole vectors; the functions here are small code generators
("intrinsics") that Numba calls.

Every operation is rounded as IEEE 754 says, and nothing is reordered: no machine computes another result.
"""

import operator
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from minicnn.kernels import LANES

INT32, INT64 = ir.IntType(32), ir.IntType(64)


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


def generated(result: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: a function that kernels call, from one that generates its code.

    `result` gives the type of what it returns, or its whole signature, by the types of its arguments. The function
    itself is given LLVM's builder and values, those of a tile as a list, and returns likewise. An argument that is
    annotated as int or str is a compile-time constant, which it is given as it is.
    """

    def decorate(emit: Callable[..., Any]) -> Any:
        constants = [emit.__annotations__.get(name) in (int, str) for name in signature(emit).parameters][1:]

        @wraps(emit)
        def typed(typing: Any, *kinds: Any) -> Any:
            try:
                found = result(*kinds)
            except AttributeError:  # some are of other kinds, which Numba then says
                return None
            if isinstance(found, types.Type):
                found = found(*(k if c else _whole(k) for k, c in zip(kinds, constants, strict=True)))

            def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                given = [_given(builder, kind, value) for kind, value in zip(found.args, args, strict=True)]
                value = emit(builder, *given)
                if isinstance(value, list):
                    return context.make_tuple(builder, found.return_type, value)
                return context.get_dummy_value() if value is None else value

            return found and (found, code)

        return intrinsic(prefer_literal=True)(typed)

    return decorate


def _whole(kind: Any) -> Any:
    """The type that an argument is cast to: whole numbers are int64."""
    return types.int64 if isinstance(kind, types.Integer) and kind.signed else kind


def _given(builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Literal):
        return kind.literal_value
    return cgutils.unpack_tuple(builder, value) if isinstance(kind, types.UniTuple) else value


def constant(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [value] * LANES)


def is_single(vector: Any) -> bool:
    """Whether its elements are float32, and not float64."""
    return isinstance(vector.type.element, ir.FloatType)


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


def emit_call(builder: Any, name: str, *vectors: Any) -> Any:
    """LLVM's function of that name, of vectors, which gives one of the same type."""
    kind = vectors[0].type
    bits = 32 if is_single(vectors[0]) else 64
    call = ir.FunctionType(kind, [kind] * len(vectors))
    function = cgutils.get_or_insert_function(builder.module, call, f"llvm.{name}.v{LANES}f{bits}")
    return builder.call(function, vectors)


def emit_fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return emit_call(builder, "fma", a, b, c)


def vector_pointer(builder: Any, pointer: Any, index: Any) -> Any:
    vector = ir.VectorType(pointer.type.pointee, LANES)
    return builder.bitcast(builder.gep(pointer, [index], inbounds=True), vector.as_pointer())


def element_bytes(pointer: Any) -> int:
    return {"float": 4, "double": 8, "i64": 8}.get(str(pointer.type.pointee), 1)


def emit_load(builder: Any, pointer: Any, index: Any) -> Any:
    return builder.load(vector_pointer(builder, pointer, index), align=element_bytes(pointer))


def emit_store(builder: Any, pointer: Any, index: Any, value: Any) -> None:
    builder.store(value, vector_pointer(builder, pointer, index), align=element_bytes(pointer))


def vectors_of(builder: Any, values: Sequence[Any]) -> list[Any]:
    """The values, with each plain number in all lanes of a vector."""
    return [value if isinstance(value.type, ir.VectorType) else emit_splat(builder, value) for value in values]


def on_vectors(kinds: Sequence[Any], result: Any = None, before: Sequence[Any] = ()) -> Any:
    """The signature of an operation on vectors of one type and plain numbers, which become elements; else None."""
    vectors = {kind for kind in kinds if isinstance(kind, VectorType)}
    if len(vectors) != 1 or not all(isinstance(kind, VectorType | types.Number) for kind in kinds):
        return None
    [vector] = vectors
    return (result or vector)(*before, *(kind if kind == vector else vector.element for kind in kinds))


# --- memory --------------------------------------------------------------------------------------


@generated(lambda pointer, index: VectorType(pointer.dtype))
def load(builder, pointer, index):
    """The LANES elements from position `index` on."""
    return emit_load(builder, pointer, index)


@generated(lambda pointer, index, value: types.void)
def store(builder, pointer, index, value):
    """Writes a vector to the positions from `index` on."""
    emit_store(builder, pointer, index, value)


@generated(lambda pointer, value: VectorType(pointer.dtype)(pointer, pointer.dtype))
def splat(builder, pointer, value):
    """`value` in every lane, in the element type that `pointer` points to."""
    return emit_splat(builder, value)


@generated(lambda a, lane: a.element)
def pick(builder, a, lane):
    """One lane, a number."""
    return builder.extract_element(a, lane)


# --- arithmetic ----------------------------------------------------------------------------------


@generated(lambda a: a)
def absolute(builder, a):
    """|a|"""
    return emit_call(builder, "fabs", a)


@generated(lambda a: a)
def square_root(builder, a):
    return emit_call(builder, "sqrt", a)


@generated(lambda a, sign: a)
def copysign(builder, a, sign):
    """|a| with the sign of `sign`."""
    return emit_call(builder, "copysign", a, sign)


@generated(lambda a: a.element)
def sum_lanes(builder, a):
    """The sum of the lanes, a number: of halves, of quarters, and so on, on every machine."""
    width = LANES
    while width > 1:
        width //= 2
        lower = shuffle(builder, a, a, list(range(width)))
        upper = shuffle(builder, a, a, list(range(width, 2 * width)))
        a = builder.fadd(lower, upper)
    return builder.extract_element(a, ir.Constant(INT32, 0))


@generated(lambda mask: types.int64)
def count_lanes(builder, mask):
    """In how many lanes the mask holds."""
    return builder.zext(builder.ctpop(builder.bitcast(mask, ir.IntType(LANES))), INT64)


@generated(lambda count: MASK)
def first_lanes(builder, count):
    """The mask that holds in the first `count` lanes."""
    return builder.icmp_signed("<", numbered(INT64), emit_splat(builder, count))


def by_type(single: float, double: float) -> Any:
    """A function of a vector: the number for its element type, float32 or float64, in all lanes."""

    @generated(lambda x: x)
    def function(builder, x):
        return constant(x.type, single if is_single(x) else double)

    return function


def polynomial(single: Sequence[float], double: Sequence[float]) -> Any:
    """A function of a vector: the polynomial with the coefficients for its element type, from the highest power on."""

    @generated(lambda x: x)
    def function(builder, x):
        first, *others = single if is_single(x) else double
        total = constant(x.type, first)
        for coefficient in others:
            total = emit_fma(builder, total, x, constant(x.type, coefficient))
        return total

    return function


# --- operators -----------------------------------------------------------------------------------


@generated(lambda *kinds: on_vectors(kinds))
def fma(builder, a, b, c):
    """a * b + c, rounded once; each of the three may be a plain number, but not all."""
    return emit_fma(builder, *vectors_of(builder, [a, b, c]))


@generated(lambda mask, *kinds: on_vectors(kinds, before=[MASK]))
def select(builder, mask, a, b):
    """a where the mask holds, b elsewhere; one of the two may be a plain number."""
    return builder.select(mask, *vectors_of(builder, [a, b]))


def _binary_operator(function: Any, instruction: Any, result: Any = None) -> None:
    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            return None if kws else on_vectors(args, result)

    for kinds in ((VectorType, VectorType), (VectorType, types.Number), (types.Number, VectorType)):

        @lower_builtin(function, *kinds)
        def lower(context, builder, sig, args):
            return instruction(builder, *vectors_of(builder, args))


_binary_operator(operator.add, lambda builder, a, b: builder.fadd(a, b))
_binary_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b))
_binary_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b))
_binary_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))
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
            return MASK(MASK, MASK) if tuple(args) == (MASK, MASK) else None

    @lower_builtin(function, MaskType, MaskType)
    def lower(context, builder, sig, args):
        return instruction(builder, *args)


_mask_operator(operator.and_, lambda builder, a, b: builder.and_(a, b))
_mask_operator(operator.or_, lambda builder, a, b: builder.or_(a, b))
