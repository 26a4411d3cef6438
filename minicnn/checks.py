"""Arguments that are checked at the door, by the annotations of the function that takes them."""

import inspect
import math
import operator
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cache, wraps
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from annotated_types import Ge, Gt, Interval, Le, Lt

from minicnn.errors import MinicnnError, ShapeError

F = TypeVar("F", bound=Callable[..., Any])
#: What an annotation admits, and how it is called.
_SCALARS: dict[Any, tuple[Any, str]] = {
    bool: ((bool, np.bool_), "True or False"),
    int: ((int, np.integer), "an int"),
    float: ((int, float, np.integer, np.floating), "a finite number"),
    str: ((str,), "a string"),
    type(None): ((type(None),), "None"),
}


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
}
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def checked(error: type[MinicnnError]) -> Callable[[F], F]:
    """Decorator: the function raises `error`, which names argument, expected and received, for those that do not fit.

    Annotations that count are bool, int, float (a finite number), str, classes of this package, and tuples, sequences
    and unions of these (and iterables, as such), numbers also in a range (Annotated[float, Ge(0)]); any other one lets
    everything pass. So do defaults.
    """

    def decorate(function: F) -> F:
        parameters = inspect.signature(function).parameters
        place = function.__qualname__.removesuffix(".__init__")
        hints = cache(lambda: get_type_hints(function, include_extras=True))

        @wraps(function)
        def check(*args: Any, **kwargs: Any) -> Any:
            for name, value in (dict(zip(parameters, args, strict=False)) | kwargs).items():
                hint = hints().get(name, Any)
                default = name not in parameters or value is parameters[name].default
                if not default and not fits(value, hint):
                    raise error(f"{place}: {name}: expected {words(hint)}, received {told(value)}")
            return function(*args, **kwargs)

        return check  # type: ignore[return-value]

    return decorate


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is what an annotation says."""
    origin, parts = get_origin(hint), get_args(hint)
    hint = type(None) if hint is None else hint
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if origin is Annotated:
        return fits(value, parts[0]) and all(_OPERATORS[name](value, end) for name, end in _range(hint).items())
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if hint in _SCALARS:
        kinds, _ = _SCALARS[hint]
        if (isinstance(value, bool) and hint is not bool) or not isinstance(value, kinds):
            return False
        try:
            return hint is not float or math.isfinite(value)
        except OverflowError:  # an int beyond all floats
            return False
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        if parts[-1] is Ellipsis:
            return all(fits(one, parts[0]) for one in value)
        return len(value) == len(parts) and all(map(fits, value, parts))
    if origin is Sequence:
        listed = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)
        return listed and all(fits(one, parts[0]) for one in value)
    if origin is Iterable:  # whose elements are looked at when they are taken
        return isinstance(value, Iterable) and not isinstance(value, str | bytes)
    if isinstance(hint, type) and hint.__module__.startswith("minicnn."):
        return isinstance(value, hint)
    return True


def told(value: Any) -> str:
    """What a message says of a value, on one line."""
    text = " ".join(repr(value)[:1000].split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _range(hint: Any) -> dict[str, float]:
    """The ends of the range of an annotated number: ge, gt, le, lt."""
    ranges = (r for r in get_args(hint)[1:] if isinstance(r, Ge | Gt | Le | Lt | Interval))
    return {name: end for r in ranges for name, end in asdict(r).items() if end is not None}


def words(hint: Any) -> str:
    """What an annotation admits, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kind = {int: "an integer", float: "a number"}.get(parts[0]) or words(parts[0])
        match {name: f"{end:g}" for name, end in _range(hint).items()}:
            case {"ge": low, "le": high}:
                return f"{kind} from {low} to {high}"
            case {"ge": low, "lt": high}:
                return f"{kind} from {low} to below {high}"
            case ends:
                return f"{kind} {' and '.join(f'{_SIGNS[name]} {end}' for name, end in ends.items())}"
    if origin in (Union, types.UnionType):
        return " or ".join(map(words, parts))
    if hint in _SCALARS:
        return _SCALARS[hint][1]
    if origin is tuple and len(parts) == 2 and parts[0] is parts[1]:
        return f"a pair of {words(parts[0]).split()[-1]}s"
    if origin in (tuple, Sequence, Iterable):
        return f"a list of {words(parts[0]).split(maxsplit=1)[-1]}s"
    return f"a {hint.__name__}" if isinstance(hint, type) else str(hint)


def plain_array(value: Any, name: str, error: type[MinicnnError]) -> Any:
    """`value` as an array; a torch tensor's numbers, also of one that requires a gradient.

    Raises `error` for what cannot be an array, and for a masked one, whose mask would be lost.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise error(
            f"{name}: expected an array in which each number counts, received a masked one; "
            "fill what is masked, with x.filled(0) for example"
        )
    if hasattr(value, "detach"):
        value = value.detach()
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as reason:  # rows of several lengths, other devices
        raise error(f"{name}: expected one array: {reason}") from None


def check_sample_weight(weights: Any, count: int, dtype: Any = np.float64) -> Any:
    """A weight for each of so many samples. Raises ShapeError, MinicnnError for a negative or infinite one."""
    given = plain_array(weights, "sample_weight", ShapeError)
    if given.shape != (count,) or given.dtype.kind not in "iufb":
        raise ShapeError(f"sample_weight: expected {count:,} numbers, received {given.dtype} {given.shape}")
    numbers = given.astype(dtype)
    wrong = ~((numbers >= 0) & np.isfinite(numbers))
    if wrong.any():
        index = int(wrong.argmax())
        raise MinicnnError(f"sample_weight: expected finite numbers >= 0, received {given[index]} at index {index}")
    return numbers
