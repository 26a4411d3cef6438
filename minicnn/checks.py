"""Arguments that are checked at the door, by the annotations of the function that takes them."""

import inspect
import math
import operator
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
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
#: The ends of a range: how a number is compared with them, and how that is written.
_ENDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "ge": (operator.ge, ">="),
    "gt": (operator.gt, ">"),
    "le": (operator.le, "<="),
    "lt": (operator.lt, "<"),
}


def checked(error: type[MinicnnError], place: str | None = None) -> Callable[[F], F]:
    """Decorator: the function raises `error`, which names argument, expected and received, for those that do not fit.
    The place that it names is the function, or the class of a constructor, unless it is given.

    Annotations that count are bool, int, float (a finite number), str, classes of this package, and tuples, sequences
    and unions of these (and iterables, as such), numbers also in a range (Annotated[float, Ge(0)]); any other one lets
    everything pass. So do defaults.
    """

    def decorate(function: F) -> F:
        parameters = inspect.signature(function).parameters
        hints = cache(lambda: get_type_hints(function, include_extras=True))

        @wraps(function)
        def check(*args: Any, **kwargs: Any) -> Any:
            for name, value in (dict(zip(parameters, args, strict=False)) | kwargs).items():
                hint = hints().get(name, Any)
                default = name not in parameters or value is parameters[name].default
                if not default and not fits(value, hint):
                    where = place or _place(function, args)
                    raise error(f"{where}: {name}: expected {words(hint)}, received {_told_for(hint, value)}")
            return function(*args, **kwargs)

        return check  # type: ignore[return-value]

    return decorate


def _place(function: Callable[..., Any], args: Sequence[Any]) -> str:
    """The function, or a class; of a constructor that is inherited the class that inherits it."""
    if function.__name__ == "__init__" and "__init__" not in vars(type(args[0])):
        return type(args[0]).__name__
    return function.__qualname__.removesuffix(".__init__")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is what an annotation says."""
    origin, parts = get_origin(hint), get_args(hint)
    hint = type(None) if hint is None else hint
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if origin is Annotated:
        return fits(value, parts[0]) and all(_ENDS[name][0](value, end) for name, end in _range(hint).items())
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
    if isinstance(value, type):
        return f"the class {value.__name__}; make one of it: {value.__name__}(...)"
    if inspect.isfunction(value) and value.__name__.isidentifier():
        return f"the function {value.__name__}"
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of {value.dtype} {value.shape}"
    text = " ".join(repr(value)[:1000].split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _told_for(hint: Any, value: Any) -> str:
    """The same, with the remedy for what makes an object of a class in the place of one: its name, such as "adam", or a
    function."""
    if inspect.isfunction(value) and value.__name__.isidentifier():
        return f"{told(value)}; call it: {value.__name__}()"
    if not isinstance(value, str):
        return told(value)
    kinds: list[type] = [
        kind for kind in get_args(hint) or (hint,) if isinstance(kind, type) and kind.__module__[:8] == "minicnn."
    ]
    for kind in kinds:
        below: list[type] = kind.__subclasses__()
        kinds += [each for each in below if each not in kinds]
    found = (kind.__name__ for kind in kinds if kind.__name__.lower() == value.lower())
    return told(value) + next((f"; make one of that name: {name}(...)" for name in found), "")


@cache
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
                return f"{kind} {' and '.join(f'{_ENDS[name][1]} {end}' for name, end in ends.items())}"
    if origin in (Union, types.UnionType):
        return " or ".join(map(words, parts))
    if hint in _SCALARS:
        return _SCALARS[hint][1]
    if origin is tuple and len(parts) == 2 and parts[0] == parts[1]:
        kind, *span = words(parts[0]).split(maxsplit=1)[-1].split(" from ")
        return " from ".join([f"a pair of {kind.split()[-1]}s", *span])
    if origin is Mapping:
        return "a dict"
    if origin in (tuple, Sequence, Iterable):
        noun, *rest = words(parts[0]).split(maxsplit=1)[-1].partition(" from ")
        return f"a list of {noun}s{''.join(rest)}"
    if not isinstance(hint, type):
        return str(hint)
    return f"a{'n' if hint.__name__[0] in 'AEIOU' else ''} {hint.__name__}"


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
    except ValueError:
        raise error(f"{name}: expected one array, received lists of several lengths or depths") from None
    except (TypeError, RuntimeError) as reason:  # of a tensor on another device
        raise error(f"{name}: expected one array, received what NumPy cannot read: {reason}") from None


CHANNELS_LAST = ", with the channels last; bring them to the front: numpy.moveaxis({name}, -1, -3)"


def takes(output_shape: Callable[[tuple[int, ...]], Any], shape: tuple[int, ...]) -> bool:
    """Whether a sample may have this shape; a layer's `output_shape` raises if not."""
    try:
        output_shape(shape)
    except MinicnnError:
        return False
    return True


