"""One step of training, and evaluation, each a program."""

import math
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minicnn.checks import plain_array, told, words
from minicnn.data.batches import Batch, Batches
from minicnn.engine.arrays import Array, Shape
from minicnn.engine.cache import Kernels
from minicnn.engine.lanes import pack_input, unpack_output
from minicnn.engine.program import Program
from minicnn.engine.work import Input, Work
from minicnn.errors import ConfigError, DivergedError, MinicnnError, ShapeError
from minicnn.kernels import LANES, blocks_of
from minicnn.layers import Layer
from minicnn.layers.lane_layer import check_types
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss, label_input
from minicnn.optimizers import Optimizer

kernels = Kernels("loss")

#: Images of a batch that are evaluated at once at most: enough for any number of threads.
PIECE = 4096

#: Adds up an array over all processes, in place, and returns the sums of the numbers.
Reduction = Callable[[Array, Sequence[float]], list[float]]
Pair = tuple[Array, Array]

#: The networks that are being trained, by id. A child of a fork has none of the threads that train them.
_in_training: dict[int, object] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_training.clear)


@dataclass(frozen=True)
class StepResult:
    """The mean loss of a batch before the update, and how many of its `count` samples were right.

    `errors`, if it was asked for, has the length of the gradient of each sample's loss with respect to the network's
    output.
    """

    loss: float
    correct: int
    count: int
    errors: Array | None = None


@dataclass(frozen=True)
class Evaluation:
    """Mean loss, accuracy from 0 to 1, and the network's output for every sample (N, classes)."""

    loss: float
    accuracy: float
    scores: Array


def train_step(
    network: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    batch: Batch | Pair,
    reduce: Reduction | None = None,
    errors: bool = False,
) -> StepResult:
    """One training step, forward, loss, backward and update, for a `Batch` or a pair (x, target).

    It equals loss.forward(network.forward(x, training=True), target), network.backward(loss.backward()) and
    optimizer.step(). It is faster, because one program does the first three.

    With `reduce`, several processes do one step together. Then `batch` is this process's shard of the common batch
    (`Batch.shard`), and the result is that of the whole batch, except for `errors`, which are those of the shard.

    Raises DivergedError, before any update, if the loss or a gradient is NaN or infinite; ShapeError or MinicnnError
    for bad arrays, ConfigError for another network's optimizer, MinicnnError if another thread trains the network.
    """
    _check_arguments(network, loss, optimizer, batch, reduce)
    with _alone(network):
        return _step(network, loss, optimizer, batch, reduce, errors)


@contextmanager
def _alone(network: Sequential) -> Iterator[None]:
    """For a block that no two threads may be in with the same network."""
    me = object()
    if _in_training.setdefault(id(network), me) is not me:
        raise MinicnnError(
            "train_step: expected a network that one thread trains at a time, "
            "received one that another thread is training"
        )
    try:
        yield
    finally:
        _in_training.pop(id(network), None)


_ORDER: dict[str, type] = {"network": Sequential, "loss": Loss, "optimizer": Optimizer}


def _check_arguments(
    network: Any, loss: Any, optimizer: Any = None, batch: Any = None, rest: Any = None, place: str = "train_step"
) -> None:
    """Raises MinicnnError, with the remedy, for arguments of other types, as in another order."""
    given = {"network": network, "loss": loss} | ({} if place == "evaluate" else {"optimizer": optimizer})
    for name, value in given.items():
        kind = _ORDER[name]
        if isinstance(value, kind):
            continue
        if any(isinstance(value, other) for other in _ORDER.values()):
            hint = f"; the order is {place}({', '.join([*given, 'batches' if place == 'evaluate' else 'batch'])})"
        elif isinstance(value, Layer):
            hint = "; put it into one: Sequential([layer])"
        elif isinstance(getattr(value, "network", None), Sequential):
            hint = "; its network is model.network"
        elif name == "loss" and hasattr(value, "forward") and not isinstance(value, type):
            hint = "; a loss of your own derives from minicnn.Loss"
        else:
            hint = ""
        raise MinicnnError(f"{place}: {name}: expected {words(kind)}, received {told(value)}{hint}")
    if rest is not None and not callable(rest):
        raise MinicnnError(
            f"{place}: batch: expected a Batch or a pair, received x and target one by one; "
            f"make them a pair: {place}({', '.join(given)}, (x, target))"
        )


