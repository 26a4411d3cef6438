"""Losses: the number that training makes small, and its gradient."""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Interval

from minicnn.checks import as_written, checked, labels_hint, plain_array, range_hint
from minicnn.engine.arrays import Array, Shape
from minicnn.engine.cache import Kernel, Kernels
from minicnn.engine.lanes import pack_input, unpack_output
from minicnn.engine.memory import Map
from minicnn.engine.program import Program
from minicnn.engine.work import Argument, Input, Work
from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import LANES, blocks_of
from minicnn.layers.explain import in_brackets, number, table_of_classes
from minicnn.layers.lane_layer import check_nan
from minicnn.layers.programs import ProgramOwner
from minicnn.numpy_loss import declare_in_numpy

kernels = Kernels("loss")

#: Of the MAP criterion; found on validation images with the prototypes of RadialBasis.
DEFAULT_J = 10.0


class Loss(ProgramOwner, ABC):
    """forward(y, target) returns the mean loss of a batch, and then backward() returns its derivative, dy.

    A loss of your own overrides these two, in NumPy. Its targets are labels (N,), or arrays of the shape of y.
    """

    #: Whether the softmax of the scores gives probabilities.
    takes_logits = False
    #: Whether the loss of a sample depends on that sample alone, as far as the engine knows.
    per_sample = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__ and cls.__module__.startswith("minicnn."):
            cls.__init__ = checked(ShapeError)(cls.__init__)  # type: ignore[method-assign]
        both = cls.forward is not Loss.forward, cls.backward is not Loss.backward
        if all(both) and cls.__dict__.keys() & {"forward", "backward"}:
            for name, in_numpy in _IN_NUMPY.items():
                if name in _ALWAYS or getattr(cls, name) is getattr(Loss, name):
                    setattr(cls, name, in_numpy)
        elif any(both) and cls._declare is Loss._declare:
            raise TypeError(f"{cls.__name__}: a loss must define both forward and backward")

    def forward(self, y: Array, target: Array) -> float:
        """The mean loss of the batch. Raises ShapeError or MinicnnError for arrays that do not fit."""
        name = type(self).__name__
        y = plain_array(y, "y", ShapeError)
        if y.dtype not in (np.float32, np.float64) or y.ndim < 2 or len(y) == 0:
            raise ShapeError(
                f"{name}: expected a batch of float32 or float64 (N, outputs), received {y.dtype} {y.shape}"
            )
        check_nan(name, "y", y)
        y, target = np.ascontiguousarray(y), self.checked(target, y.shape, y.dtype)
        shape, by_label = y.shape[1:], target.dtype == np.int64
        key = (blocks_of(len(y)), shape, y.dtype.char, by_label, self.key)
        program = self.programs.take(key, lambda: self._program(shape, y, by_label))
        terms = self.terms(y.shape)
        program.set("y", y.ctypes.data)
        program.set("target", target.ctypes.data)
        program.set("factor", 1 / terms)
        program.run(len(y))
        before: tuple[Hashable, Program, Shape, Any] | None = self._own.last
        if before is not None:
            self.programs.give(*before[:2])
        self._own.last = key, program, y.shape, y.dtype
        return self.mean(program.losses, terms)

    def backward(self) -> Array:
        """The derivative of the mean loss with respect to y, in the shape of y. Raises MinicnnError before forward."""
        if self._own.last is None:
            raise MinicnnError(
                f"{type(self).__name__}: backward before forward; call forward first, in the same thread"
            )
        _, program, shape, dtype = self._own.last
        dy = np.empty(shape, dtype)
        program.set("dy", dy.ctypes.data)
        program.run(len(dy), paused=True)
        return dy

    def _program(self, shape: Shape, y: Array, by_label: bool) -> Program:
        work = Work(blocks_of(len(y)), y.dtype, True, True)
        dy = self.declare_compiled(work, pack_input(work, "y", shape), by_label)
        work.pause()
        unpack_output(work, dy, "dy")
        return work.finish()

    def declare(self, work: Work, y: Map, by_label: bool) -> Map:
        """Declares the loss of each block, summed over its images in `work.losses`, and dy.

        Inputs: "target", labels int64 (N,), with as many behind them as complete the last block, or an array of the
        shape of y; "factor", by which the gradient of the sum is multiplied.
        """
        work.losses = work.numbers(1, np.float64)
        dy = work.map(y.shape)
        labels = label_input() if by_label else None
        self._declare(work, y, labels, Input("factor", "r"), dy, work.losses, work.remaining)
        return dy

    #: For a loss in NumPy that calls forward or backward of its base.
    declare_compiled = declare

    def mean(self, losses: Array, terms: int) -> float:
        """The mean loss, from those of the blocks."""
        return float(sum(losses.ravel().tolist())) / terms

    def checked(self, target: Any, y_shape: Shape, dtype: Any) -> Array:
        """The target as the program takes it. Raises ShapeError or MinicnnError for one that does not fit."""
        return check_labels(target, y_shape, type(self).__name__)

    def explain(self, y: Array, dy: Array, label: int, loss: float) -> list[str]:
        """How the scores y (K,) of one sample of class `label` came to this loss and this gradient, in numbers."""
        rows = table_of_classes({"y": map(number, y), "dy": map(number, dy)})
        return [f"{type(self).__name__} = {number(loss)} for class {label}", *rows]

    @property
    def key(self) -> tuple[Any, ...]:
        """What programs with this loss depend on."""
        return (type(self),)

    @abstractmethod
    def terms(self, y_shape: Shape) -> int:
        """How many numbers the mean is taken over."""

    @abstractmethod
    def _declare(self, work: Work, y: Map, labels: Input | None, *rest: Argument) -> None:
        """Declares the kernels that write dy and losses; `rest` are the last arguments of each."""

    def __call__(self, y: Array, target: Array) -> float:
        return self.forward(y, target)

    def __repr__(self) -> str:
        return as_written(self)


