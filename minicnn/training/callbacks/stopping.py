"""Rules that end a training before its last epoch."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from minicnn.engine.arrays import Array
from minicnn.errors import ConfigError
from minicnn.training.trainer import Callback, Trainer


class StopAtAccuracy(Callback):
    """Ends the training when at least this share of an epoch's training images was classified right.

    Each image counts when its batch is trained on, before the update.
    """

    def __init__(self, train_accuracy: float) -> None:
        self.train_accuracy = train_accuracy

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        if row["train_accuracy"] >= self.train_accuracy:
            trainer.stop(
                f"train accuracy {row['train_accuracy']:.2%}, at least {self.train_accuracy:.2%} (stop.train_accuracy)"
            )


class EarlyStopping(Callback):
    """Ends the training when the loss on the held-out images no longer falls, and keeps the best epoch.

    patience    after this many epochs in a row without a new lowest loss, the training ends; None never ends it, and
                only keeps the weights of the best epoch, for a training that goes on later with a patience
    min_delta   by how much a loss must be lower to count [0]

    However the training ends, the network then gets the weights of the epoch with the lowest loss. Raises ConfigError
    for a patience below 1, a negative min_delta, and a training without held-out images.

    Source: Prechelt, Early stopping - but when? (1998), criterion UP, in the form that Keras has.
    """

    def __init__(self, patience: int | None, min_delta: float = 0.0) -> None:
        if (patience is not None and patience < 1) or not min_delta >= 0:
            raise ConfigError(
                f"EarlyStopping: expected a patience of at least 1 and a min_delta >= 0, "
                f"received {patience} and {min_delta}"
            )
        self.patience, self.min_delta = patience, min_delta
        #: The figures of the epoch with the lowest loss, and those of the last one that `patience` counts from.
        self.best: dict[str, Any] = {}
        self._counted: dict[str, Any] = {}

    def on_setup(self, trainer: Trainer) -> None:
        if trainer.test_batches is None:
            raise ConfigError("EarlyStopping: expected a training with held-out images (validation), received none")
        self.weights = trainer.network.state_dict()
        self._key = f"{trainer.held_out}_loss"

    def on_train_begin(self, trainer: Trainer) -> None:
        for row in trainer.progress.metrics:  # of the epochs before a checkpoint
            self._compare(row)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        if self._compare(row):
            with trainer.result():
                self.weights = trainer.network.state_dict()
        waited = row["epoch"] - self._counted["epoch"]
        if self.patience is not None and waited >= self.patience:
            what = self._key.replace("_", " ")
            lower = f"{what} lower by more than {self.min_delta:g}" if self.min_delta else f"lower {what}"
            trainer.stop(
                f"no {lower} than the {self._counted[self._key]:.4f} of epoch {self._counted['epoch']} "
                f"for {waited} epoch{'s' * (waited != 1)} (stop.patience)"
            )

    def _compare(self, row: dict[str, Any]) -> bool:
        """Whether the loss is the lowest so far."""
        loss = row[self._key]
        if not self._counted or loss < self._counted[self._key] - self.min_delta:
            self._counted = row
        lowest = not self.best or loss < self.best[self._key]
        if lowest:
            self.best = row
        return lowest

    def result_weights(self, trainer: Trainer) -> AbstractContextManager[None] | None:
        return self._applied(trainer) if trainer.finished and self.patience is not None else None

    @contextmanager
    def _applied(self, trainer: Trainer) -> Iterator[None]:
        own = trainer.network.state_dict()
        trainer.network.load_state_dict(self.weights)
        try:
            yield
        finally:
            trainer.network.load_state_dict(own)

    def arrays(self) -> dict[str, Array]:
        return self.weights
