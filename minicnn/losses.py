"""Losses: a number to make small, and its gradient."""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any

import numpy as np

from minicnn.engine.cache import Kernels
from minicnn.engine.lanes import array_input, pack, unpack
from minicnn.engine.program import Input, Map, Program, Rows, Work
from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import LANES
from minicnn.layers.arguments import Shape, as_array
from minicnn.layers.lane_layer import Programs, check_nan
from minicnn.layers.parameter import Array

kernels = Kernels("loss")

#: Of the MAP criterion; found on validation images with the prototypes of RadialBasis.
DEFAULT_J = 10.0


class Loss(ABC):
    """forward(y, target) -> float, then backward() -> dy, both for a whole batch."""

    #: Whether the softmax of the scores gives probabilities.
    takes_logits = False
    _last: tuple[Hashable, Program] | None = None  # which it was for, and what ran

    def forward(self, y: Array, target: Array) -> float:
        """The mean loss. Raises ShapeError or MinicnnError for arrays that do not fit."""
        y, name = as_array(y, "scores"), type(self).__name__
        if y.dtype not in (np.float32, np.float64) or y.ndim < 2 or len(y) == 0:
            raise ShapeError(
                f"{name}: expected a batch of float32 or float64 (N, outputs), received {y.dtype} {y.shape}"
            )
        check_nan(self, "y", y)
        y, target = np.ascontiguousarray(y), self.checked(target, y.shape, y.dtype)
        shape, by_label = y.shape[1:], target.dtype == np.int64
        key = (-(-len(y) // LANES), shape, y.dtype.char, by_label, self.key)
        program = self._programs.take(key, lambda: self._program(shape, y, by_label))
        terms = self.terms(y.shape)
        program.set("y", y.ctypes.data)
        program.set("target", target.ctypes.data)
        program.set("factor", 1 / terms)
        program.run(len(y))
        before = self.__dict__.pop("_last", None)
        if before is not None:
            self._programs.give(*before)
        self._last, self._shape, self._dtype = (key, program), y.shape, y.dtype
        return self.mean(program.losses, terms)

    def backward(self) -> Array:
        """The derivative of the mean loss with respect to y."""
        if self._last is None:
            raise MinicnnError(
                f"{type(self).__name__}: backward before forward; call forward first"
            )
        dy = np.empty(self._shape, self._dtype)
        program = self._last[1]
        program.set("dy", dy.ctypes.data)
        program.run(len(dy), paused=True)
        return dy

    def _program(self, shape: Shape, y: Array, by_label: bool) -> Program:
        work = Work(-(-len(y) // LANES), y.dtype, True, True)
        scores = pack(work, array_input(work, "y", shape), shape)
        dy = self.declare(work, scores, by_label)
        work.pause()
        unpack(work, dy, array_input(work, "dy", shape))
        return work.finish()

    def declare(self, work: Work, y: Map, by_label: bool) -> Map:
        """Declares the loss of each block, summed over its images in `work.losses`, and dy.

        Inputs: "target", labels int64 (N,), with as many behind them as complete the last block, or an array of the
        shape of y; "factor", by which the gradient of the sum is multiplied.
        """
        work.losses = work.numbers(1, np.float64)
        dy = work.map(y.shape)
        labels = label_input() if by_label else None
        self._declare(work, y, labels, dy, Input("factor", "r"), work.losses)
        return dy

    def mean(self, losses: Array, terms: int) -> float:
        """The mean loss, from those of the blocks."""
        return float(sum(losses.ravel().tolist())) / terms

    def checked(self, target: Any, y_shape: Shape, dtype: Any) -> Array:
        """The target as the program takes it. Raises ShapeError or MinicnnError for one that does not fit."""
        return check_labels(target, y_shape, type(self).__name__)

    @property
    def key(self) -> tuple[Any, ...]:
        """What programs with this loss depend on."""
        return (type(self),)

    @abstractmethod
    def terms(self, y_shape: Shape) -> int:
        """How many numbers the mean is taken over."""

    @abstractmethod
    def _declare(
        self, work: Work, y: Map, labels: Input | None, dy: Map, factor: Input, losses: Rows
    ) -> None:
        """Declares the kernels that write dy and losses."""

    @property
    def _programs(self) -> Programs:
        return self.__dict__.setdefault("_free_programs", Programs())  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_last", "_free_programs")}

    def __repr__(self) -> str:
        return type(self).__name__


class SoftmaxCrossEntropy(Loss):
    """-sum over k of t[k] log softmax(y)[k], mean over the batch, for logits y (N, K) and integer labels (N,).

    t is 1 at the label and 0 elsewhere; with label smoothing e it is 1 - e + e / K there and e / K elsewhere.
    Gradient: dy = (softmax(y) - t) / N.

    Source: Bridle, Probabilistic interpretation of feedforward classification network outputs (1990); smoothing:
    Szegedy et al., Rethinking the Inception architecture (2016), section 7.
    Raises ShapeError for wrong shapes or types, MinicnnError for labels out of range.
    """

    takes_logits = True

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing <= 1:
            raise ShapeError(
                "SoftmaxCrossEntropy: label_smoothing: expected a number from 0 to 1, "
                f"received {label_smoothing!r}"
            )
        self.label_smoothing = float(label_smoothing)

    @property
    def key(self) -> tuple[Any, ...]:
        return type(self), self.label_smoothing

    def terms(self, y_shape: Shape) -> int:
        return y_shape[0]

    def _declare(
        self, work: Work, y: Map, labels: Input | None, dy: Map, factor: Input, losses: Rows
    ) -> None:
        assert labels is not None
        rest = (factor, dy, losses, work.remaining)
        work.call(kernels.cross_entropy, y, labels, y.vectors, self.label_smoothing, *rest)


class MaximumAPosteriori(Loss):
    """log(e^-j + sum over k of e^y[k]) - y[label], mean over the batch, for scores y (N, K) and integer labels (N,).

    In the paper's terms, where unit k has the penalty -y[k]: the penalty of the right class, plus the logarithm of
    what competes with it, which pushes up the penalties of the others. The constant j > 0 keeps it from pushing up
    those that are far above j already, as though there were one more class, for rubbish, with the penalty j.
    Gradient: dy[k] = (e^y[k] / (e^-j + sum over i of e^y[i]) - [k = label]) / N.

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), equation 9.
    Raises ShapeError for wrong shapes or types and for j <= 0, MinicnnError for labels out of range.
    """

    takes_logits = True

    def __init__(self, j: float = DEFAULT_J) -> None:
        if not 0 < j < math.inf:
            raise ShapeError(f"MaximumAPosteriori: j: expected a number > 0, received {j!r}")
        self.j = float(j)

    @property
    def key(self) -> tuple[Any, ...]:
        return type(self), self.j

    def terms(self, y_shape: Shape) -> int:
        return y_shape[0]

    def _declare(
        self, work: Work, y: Map, labels: Input | None, dy: Map, factor: Input, losses: Rows
    ) -> None:
        assert labels is not None
        rest = (factor, dy, losses, work.remaining)
        work.call(kernels.map_criterion, y, labels, y.vectors, self.j, *rest)


class _SquaredError(Loss):
    def checked(self, target: Any, y_shape: Shape, dtype: Any) -> Array:
        name, target = type(self).__name__, as_array(target, "target")
        if target.ndim == 1 and target.dtype.kind in "iu" and len(y_shape) == 2:
            return check_labels(target, y_shape, name)
        if target.shape != y_shape:
            raise ShapeError(f"{name}: expected a target of {y_shape}, received {target.shape}")
        numbers: Array = np.ascontiguousarray(target, dtype)
        check_nan(self, "target", numbers)
        return numbers

    def _declare(
        self, work: Work, y: Map, labels: Input | None, dy: Map, factor: Input, losses: Rows
    ) -> None:
        if labels is None:
            target = pack(work, array_input(work, "target", y.shape), y.shape)
        else:
            target = work.map(y.shape)
            work.call(kernels.one_hot, labels, target, tasks=y.vectors)
        rest = (factor, dy, losses, work.remaining)
        work.call(kernels.squared_error, y, target, y.vectors, *rest)


class MeanSquaredError(_SquaredError):
    """(y - target)^2, mean over all elements, for a target of y's shape. Gradient: 2 (y - target) / y.size.

    For y (N, K), integer labels (N,) stand for the target that is 1 at the label and 0 elsewhere.
    Raises ShapeError for wrong shapes or types, MinicnnError for labels out of range.
    """

    def terms(self, y_shape: Shape) -> int:
        return math.prod(y_shape)


class HalfSquaredError(_SquaredError):
    """1/2 sum over k of (y[k] - target[k])^2, mean over the batch: the squared error of textbooks.

    target has y's shape; for y (N, K), integer labels (N,) stand for 1 at the label and 0 elsewhere.
    Gradient: dy = (y - target) / N, which is K / 2 times that of `MeanSquaredError`, so that the same steps take a
    learning rate K / 2 times as small.

    Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors (1986), equation 3.
    Raises ShapeError for wrong shapes or types, MinicnnError for labels out of range.
    """

    def terms(self, y_shape: Shape) -> int:
        return 2 * y_shape[0]


#: The losses by their names in settings and model files.
LOSSES: dict[str, type[Loss]] = {
    "softmax-cross-entropy": SoftmaxCrossEntropy,
    "maximum-a-posteriori": MaximumAPosteriori,
    "mean-squared-error": MeanSquaredError,
    "half-squared-error": HalfSquaredError,
}
#: Those under which the softmax of the scores gives probabilities.
LOGIT_LOSSES = tuple(name for name, loss in LOSSES.items() if loss.takes_logits)


def label_input() -> Input:
    return Input("target", "i", LANES * 8)


def check_labels(labels: Any, y_shape: Shape, name: str) -> Array:
    """Labels (N,) for scores (N, classes) as int64, with zeros behind them that complete the last block.

    Raises ShapeError for other shapes and types, MinicnnError if one is out of range.
    """
    labels, samples = as_array(labels, "labels"), y_shape[0]
    if len(y_shape) != 2:
        raise ShapeError(f"{name}: expected scores (N, classes), received {y_shape}")
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"labels: expected {samples} integers ({samples},), received {labels.dtype} {labels.shape}"
        )
    wrong = (labels < 0) | (labels >= y_shape[1])
    if wrong.any():
        index = int(wrong.argmax())
        raise MinicnnError(
            f"labels: expected classes 0 to {y_shape[1] - 1}, received {labels[index]} at index {index}"
        )
    padded = np.zeros(-(-samples // LANES) * LANES, np.int64)
    padded[:samples] = labels
    return padded