class _LabelLoss(Loss):
    """A loss of scores (N, K) and labels, by a kernel that takes a number."""

    takes_logits = True
    kernel: Kernel

    @property
    @abstractmethod
    def number(self) -> float:
        """What the kernel takes."""

    @property
    def key(self) -> tuple[Any, ...]:
        return type(self), self.number

    def terms(self, y_shape: Shape) -> int:
        return y_shape[0]

    def _declare(self, work: Work, y: Map, labels: Input | None, *rest: Argument) -> None:
        assert labels is not None
        work.call(self.kernel, y, labels, y.vectors, self.number, *rest)


class SoftmaxCrossEntropy(_LabelLoss):
    """-sum over k of t[k] log softmax(y)[k], averaged over the batch, for logits y (N, K) and integer labels (N,).

    t is 1 at the label and 0 elsewhere. With label_smoothing e, it is 1 - e + e / K at the label and e / K elsewhere.
    Gradient: dy = (softmax(y) - t) / N.

    Source: Bridle, Probabilistic interpretation of feedforward classification network outputs (1990); smoothing:
    Szegedy et al., Rethinking the Inception architecture (2016), section 7.
    Raises ShapeError for wrong shapes or types, MinicnnError for labels out of range.
    """

    kernel = kernels.cross_entropy

    def __init__(self, label_smoothing: Annotated[float, Interval(ge=0, le=1)] = 0.0) -> None:
        self.label_smoothing = float(label_smoothing)

    @property
    def number(self) -> float:
        return self.label_smoothing

    def explain(self, y: Array, dy: Array, label: int, loss: float) -> list[str]:
        smoothing, scores = self.label_smoothing, y.astype(np.float64)
        e = np.exp(scores - scores.max())
        p = e / e.sum()
        t = (np.arange(len(y)) == label) * (1 - smoothing) + smoothing / len(y)
        lines = [
            f"softmax cross-entropy: e = exp(y - the largest y, {number(scores.max())}); p = e / the sum of e, "
            f"{number(e.sum())}; t = target; dy = p - t",
            *_probabilities(y, e, p, t, dy),
        ]
        if smoothing:
            return [*lines, f"loss = -sum of t ln p = {number(loss)}  (label smoothing {smoothing:g})"]
        return [*lines, f"loss = -ln p[{label}] = -ln {number(p[label])} = {number(loss)}"]


