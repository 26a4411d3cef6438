"""What each operation of the C program is: a layer's loops, and what the layer's weights are in them.

The loops are written once and serve floats and integers: `Code` has the types, the names of arrays, and how a result
is stored.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import numpy as np

from minicnn.engine.arrays import Array, Shape
from minicnn.layers import Layer
from minicnn.layers.arguments import Window

from .text import Lines, affine, loops


class Code(ABC):
    """What the loops of one operation are written with."""

    #: Whether maps have 8 bits and sums 32.
    integer: bool
    #: The C type of sums.
    number: str
    #: What no element of a map is below.
    lowest: str

    @abstractmethod
    def array(self, name: str) -> str:
        """The C name of a constant array of the operation, which the program gets thereby."""

    @abstractmethod
    def constant(self, name: str) -> int:
        """A number of the operation's integer arithmetic."""

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

    A subclass names the types of layers whose work it is: class Product(Weighted, of=[Dense]).
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


#: For each layer type that computes an operation of its own, that operation.
OPERATIONS: dict[type[Layer], type[Operation]] = {}


class Weighted(Operation):
    """y = a sum of x times weights, plus a bias for each channel of y.

    weight, bias  in float64, with what follows folded in; the bias 0 where the layer has none
    """

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        self.weight = self._weight()
        self.bias = self._bias()
        self._twin: tuple[Array, Any] | None = None  # the last weight of `sums`, and the layer that has it

    def _weight(self) -> Array:
        weight: Array = self.layer.weight.value.astype(np.float64)
        return weight

    def _bias(self) -> Array:
        bias: Array = np.zeros(self.y_shape[0]) if self.layer.bias is None else self.layer.bias.value
        return bias.astype(np.float64)

    def arrays(self) -> dict[str, Array]:
        return {"weight": self.weight, "bias": self.bias}

    def channels(self) -> Array:
        """The channel of y that each weight is for: integers that broadcast to the weight's shape."""
        return np.arange(self.y_shape[0]).reshape(-1, *[1] * (self.weight.ndim - 1))

    def fold(self, factor: Array, shift: Array) -> None:
        """Makes it give factor[c] y + shift[c] for each channel c of y."""
        each = (-1,) + (1,) * (self.bias.ndim - 1)
        self.weight = self.weight * factor[self.channels()]
        self.bias = self.bias * factor.reshape(each) + shift.reshape(each)

    def sums(self, x: Array, weight: Array) -> Array:
        """The sums without biases of integers x (N, ...) and integer weights, in float64, which holds them exactly.

        It is the layer itself that computes them. Where its way has rounding errors in between (Winograd), they are
        far below 1.
        """
        if self._twin is None or self._twin[0] is not weight:
            twin = deepcopy(self.layer).astype(np.float64)
            twin.weight.value = weight
            if twin.bias is not None:
                twin.bias.value = 0
            self._twin = weight, twin
        sums: Array = np.rint(self._twin[1].forward(x))
        return sums

    def first(self, code: Code, indices: str) -> str:
        """The line that begins a sum, with the bias if there is one."""
        begin = code.array("bias") + indices if self.bias.any() else "0"
        return f"{code.number} sum = {begin};"


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
    return loops(list(zip("uv", window[0], strict=True)), [f"int {', '.join(places)};", *body])


def input_place(window: Window) -> str:
    """The place in x that window (i, j) has at (u, v), as formulas write it: 2 i + u - 1, 2 j + v - 1."""
    _, strides, paddings, dilations = window
    axes = zip("ij", "uv", strides, paddings, dilations, strict=True)
    return ", ".join(affine((s, i), (d, u), constant=-p).replace(" * ", " ") for i, u, s, p, d in axes)
