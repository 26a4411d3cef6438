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


class _Log(Callback):
    """Tables in the run's folder, which are on the disk before a checkpoint is."""

    def __init__(self, folder: RunFolder, *tables: Table) -> None:
        self._folder, self._tables = folder, tables

    def on_checkpoint(self, trainer: Trainer) -> None:
        self._flush(sync=True)

    def close(self, trainer: Trainer) -> None:
        self._flush(sync=True)

    def _flush(self, sync: bool = False) -> None:
        for table in self._tables:
            self._folder.attempt(table.path.name, table.flush, sync)


class MetricsLog(_Log):
    """Writes metrics.csv and timings.csv into the run's folder."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder, Table(folder.path / METRICS), Table(folder.path / TIMINGS))

    def on_train_begin(self, trainer: Trainer) -> None:
        """Rows of later epochs than those done will come again."""
        for table, rows in zip(self._tables, (trainer.progress.metrics, trainer.progress.timings), strict=True):
            if rows:
                self._folder.attempt(table.path.name, table.begin, rows)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Rows of earlier epochs are not touched, so that a long training does not slow down."""
        for table, new in zip(self._tables, (row, trainer.progress.timings[-1]), strict=True):
            table.add(new)
        self._flush()


class StepLog(_Log):
    """Writes steps.csv: step, epoch, lr, and loss and accuracy of the batch before the update."""

    def __init__(self, folder: RunFolder) -> None:
        self._table = StepTable(folder.path / STEPS)
        super().__init__(folder, self._table)

    def on_train_begin(self, trainer: Trainer) -> None:
        self._folder.attempt(STEPS, self._table.cut, trainer.progress.step)

    def on_step_end(self, trainer: Trainer, batch: Batch, result: StepResult) -> None:
        progress = trainer.progress
        row = {"step": progress.step, "epoch": progress.epoch, "lr": trainer.optimizer.lr}
        self._table.add(row | {"loss": result.loss, "accuracy": result.correct / result.answers})
        if progress.step % FLUSH_EVERY == 0:
            self._flush()
