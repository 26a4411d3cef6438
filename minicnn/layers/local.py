"""The locally connected layer: a convolution's windows without its sharing of weights."""

from typing import Self

import numpy as np

from minicnn.errors import ShapeError
from minicnn.kernels import local as kernels
from minicnn.kernels.conv import spread_columns
from minicnn.kernels.tile import TILE, choose_tile
from minicnn.kernels import LANES

from .base import Array, Layer, Parameter, Shape, Window, bias_arrays, image_shape, pair, positive
from .conv import output_size
from .initialization import Scheme, draw

#: Blocks in a tile of forward or, at most, dx.
TILE_BLOCKS = 4


class LocallyConnected2d(Layer):
    """Like Conv2d, but each position of the output has weights and biases of its own.

    y[n, o, i, j] = bias[o, i, j] + sum over c, u, v of weight[i, j, o, c, u, v] x[n, c, i s + u d - p, j s + v d - p]

    with stride s, dilation d, padding p (x is 0 beyond its edge), each for rows and columns. As the number of positions
    decides the number of weights, the size of the input, `input_size` = (H, W), is part of the layer. There are no
    groups. It costs the multiply-adds of a convolution and has OH OW times its parameters.

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

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: int | tuple[int, int],
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
    ) -> None:
        self.in_channels = positive(in_channels, "LocallyConnected2d: in_channels")
        self.out_channels = positive(out_channels, "LocallyConnected2d: out_channels")
        self.input_size = pair(input_size, "LocallyConnected2d: input_size", 1)
        self.kernel_size = pair(kernel_size, "LocallyConnected2d: kernel_size", 1)
        self.stride = pair(stride, "LocallyConnected2d: stride", 1)
        self.padding = pair(padding, "LocallyConnected2d: padding", 0)
        self.dilation = pair(dilation, "LocallyConnected2d: dilation", 1)
        self.output_size = output_size("LocallyConnected2d", self.input_size, self.window)
        shape = (*self.output_size, out_channels, in_channels, *self.kernel_size)
        self.weight = Parameter("weight", np.zeros(shape, np.float32))
        biases = (out_channels, *self.output_size)
        self.bias = Parameter("bias", np.zeros(biases, np.float32)) if bias else None
        self.initialize()

    def parameters(self) -> list[Parameter]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def initialize(
        self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None
    ) -> Self:
        rng = np.random.default_rng(rng)
        for i, j in np.ndindex(*self.output_size):  # at each position, it is a convolution's kernel
            weight = Parameter("weight", self.weight.value[i, j])
            bias = None if self.bias is None else Parameter("bias", self.bias.value[:, i, j])
            draw(scheme, rng, weight, bias)
        return self

    @property
    def window(self) -> Window:
        return self.kernel_size, self.stride, self.padding, self.dilation

    def output_shape(self, input_shape: Shape) -> Shape:
        image_shape(self, input_shape, self.in_channels)
        if input_shape[1:] != self.input_size:
            raise ShapeError(
                f"{self!r}: expected an input of ({self.in_channels}, {self.input_size[0]}, "
                f"{self.input_size[1]}) a sample, received {input_shape}"
            )
        return (self.out_channels, *self.output_size)

    def multiply_adds(self, input_shape: Shape) -> int:
        return self.weight.value.size

    def connections(self, input_shape: Shape) -> int:
        return sum(parameter.value.size for parameter in self.parameters())

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        self._input_shape = x.shape
        blocks, *shape = self._output_lanes(x.shape[:-1])
        padded = self._padded(x.shape)
        if padded != x.shape:
            wide = self._buffer("padded x", padded, x.dtype)
            spread_columns(x, wide[:blocks], 1, 1, self.padding[1])
            x = wide
        self._x = x
        y = self._buffer("y", (len(x), *shape, LANES), x.dtype)
        bias = bias_arrays(self.bias, x.dtype)[0].ravel()
        kernel = kernels.correlate(*choose_tile(self.out_channels, TILE_BLOCKS))
        kernel(x, self.weight.value, bias, y, *self._geometry())
        return y[:blocks]

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        blocks, taps, geometry = len(dy), self.kernel_size[1], self._geometry()
        columns = min(taps, LANES)
        kernel = kernels.weight_gradient(min(self.out_channels, LANES // columns), columns)
        dbias = bias_arrays(self.bias, dy.dtype)[1].ravel()
        kernel(self._x[:blocks], dy, self.weight.grad, dbias, *geometry)
        if not need_dx:
            return dy

        padded = self._padded(self._input_shape)
        if padded[0] > blocks:
            whole = self._buffer("whole dy", (padded[0], *dy.shape[1:]), dy.dtype)
            whole[:blocks] = dy
            dy = whole
        dx = self._buffer("padded dx", padded, dy.dtype)
        kernel = kernels.input_gradient(taps, min(TILE_BLOCKS, max(1, TILE // taps)))
        kernel(dy, self.weight.value, dx, *geometry)
        if not self.padding[1]:
            return dx[:blocks]
        inner = self._buffer("dx", self._input_shape, dy.dtype)
        spread_columns(dx[:blocks], inner, 1, 1, -self.padding[1])
        return inner

    def _padded(self, shape: Shape) -> Shape:
        """With columns of padding, and blocks enough for a tile; what is computed for those added is not used."""
        width = shape[3] + 2 * self.padding[1]
        return (max(TILE_BLOCKS, shape[0]), *shape[1:3], width, LANES)

    def _geometry(self) -> tuple[tuple[int, int, int], tuple[int, int]]:
        rows, columns = zip(self.stride, self.dilation, self.padding, strict=True)
        return rows, columns[:2]

    def __repr__(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, input_size={self.input_size}"]
        parts.append(f"kernel_size={self.kernel_size}")
        for name, default in (("stride", (1, 1)), ("padding", (0, 0)), ("dilation", (1, 1))):
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)}")
        parts += ["bias=False"] if self.bias is None else []
        return f"LocallyConnected2d({', '.join(parts)})"
