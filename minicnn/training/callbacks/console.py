"""What a user sees of a training: a line for each epoch, and a bar for the one under way."""

import sys
from collections.abc import Sequence
from typing import Any

from minicnn.console import at_terminal, info
from minicnn.data.balance import Balance
from minicnn.data.batches import Batch
from minicnn.metrics import confusion_matrix, precision_recall
from minicnn.training.step import Evaluation, StepResult
from minicnn.training.trainer import Callback, Trainer

FIRST = 3  # epochs in which an accuracy may be that of the largest class alone


class EpochLines(Callback):
    """Prints a line for each epoch.

    classes   the names of the classes: where their numbers of images are uneven, the lines of the first epochs say what
              accuracy the largest of them explains [numbers]
    """

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        self._classes = classes

    def on_setup(self, trainer: Trainer) -> None:
        balance = held_out_balance(trainer, self._classes)
        self._always = f" ({balance.always()})" if balance and balance.uneven else ""

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        timing, epochs = trainer.progress.timings[-1], trainer.epochs
        parts = [f"epoch {row['epoch']:{len(str(epochs))}}/{epochs}"]
        for part in ("train", trainer.held_out):
            if f"{part}_loss" in row:
                parts.append(f"{part} loss {row[f'{part}_loss']:.4f}, accuracy {row[f'{part}_accuracy']:.2%}")
        if row["epoch"] <= FIRST:
            parts[-1] += self._always
        parts.append(f"{timing['seconds']:.2f} s, {timing['images_per_second']:,} images/s")
        info("   ".join(parts))


class ClassReport(Callback):
    """Says, when the training is over, of which classes no image was recognised, and whether the accuracy is only that
    of always answering with the largest class.

    classes   the names of the classes [numbers]
    remedy    what may help
    """

    def __init__(self, classes: Sequence[str] | None, remedy: str) -> None:
        self._classes, self._remedy = classes, remedy

    def on_train_end(self, trainer: Trainer, test: Evaluation | None) -> None:
        balance = held_out_balance(trainer, self._classes)
        if test is None or test.labels is None or balance is None:
            return
        recall = precision_recall(confusion_matrix(test.labels, test.scores.argmax(axis=1), len(balance.counts))).recall
        lost = [
            f"{name} ({count:,} {trainer.held_out} image{'s' * (count != 1)})"
            for name, count, share in zip(balance.names, balance.counts.tolist(), recall, strict=True)
            if count and not share
        ]
        problems = []
        if lost:
            more = f" and {len(lost) - MOST_NAMED:,} more" if len(lost) > MOST_NAMED else ""
            problems.append(f"the recall is 0 of {', '.join(lost[:MOST_NAMED])}{more}")
        if balance.uneven and test.accuracy <= balance.share + MARGIN:
            problems.append(f"the {trainer.held_out} accuracy is {test.accuracy:.2%}, and {balance.always()}")
        if problems:
            info(f"{'; '.join(problems)}; {self._remedy}")


MOST_NAMED = 5  # classes in a warning
MARGIN = 0.01  # of accuracy, by which a network has to be better than always giving one answer


def held_out_balance(trainer: Trainer, classes: Sequence[str] | None) -> Balance | None:
    """That of the held-out images, if there are any with one class each."""
    batches = trainer.test_batches
    if batches is None or batches.labels.ndim > 1:
        return None
    outputs = trainer.network.output_shape(batches.sample_shape)
    return Balance.of(batches.labels, classes or outputs[0])


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