def shape_hint(output_shape: Callable[[tuple[int, ...]], Any], shape: tuple[int, ...], name: str = "x") -> str:
    """What makes a batch of `shape` one that a layer takes, for the end of a message."""
    if len(shape) == 4 and takes(output_shape, (shape[3], shape[1], shape[2])):
        return CHANNELS_LAST.format(name=name)
    if len(shape) == 3 and takes(output_shape, (1, *shape[1:])):
        return f"; add the axis of the only channel: {name}[:, numpy.newaxis]"
    if takes(output_shape, shape):
        return f"; a single sample is a batch of one: {name}[numpy.newaxis]"
    return ""


def numbers_hint(array: np.ndarray, name: str, dtype: Any = "float32") -> str:
    """What makes floats of an array that holds something else, for the end of a message."""
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return f"; pixels from 0 to 255 become numbers from 0 to 1 by {name}.astype(numpy.{dtype}) / 255"
    if kind in "fiub":
        return f"; convert it with {name}.astype(numpy.{dtype})"
    if kind == "O" and array.ndim == 1 and len(array) and isinstance(array[0], np.ndarray):
        return f"; numpy.stack({name}) makes one array of arrays of one shape"
    return f"; if these are numbers: {name}.astype(numpy.{dtype})" if kind == "O" else ""


def labels_hint(labels: np.ndarray) -> str:
    """What makes class numbers (N,) of an array of another kind, for the end of a message."""
    kind = labels.dtype.kind
    if labels.ndim == 2 and labels.shape[1] == 1:
        return "; labels.ravel() makes them (N,)"
    if labels.ndim == 2 and kind in "iufb":
        return "; one-hot rows become class numbers by labels.argmax(axis=1)"
    if labels.ndim == 1 and kind in "fb":
        found = np.isnan(labels) if kind == "f" else np.zeros(0, bool)
        return f": NaN at index {found.argmax()}" if found.any() else "; labels.astype(int) makes them integers"
    if labels.ndim == 1 and kind in "OUS":
        whole = all(isinstance(label, int | np.integer) for label in labels)
        numbers = "labels.astype(int)" if whole else "numpy.unique(labels, return_inverse=True)[1]"
        return f"; {numbers} makes class numbers of them"
    return ""


def range_hint(labels: np.ndarray, classes: int | None) -> str:
    """The remedy for labels out of range that count from 1."""
    return "; they count from 0: labels - 1" if (labels.min(), labels.max()) == (1, classes) else ""


def first_nan(array: np.ndarray) -> tuple[int, ...] | None:
    """The index of the first NaN of an array of floats, if it has one."""
    if not array.size or not math.isnan(array.min()):
        return None
    return tuple(int(i) for i in np.argwhere(np.isnan(array))[0])


def as_written(thing: object, *left_out: str) -> str:
    """Name(argument=value) with the arguments of the constructor that are no longer at their defaults: for __repr__."""
    parameters = inspect.signature(type(thing)).parameters.values()
    given = [(p, getattr(thing, p.name)) for p in parameters if p.name not in left_out and hasattr(thing, p.name)]
    values = (f"{p.name}={value!r}" for p, value in given if not np.array_equal(value, p.default))
    return f"{type(thing).__name__}({', '.join(values)})"


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
