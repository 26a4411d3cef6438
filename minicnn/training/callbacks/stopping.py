"""Rules that end a training before its last epoch."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from minicnn.checks import checked
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

    When the training is over, the network gets the weights of the epoch with the lowest loss; if it is interrupted, it
    has the last ones. Raises ConfigError for a patience below 1, a negative min_delta, and a training without held-out
    images.

    Source: Prechelt, Early stopping - but when? (1998), criterion UP, in the form that Keras has.
    """

    chooses_epoch = True

    @checked(ConfigError)
    def __init__(self, patience: int | None, min_delta: float = 0.0) -> None:
        if (patience is not None and patience < 1) or not min_delta >= 0:
            raise ConfigError(
                f"EarlyStopping: expected a patience of at least 1 and a min_delta >= 0, "
                f"received {patience} and {min_delta}"
            )
        self.patience, self.min_delta = patience, min_delta
        self._forget()

    def _forget(self) -> None:
        #: The epoch with the lowest loss, and the last one whose loss was lower by more than min_delta; 0: none yet.
        self.best_epoch, self.best_loss = 0, math.inf
        self._reference_epoch, self._reference_loss = 0, math.inf

    def on_setup(self, trainer: Trainer) -> None:
        if trainer.test_batches is None:
            raise ConfigError("EarlyStopping: expected a training with held-out images (validation), received none")
        self._forget()
        self.weights = trainer.network.state_dict()

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        epoch, what = row["epoch"], f"{trainer.held_out} loss"
        loss = row[f"{trainer.held_out}_loss"]
        if loss < self._reference_loss - self.min_delta or not self._reference_epoch:
            self._reference_epoch, self._reference_loss = epoch, loss
        if loss < self.best_loss:
            self.best_epoch, self.best_loss = epoch, loss
            with trainer.result():
                self.weights = trainer.network.state_dict()
        waited = epoch - self._reference_epoch
        if self.patience is not None and waited >= self.patience:
            lower = f"{what} lower by more than {self.min_delta:g}" if self.min_delta else f"lower {what}"
            trainer.stop(
                f"no {lower} than the {self._reference_loss:.4f} of epoch {self._reference_epoch} "
                f"for {waited} epoch{'s' * (waited != 1)} (stop.patience)"
            )

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

    def state(self) -> dict[str, Any]:
        names = ("best_epoch", "best_loss", "_reference_epoch", "_reference_loss")
        found = {name.lstrip("_"): getattr(self, name) for name in names}
        return {name: 0.0 if value == math.inf else value for name, value in found.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._forget()
        if state["best_epoch"]:
            self.best_epoch, self.best_loss = int(state["best_epoch"]), float(state["best_loss"])
            self._reference_epoch = int(state["reference_epoch"])
            self._reference_loss = float(state["reference_loss"])
