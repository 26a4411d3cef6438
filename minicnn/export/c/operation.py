"""What each operation of the C program is: a layer's loops, what the layer's weights are in them, and its integers.

The loops are written once and serve floats and integers: `Code` has the types, the names of arrays, and how a result
is stored. What the integers mean stands in `quantized.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicnn.engine.arrays import Array, Shape
from minicnn.errors import MinicnnError
from minicnn.layers import Layer
from minicnn.layers.arguments import Window

from .text import Lines, affine, loops, place

LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Grid:
    """The numbers that an element of a map can be: scale q, q from low to high."""

    scale: float
    low: int
    high: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int8 if self.low < 0 else np.uint8)

    def levels(self, x: Array) -> Array:
        """The q of the nearest numbers, in float64."""
        levels: Array = np.clip(np.rint(x / self.scale), self.low, self.high)
        return levels


BYTES = Grid(1 / 255, 0, 255)


@dataclass(kw_only=True)
class Numbers:
    """What an operation computes with in integers.

    x, other    the grids of its input, and of a second one
    arrays      its constant arrays
    constants   its numbers
    """

    x: Grid = BYTES
    other: Grid = BYTES
    arrays: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, int] = field(default_factory=dict)


class Code(ABC):
    """What the loops of one operation are written with. It takes down which arrays and functions they use.

    constants  the numbers of the operation's integer arithmetic
    """

    #: Whether maps have 8 bits and sums 32.
    integer: bool
    #: The C type of sums.
    number: str
    #: What no element of a map is below.
    lowest: str

    def __init__(self, name: str, place: str, arrays: Mapping[str, Array], constants: Mapping[str, int]) -> None:
        self.name, self.constants = name, constants
        self._place, self._known = place, arrays
        self.arrays: dict[str, Array] = {}  # by their C names
        self.functions: list[str] = []

    def array(self, name: str, array: Array | None = None) -> str:
        """The C name of a constant array, that of the operation or the one given, which the program gets thereby."""
        full = f"{self.name}_{self._place}_{name}"
        self.arrays[full] = self._known[name] if array is None else array
        return full

    def call(self, definition: str) -> None:
        """Lets the program have a function; NAME stands for the name of the program."""
        self.functions.append(definition.replace("NAME", self.name))

    @abstractmethod
    def store(self, place: str, value: str, channel: str) -> str:
        """The statement that stores a sum, which is of that channel, behind the activations."""

    @abstractmethod
    def store_level(self, place: str, value: str) -> str:
        """The same for a value that is on the scale of the map already: a maximum or a mean of its elements."""

    @abstractmethod
    def share(self, part: str, total: str) -> str:
        """part / total, from 0 to 1, for `store_level`."""

    @abstractmethod
    def mean(self, total: str, count: str) -> str:
        """total / count."""


class Operation(ABC):
    """The work of one layer for a sample of `x_shape`. `formula` says it in the letters of the layer's docstring.

    A subclass names the types of layers whose work it is: class Distances(Summing, of=[RadialBasis]). One that derives
    from neither Summing nor Leveling computes in float alone.
    """

    #: Whether the output may lie where the input lies.
    in_place = False
    formula: str

    def __init_subclass__(cls, of: Iterable[type[Layer]] = (), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        OPERATIONS.update(dict.fromkeys(of, cls))

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        self.layer, self.x_shape = layer, x_shape
        self.y_shape: Shape = layer.output_shape(x_shape)

    def arrays(self) -> dict[str, Array]:
        """The constant arrays, in float64 or integers."""
        return {}

    @abstractmethod
    def body(self, code: Code) -> Lines:
        """The loops, from `x` to `y`."""

    def over(self, indices: str, body: Lines) -> Lines:
        """`body` for each element of y."""
        return loops(zip(indices, self.y_shape, strict=True), body)

    def integers(self, numbers: Numbers, x: Array, other: Array | None = None) -> Array:
        """What `body` gives for integers x (N, ...), before the activations; in float64 or 64 bits."""
        raise NotImplementedError


#: For each layer type that computes an operation of its own, that operation.
OPERATIONS: dict[type[Layer], type[Operation]] = {}


class Summing(Operation):
    """An operation that gives sums, which are more than a map can hold: `body` stores them with `Code.store`."""

    @abstractmethod
    def quantize(self, numbers: Numbers) -> Array:
        """Puts weights, prototypes or factors into integers; returns what a sum is in units of, for each channel.

        Raises MinicnnError for sums that may not fit into 32 bits.
        """


class Leveling(Operation):
    """An operation that gives elements of a map: `body` stores them with `Code.store_level`."""

    def grid(self, numbers: Numbers, last: bool) -> Grid:
        """The grid of its output; sets its integers. `last`: it gives the scores. Raises MinicnnError as `quantize`."""
        return numbers.x


def each_channel(values: Array, ndim: int) -> Array:
    """Values of channels (C, ...) that broadcast over arrays of `ndim` axes, the channels first."""
    return values.reshape(values.shape + (1,) * (ndim - values.ndim))


def check_bound(bound: float) -> None:
    """Raises MinicnnError for sums of that size which do not fit into 32 bits."""
    if not bound <= LARGEST:
        raise MinicnnError(f"expected sums of at most 32 bits, received up to {bound:.3g}")


def taps(window: Window, x_shape: Shape, y_shape: Shape, body: Lines) -> Lines:
    """`body` for each place of window (i, j) that is in the map: u, v are its place in the window, and `row` and
    `column` that in the map."""
    checks, places = [], []
    axes = zip(("row", "column"), "ij", "uv", *window, x_shape[1:], y_shape[1:], strict=True)
    for name, i, u, kernel, stride, padding, dilation, size, count in axes:
        places.append(f"{name} = {affine((stride, i), (dilation, u), constant=-padding)}")
        checks += [f"{name} >= 0"] if padding else []
        last = (count - 1) * stride + (kernel - 1) * dilation - padding
        checks += [f"{name} < {size}"] if last >= size else []
    if checks:
        body = [f"if ({' && '.join(checks)}) {{", *body, "}"]
    return loops(zip("uv", window[0], strict=True), [f"int {', '.join(places)};", *body])


def tap(x_shape: Shape, channel: str = "c") -> str:
    """The element of x that `taps` comes to."""
    return f"x[{place((channel, 'row', 'column'), x_shape)}]"


def input_place(window: Window) -> str:
    """The place in x that window (i, j) has at (u, v), as formulas write it: 2 i + u - 1, 2 j + v - 1."""
    _, strides, paddings, dilations = window
    axes = zip("ij", "uv", strides, paddings, dilations, strict=True)
    return ", ".join(affine((s, i), (d, u), constant=-p).replace(" * ", " ") for i, u, s, p, d in axes)
