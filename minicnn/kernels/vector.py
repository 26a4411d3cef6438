"""The vector type behind `simd`: LANES numbers that one instruction handles.

Numba has no such type, but its extension API makes one: a Numba type whose machine representation is
LLVM's `<LANES x float>` (or double). Here are that type, and what the code generators in `simd` and `tile` share.
"""

import os
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from minicnn.errors import ConfigError


def _lanes() -> int:
    """16 with AVX-512, else 8; the environment variable MINICNN_LANES overrides it."""
    forced = os.environ.get("MINICNN_LANES")
    if forced is None:
        return 16 if llvm.get_host_cpu_features().get("avx512f") else 8
    if forced not in ("4", "8", "16"):
        raise ConfigError(f"MINICNN_LANES: expected 4, 8 or 16, received {forced!r}")
    return int(forced)


LANES = _lanes()


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


# --- what code generators share ----------------------------------------------------------------


def constant(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [value] * LANES)


def emit_splat(builder: Any, scalar: Any) -> Any:
    vector = ir.VectorType(scalar.type, LANES)
    first = builder.insert_element(
        ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def emit_call(builder: Any, name: str, arguments: list[Any], result: Any, **options: Any) -> Any:
    kind = ir.FunctionType(result, [a.type for a in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments, **options)


def suffix(vector: ir.VectorType) -> str:
    return f"v{LANES}f{32 if isinstance(vector.element, ir.FloatType) else 64}"


def emit_fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return emit_call(builder, f"llvm.fma.{suffix(a.type)}", [a, b, c], a.type)


def vector_pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    element = context.get_data_type(kind.dtype)
    return builder.bitcast(
        builder.gep(data, [index], inbounds=True), ir.VectorType(element, LANES).as_pointer()
    )


def emit_load(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    pointer = vector_pointer(context, builder, kind, array, index)
    return builder.load(pointer, align=kind.dtype.bitwidth // 8)


def emit_store(context: Any, builder: Any, kind: Any, array: Any, index: Any, value: Any) -> None:
    pointer = vector_pointer(context, builder, kind, array, index)
    builder.store(value, pointer, align=kind.dtype.bitwidth // 8)


def offsets(builder: Any, index: Any, stride: Any, count: int) -> list[Any]:
    """index, index + stride, index + 2 stride, ..."""
    return [
        builder.add(index, builder.mul(stride, ir.Constant(index.type, i))) for i in range(count)
    ]


def make_tile(context: Any, builder: Any, kind: Any, values: list[Any]) -> Any:
    return context.make_tuple(builder, kind, values)


def array_of_numbers(array: Any) -> bool:
    return isinstance(array, types.Array) and array.layout == "C"