def _check_batch(batch: Any, place: str) -> None:
    """Raises MinicnnError for what is neither a batch nor a pair."""
    if isinstance(batch, Batch) or (isinstance(batch, tuple | list) and len(batch) == 2):
        return
    if isinstance(batch, Batches):
        hint = "; for batch in batches: ..."
    else:
        hint = "; batches is a list of them: [(x, target)]" if place == "evaluate" else ""
    raise MinicnnError(f"{place}: batch: expected a Batch or a pair (x, target), received {told(batch)}{hint}")


def _step(
    network: Sequential, loss: Loss, optimizer: Optimizer, batch: Batch | Pair, reduce: Reduction | None, errors: bool
) -> StepResult:
    network.claim_parameters()
    home = network.home
    if not any(parameter.cell.home is home for parameter in optimizer.parameters):
        raise ConfigError(
            "train_step: expected an optimizer of the network's parameters, received one of others or none; "
            f"make it with {type(optimizer).__name__}(network.parameters(), ...)"
        )
    _check_batch(batch, "train_step")
    count, shape, dtype, x = _input(network, batch)
    total = batch.total if isinstance(batch, Batch) else count
    scores = (total, *network.output_shape(shape))
    terms = loss.terms(scores)
    mean, correct, each, program = 0.0, 0, None, None
    if count == 0:
        network.gradients[...] = 0
    else:
        target = _target(loss, batch, (count, *scores[1:]), dtype)
        plan = _plan(loss, batch, count, shape, dtype, target.dtype == np.int64, True, errors)
        program = network.programs.take(plan, lambda: _declared(network, loss, batch, plan).finish())
        if errors:
            each = np.zeros(count, np.float32)
            program.set("errors", each.ctypes.data)
            program.set("total", float(total))
        program.set("factor", 1 / terms)
        _run(program, batch, x, target, count)
        mean = loss.mean(program.losses, terms)
        correct = sum(program.correct.ravel().tolist())
        network.programs.give(plan, program)
    here = mean
    if reduce is not None:
        mean, whole = reduce(network.gradients, (mean, correct))
        correct = round(whole) if math.isfinite(whole) else 0
    if not math.isfinite(mean):
        layer = None if math.isfinite(here) else first_not_finite(network, batch, True)
        large = not isinstance(batch, Batch) and 1 < np.abs(x).max() <= 255 and x.max() > 100
        hint = "; the inputs go up to 255: divide them by 255" if large else ""
        raise DivergedError(optimizer.steps + 1, _common(network, layer, reduce) or "the loss", hint)
    optimizer.step()
    return StepResult(mean, correct, total, each)


def step_work(network: Sequential, loss: Loss, batch: Batch | Pair, errors: bool = False) -> Work:
    """The work of `train_step` before the update, for whoever wants its kernels compiled early, or looks at it."""
    return _work(network, loss, batch, True, errors)


def evaluation_work(network: Sequential, loss: Loss, batch: Batch | Pair) -> Work:
    """The work of `evaluate`, for the same purpose."""
    return _work(network, loss, batch, False)


def _work(network: Sequential, loss: Loss, batch: Batch | Pair, training: bool, errors: bool = False) -> Work:
    count, shape, dtype, _ = _input(network, batch)
    if isinstance(batch, Batch):
        by_label = True
    else:
        target = _target(loss, batch, (count, *network.output_shape(shape)), dtype)
        by_label = target.dtype == np.int64
    plan = _plan(loss, batch, count, shape, dtype, by_label, training, errors)
    return _declared(network, loss, batch, plan)


class _Plan(NamedTuple):
    """What the program of a step or an evaluation depends on, besides the network."""

    training: bool
    errors: bool
    blocks: int
    shape: Shape
    dtype: str
    by_label: bool
    batch: Hashable  # what its first calls depend on
    loss: Hashable


def _plan(
    loss: Loss,
    batch: Batch | Pair,
    count: int,
    shape: Shape,
    dtype: np.dtype[Any],
    by_label: bool,
    training: bool,
    errors: bool = False,
) -> _Plan:
    first = batch.key if isinstance(batch, Batch) else None
    return _Plan(training, errors, blocks_of(count), shape, dtype.char, by_label, first, loss.key)


def _declared(network: Sequential, loss: Loss, batch: Batch | Pair, plan: _Plan) -> Work:
    """Forward and loss; in training backward, else scores."""
    dtype, training = np.dtype(plan.dtype), plan.training
    check_types(network, dtype)
    alone = network.per_sample if training else network.per_sample_inference
    work = Work(plan.blocks, dtype, training, not (alone and loss.per_sample))
    work.label = "input "
    x = batch.declare(work) if isinstance(batch, Batch) else pack_input(work, "x", plan.shape)
    work.label = ""
    y, backward = network.declare(work, x)
    work.label = "loss "
    dy = loss.declare(work, y, plan.by_label)
    work.correct = work.numbers(1, np.int64)
    if plan.by_label and len(y.shape) == 1:
        rest = (y.vectors, work.correct, work.remaining)
        work.call(kernels.count_correct, y, label_input(), *rest)
    if training:
        if plan.errors:
            out = Input("errors", "f", LANES * 4)
            scale = Input("total", "r")
            work.call(kernels.lengths, dy, dy.vectors, scale, out, work.remaining)
        backward(dy, False)
    else:
        unpack_output(work, y, "y")
    return work


