"""Checkpoints of a training, and the weights with the best accuracy so far."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minicnn.data.batches import Batch
from minicnn.training import state
from minicnn.training.checkpoint import Checkpoints
from minicnn.training.run_folder import RunFolder
from minicnn.training.step import StepResult
from minicnn.training.trainer import Callback, Trainer


class Checkpointing(Callback):
    """Writes a checkpoint after each epoch, after an interrupt and, if wanted, after some steps.

    folder  the run's folder; where a file cannot be written, the training goes on, with a warning
    facts   what a checkpoint says besides the state of the training
    model   the content of a model file with the weights that the network has now, for checkpoints/best.safetensors
    every   steps between checkpoints [none within an epoch]
    best    the figure on the held-out images that tells the best epoch by its highest value ["accuracy"]

    It comes last among the callbacks, so that a checkpoint has what the others have done.
    """

    kept = ("_figure", "_best")

    def __init__(
        self,
        folder: RunFolder,
        facts: Mapping[str, Any],
        model: Callable[[], bytes],
        every: int | None = None,
        best: str = "accuracy",
    ) -> None:
        self._folder, self._facts, self._model, self._every = folder, facts, model, every
        self._files = Checkpoints(folder.path)
        self._figure, self._best = best, -1.0

    def save(self, trainer: Trainer, complete: bool = False) -> None:
        """A checkpoint of this very moment, between two steps. `complete`: there is nothing more to do."""
        if not np.isfinite(trainer.network.values).all():
            return  # the next step will say so, and the checkpoints before are worth more
        trainer.call("on_checkpoint")
        checkpoint = state.take(trainer, complete=complete, **self._facts)
        self._folder.attempt("a new checkpoint", self._files.write, checkpoint)

    def on_step_end(self, trainer: Trainer, batch: Batch, result: StepResult) -> None:
        if self._every and trainer.progress.step % self._every == 0:
            self.save(trainer)

    def on_interrupt(self, trainer: Trainer) -> None:
        self.save(trainer)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        value = row[f"{trainer.held_out}_{self._figure}"]
        if value > self._best:
            self._best = value
            with trainer.result():
                self._folder.attempt("the best weights", self._files.write_best, self._model())
        self.save(trainer)

    def load_state(self, state: Mapping[str, Any]) -> None:
        if state["figure"] == self._figure:  # of another one there is no best yet
            super().load_state(state)
