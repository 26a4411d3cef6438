"""The learning-rate range test: a short training whose rate rises until the loss explodes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt

from minicnn.checks import checked
from minicnn.data.batches import Batch, Batches
from minicnn.engine.arrays import Array
from minicnn.errors import ConfigError, DivergedError
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss
from minicnn.optimizers import Optimizer
from minicnn.training.step import StepResult
from minicnn.training.trainer import Callback, Trainer

BETA = 0.98  # of the moving average of the losses
DIVERGED = 4.0  # times the lowest loss so far
SKIPPED = 0.1  # share of the steps at the beginning whose average is of too few losses
TAIL = 5  # steps at the end, where the loss explodes


@dataclass(frozen=True, eq=False)
class RangeTest:
    """What a range test has seen: for each step its learning rate and its loss, before the step is taken."""

    rates: Array
    losses: Array
    diverged: bool
    """Whether the loss exploded before the last rate."""

    @property
    def smooth(self) -> Array:
        """The losses' exponential moving average, corrected for its start: a = beta a + (1 - beta) loss;
        a / (1 - beta^(i + 1)) after loss number i = 0, 1, ..."""
        return _smoothed(self.losses)

    @property
    def steepest(self) -> float:
        """The rate at which the average falls fastest, per decade of the rate."""
        rates, smooth = self._inner()
        return float(rates[np.argmin(np.diff(smooth))])

    @property
    def minimum(self) -> float:
        """The rate at which the average is lowest."""
        rates, smooth = self._inner()
        return float(rates[np.argmin(smooth)])

    def _inner(self) -> tuple[Array, Array]:
        inner = slice(int(SKIPPED * len(self.rates)), max(len(self.rates) - TAIL, 0) or None)
        return self.rates[inner], self.smooth[inner]


def _smoothed(losses: Array) -> Array:
    average, found = 0.0, np.empty(len(losses))
    for i, loss in enumerate(losses.tolist()):
        average = BETA * average + (1 - BETA) * loss
        found[i] = average / (1 - BETA ** (i + 1))
    return found


class _Recorder(Callback):
    """Keeps the loss of each step, and knows when there is no more to learn."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: list[float] = []
        self.diverged = False

    def on_step_end(self, trainer: Trainer, batch: Batch, result: StepResult) -> None:
        self.losses.append(result.loss)
        smooth = _smoothed(np.array(self.losses))
        self.diverged = bool(smooth[-1] > DIVERGED * smooth.min())

    @property
    def done(self) -> bool:
        return self.diverged or len(self.losses) >= self.steps


@checked(ConfigError)
def range_test(
    network: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    batches: Batches,
    start: Annotated[float, Gt(0)] = 1e-6,
    end: Annotated[float, Gt(0)] = 10.0,
    steps: Annotated[int, Ge(20)] = 100,
    callbacks: Sequence[Callback] = (),
) -> RangeTest:
    """Trains `network` for `steps` steps, with a rate that rises from `start` to `end` by the same factor each step.

    It ends before if the average loss is over four times its lowest value, or not finite.
    """
    if end <= start:
        raise ConfigError(f"range_test: end: expected more than the start, {start:g}, received {end:g}")
    recorder = _Recorder(steps)
    trainer = Trainer(
        network,
        loss,
        optimizer,
        batches,
        None,
        -(-steps // len(batches)),
        schedule=lambda step: start * (end / start) ** (step / (steps - 1)),
        callbacks=[*callbacks, recorder],
        interrupted=lambda: recorder.done,
    )
    try:
        trainer.fit()
    except DivergedError:
        recorder.diverged = True
    losses = np.array(recorder.losses)
    rates = start * (end / start) ** (np.arange(len(losses)) / (steps - 1))
    return RangeTest(rates, losses, recorder.diverged)
