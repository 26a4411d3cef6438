"""A step whose batch goes through the network in parts: gradient accumulation."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from minicnn.data.batches import Batch
from minicnn.engine.arrays import Array
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss
from minicnn.optimizers import Optimizer
from minicnn.training.step import Reduction, StepResult, train_step


def accumulated_step(
    network: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    batch: Batch,
    at_once: int,
    reduce: Reduction | None = None,
    errors: bool = False,
) -> StepResult:
    """`train_step` on a batch of which `at_once` images go through the network at a time; their gradients are added up.

    Each part is divided by the number of images of the whole batch, so that the sum is the gradient of one pass of all
    of them, to rounding, where a layer treats each image by itself. BatchNorm2d, as in PyTorch, has the statistics of
    each part. Arguments, results and errors are those of `train_step`.
    """
    count = len(batch)
    if count <= at_once:
        return train_step(network, loss, optimizer, batch, reduce, errors)
    parts = [batch.part(first, min(first + at_once, count)) for first in range(0, count, at_once)]
    sums = _Sums(reduce)
    results = []
    for part in parts[:-1]:
        results.append(train_step(network, loss, optimizer, part, sums.add, errors, update=False))
        if not math.isfinite(results[-1].loss):  # the step ends here, with an error that names a layer
            parts[-1] = part
            break
    results.append(train_step(network, loss, optimizer, parts[-1], sums.complete, errors))
    each = [result.errors for result in results if result.errors is not None]
    return replace(results[-1], errors=np.concatenate(each) if each else None)


class _Sums:
    """Gradients and numbers of parts, added up in the place where `train_step` adds up those of processes."""

    def __init__(self, reduce: Reduction | None) -> None:
        self._reduce = reduce
        self._gradients: Array | None = None
        self._numbers: list[float] = []

    def add(self, gradients: Array, numbers: Sequence[float]) -> list[float]:
        """Takes in those of a part, and leaves them as they are."""
        if self._gradients is None:
            self._gradients, self._numbers = gradients.copy(), list(numbers)
        else:
            self._gradients += gradients
            self._numbers = [a + b for a, b in zip(self._numbers, numbers, strict=True)]
        return list(numbers)

    def complete(self, gradients: Array, numbers: Sequence[float]) -> list[float]:
        """Makes the gradients of the last part those of all, over all processes, and returns such numbers."""
        sums = list(numbers)
        if self._gradients is not None:
            gradients += self._gradients
            sums = [a + b for a, b in zip(self._numbers, numbers, strict=True)]
            self._gradients = None  # what is added up after this is not of parts
        return sums if self._reduce is None else self._reduce(gradients, sums)
