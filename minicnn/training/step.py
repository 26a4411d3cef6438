"""One step of training, and evaluation, each a program."""

import math
import os
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minicnn.checks import plain_array
from minicnn.data.batches import Batch, Batches
from minicnn.engine.arrays import Array, Shape, address
from minicnn.engine.cache import Kernels
from minicnn.engine.lanes import pack_input, unpack_output
from minicnn.engine.program import Program
from minicnn.engine.work import Input, Work
from minicnn.errors import ConfigError, DivergedError, MinicnnError, ShapeError
from minicnn.kernels import LANES, blocks_of
from minicnn.layers.lane_layer import check_types, in_one_job
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss
from minicnn.losses.targets import Kind
from minicnn.metrics import balanced_accuracy, class_figures, confusion_matrix, macro_f1, top_k_accuracy
from minicnn.optimizers import Optimizer
from minicnn.training.divergence import Reduction as Reduction
from minicnn.training.divergence import common, first_not_finite
from minicnn.training.step_arguments import check_arguments, check_batch
from minicnn.training.targets import Pair as Pair
from minicnn.training.targets import given, target_of

kernels = Kernels("loss")

#: Images of a batch that are evaluated at once at most: enough for any number of threads.
PIECE = 4096


_FLOAT32 = np.dtype(np.float32)

#: The networks that are being trained, by id. A child of a fork has none of the threads that train them.
_in_training: dict[int, object] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_training.clear)


@dataclass(frozen=True)
class StepResult:
    """The mean loss of a batch of `count` samples before the update, and how many of its `answers` were right.

    There is one answer per sample, or one per label where a sample has several. `weight` has the weights of all
    samples, added up, over which the loss is the mean. `errors`, if it was asked for, has the length of the gradient
    of each sample's loss with respect to the network's output.
    """

    loss: float
    correct: int
    count: int
    answers: int
    weight: float
    errors: Array | None = None


