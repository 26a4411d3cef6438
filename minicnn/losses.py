"""Losses: a number to make small, and its gradient."""

import math
from abc import ABC, abstractmethod

import numpy as np

from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import loss as kernels
from minicnn.kernels.lanes import unpack
from minicnn.kernels.vector import LANES
from minicnn.layers.base import Array, aligned_zeros, pack

#: Of the MAP criterion; found on validation images with the prototypes of RadialBasis.
DEFAULT_J = 10.0


class Loss(ABC):
    """forward(y, target) -> float, then backward() -> dy, both for a whole batch."""

    _dy: Array | None = None

    def forward(self, y: Array, target: Array) -> float:
        """The mean loss. Raises ShapeError or MinicnnError for arrays that do not fit."""
        y = np.asarray(y)
        if y.dtype not in (np.float32, np.float64) or y.ndim < 2 or len(y) == 0:
            raise ShapeError(
                f"{type(self).__name__}: expected a batch of float32 or float64 (N, outputs), "
                f"received {y.dtype} {y.shape}"
            )
        lanes = aligned_zeros(-(-len(y) // LANES) * LANES * (y.size // len(y)), y.dtype)
        lanes = lanes.reshape(-(-len(y) // LANES), *y.shape[1:], LANES)
        pack(y, lanes, f"{type(self).__name__}: y")
        total = self.terms(y.shape)
        self._y_shape = y.shape
        return (
            self._forward(
                lanes, self.target_lanes(np.asarray(target), lanes, len(y)), len(y), total
            )
            / total
        )

    def backward(self) -> Array:
        """The derivative of the mean loss with respect to y."""
        if self._dy is None:
            raise MinicnnError(
                f"{type(self).__name__}: backward before forward; call forward first"
            )
        dy = np.empty(self._y_shape, self._dy.dtype)
        unpack(self._dy.reshape(len(self._dy), -1, LANES), dy.reshape(len(dy), -1))
        return dy

    @abstractmethod
    def terms(self, y_shape: tuple[int, ...]) -> int:
        """How many numbers the mean is taken over."""

    @abstractmethod
    def target_lanes(self, target: Array, y: Array, samples: int) -> Array:
        """The target, checked, in the lane layout for y in the lane layout."""

    @abstractmethod
    def _forward(self, y: Array, target: Array, samples: int, total: int) -> float:
        """The loss summed over the samples; sets self._dy to the gradient of that sum / total."""


class SoftmaxCrossEntropy(Loss):
    """-sum over k of t[k] log softmax(y)[k], mean over the batch, for logits y (N, K) and integer labels (N,).

    t is 1 at the label and 0 elsewhere; with label smoothing e it is 1 - e + e / K there and e / K elsewhere.
    Gradient: dy = (softmax(y) - t) / N.

    Source: Bridle, Probabilistic interpretation of feedforward classification network outputs (1990); smoothing:
    Szegedy et al., Rethinking the Inception architecture (2016), section 7.
    Raises ShapeError for wrong shapes or types, MinicnnError for labels out of range.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing <= 1:
            raise ShapeError(
                "SoftmaxCrossEntropy: label_smoothing: expected a number from 0 to 1, "
                f"received {label_smoothing!r}"
            )
        self.label_smoothing = float(label_smoothing)

    def terms(self, y_shape: tuple[int, ...]) -> int:
        return y_shape[0]

    def target_lanes(self, target: Array, y: Array, samples: int) -> Array:
        if y.ndim != 3:
            raise ShapeError(
                f"SoftmaxCrossEntropy: expected logits (N, classes), received {(samples, *y.shape[1:-1])}"
            )
        return label_lanes(target, y.shape[1], samples, y.dtype)

    def _forward(self, y: Array, target: Array, samples: int, total: int) -> float:
        if self._dy is None or self._dy.shape != y.shape or self._dy.dtype != y.dtype:
            self._dy = aligned_zeros(y.size, y.dtype).reshape(y.shape)
            self._room = aligned_zeros(2 * LANES, y.dtype)
        return float(
            kernels.cross_entropy(
                y, target, samples, total, self.label_smoothing, self._dy, self._room
            )
        )


class MaximumAPosteriori(Loss):
    """log(e^-j + sum over k of e^y[k]) - y[label], mean over the batch, for scores y (N, K) and integer labels (N,).

    In the paper's terms, where unit k has the penalty -y[k]: the penalty of the right class, plus the logarithm of
    what competes with it, which pushes up the penalties of the others. The constant j > 0 keeps it from pushing up
    those that are far above j already, as though there were one more class, for rubbish, with the penalty j.
    Gradient: dy[k] = (e^y[k] / (e^-j + sum over i of e^y[i]) - [k = label]) / N.

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), equation 9.
    Raises ShapeError for wrong shapes or types and for j <= 0, MinicnnError for labels out of range.
    """

    def __init__(self, j: float = DEFAULT_J) -> None:
        if not 0 < j < math.inf:
            raise ShapeError(f"MaximumAPosteriori: j: expected a number > 0, received {j!r}")
        self.j = float(j)

    def terms(self, y_shape: tuple[int, ...]) -> int:
        return y_shape[0]

    def target_lanes(self, target: Array, y: Array, samples: int) -> Array:
        if y.ndim != 3:
            raise ShapeError(
                f"MaximumAPosteriori: expected scores (N, classes), received {(samples, *y.shape[1:-1])}"
            )
        return label_lanes(target, y.shape[1], samples, y.dtype)

    def _forward(self, y: Array, target: Array, samples: int, total: int) -> float:
        if self._dy is None or self._dy.shape != y.shape or self._dy.dtype != y.dtype:
            self._dy = aligned_zeros(y.size, y.dtype).reshape(y.shape)
            self._room = aligned_zeros(2 * LANES, y.dtype)
        return float(kernels.map_criterion(y, target, samples, total, self.j, self._dy, self._room))


class MeanSquaredError(Loss):
    """(y - target)^2, mean over all elements, for a target of y's shape. Gradient: 2 (y - target) / y.size.

    For y (N, K), integer labels (N,) stand for the target that is 1 at the label and 0 elsewhere.
    Raises ShapeError for wrong shapes or types, MinicnnError for labels out of range.
    """

    def terms(self, y_shape: tuple[int, ...]) -> int:
        return math.prod(y_shape)

    def target_lanes(self, target: Array, y: Array, samples: int) -> Array:
        return _one_hot_lanes(self, target, y, samples)

    def _forward(self, y: Array, target: Array, samples: int, total: int) -> float:
        return _squared_error(self, y, target, samples, total)


class HalfSquaredError(Loss):
    """1/2 sum over k of (y[k] - target[k])^2, mean over the batch: the squared error of textbooks.

    target has y's shape; for y (N, K), integer labels (N,) stand for 1 at the label and 0 elsewhere.
    Gradient: dy = (y - target) / N, which is K / 2 times that of `MeanSquaredError`, so that the same steps take a
    learning rate K / 2 times as small.

    Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors (1986), equation 3.
    Raises ShapeError for wrong shapes or types, MinicnnError for labels out of range.
    """

    def terms(self, y_shape: tuple[int, ...]) -> int:
        return y_shape[0]

    def target_lanes(self, target: Array, y: Array, samples: int) -> Array:
        return _one_hot_lanes(self, target, y, samples)

    def _forward(self, y: Array, target: Array, samples: int, total: int) -> float:
        return _squared_error(self, y, target, samples, 2 * total) / 2


#: The losses by their names in settings and model files.
LOSSES: dict[str, type[Loss]] = {
    "softmax-cross-entropy": SoftmaxCrossEntropy,
    "maximum-a-posteriori": MaximumAPosteriori,
    "mean-squared-error": MeanSquaredError,
    "half-squared-error": HalfSquaredError,
}
#: Those under which the softmax of the scores gives probabilities.
LOGIT_LOSSES = ("softmax-cross-entropy", "maximum-a-posteriori")


def _one_hot_lanes(loss: Loss, target: Array, y: Array, samples: int) -> Array:
    """The target in the lane layout; integer labels as rows of 0 with a 1."""
    shape = (samples, *y.shape[1:-1])
    lanes = aligned_zeros(y.size, y.dtype).reshape(y.shape)
    if target.ndim == 1 and target.dtype.kind in "iu" and y.ndim == 3:
        labels = label_lanes(target, y.shape[1], samples, y.dtype)
        lanes[...] = labels[:, None] == np.arange(y.shape[1])[:, None]
        return lanes
    name = type(loss).__name__
    if target.shape != shape:
        raise ShapeError(f"{name}: expected a target of {shape}, received {target.shape}")
    pack(target.astype(y.dtype), lanes, f"{name}: target")
    return lanes


def _squared_error(loss: Loss, y: Array, target: Array, samples: int, total: int) -> float:
    """The sum of (y - target)^2; sets the loss's gradient to that of the sum / total."""
    if loss._dy is None or loss._dy.shape != y.shape or loss._dy.dtype != y.dtype:
        loss._dy = aligned_zeros(y.size, y.dtype).reshape(y.shape)
    columns = (len(y), -1, LANES)
    dy = loss._dy.reshape(columns)
    return float(
        kernels.squared_error(y.reshape(columns), target.reshape(columns), samples, total, dy)
    )


def label_lanes(labels: Array, classes: int, samples: int, dtype: np.dtype[np.generic]) -> Array:
    """Integer labels as (blocks, LANES) of `dtype`. Raises ShapeError, MinicnnError if one is out of range."""
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"labels: expected {samples} integers ({samples},), received {labels.dtype} {labels.shape}"
        )
    lanes = np.empty(-(-samples // LANES) * LANES, dtype)
    wrong = kernels.pack_labels(labels.astype(np.int64, copy=False), classes, lanes)
    if wrong >= 0:
        raise MinicnnError(
            f"labels: expected classes 0 to {classes - 1}, received {labels[wrong]} at index {wrong}"
        )
    return lanes.reshape(-1, LANES)
