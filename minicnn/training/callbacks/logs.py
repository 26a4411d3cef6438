"""The figures of a training as tables: metrics.csv and timings.csv with a row per epoch, steps.csv with one per step.

All but the times are the same for a training that was stopped and resumed as for one that was not. A file that cannot
be written costs a warning; its rows are written when that is possible again.
"""

from typing import Any

from minicnn.data.batches import Batch
from minicnn.training.run_folder import RunFolder
from minicnn.training.step import StepResult
from minicnn.training.tables import StepTable, Table
from minicnn.training.trainer import Callback, Trainer

METRICS, TIMINGS, STEPS = "metrics.csv", "timings.csv", "steps.csv"
FLUSH_EVERY = 100  # steps: a reader of steps.csv sees those before


class MetricsLog(Callback):
    """Writes metrics.csv and timings.csv into the run's folder."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._metrics, self._timings = Table(folder.path / METRICS), Table(folder.path / TIMINGS)

    def on_train_begin(self, trainer: Trainer) -> None:
        """What is there of later epochs than those done is going to come again."""
        for table, rows in ((self._metrics, trainer.progress.metrics), (self._timings, trainer.progress.timings)):
            if rows:
                self._folder.attempt(table.path.name, table.begin, rows)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Rows of earlier epochs are not touched, so that a long training does not slow down."""
        self._metrics.add(row)
        self._timings.add(trainer.progress.timings[-1])
        self._flush()

    def on_checkpoint(self, trainer: Trainer) -> None:
        self._flush(sync=True)

    def close(self, trainer: Trainer) -> None:
        self._flush(sync=True)

    def _flush(self, sync: bool = False) -> None:
        for table in (self._metrics, self._timings):
            self._folder.attempt(table.path.name, table.flush, sync)


class StepLog(Callback):
    """Writes steps.csv: step, epoch, lr, and loss and accuracy of the batch before the update."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._table = folder, StepTable(folder.path / STEPS)

    def on_train_begin(self, trainer: Trainer) -> None:
        self._folder.attempt(STEPS, self._table.cut, trainer.progress.step)

    def on_step_end(self, trainer: Trainer, batch: Batch, result: StepResult) -> None:
        progress = trainer.progress
        row = {"step": progress.step, "epoch": progress.epoch, "lr": trainer.optimizer.lr}
        self._table.add(row | {"loss": result.loss, "accuracy": result.correct / result.count})
        if progress.step % FLUSH_EVERY == 0:
            self._flush()

    def on_checkpoint(self, trainer: Trainer) -> None:
        self._flush(sync=True)

    def close(self, trainer: Trainer) -> None:
        self._flush(sync=True)

    def _flush(self, sync: bool = False) -> None:
        self._folder.attempt(STEPS, self._table.flush, sync)