@dataclass(frozen=True)
class Evaluation:
    """Mean loss, accuracy from 0 to 1, and the network's output for every sample (N, classes).

    Where a sample has several labels, accuracy is the share of all labels that was right. `weight` has the weights of
    all samples, added up, over which the loss is the mean. `labels` has the class of each sample (N,), if it has one.
    """

    loss: float
    accuracy: float
    scores: Array
    weight: float
    labels: NDArray[np.int64] | None

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of all classes. Raises MinicnnError without a class of each sample, as do the others."""
        return balanced_accuracy(self._confusion())

    @property
    def macro_f1(self) -> float:
        """The mean F1 of all classes."""
        return macro_f1(self._confusion())

    def top_k_accuracy(self, k: int) -> float:
        """The share of samples whose class has one of the k highest scores."""
        self._confusion()
        assert self.labels is not None
        return top_k_accuracy(self.scores, self.labels, k)

    def figures(self) -> dict[str, float]:
        """All of them by name: loss, accuracy and, where there are classes, balanced_accuracy, macro_f1, top3_accuracy
        and top5_accuracy of more than 3 and 5 classes."""
        found = {"loss": self.loss, "accuracy": self.accuracy}
        return found if self.labels is None else found | class_figures(self.scores, self.labels)

    def _confusion(self) -> NDArray[np.int64]:
        if self.labels is None:
            raise MinicnnError("expected an evaluation with one class of each sample, received one of other targets")
        return confusion_matrix(self.labels, self.scores.argmax(axis=1), self.scores.shape[1])


def train_step(
    network: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    batch: Batch | Pair,
    reduce: Reduction | None = None,
    errors: bool = False,
    update: bool = True,
) -> StepResult:
    """One training step, forward, loss, backward and update, for a `Batch`, (x, target) or (x, target, sample_weight).

    It equals loss.forward(network.forward(x, training=True), target), network.backward(loss.backward()) and
    optimizer.step(). It is faster, because one program does the first three.

    With `reduce`, several processes do one step together. Then `batch` is this process's shard of the common batch
    (`Batch.shard`), and the result is that of the whole batch, except for `errors`, which are those of the shard.

    With update=False, the gradients are there, and the optimizer does nothing yet: it may step on the sum of several.

    Raises DivergedError, before any update, if the loss or a gradient is NaN or infinite; ShapeError or MinicnnError
    for bad arrays, ConfigError for another network's optimizer, MinicnnError if another thread trains the network.
    """
    check_arguments(network, loss, optimizer, batch, reduce)
    me = object()
    if _in_training.setdefault(id(network), me) is not me:
        raise MinicnnError(
            "train_step: expected a network that one thread trains at a time, "
            "received one that another thread is training"
        )
    try:
        return _step(network, loss, optimizer, batch, reduce, errors, update)
    finally:
        _in_training.pop(id(network), None)


def _step(
    network: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    batch: Batch | Pair,
    reduce: Reduction | None,
    errors: bool,
    update: bool,
) -> StepResult:
    network.claim_parameters()
    home = network.home
    if not any(parameter.cell.home is home for parameter in optimizer.parameters):
        raise ConfigError(
            "train_step: expected an optimizer of the network's parameters, received one of others or none; "
            f"make it with {type(optimizer).__name__}(network.parameters(), ...)"
        )
    check_batch(batch, "train_step")
    count, shape, dtype, x = _input(network, batch)
    total = batch.total if isinstance(batch, Batch) else count
    outputs = network.output_shape(shape)
    mean, correct, each, target, fused = 0.0, 0, None, None, False
    if count:
        target = target_of(loss, batch, (count, *outputs), dtype)
    if isinstance(batch, Batch) and batch.whole is not batch:  # a shard, and its share of the mean of the whole
        weight = target_of(loss, batch.whole, (total, *outputs), dtype).weight
    else:
        weight = target.weight if target else 0.0
    terms = loss.terms(outputs) * weight
    if target is None:
        network.gradients[...] = 0
    else:
        fused = update and reduce is None and type(optimizer).step is Optimizer.step
        plan = _plan(loss, batch, count, shape, dtype, target.kind, True, errors, optimizer if fused else None)
        program = network.programs.take(plan, lambda: _declared(network, loss, batch, plan).finish())
        if fused:
            for name, number in optimizer.before_step().items():
                program.set(name, number)
        if errors:
            each = np.zeros(count, np.float32)
            program.set("errors", address(each))
            program.set("total", float(total))
        loss.set_inputs(program, target, terms)
        _run(program, batch, x, count)
        mean = loss.mean(program.losses, terms)
        correct = sum(program.correct.ravel().tolist())
        network.programs.give(plan, program)
    here = mean
    if reduce is not None:
        mean, whole = reduce(network.gradients, (mean, correct))
        correct = round(whole) if math.isfinite(whole) else 0
    if not math.isfinite(mean) and update:
        layer = None if math.isfinite(here) else first_not_finite(network, batch, True)
        large = not isinstance(batch, Batch) and 1 < np.abs(x).max() <= 255 and x.max() > 100
        hint = "; the inputs go up to 255: divide them by 255" if large else DivergedError.REMEDY
        raise DivergedError(optimizer.steps + 1, common(network, layer, reduce) or "the loss", hint)
    if fused:
        optimizer.after_step()
    elif update:
        optimizer.step()
    return StepResult(mean, correct, total, total * loss.answers(outputs), weight, each)


def step_work(
    network: Sequential, loss: Loss, batch: Batch | Pair, errors: bool = False, optimizer: Optimizer | None = None
) -> Work:
    """The work of `train_step`, for whoever wants its kernels compiled early, or looks at it."""
    return _work(network, loss, batch, True, errors, optimizer)


def evaluation_work(network: Sequential, loss: Loss, batch: Batch | Pair) -> Work:
    """The work of `evaluate`, for the same purpose."""
    return _work(network, loss, batch, False)


def _work(
    network: Sequential,
    loss: Loss,
    batch: Batch | Pair,
    training: bool,
    errors: bool = False,
    optimizer: Optimizer | None = None,
) -> Work:
    count, shape, dtype, _ = _input(network, batch)
    scores = (count, *network.output_shape(shape))
    target, weights, labels = given(loss, batch, scores, dtype)
    kind = loss.kind(loss.checked(target, scores, dtype), weights is not None, labels is not None)
    plan = _plan(loss, batch, count, shape, dtype, kind, training, errors, optimizer)
    return _declared(network, loss, batch, plan)


class _Plan(NamedTuple):
    """What the program of a step or an evaluation depends on, besides the network."""

    training: bool
    errors: bool
    blocks: int
    shape: Shape
    dtype: str
    target: Kind
    batch: Hashable  # what its first calls depend on
    loss: Hashable
    optimizer: tuple[Optimizer, bool] | None  # the one that the step ends with, and whether it clips


def _plan(
    loss: Loss,
    batch: Batch | Pair,
    count: int,
    shape: Shape,
    dtype: np.dtype[Any],
    kind: Kind,
    training: bool,
    errors: bool = False,
    optimizer: Optimizer | None = None,
) -> _Plan:
    first = batch.key if isinstance(batch, Batch) else None
    last = None if optimizer is None else (optimizer, optimizer.clip_norm is not None)
    return _Plan(training, errors, blocks_of(count), shape, dtype.char, kind, first, loss.key, last)


def _declared(network: Sequential, loss: Loss, batch: Batch | Pair, plan: _Plan) -> Work:
    """Forward and loss; in training backward, else scores."""
    dtype, training = np.dtype(plan.dtype), plan.training
    check_types(network, dtype)
    work = Work(plan.blocks, dtype, training, not (loss.per_sample and in_one_job(network, training)))
    work.label = "input "
    x = batch.declare(work) if isinstance(batch, Batch) else pack_input(work, "x", plan.shape)
    work.label = ""
    y, backward = network.declare(work, x)
    work.label = "loss "
    dy = loss.declare(work, y, plan.target)
    loss.declare_count(work, y, plan.target)
    if training:
        if plan.errors:
            out = Input("errors", "f", LANES * 4)
            scale = Input("total", "r")
            work.call(kernels.lengths, dy, dy.vectors, scale, out, work.remaining)
        backward(dy, False)
        if plan.optimizer:
            work.settle()
            work.label = "optimizer "
            plan.optimizer[0].declare(work, work.losses)
    else:
        unpack_output(work, y, "y")
    return work


def _run(program: Program, batch: Batch | Pair, x: Array, count: int) -> None:
    if isinstance(batch, Batch):
        batch.set_inputs(program)
    else:
        program.set("x", address(x))
    program.run(count)


def evaluate(network: Sequential, loss: Loss, batches: Batches | Iterable[Batch | Pair]) -> Evaluation:
    """Mean loss, accuracy and outputs over all batches, in their order, with Dropout off.

    A batch may also be (x, target) or (x, target, sample_weight). Raises ShapeError or MinicnnError for arrays that do
    not fit.
    """
    check_arguments(network, loss, place="evaluate")
    if not isinstance(batches, Iterable):
        check_batch(batches, "evaluate")
    losses, correct, weight = 0.0, 0, 0.0
    scores: list[Array] = []
    labels: list[NDArray[np.int64]] = []
    for batch in batches.epoch() if isinstance(batches, Batches) else batches:
        check_batch(batch, "evaluate")
        for piece in _pieces(network, batch):
            count, shape, dtype, x = _input(network, piece)
            y = np.empty((count, *network.output_shape(shape)), dtype)
            target = target_of(loss, piece, y.shape, dtype)
            plan = _plan(loss, piece, count, shape, dtype, target.kind, False)
            program = network.programs.take(
                plan,
                lambda: _declared(network, loss, piece, plan).finish(),  # noqa: B023 # called at once
            )
            program.set("y", address(y))
            loss.set_inputs(program, target, 1)
            _run(program, piece, x, count)
            losses += loss.mean(program.losses, 1)
            correct += sum(program.correct.ravel().tolist())
            network.programs.give(plan, program)
            scores.append(y)
            weight += target.weight
            if target.labels is not None:
                labels.append(target.labels)
    if not scores:
        raise MinicnnError("evaluate: expected at least one batch, received none")
    y = np.concatenate(scores)
    outputs = y.shape[1:]
    accuracy = correct / (len(y) * loss.answers(outputs))
    found = np.concatenate(labels) if len(labels) == len(scores) else None
    return Evaluation(losses / (loss.terms(outputs) * weight) if weight else 0.0, accuracy, y, weight, found)


def _input(network: Sequential, batch: Batch | Pair) -> tuple[int, Shape, np.dtype[Any], Array]:
    """Number, shape and element type of the images, and the array that they are in, if they are."""
    if isinstance(batch, Batch):
        if network.home.values.dtype != _FLOAT32:
            raise ShapeError(
                "batch: expected a network of float32, as Batches give, received one of float64; convert it with "
                "network.astype(numpy.float32), or train it by train_step on pairs (x, target) of float64"
            )
        network.expect_shape((len(batch), *batch.sample_shape), "images")
        return len(batch), batch.sample_shape, _FLOAT32, batch.labels
    x = network._checked(batch[0])
    target = plain_array(batch[1], "target", ShapeError)
    if target.ndim == 0 or len(target) != len(x):
        received = len(target) if target.ndim else f"{batch[1]!r:.60}"
        raise ShapeError(f"target: expected {len(x)} like the inputs, received {received}")
    return len(x), x.shape[1:], x.dtype, x


def _pieces(network: Sequential, batch: Batch | Pair) -> Iterator[Batch | Pair]:
    """Parts of a batch that are evaluated at once, as much as the network allows."""
    count = len(batch) if isinstance(batch, Batch) else len(batch[0])
    if count <= PIECE or not network.per_sample_inference:
        yield batch
        return
    for first in range(0, count, PIECE):
        if isinstance(batch, Batch):
            yield batch.cut(first, min(first + PIECE, count))
        else:
            yield tuple(array[first : first + PIECE] for array in batch)