def _run(program: Program, batch: Batch | Pair, x: Array, target: Array, count: int) -> None:
    if isinstance(batch, Batch):
        batch.set_inputs(program)
    else:
        program.set("x", x.ctypes.data)
    program.set("target", target.ctypes.data)
    program.run(count)


def _common(network: Sequential, layer: str | None, reduce: Reduction | None) -> str | None:
    """The first of the layers that the processes have found, each its own or none."""
    if reduce is None:
        return layer
    names = [f"layer {i} {one!r}" for i, one in enumerate(network)]
    found = reduce(np.zeros(0, np.float32), [float(layer == name) for name in names])
    return next((name for name, count in zip(names, found, strict=True) if count), None)


def evaluate(network: Sequential, loss: Loss, batches: Batches | Iterable[Batch | Pair]) -> Evaluation:
    """Mean loss, accuracy and outputs over all batches, in their order, with Dropout off.

    A batch may also be a pair (x, target). Raises ShapeError or MinicnnError for arrays that do not fit.
    """
    _check_arguments(network, loss, place="evaluate")
    if not isinstance(batches, Iterable):
        _check_batch(batches, "evaluate")
    losses, correct, samples = 0.0, 0, 0
    scores: list[Array] = []
    for batch in batches.epoch() if isinstance(batches, Batches) else batches:
        _check_batch(batch, "evaluate")
        for piece in _pieces(network, batch):
            count, shape, dtype, x = _input(network, piece)
            y = np.empty((count, *network.output_shape(shape)), dtype)
            target = _target(loss, piece, y.shape, dtype)
            plan = _plan(loss, piece, count, shape, dtype, target.dtype == np.int64, False)
            program = network.programs.take(
                plan,
                lambda: _declared(network, loss, piece, plan).finish(),  # noqa: B023 # called at once
            )
            program.set("y", y.ctypes.data)
            program.set("factor", 0.0)
            _run(program, piece, x, target, count)
            losses += loss.mean(program.losses, 1)
            correct += sum(program.correct.ravel().tolist())
            network.programs.give(plan, program)
            scores.append(y)
            samples += count
    if not scores:
        raise MinicnnError("evaluate: expected at least one batch, received none")
    mean = losses / loss.terms((samples, *scores[0].shape[1:]))
    return Evaluation(mean, correct / samples, np.concatenate(scores))


def first_not_finite(network: Sequential, batch: Batch | Pair, training: bool = False) -> str | None:
    """The first layer whose output for a batch holds a NaN or infinity, or None. It draws other masks of Dropout."""
    x = batch.arrays()[0] if isinstance(batch, Batch) else np.asarray(batch[0])
    buffers = {name: array.copy() for name, array in network.buffers().items()}
    try:
        return network.first_not_finite(x, training)
    finally:
        for name, array in network.buffers().items():
            array[...] = buffers[name]


def _input(network: Sequential, batch: Batch | Pair) -> tuple[int, Shape, np.dtype[Any], Array]:
    """Number, shape and element type of the images, and the array that they are in, if they are."""
    if isinstance(batch, Batch):
        if network.dtype == np.float64:
            raise ShapeError(
                "batch: expected a network of float32, as Batches give, received one of float64; convert it with "
                "network.astype(numpy.float32), or train it by train_step on pairs (x, target) of float64"
            )
        network.expect_shape((len(batch), *batch.sample_shape), "images")
        return len(batch), batch.sample_shape, np.dtype(np.float32), batch.labels
    x = network._checked(batch[0])
    target = plain_array(batch[1], "target", ShapeError)
    if target.ndim == 0 or len(target) != len(x):
        received = len(target) if target.ndim else f"{batch[1]!r:.60}"
        raise ShapeError(f"target: expected {len(x)} like the inputs, received {received}")
    return len(x), x.shape[1:], x.dtype, x


def _target(loss: Loss, batch: Batch | Pair, scores: Shape, dtype: np.dtype[Any]) -> Array:
    return loss.checked(batch.labels if isinstance(batch, Batch) else batch[1], scores, dtype)


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
            yield batch[0][first : first + PIECE], batch[1][first : first + PIECE]
