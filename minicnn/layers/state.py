"""What makes a layer again: the arguments of its constructor, and its arrays by PyTorch's names."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from minicnn.engine.arrays import Array
from minicnn.errors import MinicnnError, ShapeError

#: What a layer lists besides that of the layers within it, and by what one tells whether it is the same.
WITH_CHILDREN: dict[str, Callable[[Any], object]] = {
    "parameters": lambda parameter: parameter.cell,
    "buffers": id,
    "generators": id,
}


class KeyMismatch(NamedTuple):
    """The keys that `load_state_dict(..., strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def constructor_options(layer: object, parameter_type: type) -> dict[str, Any]:
    """The arguments of the layer's constructor by name, with the values of the attributes of these names.

    A switch such as `bias=True`, whose attribute holds the trainable parameter or None, becomes true or false again.
    Raises MinicnnError for an argument that the layer keeps in no attribute.
    """
    name = type(layer).__name__
    if type(layer).__init__ is object.__init__:
        return {}
    options = {}
    for key, argument in inspect.signature(type(layer)).parameters.items():
        value = getattr(layer, key, inspect.Parameter.empty)
        if isinstance(argument.default, bool) and (value is None or isinstance(value, parameter_type)):
            value = value is not None
        if (
            value is inspect.Parameter.empty
            or isinstance(value, parameter_type)
            or argument.kind not in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY)
        ):
            raise MinicnnError(
                f"{name}: expected its argument {argument} as an attribute, to build the layer again; "
                f"let __init__ keep it (self.{key} = {key}), or override options()"
            )
        options[key] = value
    return options


def load_arrays(place: str, arrays: Mapping[str, Array], state: Mapping[str, Any], strict: bool) -> KeyMismatch:
    """Writes the values of `state` into the arrays of the same names, all of them or, if one does not fit, none."""
    if not isinstance(state, Mapping):
        raise ShapeError(
            f"{place}: expected a dict of names and arrays, such as state_dict() returns, "
            f"received {type(state).__name__}"
        )
    missing = [key for key in arrays if key not in state]
    unexpected = [str(key) for key in state if key not in arrays]
    problems = []
    if strict and missing:
        problems.append(f"missing {', '.join(missing)}")
    if strict and unexpected:
        problems.append(f"unexpected {', '.join(sorted(unexpected))}")  # files have no order
    values = {}
    for key, array in arrays.items():
        if key in state:
            try:
                values[key] = fitting(state[key], array)
            except (TypeError, ValueError, RuntimeError, FloatingPointError) as error:
                problems.append(f"{key}: {error}")
    if problems:
        raise ShapeError(f"{place}: the state does not fit: {'; '.join(problems)}")
    damaged = [key for key, value in values.items() if not np.isfinite(value).all()]
    if damaged:
        warnings.warn(f"{place}: NaN or infinity in {', '.join(damaged)}", stacklevel=3)
    for key, value in values.items():
        arrays[key][...] = value
    return KeyMismatch(missing, unexpected)


def fitting(value: Any, array: Array) -> Array:
    """A copy of `value`, an array or a torch tensor, in the shape and element type of `array`.

    Raises TypeError, ValueError, RuntimeError or FloatingPointError for one that does not fit.
    """
    if hasattr(value, "detach"):  # a torch tensor, which may require a gradient
        value = value.detach().numpy()
    elif not isinstance(value, np.ndarray | np.generic) or isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"expected an array, received {type(value).__name__}")
    if value.shape != array.shape:
        raise ValueError(f"expected shape {array.shape}, received {value.shape}")
    allowed = (np.float32, np.float64) if array.dtype.kind == "f" else (array.dtype,)
    if not np.can_cast(value.dtype, array.dtype, "same_kind") or (
        array.dtype.kind == "f" and value.dtype not in allowed
    ):
        names = " or ".join(np.dtype(one).name for one in allowed)
        raise TypeError(f"expected numbers of type {names}, received {value.dtype}")
    with np.errstate(over="raise"):
        return np.array(value, array.dtype)


def with_children(method: Any, inner: Any, key: Callable[[Any], object]) -> Callable[[Any], Any]:
    """`method`, which lists what a layer has, with what its children have, which `inner` lists, behind it."""

    @wraps(method)
    def complete(self: Any) -> Any:
        own, others = method(self), inner(self)
        if not others:
            return own
        named = isinstance(own, Mapping)
        known = {key(one) for one in (others.values() if named else others)}
        if named:
            return {**{name: one for name, one in own.items() if key(one) not in known}, **others}
        return [*(one for one in own if key(one) not in known), *others]

    return complete
