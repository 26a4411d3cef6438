"""Batch normalisation."""

import math
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from minicnn.errors import ShapeError
from minicnn.kernels import normalization as kernels
from minicnn.kernels import LANES

from .base import Array, Layer, Parameter, Shape, bias_arrays, image_shape, positive
from .initialization import Scheme


class BatchNorm2d(Layer):
    """Gives each channel of (N, C, H, W) mean 0 and variance 1, then a scale and a shift that are learned.

    y[n, c, i, j] = weight[c] xhat[n, c, i, j] + bias[c], xhat = (x - mean[c]) / sqrt(var[c] + eps)

    In training, mean and var are those of the m = N H W values of channel c in the batch (var = sum of squared
    differences / m), and the running statistics follow them, with u = var m / (m - 1):
        running_mean = (1 - momentum) running_mean + momentum mean
        running_var  = (1 - momentum) running_var + momentum u
    With momentum None, momentum is 1 / (number of batches so far): they are the averages over all batches. Otherwise
    mean and var are the running statistics, or still those of the batch if there are none (track_running_stats=False).

    Parameters (not with affine=False): weight (C,), bias (C,), at first 1 and 0. Buffers: running_mean, running_var,
    at first 0 and 1, and num_batches_tracked; `initialize` sets all of them back.

    Backward, with the sums over n, i, j of the channel:
        dbias[c]   = sum of dy
        dweight[c] = sum of dy xhat
        dx         = weight[c] / sqrt(var[c] + eps) (dy - dbias[c] / m - xhat dweight[c] / m)
    The last two terms are there because x moves the mean and the variance of its batch; with running statistics, which
    are constants, they are not.

    Where a batch gives its own statistics it must be in one piece, since each output depends on the whole of it.

    Source: Ioffe and Szegedy, Batch normalization: accelerating deep network training by reducing internal covariate
    shift (2015), algorithm 1 and section 3; running statistics as in PyTorch's BatchNorm2d.
    Raises ShapeError for arguments out of range, for inputs that do not fit, and for a batch with one value a channel
    where its own statistics are needed.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        self.num_features = positive(num_features, "BatchNorm2d: num_features")
        if not (eps >= 0 and math.isfinite(eps)):
            raise ShapeError(f"BatchNorm2d: eps: expected a number >= 0, received {eps!r}")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ShapeError(
                f"BatchNorm2d: momentum: expected a number from 0 to 1, or None, received {momentum!r}"
            )
        self.eps = float(eps)
        self.momentum = None if momentum is None else float(momentum)
        self.affine = bool(affine)
        self.track_running_stats = bool(track_running_stats)
        self.weight = Parameter("weight", np.ones(num_features, np.float32)) if affine else None
        self.bias = Parameter("bias", np.zeros(num_features, np.float32)) if affine else None
        self.running_mean = np.zeros(num_features, np.float32)
        self.running_var = np.ones(num_features, np.float32)
        self.num_batches_tracked = np.zeros((), np.int64)

    @property
    def per_sample_inference(self) -> bool:
        return self.track_running_stats

    def parameters(self) -> list[Parameter]:
        return [p for p in (self.weight, self.bias) if p is not None]

    def buffers(self) -> dict[str, Array]:
        if not self.track_running_stats:
            return {}
        return {
            "running_mean": self.running_mean,
            "running_var": self.running_var,
            "num_batches_tracked": self.num_batches_tracked,
        }

    def initialize(
        self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None
    ) -> Self:
        if self.weight is not None and self.bias is not None:
            self.weight.value[...] = 1
            self.bias.value[...] = 0
        self.running_mean[...] = 0
        self.running_var[...] = 1
        self.num_batches_tracked[...] = 0
        return self

    def astype(self, dtype: DTypeLike) -> Self:
        super().astype(dtype)
        self.running_mean = self.running_mean.astype(dtype)
        self.running_var = self.running_var.astype(dtype)
        return self

    def output_shape(self, input_shape: Shape) -> Shape:
        return image_shape(self, input_shape, self.num_features)

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        self._x, self._count = _places(x), samples
        self._own_statistics = training or not self.track_running_stats
        y = self._buffer("y", x.shape, x.dtype)
        weight, bias = bias_arrays(self.weight, x.dtype)[0], bias_arrays(self.bias, x.dtype)[0]
        if not self._own_statistics:
            self._center = self.running_mean.astype(x.dtype)
            self._offset = np.zeros(self.num_features)
            self._inverse = 1 / np.sqrt(self.running_var.astype(np.float64) + self.eps)
            kernels.forward(self._x, samples, weight, bias, self._center, self._inverse, _places(y))
            return y
        number = samples * self._x.shape[2]
        if number == 1:
            raise ShapeError(
                f"{self!r}: expected more than one value per channel when training, "
                f"received {(samples, *x.shape[1:-1])}"
            )
        self._center = np.empty(self.num_features, x.dtype)
        self._offset, self._inverse, variance = np.empty((3, self.num_features))
        kernels.forward_training(
            self._x,
            samples,
            self.eps,
            weight,
            bias,
            self._center,
            self._offset,
            self._inverse,
            variance,
            _places(y),
        )
        if training and self.track_running_stats:
            self._follow(self._center + self._offset, variance * (number / (number - 1)))
        return y

    def _follow(self, mean: Array, variance: Array) -> None:
        """Moves the running statistics towards those of a batch."""
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        for running, new in ((self.running_mean, mean), (self.running_var, variance)):
            running[...] = (1 - share) * running + share * new

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        weight, dweight = bias_arrays(self.weight, dy.dtype)
        dbias = bias_arrays(self.bias, dy.dtype)[1]
        kernels.backward(
            self._x,
            _places(dy),
            self._count,
            weight,
            self._center,
            self._offset,
            self._inverse,
            dweight,
            dbias,
            self._own_statistics,
            need_dx,
        )
        return dy

    def __repr__(self) -> str:
        defaults: dict[str, Any] = {
            "eps": 1e-5,
            "momentum": 0.1,
            "affine": True,
            "track_running_stats": True,
        }
        options = [
            f", {name}={getattr(self, name)}"
            for name, default in defaults.items()
            if getattr(self, name) != default
        ]
        return f"BatchNorm2d({self.num_features}{''.join(options)})"


def _places(x: Array) -> Array:
    """(blocks, channels, places, LANES), a view."""
    return x.reshape(*x.shape[:2], -1, LANES)
