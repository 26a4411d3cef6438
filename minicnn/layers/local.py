"""The locally connected layer: a convolution's windows without its sharing of weights."""

from typing import Self

import numpy as np

from minicnn.engine.arrays import Array, Shape
from minicnn.engine.cache import Kernels
from minicnn.engine.memory import Map
from minicnn.engine.work import Work
from minicnn.errors import ShapeError
from minicnn.kernels import LANES

from .arguments import Padding, Window, begins, check_window, ends, image_shape, output_size, pair, positive
from .conv.direct import bias_gradient, framed, stay, tap_gradient, unframed
from .explain import PRODUCT, Explanation, Place, Step, index, number
from .explain_windows import View, gradient_of_input, window_sum
from .initializers import Scheme, draw
from .layer import Backward, OnnxGraph
from .parameter import Parameter
from .weighted import WeightedLayer

kernels = Kernels("local")

#: Rows of the tiles that there are; a short list, so that a new shape needs no new kernel.
TILES = (6, 4, 2, 1)


class LocallyConnected2d(WeightedLayer):
    """Like Conv2d, but each position of the output has weights and biases of its own.

    y[n, o, i, j] = bias[o, i, j] + sum over c, u, v of weight[i, j, o, c, u, v] x[n, c, i s + u d - p, j s + v d - p]

    with stride s, dilation d, padding p (x is 0 beyond its edge), each for rows and columns. As the number of positions
    decides the number of weights, the size of the input, `input_size` = (H, W), is part of the layer. There are no
    groups; `padding` is as in Conv2d. It costs the multiply-adds of a convolution and has OH OW times its parameters.

    Output: (out_channels, OH, OW), OH = floor((H + 2 p - d (kernel - 1) - 1) / s) + 1, likewise OW.
    Parameters: weight (OH, OW, out_channels, in_channels, kernel rows, kernel columns), bias (out_channels, OH, OW).

    Backward:
        dbias[o, i, j]            = sum over n of dy[n, o, i, j]
        dweight[i, j, o, c, u, v] = sum over n of dy[n, o, i, j] x[n, c, i s + u d - p, j s + v d - p]
        dx[n, c, h, w]            = sum over o, i, j, u, v of weight[i, j, o, c, u, v] dy[n, o, i, j]
                                    with i s + u d - p = h and j s + v d - p = w
    The dbias and dweight of a convolution are the sums of these over i and j: sharing a weight is adding up its
    gradients. The layer is not shift equivariant.

    Source: LeCun, Generalization and network design strategies (1989), section 3.
    Raises ShapeError for arguments out of range and for inputs that do not fit.
    """

    per_sample = True
    _arguments = frozenset({"output_size"})

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: int | tuple[int, int],
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Padding = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
    ) -> None:
        self.in_channels = positive(in_channels, "LocallyConnected2d: in_channels")
        self.out_channels = positive(out_channels, "LocallyConnected2d: out_channels")
        self.input_size = pair(input_size, "LocallyConnected2d: input_size", 1)
        self.kernel_size, self.stride, self.padding, self.dilation = check_window(
            "LocallyConnected2d", kernel_size, stride, padding, dilation
        )
        self.output_size = output_size("LocallyConnected2d", self.input_size, self.window, ends(self.padding))
        shape = (*self.output_size, out_channels, in_channels, *self.kernel_size)
        self.weight = Parameter("weight", np.zeros(shape, np.float32))
        biases = (out_channels, *self.output_size)
        self.bias = Parameter("bias", np.zeros(biases, np.float32)) if bias else None
        self.initialize()

    def initialize(self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None) -> Self:
        rng = np.random.default_rng(rng)
        for i, j in np.ndindex(*self.output_size):  # at each position, it is a convolution's kernel
            weight = Parameter("weight", self.weight.value[i, j])
            bias = None if self.bias is None else Parameter("bias", self.bias.value[:, i, j])
            draw(scheme, rng, weight, bias)
            if self.bias is not None and bias is not None:  # whose elements do not lie side by side
                self.bias.value[:, i, j] = bias.value
        return self

    @property
    def window(self) -> Window:
        return self.kernel_size, self.stride, begins(self.padding), self.dilation

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape, self.in_channels)
        if input_shape[1:] != self.input_size:
            raise ShapeError(
                f"{self!r}: expected an input of ({self.in_channels}, {self.input_size[0]}, "
                f"{self.input_size[1]}) a sample, received {input_shape}"
            )
        return (self.out_channels, *self.output_size)

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        y = work.map((self.out_channels, *self.output_size))
        weight, bias = work.array(self.weight.cell, "value"), self.bias_array(work, "value")
        wide = framed(work, x, begins(self.padding), ends(self.padding))
        starts, table = self._windows(wide.shape)
        sizes = (self.out_channels, len(table), len(starts))
        kernel = kernels.forward(_tile_rows(self.out_channels))
        arguments = (wide, weight, weight if bias is None else bias, y, starts, table, *sizes)
        work.call(kernel, *arguments, int(bias is not None), tasks=len(starts))

        def backward(dy: Map, need_dx: bool) -> Map:
            self._weight_gradient(work, dy, wide, work.array(self.weight.cell, "grad"))
            dbias = self.bias_array(work, "grad")
            if dbias is not None:
                bias_gradient(work, dy, dbias)
            if not need_dx:
                return dy
            dwide = work.map(wide.shape)
            kernel = kernels.backward(_tile_rows(len(table)))
            work.call(kernel, dy, weight, dwide, starts, table, *sizes, dwide.vectors)
            return unframed(work, dwide, x.shape, begins(self.padding))

        return y, backward

    def _windows(self, wide: Shape) -> tuple[Array, Array]:
        """Where in x with its padding the windows of all positions begin, and where in a window its taps are."""
        _, height, width = wide
        i, j = np.indices(self.output_size)
        starts = LANES * (i * self.stride[0] * width + j * self.stride[1])
        c, u, v = np.indices((self.in_channels, *self.kernel_size))
        rows, columns = c * height + u * self.dilation[0], v * self.dilation[1]
        return starts.ravel(), (LANES * (rows * width + columns)).ravel()

    def _weight_gradient(self, work: Work, dy: Map, wide: Map, dweight: Array) -> None:
        """For each position a sum over blocks, as a convolution's is one over the rows of a map."""
        starts, table = self._windows(wide.shape)
        outs, taps, positions = self.out_channels, len(table), len(starts)
        numbers = np.arange(positions)
        panels = np.stack([numbers * LANES, starts, numbers * outs * taps], axis=1)
        dy, wide = stay(work, dy), stay(work, wide)
        sizes = (positions * LANES, work.blocks, 1, work.block_step, work.block_step, 0)
        tap_gradient(work.after, dy, wide, dweight, panels, table, outs, *sizes)

    def explain(self, step: Step, at: Place) -> Explanation:
        (o, i, j), view, weight = at, View(step, self.window, at), self.weight.value
        bias = 0.0 if self.bias is None else float(self.bias.value[at])
        forward, kernel_place, source = window_sum(view, weight[i, j, o], 0, bias)
        place = (i, j, o, *kernel_place)
        backward = [
            f"a weight is used at one place only, and its gradient is one product: {index('dweight', place)} = "
            f"{index('dy', at)} {index('x', source)} = {number(step.dy[at])} x {number(step.x[source])} = "
            f"{number(step.gradients['weight'][place], PRODUCT)}",
            *gradient_of_input(
                view, source, range(len(step.y)), weight, lambda o, i, j, u, v: (i, j, o, source[0], u, v)
            ),
        ]
        return Explanation(source, forward, backward, place)

    def filters(self) -> tuple[str, Array, list[str]]:
        """Those of the strongest map, at some places."""
        weight = self.weight.value
        strongest = int(np.square(weight).sum(axis=(0, 1, 3, 4, 5)).argmax())
        rows, columns = (sorted(set(np.linspace(0, n - 1, 4).round().astype(int).tolist())) for n in self.output_size)
        note = f", map {strongest} at some places (row,column)"
        seen = weight[np.ix_(rows, columns)][:, :, strongest].reshape(-1, *weight.shape[3:])
        return note, seen, [f"{i},{j}" for i in rows for j in columns]

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        """A matrix product at each position, with the pixels of its window, which a Gather puts in a row."""
        positions = self.output_size[0] * self.output_size[1]
        if any(self.padding):
            pads = np.array([0, 0, *begins(self.padding), 0, 0, *ends(self.padding)])
            x = graph.node("Pad", x, graph.constant("pads", pads))
        wide = [n + p + q for n, p, q in zip(self.input_size, begins(self.padding), ends(self.padding), strict=True)]
        starts, taps = self._windows((self.in_channels, *wide))
        weight = self.weight.value.reshape(positions, self.out_channels, -1).swapaxes(1, 2)
        windows = graph.constant("windows", (starts[:, None] + taps) // LANES)
        x = graph.node("Gather", graph.node("Flatten", x, axis=1), windows, axis=1)
        x = graph.node("Transpose", x, perm=(1, 0, 2))  # (positions, N, pixels of a window)
        y = graph.node("MatMul", x, graph.constant("weight", weight))  # (positions, N, out_channels)
        y = graph.node("Transpose", y, perm=(1, 2, 0))
        shape_of_y = np.array([0, self.out_channels, *self.output_size])  # 0 leaves N as it is
        y = graph.node("Reshape", y, graph.constant("shape", shape_of_y))
        return y if self.bias is None else graph.node("Add", y, graph.constant("bias", self.bias.value))

    def __repr__(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, input_size={self.input_size}"]
        parts.append(f"kernel_size={self.kernel_size}")
        parts += self.differing(stride=(1, 1), padding=(0, 0), dilation=(1, 1))
        parts += ["bias=False"] if self.bias is None else []
        return f"LocallyConnected2d({', '.join(parts)})"


def _tile_rows(count: int) -> int:
    """The tile that covers `count` rows in the least time: sums wait for each other for that of 4."""
    return min((r for r in TILES if r <= count), key=lambda r: -(-count // r) * max(r, 4))
