"""Squared errors."""

import math
from typing import Any

import numpy as np

from minicnn.engine.arrays import Array, Shape
from minicnn.engine.lanes import pack_input
from minicnn.engine.memory import Map
from minicnn.engine.work import Argument, Work
from minicnn.layers.explain import number, table_of_classes
from minicnn.losses.loss import Loss, kernels, label_input
from minicnn.losses.targets import Kind, labels_or_numbers


class _SquaredError(Loss):
    takes_shares = True
    #: For `explain`: its name, what becomes of the sum of squares, and dy, for {n} classes.
    words: tuple[str, str, str]

    def checked(self, target: Any, y_shape: Shape, dtype: Any) -> Array:
        return labels_or_numbers(target, y_shape, dtype, type(self).__name__)

    def _declare(self, work: Work, y: Map, kind: Kind, *rest: Argument) -> None:
        if kind.by_label:
            ones, target = work.shared(y.vectors), work.scratch((y.vectors + 1,))
            ones[...] = 1
            work.call(kernels.label_targets, label_input(), ones, y.vectors, 0.0, target)
        else:
            target = pack_input(work, "target", y.shape)
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

    def terms(self, outputs: Shape) -> int:
        return math.prod(outputs)


class HalfSquaredError(_SquaredError):
    """1/2 sum over k of (y[k] - target[k])^2, averaged over the batch: the squared error of textbooks.

    The target has y's shape. For y (N, K), it may also be integer labels (N,), which stand for 1 at the label and 0
    elsewhere. Gradient: dy = (y - target) / N. This is K / 2 times the gradient of `MeanSquaredError`; for the same
    steps, divide the learning rate by K / 2.

    Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors (1986), equation 3.
    Raises ShapeError for wrong shapes or types, MinicnnError for labels out of range.
    """

    words = "half the squared error", "1/2 the sum", "y - t"

    def terms(self, outputs: Shape) -> int:
        return 2
