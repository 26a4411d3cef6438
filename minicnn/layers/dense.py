"""The dense (fully connected) layer, and Flatten, which leads to it."""

import math
from typing import Self

import numpy as np

from minicnn.errors import ShapeError
from minicnn.kernels import dense as kernels
from minicnn.kernels.lanes import unpack
from minicnn.kernels.tile import choose_tile
from minicnn.kernels.vector import LANES

from .base import Array, Call, Layer, Parameter, Shape, bias_arrays, positive
from .initialization import Scheme, draw

#: Blocks in a forward tile, and least vectors in a row of the weight gradient.
TILE_COLUMNS = 4


class Dense(Layer):
    """y = x weight^T + bias for x (N, in_features), y (N, out_features); PyTorch's Linear.

    Parameters: weight (out_features, in_features), bias (out_features,).

    Backward: dweight = dy^T x, dbias = sum over n of dy, dx = dy weight.

    Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors (1986).
    Raises ShapeError for arguments out of range and for inputs that do not fit.
    """

    per_sample = True

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = positive(in_features, "Dense: in_features")
        self.out_features = positive(out_features, "Dense: out_features")
        self.weight = Parameter("weight", np.zeros((out_features, in_features), np.float32))
        self.bias = Parameter("bias", np.zeros(out_features, np.float32)) if bias else None
        self.initialize()

    def parameters(self) -> list[Parameter]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def initialize(
        self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None
    ) -> Self:
        draw(scheme, rng, self.weight, self.bias)
        return self

    def output_shape(self, input_shape: Shape) -> Shape:
        if input_shape != (self.in_features,):
            hint = "; put a Flatten before it" if math.prod(input_shape) == self.in_features else ""
            raise ShapeError(
                f"{self!r}: expected an input of ({self.in_features},) a sample, "
                f"received {input_shape}{hint}"
            )
        return (self.out_features,)

    def multiply_adds(self, input_shape: Shape) -> int:
        return self.weight.value.size

    def connections(self, input_shape: Shape) -> int:
        return sum(parameter.value.size for parameter in self.parameters())

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        self._repeat("forward", (x, self.weight.value), lambda: self._calls_of_forward(x))
        return self._y

    def _calls_of_forward(self, x: Array) -> list[Call]:
        self._x = x
        self._y = self._buffer("y", (len(x), self.out_features, LANES), x.dtype)
        return [self._product(x, bias_arrays(self.bias, x.dtype)[0], self._y, self.in_features, 1)]

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        dx = self._buffer("dx", self._x.shape, dy.dtype) if need_dx else None
        key = dy, dx, self._x, self.weight.grad
        self._repeat("backward", key, lambda: self._calls_of_backward(dy, dx))
        return dy if dx is None else dx

    def _calls_of_backward(self, dy: Array, dx: Array | None) -> list[Call]:
        vectors = max(TILE_COLUMNS, -(-self.in_features // LANES))
        samples = self._buffer("samples", (len(dy) * LANES, vectors * LANES), dy.dtype)
        rows, _ = choose_tile(self.out_features, TILE_COLUMNS)
        gradients = samples, dy, self.weight.grad, bias_arrays(self.bias, dy.dtype)[1]
        calls: list[Call] = [
            (unpack, (self._x, samples)),
            (kernels.weight_gradient(rows, TILE_COLUMNS), gradients),
        ]
        if dx is not None:
            calls.append(self._product(dy, np.empty(0, dy.dtype), dx, 1, self.in_features))
        return calls

    def _product(self, x: Array, bias: Array, y: Array, out_step: int, in_step: int) -> Call:
        kernel = kernels.matrix_product(*choose_tile(y.shape[1], TILE_COLUMNS))
        return kernel, (x, self.weight.value.ravel(), bias, y, out_step, in_step)

    def __repr__(self) -> str:
        bias = ", bias=False" if self.bias is None else ""
        return f"Dense({self.in_features}, {self.out_features}{bias})"


class Flatten(Layer):
    """(N, C, H, W) -> (N, C H W), in that order; backward is the way back. In the lane layout nothing moves."""

    per_sample = True
    _x: Array | None = None
    _dy: Array | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        if x is not self._x:  # or else the next layer sees the same array as in the last step
            self._x, self._y, self._dy = x, x.reshape(len(x), -1, LANES), None
        return self._y

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        if dy is not self._dy:
            assert self._x is not None
            self._dy, self._dx = dy, dy.reshape(self._x.shape)
        return self._dx
