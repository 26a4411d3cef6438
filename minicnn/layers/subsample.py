"""The subsampling layer of LeNet-5, whose pooling is trained."""

import math
from typing import Self

import numpy as np

from minicnn.engine.arrays import Shape
from minicnn.engine.cache import Kernels
from minicnn.engine.memory import Map
from minicnn.engine.work import Work

from .arguments import image_shape, positive
from .explain import PRODUCT, Explanation, Place, Step, index, number
from .explain_windows import View, bias_of_map
from .initializers import Fans, Scheme, draw
from .layer import Backward, OnnxGraph
from .parameter import Parameter
from .pooling import Pool
from .products import sum_rows
from .weighted import onnx_weights

kernels = Kernels("subsample")


class Subsample(Pool):
    """y[n, c, i, j] = weight[c] S + bias[c], where S is the sum of x[n, c] over window (i, j).

    Window (i, j) begins at row i s, column j s and is `kernel_size` large; `stride` is the kernel size unless given.
    The squashing function that follows in LeNet-5 is a layer of its own, `ScaledTanh`.

    Output: (in_channels, OH, OW), OH = floor((H - kernel) / s) + 1, likewise OW.
    Parameters: weight (in_channels,), bias (in_channels,). They begin as those of mean pooling, weight 1 / window size
    and bias 0, or with the scheme lecun-1998 both uniform in +-2.4 / window size (or in a range that is given).

    Backward:
        dweight[c] = sum over n, i, j of dy[n, c, i, j] S
        dbias[c]   = sum over n, i, j of dy[n, c, i, j]
        dx         = weight[c] dy at each place of a window; where windows overlap, gradients add up

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), section II.B.
    Raises ShapeError for arguments out of range and for inputs that do not fit.
    """

    linear = True
    #: Also of a layer that an earlier version has pickled.
    padding, ceil_mode = (0, 0), False

    def __init__(
        self, in_channels: int, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] | None = None
    ) -> None:
        self.in_channels = positive(in_channels, "Subsample: in_channels")
        super().__init__(kernel_size, stride)
        self.weight = Parameter("weight", np.zeros(in_channels, np.float32))
        self.bias = Parameter("bias", np.zeros(in_channels, np.float32))
        self.initialize()

    def parameters(self) -> list[Parameter]:
        return [self.weight, self.bias]

    def initialize(self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None) -> Self:
        window_size = math.prod(self.kernel_size)
        if scheme == "lecun-1998" or not isinstance(scheme, str):
            fans = Fans(window_size, window_size, window_size)
            draw(scheme, rng, self.weight, self.bias, fans)
        else:
            self.weight.value[...], self.bias.value[...] = 1 / window_size, 0
        return self

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape, self.in_channels)
        return super().output_shape(input_shape)

    def multiply_adds(self, input_shape: Shape) -> int:
        channels, rows, columns = self.output_shape(input_shape)
        return channels * rows * columns

    def connections(self, input_shape: Shape) -> int:
        return (math.prod(self.kernel_size) + 1) * math.prod(self.output_shape(input_shape))

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        y = work.map(self.output_shape(x.shape))
        sums = work.map(y.shape)
        weight, bias = (work.array(p.cell, "value") for p in self.parameters())
        channels, places = self.in_channels, y.vectors // self.in_channels
        geometry = self._geometry(x.shape, y.shape)[:-2]  # without the padding
        work.call(kernels.forward, x, weight, bias, sums, y, *geometry, tasks=channels)

        def backward(dy: Map, need_dx: bool) -> Map:
            dweight, dbias = work.numbers(channels), work.numbers(channels)
            work.call(kernels.gradients, sums, dy, dweight, dbias, places, tasks=channels)
            for shares, parameter in zip((dweight, dbias), self.parameters(), strict=True):
                sum_rows(work, shares, work.array(parameter.cell, "grad"))
            if not need_dx:
                return dy
            dx = work.map(x.shape)
            work.call(kernels.backward, dy, weight, dx, *geometry, tasks=channels)
            return dx

        return y, backward

    def explain(self, step: Step, at: Place) -> Explanation:
        c, view = at[0], View(step, self.window, at)
        weight, bias = (float(p.value[c]) for p in self.parameters())
        total, dy = float(view.of(c).sum(dtype=np.float64)), float(step.dy[at])
        source, share = view.source(c, *view.strongest(view.of(c)[None])[1:]), number(weight * dy, PRODUCT)
        forward = [
            *view.pooled(),
            f"  {index('y', at)} = weight[{c}] sum + bias[{c}] = {number(weight)} x {number(total)} + {number(bias)} = "
            f"{number(step.y[at], PRODUCT)}",
        ]
        backward = [
            f"weight[{c}] was used by all {step.y[c].size} windows of the map: dweight[{c}] = sum of dy times the sum "
            f"of the window = {number(step.gradients['weight'][c], PRODUCT)}",
            *bias_of_map(step, c),
            f"each place of the window gets weight[{c}] dy = {number(weight)} x {number(dy)} = "
            f"{share}; {view.arrives(source, share)}",
        ]
        return Explanation(source, forward, backward, (c,))

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        """A convolution of each map with a kernel of equal weights."""
        weight = np.tile(self.weight.value.reshape(-1, 1, 1, 1), self.kernel_size)
        return graph.node(
            "Conv",
            x,
            *onnx_weights(graph, weight, self.bias),
            kernel_shape=self.kernel_size,
            strides=self.stride,
            group=self.in_channels,
        )

    def __repr__(self) -> str:
        return f"Subsample({', '.join([str(self.in_channels), f'kernel_size={self.kernel_size}', *self.differing()])})"
