"""Weights beside those of the last step: their average, the last finite ones, and how far they have moved."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from minicnn.checks import checked
from minicnn.data.batches import Batch
from minicnn.engine.arrays import Array
from minicnn.errors import ConfigError, DivergedError
from minicnn.optimizers import EMA, Share
from minicnn.training.step import StepResult
from minicnn.training.trainer import Callback, Trainer

SNAPSHOT_EVERY = 100  # steps: a copy of LeNet's weights takes 10 us, a step 600


class WeightAverage(Callback):
    """Evaluates and keeps an exponential moving average of the weights (see `EMA`) instead of the last ones."""

    has_weights = True

    @checked(ConfigError)
    def __init__(self, decay: Share) -> None:
        self.decay = decay

    def on_setup(self, trainer: Trainer) -> None:
        self.ema = EMA(trainer.network.parameters(), self.decay)

    def on_step_end(self, trainer: Trainer, batch: Batch, result: StepResult) -> None:
        self.ema.update()

    def result_weights(self, trainer: Trainer) -> AbstractContextManager[None]:
        return self.ema.applied()

    def arrays(self) -> dict[str, Array]:
        return {"average": self.ema.average}

    def state(self) -> dict[str, Any]:
        return {"updates": self.ema.updates}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.ema.updates = int(state["updates"])


class LastFiniteWeights(Callback):
    """When a loss or a gradient is not finite, the network gets weights back whose loss was.

    They are copied before every 100th step, and before the first of an epoch.
    """

    kept = ("step",)

    def on_setup(self, trainer: Trainer) -> None:
        self.step = 0
        self.weights = trainer.copy_weights()
        self._before: dict[str, Array] | None = None

    def on_step_begin(self, trainer: Trainer) -> None:
        progress = trainer.progress
        if progress.step % SNAPSHOT_EVERY == 0 or progress.batches == 0:
            self._before = trainer.copy_weights()

    def on_step_end(self, trainer: Trainer, batch: Batch, result: StepResult) -> None:
        if self._before is not None:  # the loss that proved finite is that of the weights before the step
            self.weights, self.step = self._before, trainer.progress.step - 1
            self._before = None

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        if isinstance(error, DivergedError):
            trainer.restore_weights(self.weights)

    def arrays(self) -> dict[str, Array]:
        return self.weights


class WeightChange(Callback):
    """Adds `weight_change` to an epoch's figures: |w at its end - w at its start| / |w at its start|, of all weights w.

    Ends the training where it is below `least`, if that is given.
    """

    def __init__(self, least: float | None = None) -> None:
        self.least = least

    def on_setup(self, trainer: Trainer) -> None:
        self._start = trainer.network.values.copy()

    def on_epoch_begin(self, trainer: Trainer) -> None:
        if trainer.progress.batches == 0:
            self._start[...] = trainer.network.values

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        start = self._start.astype(np.float64)
        length = _norm(start)
        change = row["weight_change"] = _norm(trainer.network.values - start) / length if length else math.inf
        if self.least is not None and change < self.least:
            trainer.stop(
                f"the weights moved by {change:.2g} of their length, less than {self.least:.2g} (stop.weight_change)"
            )

    def arrays(self) -> dict[str, Array]:
        return {"start": self._start}


def _norm(x: Array) -> float:
    """The Euclidean norm, by NumPy's own sum: unlike BLAS's it is the same for any number of threads."""
    return math.sqrt(float(np.square(x).sum()))
