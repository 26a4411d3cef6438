"""Events for TensorBoard, which shows all files of events that it finds in a folder as one run."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from minicnn.console import warn
from minicnn.data.batches import Batch
from minicnn.errors import ConfigError
from minicnn.training.step import StepResult
from minicnn.training.trainer import Callback, Trainer


class TensorBoard(Callback):
    """Writes each epoch's figures as events into `folder`; those of each step, too, with `steps`.

    Raises ConfigError if the package tensorboard is not installed.
    """

    def __init__(self, folder: Path, steps: bool = False) -> None:
        check_available()
        self._folder, self._steps = folder, steps
        self._writer: Any = None

    def on_train_begin(self, trainer: Trainer) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

        def begin() -> None:
            # TensorBoard drops the events of the next step and of later ones, from whichever file.
            self._writer = SummaryWriter(self._folder, purge_step=trainer.progress.step + 1)

        self._attempt(begin)

    def on_step_end(self, trainer: Trainer, batch: Batch, result: StepResult) -> None:
        if self._steps:
            self._add({"step/loss": result.loss, "step/lr": trainer.optimizer.lr}, trainer.progress.step)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        # TensorBoard draws "train/loss" and "test/loss" as two charts of one group each.
        figures = {name.replace("_", "/", 1): value for name, value in row.items() if name != "step"}
        figures["images_per_second"] = trainer.progress.timings[-1]["images_per_second"]
        self._add(figures, row["step"])
        self.on_checkpoint(trainer)

    def on_checkpoint(self, trainer: Trainer) -> None:
        if self._writer:
            self._attempt(self._writer.flush)

    def close(self, trainer: Trainer) -> None:
        if self._writer:
            self._attempt(self._writer.close)

    def _add(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            if self._writer:
                self._attempt(self._writer.add_scalar, name, value, step)

    def _attempt(self, action: Callable[..., object], *arguments: Any) -> None:
        """Does what the training can go on without: where it fails, with a warning and no more events."""
        try:
            action(*arguments)
        except OSError as error:
            self._writer = None
            warn(f"{error}; the training goes on without TensorBoard's events")


def check_available() -> None:
    """Raises ConfigError if the package tensorboard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "output.tensorboard: expected the package tensorboard with it, which is not installed: "
            "pip install tensorboard"
        )
