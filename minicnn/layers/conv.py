"""The convolution layer."""

import math
from typing import Any, Self

import numpy as np

from minicnn.errors import ShapeError
from minicnn.kernels import conv as kernels
from minicnn.kernels.tile import TILE, choose_tile
from minicnn.kernels.vector import LANES

from .base import Array, Layer, Parameter, Shape, Window, bias_arrays, image_shape, pair, positive
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
        self._input_shape = x.shape
        shape = self._output_lanes(x.shape[:-1])
        if self.table is not None:
            self._x, y = x, self._buffer("y", (*shape, LANES), x.dtype)
            bias = bias_arrays(self.bias, x.dtype)[0]
            self.table.forward(x, self.weight.value, bias, y, self.window, self._buffer)
            return y
        (kernel_rows, kernel_columns), groups = self.kernel_size, self.groups
        left = self.padding[1]
        if left:
            padded = (*x.shape[:3], x.shape[3] + 2 * left, LANES)
            x = self._spread("padded x", x, padded, (1, 1), left)
        self._x = x
        y = self._buffer("y", (*shape, LANES), x.dtype)
        channels, taps = self.in_channels // groups, kernel_rows * kernel_columns
        out_step = channels * taps
        group_outs = self.out_channels // groups
        kernels.correlate(*choose_tile(group_outs, shape[3]), self.stride[1])(
            x,
            self.weight.value.ravel(),
            bias_arrays(self.bias, x.dtype)[0],
            y,
            (groups, channels, kernel_rows, kernel_columns),
            (self.stride[0], self.dilation[0], self.padding[0]),
            self.dilation[1],
            (0, group_outs * out_step, out_step, taps, kernel_columns, 1),
        )
        return y

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        if self.table is not None:
            dweight, dbias = self.weight.grad, bias_arrays(self.bias, dy.dtype)[1]
            self.table.weight_gradient(self._x, dy, dweight, dbias, self.window, self._buffer)
            if not need_dx:
                return dy
            dx = self._buffer("dx", self._input_shape, dy.dtype)
            self.table.input_gradient(dy, self.weight.value, dx, self.window, self._buffer)
            return dx
        (kernel_rows, kernel_columns), groups = self.kernel_size, self.groups
        row_geometry = (self.stride[0], self.dilation[0], self.padding[0])
        channels, group_outs = self.in_channels // groups, self.out_channels // groups

        rows, columns = choose_tile(group_outs, kernel_columns)
        tiles = (
            groups * -(-group_outs // rows) * channels * kernel_rows * -(-kernel_columns // columns)
        )
        sums = self._buffer("sums", (tiles, rows * columns, LANES), dy.dtype)
        kernels.weight_gradient(rows, columns, self.stride[1], self.dilation[1])(
            self._x,
            dy,
            self.weight.grad,
            bias_arrays(self.bias, dy.dtype)[1],
            sums,
            groups,
            row_geometry,
        )
        if not need_dx:
            return dy

        dx = self._buffer("dx", self._input_shape, dy.dtype)
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        left = reach[1] - self.padding[1]
        width = dx.shape[3] + reach[1]
        if self._edges_pay(left, dx.shape[3]):
            rows, columns = choose_tile(channels, dx.shape[3] - 2 * left, TILE // left)
            kernel = kernels.correlate(rows, columns, 1, left, kernel_columns)
        else:
            kernel = kernels.correlate(*choose_tile(channels, dx.shape[3]), 1)
            if left or self.stride != (1, 1) or width != dy.shape[3]:
                height = (dy.shape[2] - 1) * self.stride[0] + 1
                shape = (*dy.shape[:2], height, width, LANES)
                dy = self._spread("spread dy", dy, shape, self.stride, left)
        taps = kernel_rows * kernel_columns
        kernel(
            dy,
            self.weight.value.ravel(),
            np.empty(0, dy.dtype),
            dx,
            (groups, group_outs, kernel_rows, kernel_columns),
            (1, self.dilation[0], reach[0] - self.padding[0]),
            self.dilation[1],
            # Read from its last element backwards, the kernel is turned by 180 degrees.
            (taps - 1, group_outs * channels * taps, taps, channels * taps, -kernel_columns, -1),
        )
        return dx

    def _edges_pay(self, edge: int, width: int) -> bool:
        """Whether dx is faster with tiles of their own for its `edge` outer columns than with zeros around dy."""
        taps = self.kernel_size[1]
        possible = self.stride == (1, 1) and self.dilation[1] == 1 and 0 < edge <= TILE
        return possible and width > 2 * edge and edge * (edge + 1) > 0.15 * width * taps

    def _spread(self, name: str, x: Array, shape: Shape, steps: Shape, left: int) -> Array:
        spread = self._buffer(name, shape, x.dtype)
        kernels.spread_columns(x, spread, *steps, left)
        return spread

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
