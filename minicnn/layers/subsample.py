"""The subsampling layer of LeNet-5, whose pooling is trained."""

import math
from typing import Self

import numpy as np

from minicnn.errors import ShapeError
from minicnn.kernels import subsample as kernels
from minicnn.kernels import LANES

from .base import Array, Layer, Parameter, Shape, Window, image_shape, pair, positive
from .initialization import Fans, Scheme, draw


class Subsample(Layer):
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

    per_sample = True

    def __init__(
        self,
        in_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
    ) -> None:
        self.in_channels = positive(in_channels, "Subsample: in_channels")
        self.kernel_size = pair(kernel_size, "Subsample: kernel_size", 1)
        self.stride = self.kernel_size if stride is None else pair(stride, "Subsample: stride", 1)
        self.weight = Parameter("weight", np.zeros(in_channels, np.float32))
        self.bias = Parameter("bias", np.zeros(in_channels, np.float32))
        self.initialize()

    def parameters(self) -> list[Parameter]:
        return [self.weight, self.bias]

    def initialize(
        self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None
    ) -> Self:
        window_size = math.prod(self.kernel_size)
        if scheme == "lecun-1998" or not isinstance(scheme, str):
            fans = Fans(window_size, window_size, window_size)
            draw(scheme, rng, self.weight, self.bias, fans)
        else:
            self.weight.value[...], self.bias.value[...] = 1 / window_size, 0
        return self

    @property
    def window(self) -> Window:
        return self.kernel_size, self.stride, (0, 0), (1, 1)

    def output_shape(self, input_shape: Shape) -> Shape:
        channels, *size = image_shape(self, input_shape, self.in_channels)
        for n, k in zip(size, self.kernel_size, strict=True):
            if n < k:
                raise ShapeError(
                    f"{self!r}: expected an input at least as large as the window, {k}, received {n}"
                )
        rows, columns = (
            (n - k) // s + 1 for n, k, s in zip(size, self.kernel_size, self.stride, strict=True)
        )
        return channels, rows, columns

    def multiply_adds(self, input_shape: Shape) -> int:
        channels, rows, columns = self.output_shape(input_shape)
        return channels * rows * columns

    def connections(self, input_shape: Shape) -> int:
        return (math.prod(self.kernel_size) + 1) * math.prod(self.output_shape(input_shape))

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        self._input_shape = x.shape
        shape = (*self._output_lanes(x.shape[:-1]), LANES)
        y = self._buffer("y", shape, x.dtype)
        self._sums = self._buffer("sums", shape, x.dtype)
        kernel = kernels.forward(*self.kernel_size)
        kernel(x, self.weight.value, self.bias.value, self._sums, y, self.stride)
        return y

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        places = (*dy.shape[:2], -1, LANES)
        sums = self._sums.reshape(places)
        kernels.parameter_gradients(sums, dy.reshape(places), self.weight.grad, self.bias.grad)
        if not need_dx:
            return dy
        dx = self._buffer("dx", self._input_shape, dy.dtype)
        kernels.backward(*self.kernel_size)(dy, self.weight.value, dx, self.stride)
        return dx

    def __repr__(self) -> str:
        stride = "" if self.stride == self.kernel_size else f", stride={self.stride}"
        return f"Subsample({self.in_channels}, kernel_size={self.kernel_size}{stride})"
