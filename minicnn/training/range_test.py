"""The learning-rate range test: a short training whose rate rises until the loss explodes."""

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
DIVERGED = 4.0  # times the lowest average so far
FEW = round(1 / (1 - BETA))  # losses; an average of fewer jumps about
TAIL = 5  # steps at the end, where the loss explodes


@dataclass(frozen=True, eq=False)
class RangeTest:
    """What a range test has seen: for each step its learning rate, and its loss, before the step is taken."""

    rates: Array
    losses: Array
    diverged: bool
    """Whether the loss exploded before the last rate."""

    @property
    def averages(self) -> Array:
        """The exponential moving average of the losses, corrected for its start: a = beta a + (1 - beta) loss, and
        a / (1 - beta^(i + 1)) after loss number i = 0, 1, ..., with a beta of 0.98."""
        return _averages(self.losses)

    @property
    def lowest(self) -> float:
        """The rate at which the average is lowest."""
        rates, averages = self._settled()
        return float(rates[np.argmin(averages)])

    @property
    def steepest(self) -> float:
        """The rate at which the average falls fastest, for the same factor of the rate."""
        rates, averages = self._settled()
        return float(rates[np.argmin(np.diff(averages))])

    @property
    def suggestion(self) -> float:
        """A tenth of `lowest`, which lies well before the loss explodes."""
        return self.lowest / 10

    @property
    def remark(self) -> str:
        """What speaks against the suggestion, or nothing."""
        rates, _ = self._settled()
        if self.lowest == rates[0]:
            return "the loss does not fall at any rate; the network may not learn, or the test starts too high"
        if not self.diverged and self.lowest == rates[-1]:
            return "the loss still falls at the highest rate; the test should end higher"
        return ""

    def _settled(self) -> tuple[Array, Array]:
        """Rates and averages, without those at the beginning and the end that say little."""
        count = len(self.rates)
        first = FEW if count > 2 * FEW else 0
        inner = slice(first, max(count - TAIL, first + 2))
        return self.rates[inner], self.averages[inner]


def _averages(losses: Array) -> Array:
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
        averages = _averages(np.array(self.losses))
        self.diverged = bool(averages[-1] > DIVERGED * averages.min())

    @property
    def done(self) -> bool:
        return self.diverged or len(self.losses) >= self.steps


@checked(ConfigError)
def range_test(
    network: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    batches: Batches,
    start: Annotated[float, Gt(0)] = 1e-5,
    end: Annotated[float, Gt(0)] = 10.0,
    steps: Annotated[int, Ge(2 * FEW)] = 200,
    callbacks: Sequence[Callback] = (),
    accumulate: Annotated[int, Ge(1)] = 1,
) -> RangeTest:
    """The learning-rate range test: trains the network, while each step multiplies the rate by the same factor.

    start, end  the rates of the first and the last step
    steps       how many there are; the test ends before if the average loss is over four times its lowest value so
                far, or not finite
    callbacks, accumulate   see `Trainer`

    Source: Smith, Cyclical learning rates for training neural networks (2017), section 3.3; the average, where it
    ends and what it suggests are those of fastai's `lr_find`.
    Raises ConfigError for arguments out of range, DivergedError if the loss is not finite from the first steps on.
    """
    if end <= start:
        raise ConfigError(f"end: expected more than the start, {start:g}, received {end:g}")
    rates = start * (end / start) ** (np.arange(steps) / (steps - 1))
    recorder = _Recorder(steps)
    trainer = Trainer(
        network,
        loss,
        optimizer,
        batches,
        None,
        -(-steps // len(batches)),
        schedule=lambda step: float(rates[step]),
        callbacks=[*callbacks, recorder],
        interrupted=lambda: recorder.done,
        accumulate=accumulate,
    )
    try:
        trainer.fit()
    except DivergedError:
        if len(recorder.losses) < 3:
            raise
        recorder.diverged = True
    count = len(recorder.losses)
    return RangeTest(rates[:count], np.array(recorder.losses), recorder.diverged)
