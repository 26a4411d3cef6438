"""The convolution layer."""

import math
from typing import Any, Self

import numpy as np

from minicnn.errors import ShapeError
from minicnn.kernels.vector import LANES

from . import direct, winograd
from .base import (
    Array,
    Call,
    Layer,
    Parameter,
    Shape,
    Window,
    bias_arrays,
    image_shape,
    pair,
    positive,
)
from .connections import Connections, check_table
from .initialization import Scheme, draw


class Conv2d(Layer):
    """Cross-correlation of (N, C, H, W) with a kernel per output channel (what deep learning calls convolution).

    y[n, o, i, j] = bias[o] + sum over c, u, v of weight[o, c, u, v] x[n, c, i s + u d - p, j s + v d - p]

    with stride s, dilation d, padding p (x is 0 beyond its edge), each for rows and columns. With `groups` > 1 the
    channels fall into that many groups, and outputs of a group see the inputs of the same group only.

    `connections`, a table of truth values (out_channels, in_channels), or "lenet5" for table I of the paper, says which
    input maps an output map sees; the sums above are over these alone. Kernels of other pairs do not exist: the weight
    is (connections, kernel rows, kernel columns), in the table's row-major order.

    Output: (out_channels, OH, OW), OH = floor((H + 2 p - d (kernel - 1) - 1) / s) + 1, likewise OW.
    Parameters: weight (out_channels, in_channels // groups, kernel rows, kernel columns), bias (out_channels,).

    Backward:
        dbias[o]          = sum over n, i, j of dy[n, o, i, j]
        dweight[o, c, u, v] = sum over n, i, j of dy[n, o, i, j] x[n, c, i s + u d - p, j s + v d - p]
        dx[n, c, h, w]    = sum over o, u, v of weight[o, c, u, v] dy[n, o, i, j] with i s + u d - p = h, likewise w

    dx is itself a cross-correlation, of dy (with s - 1 zeros between its elements) with the kernel turned by 180
    degrees. The layer is shift equivariant, not invariant: a shifted image gives a shifted map.

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), section II.A.
    Raises ShapeError for arguments out of range and for inputs that do not fit.
    """

    per_sample = True
    _at_points: tuple[Array, Array] | None  # what `winograd` keeps of the forward pass

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        connections: Any = None,
    ) -> None:
        self.in_channels = positive(in_channels, "Conv2d: in_channels")
        self.out_channels = positive(out_channels, "Conv2d: out_channels")
        self.kernel_size = pair(kernel_size, "Conv2d: kernel_size", 1)
        self.stride = pair(stride, "Conv2d: stride", 1)
        self.padding = pair(padding, "Conv2d: padding", 0)
        self.dilation = pair(dilation, "Conv2d: dilation", 1)
        self.groups = positive(groups, "Conv2d: groups")
        if in_channels % groups or out_channels % groups:
            raise ShapeError(
                f"Conv2d: expected groups to divide in_channels {in_channels} and "
                f"out_channels {out_channels}, received {groups}"
            )
        shape: Shape = (out_channels, in_channels // groups)
        self.table = None
        if connections is not None:
            if groups != 1:
                raise ShapeError(f"Conv2d: expected groups 1 with connections, received {groups}")
            self.table = Connections(check_table(connections, out_channels, in_channels))
            shape = (len(self.table),)
        self.weight = Parameter("weight", np.zeros((*shape, *self.kernel_size), np.float32))
        self.bias = Parameter("bias", np.zeros(out_channels, np.float32)) if bias else None
        self.initialize()

    def parameters(self) -> list[Parameter]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def initialize(
        self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None
    ) -> Self:
        fans = None if self.table is None else self.table.fans(math.prod(self.kernel_size))
        draw(scheme, rng, self.weight, self.bias, fans)
        return self

    def options(self) -> dict[str, Any]:
        options = super().options()
        del options["connections"]  # the method of that name
        return (
            options if self.table is None else options | {"connections": self.table.table.tolist()}
        )

    def full_weight(self) -> Array:
        """The weight as (out_channels, in_channels // groups, kernel rows, kernel columns), 0 for kernels that do not
        exist; a copy."""
        weight = self.weight.value
        return weight.copy() if self.table is None else self.table.full(weight)

    @property
    def window(self) -> Window:
        return self.kernel_size, self.stride, self.padding, self.dilation

    def output_shape(self, input_shape: Shape) -> Shape:
        _, height, width = image_shape(self, input_shape, self.in_channels)
        return (self.out_channels, *output_size(repr(self), (height, width), self.window))

    def multiply_adds(self, input_shape: Shape) -> int:
        _, rows, columns = self.output_shape(input_shape)
        return self.weight.value.size * rows * columns

    def connections(self, input_shape: Shape) -> int:
        biases = 0 if self.bias is None else math.prod(self.output_shape(input_shape))
        return self.multiply_adds(input_shape) + biases

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        weight = self.weight.value
        if self.table is None:
            self._repeat("forward", (x, weight), lambda: self._calls_of_forward(x))
        else:
            self._set_up(x)
            bias = bias_arrays(self.bias, x.dtype)[0]
            self.table.forward(x, weight, bias, self._y, self.window, self._buffer)
        return self._y

    def _set_up(self, x: Array) -> None:
        self._x = x
        self._y = self._buffer("y", (*self._output_lanes(x.shape[:-1]), LANES), x.dtype)

    def _calls_of_forward(self, x: Array) -> list[Call]:
        self._set_up(x)
        self._at_points = None
        if winograd.pays(self, x.shape[1:-1], self._y.shape[1:-1]):
            self._at_points, calls = winograd.forward(self, x, self._y)
            return calls
        return direct.forward(self, x, self._y)

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        dweight = self.weight.grad
        dx = self._buffer("dx", self._x.shape, dy.dtype) if need_dx else None
        if self.table is None:
            # With another list of the forward pass, other buffers may hold what it has left.
            key = dy, dx, dweight, self._x, self._list("forward")
            self._repeat("backward", key, lambda: self._calls_of_backward(dy, dx))
        else:
            dbias = bias_arrays(self.bias, dy.dtype)[1]
            self.table.weight_gradient(self._x, dy, dweight, dbias, self.window, self._buffer)
            if dx is not None:
                self.table.input_gradient(dy, self.weight.value, dx, self.window, self._buffer)
        return dy if dx is None else dx

    def _calls_of_backward(self, dy: Array, dx: Array | None) -> list[Call]:
        x, at_points = self._x, self._at_points
        if at_points and winograd.backward_pays(self, x.shape[1:-1], dy.shape[1:-1]):
            return winograd.backward(self, at_points, dy, dx)
        padded = at_points is None and self._list("forward") is not None
        return direct.backward(self, x, padded, dy, dx)

    def __repr__(self) -> str:
        parts: list[Any] = [self.in_channels, self.out_channels, f"kernel_size={self.kernel_size}"]
        defaults = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
        parts += [
            f"{name}={getattr(self, name)}"
            for name, default in defaults.items()
            if getattr(self, name) != default
        ]
        parts += ["bias=False"] if self.bias is None else []
        if self.table is not None:
            parts.append(f"connections={len(self.table)} of {self.table.table.size}")
        return f"Conv2d({', '.join(map(str, parts))})"


def output_size(place: str, input_size: tuple[int, int], window: Window) -> tuple[int, int]:
    """(OH, OW) of a convolution's output. Raises ShapeError, which names the `place`, where no window fits."""
    sizes = []
    for n, k, s, p, d in zip(input_size, *window, strict=True):
        size = (n + 2 * p - d * (k - 1) - 1) // s + 1
        if size < 1:
            raise ShapeError(
                f"{place}: expected an input (with padding) at least as large as the kernel, "
                f"{d * (k - 1) + 1}, received {n} + 2 * {p}"
            )
        sizes.append(size)
    return sizes[0], sizes[1]