class MaximumAPosteriori(_LabelLoss):
    """log(e^-j + sum over k of e^y[k]) - y[label], mean over the batch, for scores y (N, K) and integer labels (N,).

    In the paper's terms, where unit k has the penalty -y[k]: the penalty of the right class, plus the logarithm of
    what competes with it, which pushes up the penalties of the others. The constant j > 0 keeps it from pushing up
    those that are far above j already, as though there were one more class, for rubbish, with the penalty j (10
    unless given).
    Gradient: dy[k] = (e^y[k] / (e^-j + sum over i of e^y[i]) - [k = label]) / N.

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), equation 9.
    Raises ShapeError for wrong shapes or types and for j <= 0, MinicnnError for labels out of range.
    """

    kernel = kernels.map_criterion

    def __init__(self, j: Annotated[float, Gt(0)] | None = None) -> None:
        self.j = DEFAULT_J if j is None else float(j)

    @property
    def number(self) -> float:
        return self.j

    def explain(self, y: Array, dy: Array, label: int, loss: float) -> list[str]:
        scores = y.astype(np.float64)
        largest = max(float(scores.max()), -self.j)
        e, rubbish = np.exp(scores - largest), float(np.exp(-self.j - largest))
        total = number(e.sum() + rubbish)
        return [
            f"MAP criterion: e = exp(y - the largest y or -j, {number(largest)}); their sum and exp(-j - the same), "
            f"{number(rubbish)} for j = {self.j:g}, is {total}; p = e / {total}; t = target; dy = p - t",
            *_probabilities(y, e, e / (e.sum() + rubbish), np.arange(len(y)) == label, dy),
            f"loss = ln(exp(-j) + sum of exp(y)) - y[{label}] = {number(largest)} + ln({total}) - "
            f"{in_brackets(number(scores[label]))} = {number(loss)}",
        ]


def _probabilities(y: Array, e: Array, p: Array, t: Array, dy: Array) -> list[str]:
    columns = {"y": map(number, y), "e": map(number, e), "p": map(number, p), "t": (f"{k:g}" for k in t)}
    return table_of_classes({**columns, "dy": map(number, dy)})


class _SquaredError(Loss):
    #: For `explain`: its name, what becomes of the sum of squares, and dy, for {n} classes.
    words: tuple[str, str, str]

    def checked(self, target: Any, y_shape: Shape, dtype: Any) -> Array:
        name = type(self).__name__
        target = plain_array(target, "target", ShapeError)
        if target.ndim == 1 and target.dtype.kind in "iu" and len(y_shape) == 2:
            return check_labels(target, y_shape, name)
        if target.shape != y_shape:
            raise ShapeError(f"{name}: expected a target of {y_shape}, received {target.shape}")
        numbers: Array = np.ascontiguousarray(target, dtype)
        check_nan(name, "target", numbers)
        return numbers

    def _declare(self, work: Work, y: Map, labels: Input | None, *rest: Argument) -> None:
        if labels is None:
            target = pack_input(work, "target", y.shape)
        else:
            target = work.map(y.shape)
            work.call(kernels.one_hot, labels, target, tasks=y.vectors)
        work.call(kernels.squared_error, y, target, y.vectors, *rest)

    def explain(self, y: Array, dy: Array, label: int, loss: float) -> list[str]:
        t = np.arange(len(y)) == label
        squares = (y.astype(np.float64) - t) ** 2
        columns = {"y": map(number, y), "t": (f"{k:g}" for k in t), "square": map(number, squares)}
        name, rule, gradient = (text.format(n=len(y)) for text in self.words)
        return [
            f"{name}: t = target, square = (y - t)^2, dy = {gradient}",
            *table_of_classes({**columns, "dy": map(number, dy)}),
            f"loss = {rule} of the squares, {number(squares.sum())}, = {number(loss)}",
        ]


