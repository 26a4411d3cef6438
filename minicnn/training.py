"""One step of training, and evaluation: both take a batch through the network in pieces that stay in the cache."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from minicnn.data.batches import Batch, Batches
from minicnn.errors import DivergedError, ShapeError
from minicnn.kernels.lanes import unpack
from minicnn.kernels.loss import count_correct, lengths
from minicnn.kernels.vector import LANES
from minicnn.layers.base import Array, pack
from minicnn.losses import Loss, label_lanes
from minicnn.network import Sequential
from minicnn.optim import SGD

#: Samples that pass through the whole network before the next ones do: LeNet's maps for them fit in a
#: second-level cache. A fixed number, so that sums have the same order on every machine.
PIECE = 128


#: Adds up an array over all processes, in place, and returns the sums of the numbers.
Reduction = Callable[[Array, Sequence[float]], list[float]]


@dataclass(frozen=True)
class StepResult:
    """The mean loss of a batch before the update, and how many of its `count` samples were right.

    `errors`, if they were asked for, has for each sample the length of its own loss's gradient with respect to the
    network's output.
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
    optimizer: SGD,
    batch: Batch | tuple[Array, Array],
    reduce: Reduction | None = None,
    errors: bool = False,
) -> StepResult:
    """Forward, loss, backward and one update, for a `Batch` or a pair (x, target).

    Equal to loss.forward(network.forward(x, training=True), target), network.backward(loss.backward()),
    optimizer.step(), and faster, since large batches go in pieces whose gradients are added up in order.

    With `reduce`, several processes make the same step together: `batch` is this one's shard of the common batch
    (`Batch.shard`), and the result is that of the whole one, but the `errors` are those of the shard.

    Raises DivergedError, before any update, if the loss is NaN or infinite; ShapeError or MinicnnError for bad arrays.
    """
    network.claim_parameters()
    samples = _length(batch)
    total_samples = batch.total if isinstance(batch, Batch) else samples
    total = 0
    loss_sum, correct = 0.0, 0
    each = np.zeros(samples, np.float32) if errors else None
    piece = PIECE if network.per_sample else max(1, samples)
    several = samples > piece
    if samples == 0:
        network.gradients[...] = 0
    for first, count, x in _pieces(network, batch, piece):
        y = network._forward(x, count, True)
        total = total or loss.terms((total_samples, *y.shape[1:-1]))
        target = _target(batch)[first : first + count]
        lanes = loss.target_lanes(target, y, count)
        loss_sum += loss._forward(y, lanes, count, total)
        if not math.isfinite(loss_sum):
            break
        correct += _correct(y, target, lanes, count)
        assert loss._dy is not None
        if each is not None:
            dy = loss._dy.reshape(len(loss._dy), -1, LANES)
            lengths(dy, float(total_samples), each[first : first + count])
        network._backward(loss._dy, False)
        if several:
            sums = network._buffer("gradient sums", network.gradients.shape, x.dtype)
            if first == 0:
                sums[...] = network.gradients
            else:
                sums += network.gradients
    here = mean = loss_sum / max(1, total)
    if several and math.isfinite(mean):
        network.gradients[...] = sums
    if reduce is not None:
        mean, whole = reduce(network.gradients, (mean, correct))
        correct = round(whole) if math.isfinite(whole) else 0
    if not math.isfinite(mean):
        layer = None if math.isfinite(here) else network.first_not_finite()
        raise DivergedError(optimizer.steps + 1, _common(network, layer, reduce) or "the loss")
    optimizer.step()
    return StepResult(mean, correct, total_samples, each)


def _common(network: Sequential, layer: str | None, reduce: Reduction | None) -> str | None:
    """The first of the layers that the processes have found, each its own or none."""
    if reduce is None:
        return layer
    names = [f"layer {i} {one!r}" for i, one in enumerate(network)]
    found = reduce(np.zeros(0, np.float32), [float(layer == name) for name in names])
    return next((name for name, count in zip(names, found, strict=True) if count), None)


def evaluate(
    network: Sequential, loss: Loss, batches: Batches | Iterable[Batch | tuple[Array, Array]]
) -> Evaluation:
    """Loss, accuracy and outputs over all batches, in their order; pairs are (x, target). Dropout is off."""
    loss_sum, correct, samples = 0.0, 0, 0
    scores: list[Array] = []
    for batch in batches.epoch() if isinstance(batches, Batches) else batches:
        whole = max(1, _length(batch))
        piece = 2 * PIECE if network.per_sample_inference else whole  # forward needs half the room
        for first, count, x in _pieces(network, batch, piece):
            y = network._forward(x, count, False)
            target = _target(batch)[first : first + count]
            terms = loss.terms((count, *y.shape[1:-1]))
            lanes = loss.target_lanes(target, y, count)
            loss_sum += loss._forward(y, lanes, count, terms)
            correct += _correct(y, target, lanes, count)
            scores.append(np.empty((count, *y.shape[1:-1]), y.dtype))
            unpack(y.reshape(len(y), -1, LANES), scores[-1].reshape(count, -1))
            samples += count
    mean = loss_sum / loss.terms((samples, *scores[0].shape[1:]))
    return Evaluation(mean, correct / samples, np.concatenate(scores))


def check_finite(network: Sequential) -> str | None:
    """The first layer whose output in the last forward pass holds a NaN or infinity, or None."""
    return network.first_not_finite()


def _length(batch: Batch | tuple[Array, Array]) -> int:
    return len(batch) if isinstance(batch, Batch) else len(batch[0])


def _target(batch: Batch | tuple[Array, Array]) -> Array:
    return batch.labels if isinstance(batch, Batch) else np.asarray(batch[1])


def _pieces(
    network: Sequential, batch: Batch | tuple[Array, Array], piece: int
) -> Iterator[tuple[int, int, Array]]:
    """(number of the first sample, number of samples, x in the lane layout) of each piece of a batch."""
    samples = _length(batch)
    if isinstance(batch, Batch):
        shape, dtype = batch.sample_shape, np.dtype(np.float32)
    else:
        x, target = network._checked(batch[0]), np.asarray(batch[1])
        if len(target) != samples:
            raise ShapeError(f"target: expected {samples} like the inputs, received {len(target)}")
        shape, dtype = x.shape[1:], x.dtype
    for first in range(0, samples, piece):
        count = min(piece, samples - first)
        lanes = network._buffer("piece", (-(-count // LANES), *shape, LANES), dtype)
        if isinstance(batch, Batch):
            batch.write_lanes(lanes, first)
        else:
            pack(x[first : first + count], lanes, "x")
        yield first, count, lanes


def _correct(y: Array, target: Array, lanes: Array, samples: int) -> int:
    """Right answers, where the target is one label a sample and y one score a class."""
    if y.ndim != 3 or target.ndim != 1 or target.dtype.kind not in "iu":
        return 0
    if lanes.ndim != 2:
        lanes = label_lanes(target, y.shape[1], samples, y.dtype)
    return int(count_correct(y, lanes, samples))
