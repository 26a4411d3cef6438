"""The convolution layer."""

import math
from typing import Any, Self

import numpy as np

from minicnn.engine.arrays import Array, Shape
from minicnn.engine.memory import Map
from minicnn.engine.work import Work
from minicnn.errors import ShapeError

from ..arguments import Padding, Window, begins, check_window, ends, image_shape, output_size, positive
from ..explain import Explanation, Place, Step
from ..explain_windows import View, bias_of_map, gradient_of_input, shared_weight, window_sum
from ..initializers import Scheme, draw
from ..layer import Backward, OnnxGraph
from ..parameter import Parameter
from ..weighted import WeightedLayer, onnx_weights
from .direct import Direct, Geometry, bias_gradient
from .table import Connections, check_table
from .winograd import Winograd
from .winograd2d import Winograd2d

#: How a convolution can be computed.
WAYS: tuple[type[Direct], ...] = (Direct, Winograd, Winograd2d)


class Conv2d(WeightedLayer):
    """Cross-correlation of (N, C, H, W) with a kernel per output channel (what deep learning calls convolution).

    y[n, o, i, j] = bias[o] + sum over c, u, v of weight[o, c, u, v] x[n, c, i s + u d - p, j s + v d - p]

    with stride s, dilation d, padding p (x is 0 beyond its edge), each for rows and columns. With `groups` > 1 the
    channels fall into that many groups, and outputs of a group see the inputs of the same group only.

    `padding` may also be (top, bottom, left, right); then p above is that at the top and to the left, and 2 p below the
    sum of both sides. "same" lets the output have the size of the input (stride 1 only): d (kernel - 1) rows and
    columns, of an odd number one more at the bottom and to the right.

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
    _arguments = frozenset({"table"})

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Padding = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        connections: Any = None,
    ) -> None:
        self.in_channels = positive(in_channels, "Conv2d: in_channels")
        self.out_channels = positive(out_channels, "Conv2d: out_channels")
        self.kernel_size, self.stride, self.padding, self.dilation = check_window(
            "Conv2d", kernel_size, stride, padding, dilation
        )
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

    def initialize(self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None) -> Self:
        fans = None if self.table is None else self.table.fans(math.prod(self.kernel_size))
        draw(scheme, rng, self.weight, self.bias, fans)
        return self

    def options(self) -> dict[str, Any]:
        options = super().options()
        del options["connections"]  # the method of that name
        return options if self.table is None else options | {"connections": self.table.table.tolist()}

    def full_weight(self) -> Array:
        """The weight as (out_channels, in_channels // groups, kernel rows, kernel columns), 0 for kernels that do not
        exist; a copy."""
        weight = self.weight.value
        return weight.copy() if self.table is None else self.table.full(weight)

    @property
    def window(self) -> Window:
        return self.kernel_size, self.stride, begins(self.padding), self.dilation

    def output_shape(self, input_shape: Shape) -> Shape:
        _, height, width = image_shape(self, input_shape, self.in_channels)
        return (self.out_channels, *output_size(repr(self), (height, width), self.window, ends(self.padding)))

    def multiply_adds(self, input_shape: Shape) -> int:
        _, rows, columns = self.output_shape(input_shape)
        return self.weight.value.size * rows * columns

    def connections(self, input_shape: Shape) -> int:
        biases = 0 if self.bias is None else math.prod(self.output_shape(input_shape))
        return self.multiply_adds(input_shape) + biases

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        y = work.map(self.output_shape(x.shape))
        weight = work.array(self.weight.cell, "value")
        numbers = None if self.table is None else self.table.numbers(self.kernel_size)
        geometry = Geometry(self.out_channels, self.in_channels, self.window, ends(self.padding), self.groups)
        way = fastest(geometry, x.shape, y.shape)(work, geometry, weight, numbers)
        way.forward(x, self.bias_array(work, "value"), y)

        def backward(dy: Map, need_dx: bool) -> Map:
            dweight, dbias = work.array(self.weight.cell, "grad"), self.bias_array(work, "grad")
            way.weight_gradient(dy, dweight)
            if dbias is not None:
                bias_gradient(work, dy, dbias)
            if not need_dx:
                return dy
            dx = work.map(x.shape)
            way.input_gradient(dy, dx)
            return dx

        return y, backward

    def explain(self, step: Step, at: Place) -> Explanation:
        o, view, weight, gradient = at[0], View(step, self.window, at), self.full_weight(), step.gradients["weight"]
        outs = self.out_channels // self.groups
        group = o // outs
        first, users = group * weight.shape[1], range(group * outs, (group + 1) * outs)
        bias = 0.0 if self.bias is None else float(self.bias.value[o])
        forward, (c, u, v), source = window_sum(view, weight[o], first, bias)
        stored: Place = (o, c, u, v)
        if self.table is not None:  # the weight has only the kernels that exist
            number, gradient = self.table.table[:o].sum() + self.table.table[o, :c].sum(), self.table.full(gradient)
            stored = (int(number), u, v)
            forward.append(f"the kernel from map {c} to map {o} is number {number} of those that exist")
        backward = [
            *shared_weight(step, self.window, gradient, o, first + c, u, v),
            *bias_of_map(step, o),
            *gradient_of_input(view, source, users, weight, lambda o, i, j, u, v: (o, c, u, v)),
        ]
        return Explanation(source, forward, backward, stored)

    def filters(self) -> tuple[str, Array, list[str]]:
        weight = self.full_weight()
        if self.table is not None:
            weight[~self.table.table] = np.nan
        return "", weight, [str(k) for k in range(len(weight))]

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return graph.node(
            "Conv",
            x,
            *onnx_weights(graph, self.full_weight(), self.bias),
            kernel_shape=self.kernel_size,
            strides=self.stride,
            pads=begins(self.padding) + ends(self.padding),
            dilations=self.dilation,
            group=self.groups,
        )

    def __repr__(self) -> str:
        parts: list[Any] = [self.in_channels, self.out_channels, f"kernel_size={self.kernel_size}"]
        parts += self.differing(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)
        parts += ["bias=False"] if self.bias is None else []
        if self.table is not None:
            parts.append(f"connections={len(self.table)} of {self.table.table.size}")
        return f"Conv2d({', '.join(map(str, parts))})"


def fastest(geometry: Geometry, x_shape: Shape, y_shape: Shape) -> type[Direct]:
    return min(WAYS, key=lambda way: way.cost(geometry, x_shape, y_shape))