class MeanSquaredError(_SquaredError):
    """(y - target)^2, averaged over all elements, for a target of y's shape. Gradient: dy = 2 (y - target) / y.size.

    For y (N, K), the target may also be integer labels (N,), which stand for 1 at the label and 0 elsewhere.
    Raises ShapeError for wrong shapes or types, MinicnnError for labels out of range.
    """

    words = "mean squared error", "the sum / {n}", "2 (y - t) / {n}"

    def terms(self, y_shape: Shape) -> int:
        return math.prod(y_shape)


class HalfSquaredError(_SquaredError):
    """1/2 sum over k of (y[k] - target[k])^2, averaged over the batch: the squared error of textbooks.

    The target has y's shape. For y (N, K), it may also be integer labels (N,), which stand for 1 at the label and 0
    elsewhere. Gradient: dy = (y - target) / N. This is K / 2 times the gradient of `MeanSquaredError`; for the same
    steps, divide the learning rate by K / 2.

    Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors (1986), equation 3.
    Raises ShapeError for wrong shapes or types, MinicnnError for labels out of range.
    """

    words = "half the squared error", "1/2 the sum", "y - t"

    def terms(self, y_shape: Shape) -> int:
        return 2 * y_shape[0]


#: The losses by their names in settings and model files.
LOSSES: dict[str, type[Loss]] = {
    "softmax-cross-entropy": SoftmaxCrossEntropy,
    "mean-squared-error": MeanSquaredError,
    "half-squared-error": HalfSquaredError,
    "maximum-a-posteriori": MaximumAPosteriori,
}
#: Those under which the softmax of the scores gives probabilities.
LOGIT_LOSSES = tuple(name for name, loss in LOSSES.items() if loss.takes_logits)


def name_of(loss: Loss) -> str:
    """That of a loss in `LOSSES`; for a user's own, that of the one which reads scores as it does."""
    own = "softmax-cross-entropy" if loss.takes_logits else "mean-squared-error"
    return next((name for name, kind in LOSSES.items() if kind is type(loss)), own)


#: Of a loss that is written in NumPy. Each is a kind of its own to programs, which keep it.
_ALWAYS = {"declare": declare_in_numpy, "key": property(id), "per_sample": False}
_IN_NUMPY = {
    **_ALWAYS,
    "checked": _SquaredError.checked,
    "terms": lambda self, y_shape: y_shape[0],
    "_declare": lambda self, *arguments: None,  # which nobody calls
}


def label_input() -> Input:
    return Input("target", "i", LANES * 8)


def check_labels(labels: Any, y_shape: Shape, name: str) -> Array:
    """Labels (N,) for scores (N, classes) as int64, with zeros behind them that complete the last block.

    Raises ShapeError for other shapes and types, MinicnnError if one is out of range.
    """
    labels, samples = plain_array(labels, "labels", ShapeError), y_shape[0]
    if len(y_shape) != 2:
        raise ShapeError(f"{name}: expected scores (N, classes), received {y_shape}")
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"labels: expected {samples} integers ({samples},), received {labels.dtype} {labels.shape}"
            f"{labels_hint(labels)}"
        )
    wrong = (labels < 0) | (labels >= y_shape[1])
    if wrong.any():
        index = int(wrong.argmax())
        raise MinicnnError(
            f"labels: expected classes 0 to {y_shape[1] - 1}, received {labels[index]} at index {index}"
            f"{range_hint(labels, y_shape[1])}"
        )
    padded = np.zeros(blocks_of(samples) * LANES, np.int64)
    padded[:samples] = labels
    return padded
