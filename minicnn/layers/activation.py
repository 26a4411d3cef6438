"""Activations, element by element (Softmax: along the channels), for inputs of any shape, and Dropout."""

from typing import Self

import numpy as np

from minicnn.errors import ShapeError
from minicnn.kernels import activation as kernels
from minicnn.kernels.vector import LANES

from .base import Array, Layer, Shape
from .initialization import Scheme


class ReLU(Layer):
    """y = max(x, 0). Backward: dx = dy where x > 0, else 0 (also at x = 0).

    Source: Nair and Hinton, Rectified linear units improve restricted Boltzmann machines (2010).
    """

    per_sample = True

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        self._y = self._buffer("y", x.shape, x.dtype)
        kernels.relu_forward(x.ravel(), self._y.ravel())
        return self._y

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        kernels.relu_backward(self._y.ravel(), dy.ravel())
        return dy


class LeakyReLU(Layer):
    """y = x where x > 0, else negative_slope x. Backward: dx = dy where x > 0, else negative_slope dy.

    Source: Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic models (2013).
    """

    per_sample = True

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = float(negative_slope)

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        self._x = x
        y = self._buffer("y", x.shape, x.dtype)
        kernels.leaky_relu_forward(x.ravel(), y.ravel(), self.negative_slope)
        return y

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        kernels.leaky_relu_backward(self._x.ravel(), dy.ravel(), self.negative_slope)
        return dy

    def __repr__(self) -> str:
        return f"LeakyReLU(negative_slope={self.negative_slope})"


class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x)). Backward: dx = dy y (1 - y)."""

    per_sample = True

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        self._y = self._buffer("y", x.shape, x.dtype)
        kernels.sigmoid_forward(x.ravel(), self._y.ravel())
        return self._y

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        kernels.sigmoid_backward(self._y.ravel(), dy.ravel())
        return dy


def _tanh_forward(layer: Layer, x: Array, amplitude: float, slope: float) -> Array:
    y = layer._buffer("y", x.shape, x.dtype)
    kernels.tanh_forward(x.ravel(), y.ravel(), amplitude, slope)
    return y


def _tanh_backward(y: Array, dy: Array, amplitude: float, slope: float) -> Array:
    kernels.tanh_backward(y.ravel(), dy.ravel(), amplitude, slope)
    return dy


class Tanh(Layer):
    """y = tanh(x). Backward: dx = dy (1 - y^2)."""

    per_sample = True

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        self._y = _tanh_forward(self, x, 1.0, 1.0)
        return self._y

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        return _tanh_backward(self._y, dy, 1.0, 1.0)


class ScaledTanh(Layer):
    """y = 1.7159 tanh(2 x / 3), so that y(1) = 1 and y(-1) = -1. Backward: dx = dy (2/3) (1.7159 - y^2 / 1.7159).

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), appendix A.
    """

    per_sample = True
    AMPLITUDE, SLOPE = 1.7159, 2 / 3

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        self._y = _tanh_forward(self, x, self.AMPLITUDE, self.SLOPE)
        return self._y

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        return _tanh_backward(self._y, dy, self.AMPLITUDE, self.SLOPE)


class Softmax(Layer):
    """y[n, c] = exp(x[n, c]) / sum over c' of exp(x[n, c']), along axis 1 (features or channels).

    Backward: dx[n, c] = y[n, c] (dy[n, c] - sum over c' of dy[n, c'] y[n, c']). A network that is trained with
    `SoftmaxCrossEntropy` needs no Softmax at its end: that loss takes logits.
    """

    per_sample = True

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        self._y = self._buffer("y", x.shape, x.dtype)
        columns = (x.shape[0], x.shape[1], -1, LANES)
        kernels.softmax_forward(x.reshape(columns), self._y.reshape(columns))
        return self._y

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        columns = (dy.shape[0], dy.shape[1], -1, LANES)
        kernels.softmax_backward(self._y.reshape(columns), dy.reshape(columns))
        return dy


class Dropout(Layer):
    """In training, each element is zeroed with probability p and the others are divided by 1 - p; else y = x.

    Backward: dx = dy times the same mask. The mask comes from the layer's own generator, which
    `initialize(rng=...)` seeds: a run with the same seed drops the same elements.

    Source: Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting (2014), section 10
    (inverted form). Raises ShapeError unless 0 <= p <= 1.
    """

    per_sample = True

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ShapeError(f"Dropout: p: expected a probability from 0 to 1, received {p!r}")
        self.p = float(p)
        self.rng = np.random.default_rng()

    def initialize(
        self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None
    ) -> Self:
        self.rng = np.random.default_rng(rng).spawn(1)[0]
        return self

    def generators(self) -> list[np.random.Generator]:
        return [self.rng]

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        self._mask = None
        if not training or self.p == 0:
            return x
        mask = self._buffer("mask", x.shape, x.dtype)
        self.rng.random(out=mask, dtype=x.dtype.type)
        mask[...] = (mask >= self.p) * x.dtype.type(0 if self.p == 1 else 1 / (1 - self.p))
        self._mask = mask
        y = self._buffer("y", x.shape, x.dtype)
        kernels.scale(x.ravel(), mask.ravel(), y.ravel())
        return y

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        if self._mask is not None:
            kernels.scale(dy.ravel(), self._mask.ravel(), dy.ravel())
        return dy

    def __repr__(self) -> str:
        return f"Dropout(p={self.p})"
