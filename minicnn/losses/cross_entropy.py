"""Losses that take scores for logarithms of probabilities, all with a gradient of the kind p - t."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Gt, Interval

from minicnn.checks import plain_array
from minicnn.engine.arrays import Array, Shape
from minicnn.engine.lanes import pack_input
from minicnn.engine.memory import Map
from minicnn.engine.work import Argument, Work
from minicnn.errors import MinicnnError, ShapeError
from minicnn.layers.explain import in_brackets, number, table_of_classes
from minicnn.losses.loss import Loss, kernels, label_input, numbers_input
from minicnn.losses.targets import (
    BALANCED,
    Kind,
    added_up,
    balanced_weights,
    check_labels,
    check_numbers,
    check_shares,
    weights_or_ones,
)

#: Of the MAP criterion; found on validation images with the prototypes of RadialBasis.
DEFAULT_J = 10.0


class SoftmaxCrossEntropy(Loss):
    """-sum over k of t[k] log softmax(y)[k], averaged over the batch, for logits y (N, K).

    The target is integer labels (N,), for which t is 1 at the label and 0 elsewhere, or t itself: probabilities (N, K).
    With label_smoothing e, t becomes (1 - e) t + e / K. Gradient: dy = (softmax(y) - t) / N.

    With class_weights w (K,), t[k] becomes w[k] t[k], and the mean that over the weights of the labels, so that a
    class counts w times: loss = sum over n of (loss of n) / sum over n of w[label of n]; with probabilities, / N. As
    in PyTorch. "balanced" are the weights N / (K n[k]) of classes with n[k] of N training images, as in scikit-learn;
    `Model.fit` and the command line count them, else `balance` does.

    Source: Bridle, Probabilistic interpretation of feedforward classification network outputs (1990); smoothing:
    Szegedy et al., Rethinking the Inception architecture (2016), section 7.
    Raises ShapeError for wrong shapes or types, MinicnnError for labels or probabilities out of range.
    """

    takes_logits = takes_shares = counts_rows = True

    def __init__(
        self,
        label_smoothing: Annotated[float, Interval(ge=0, le=1)] = 0.0,
        class_weights: Sequence[float] | Literal["balanced"] | None = None,
    ) -> None:
        self.label_smoothing = float(label_smoothing)
        if isinstance(class_weights, str) and class_weights != BALANCED:
            raise ShapeError(f"class_weights: expected {BALANCED!r} or a list of numbers, received {class_weights!r}")
        self.needs_labels = isinstance(class_weights, str)
        self.class_weights: tuple[float, ...] | str | None = (
            class_weights if isinstance(class_weights, str) else check_numbers("class_weights", class_weights)
        )

    def balance(self, labels: Array, classes: int) -> None:
        """Finds the weights that balance classes with such labels (N,), if `class_weights` are to be "balanced"."""
        if self.needs_labels:
            self.class_weights = balanced_weights(labels, classes)

    def checked(self, target: Any, y_shape: Shape, dtype: Any) -> Array:
        name = type(self).__name__
        target = plain_array(target, "target", ShapeError)
        if target.shape == y_shape and len(y_shape) == 2 and target.dtype.kind == "f":
            return check_shares(target, y_shape, dtype, name)
        return check_labels(target, y_shape, name)

    def own_inputs(self, outputs: Shape, dtype: Any) -> Mapping[str, Array]:
        return {"class weights": self._weights(outputs[0], dtype)}

    def weight_of(self, target: Array, sample_weight: Array | None, dtype: Any) -> float:
        if not isinstance(self.class_weights, tuple) or target.ndim != 1:
            return super().weight_of(target, sample_weight, dtype)
        weights = np.array(self.class_weights, dtype)[target]
        return added_up(weights if sample_weight is None else weights.astype(np.float64) * sample_weight.astype(dtype))

    def _weights(self, classes: int, dtype: Any) -> Array:
        if isinstance(self.class_weights, str):
            raise MinicnnError(
                "SoftmaxCrossEntropy: class_weights: expected numbers, received 'balanced', which depends on the "
                "training labels; Model.fit counts them, and so does loss.balance(labels, classes)"
            )
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise ShapeError(
                f"SoftmaxCrossEntropy: expected {classes} class_weights, one for each class, "
                f"received {len(self.class_weights)}"
            )
        return weights_or_ones(self.class_weights, classes, dtype)

    @property
    def key(self) -> tuple[Any, ...]:
        return type(self), self.label_smoothing

    def _declare(self, work: Work, y: Map, kind: Kind, *rest: Argument) -> None:
        given = label_input() if kind.by_label else pack_input(work, "target", y.shape)
        target, weights = work.scratch((y.vectors + 1,)), numbers_input(work, "class weights")
        kernel = kernels.label_targets if kind.by_label else kernels.soft_targets
        work.call(kernel, given, weights, y.vectors, self.label_smoothing, target)
        work.call(kernels.cross_entropy, y, target, y.vectors, *rest)

    def explain(self, y: Array, dy: Array, label: int, loss: float) -> list[str]:
        smoothing, scores = self.label_smoothing, y.astype(np.float64)
        e = np.exp(scores - scores.max())
        p = e / e.sum()
        t = (np.arange(len(y)) == label) * (1 - smoothing) + smoothing / len(y)
        target, whole = "target", ""
        if smoothing and isinstance(self.class_weights, tuple) and self.class_weights[label]:
            t *= np.array(self.class_weights) / self.class_weights[label]  # alone, they cancel each other
            target, whole = "target, by the class weights over that of the class", f"{number(t.sum())} "
        lines = [
            f"softmax cross-entropy: e = exp(y - the largest y, {number(scores.max())}); p = e / the sum of e, "
            f"{number(e.sum())}; t = {target}; dy = {whole}p - t",
            *_probabilities(y, e, p, t, dy),
        ]
        if smoothing:
            return [*lines, f"loss = -sum of t ln p = {number(loss)}  (label smoothing {smoothing:g})"]
        return [*lines, f"loss = -ln p[{label}] = -ln {number(p[label])} = {number(loss)}"]


class MaximumAPosteriori(Loss):
    """log(e^-j + sum over k of e^y[k]) - y[label], mean over the batch, for scores y (N, K) and integer labels (N,).

    In the paper's terms, where unit k has the penalty -y[k]: the penalty of the right class, plus the logarithm of
    what competes with it, which pushes up the penalties of the others. The constant j > 0 keeps it from pushing up
    those that are far above j already, as though there were one more class, for rubbish, with the penalty j (10
    unless given).
    Gradient: dy[k] = (e^y[k] / (e^-j + sum over i of e^y[i]) - [k = label]) / N.

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), equation 9.
    Raises ShapeError for wrong shapes or types and for j <= 0, MinicnnError for labels out of range.
    """

    takes_logits = True

    def __init__(self, j: Annotated[float, Gt(0)] | None = None) -> None:
        self.j = DEFAULT_J if j is None else float(j)

    @property
    def key(self) -> tuple[Any, ...]:
        return type(self), self.j

    def _declare(self, work: Work, y: Map, kind: Kind, *rest: Argument) -> None:
        work.call(kernels.map_criterion, y, label_input(), y.vectors, self.j, *rest)

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


class BCEWithLogits(Loss):
    """Binary cross-entropy of each output by itself, for samples that may have several labels or none.

    For logits y (N, K) and targets t (N, K), 0 or 1, or probabilities: the mean over all N K numbers of
    weight[k] (-pos_weight[k] t log s - (1 - t) log(1 - s)) with s = sigmoid(y) = 1 / (1 + e^-y).
    Gradient: dy = weight[k] ((1 - t) s - pos_weight[k] t (1 - s)) / (N K).

    weight      how much each output counts, K numbers >= 0 [1]
    pos_weight  how much more a 1 of each output counts than a 0, K numbers >= 0; above 1, more of the 1 are found, and
                more 0 are taken for 1 [1]

    Arguments and results are those of PyTorch's BCEWithLogitsLoss. Raises ShapeError for wrong shapes or types,
    MinicnnError for targets that are not from 0 to 1.
    """

    multi_label = takes_shares = counts_rows = True

    def __init__(self, weight: Sequence[float] | None = None, pos_weight: Sequence[float] | None = None) -> None:
        self.weight, self.pos_weight = check_numbers("weight", weight), check_numbers("pos_weight", pos_weight)

    def checked(self, target: Any, y_shape: Shape, dtype: Any) -> Array:
        if len(y_shape) != 2:
            raise ShapeError(f"BCEWithLogits: expected logits (N, labels), received {y_shape}")
        target = plain_array(target, "target", ShapeError)
        if target.dtype.kind not in "biuf":
            raise ShapeError(f"BCEWithLogits: expected a target of numbers, received {target.dtype}")
        return check_shares(target, y_shape, dtype, "BCEWithLogits")

    def own_inputs(self, outputs: Shape, dtype: Any) -> Mapping[str, Array]:
        found = {}
        for name, values in (("weight", self.weight), ("pos_weight", self.pos_weight)):
            if values is not None and len(values) != outputs[0]:
                raise ShapeError(f"BCEWithLogits: {name}: expected {outputs[0]} numbers, received {len(values)}")
            found[name] = weights_or_ones(values, outputs[0], dtype)
        return found

    def answers(self, outputs: Shape) -> int:
        return outputs[0]

    def terms(self, outputs: Shape) -> int:
        return outputs[0]

    def _declare(self, work: Work, y: Map, kind: Kind, *rest: Argument) -> None:
        weights = (numbers_input(work, name) for name in ("weight", "pos_weight"))
        work.call(kernels.binary_cross_entropy, y, pack_input(work, "target", y.shape), y.vectors, *weights, *rest)

    def declare_count(self, work: Work, y: Map, kind: Kind) -> None:
        work.correct = work.numbers(1, np.int64)
        target = pack_input(work, "target", y.shape)
        work.call(kernels.count_labels, y, target, y.vectors, work.correct, work.remaining)


def _probabilities(y: Array, e: Array, p: Array, t: Array, dy: Array) -> list[str]:
    columns = {"y": map(number, y), "e": map(number, e), "p": map(number, p), "t": (f"{k:g}" for k in t)}
    return table_of_classes({**columns, "dy": map(number, dy)})
