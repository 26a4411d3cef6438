"""What a user sees of a training: a line for each epoch, and a bar for the one under way."""

import sys
from typing import Any

from minicnn.console import at_terminal, info
from minicnn.data.batches import Batch
from minicnn.training.step import StepResult
from minicnn.training.trainer import Callback, Trainer


class EpochLines(Callback):
    """Prints a line for each epoch."""

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        timing, epochs = trainer.progress.timings[-1], trainer.epochs
        parts = [f"epoch {row['epoch']:{len(str(epochs))}}/{epochs}"]
        for part in ("train", trainer.held_out):
            if f"{part}_loss" in row:
                parts.append(f"{part} loss {row[f'{part}_loss']:.4f}, accuracy {row[f'{part}_accuracy']:.2%}")
        parts.append(f"{timing['seconds']:.2f} s, {timing['images_per_second']:,} images/s")
        info("   ".join(parts))


class ProgressBar(Callback):
    """A bar with the images of an epoch, the mean loss and the accuracy so far; at a terminal or in a notebook."""

    def __init__(self) -> None:
        self._bar: Any = None

    def on_epoch_begin(self, trainer: Trainer) -> None:
        if not (at_terminal() or in_notebook()):
            return
        from tqdm.auto import tqdm

        progress = trainer.progress
        self._bar = tqdm(
            total=trainer.images_of_epoch,
            initial=progress.images,
            desc=f"epoch {progress.epoch}/{trainer.epochs}",
            unit=" images",
            unit_scale=True,
            leave=False,
        )

    def on_step_end(self, trainer: Trainer, batch: Batch, result: StepResult) -> None:
        if self._bar is not None:
            progress = trainer.progress
            self._bar.set_postfix_str(f"loss {progress.mean_loss:.4f}, {progress.accuracy:.2%}", False)
            self._bar.update(result.count)
            if progress.batches == trainer.steps_of_epoch:
                self.close(trainer)

    def on_interrupt(self, trainer: Trainer) -> None:
        self.close(trainer)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self.close(trainer)

    def close(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def in_notebook() -> bool:
    """Whether a notebook runs this, where tqdm draws its bar in the page."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config
