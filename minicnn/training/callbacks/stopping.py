"""Rules that end a training before its last epoch."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any

from annotated_types import Ge

from minicnn.checks import checked
from minicnn.engine.arrays import Array
from minicnn.errors import ConfigError
from minicnn.metrics import words_of
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
    monitor     what is watched instead of the "loss": "accuracy", "balanced_accuracy", "macro_f1", and of more than 3
                or 5 classes "top3_accuracy" and "top5_accuracy", all of which should rise

    When the training is over, the network gets the weights of the epoch with the lowest loss; if it is interrupted, it
    has the last ones. Raises ConfigError for a patience below 1, a negative min_delta, a monitor that is not there, and
    a training without held-out images.

    Source: Prechelt, Early stopping - but when? (1998), criterion UP, in the form that Keras has.
    """

    chooses_epoch = True
    kept = ("monitor", "best_epoch", "best_value", "_reference_epoch", "_reference_value")

    @checked(ConfigError)
    def __init__(
        self, patience: Annotated[int, Ge(1)] | None, min_delta: Annotated[float, Ge(0)] = 0.0, monitor: str = "loss"
    ) -> None:
        self.patience, self.min_delta, self.monitor = patience, min_delta, monitor
        #: The monitor in words, and what its best value is.
        self.words, self.best = words_of(monitor), "lowest" if monitor == "loss" else "highest"
        self._sign = 1 if monitor == "loss" else -1
        self._forget()

    def _forget(self) -> None:
        #: The epoch with the best value, and the last one whose value was better by more than min_delta; 0: none yet.
        self.best_epoch, self.best_value = 0, 0.0
        self._reference_epoch, self._reference_value = 0, 0.0

    def on_setup(self, trainer: Trainer) -> None:
        if trainer.test_batches is None:
            raise ConfigError(
                "EarlyStopping: expected a training with held-out images (validation), received none; "
                "Model.fit holds some out with validation=0.1"
            )
        known = trainer.figures
        if self.monitor not in known:
            raise ConfigError(
                f"EarlyStopping: monitor: expected one of {', '.join(known)} with these data, received {self.monitor!r}"
            )
        self._forget()
        self.weights = trainer.network.state_dict()

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        epoch, what = row["epoch"], f"{trainer.held_out} {self.words}"
        value = self._sign * row[f"{trainer.held_out}_{self.monitor}"]
        if value < self._reference_value - self.min_delta or not self._reference_epoch:
            self._reference_epoch, self._reference_value = epoch, value
        if value < self.best_value or not self.best_epoch:
            self.best_epoch, self.best_value = epoch, value
            with trainer.result():
                self.weights = trainer.network.state_dict()
        waited = epoch - self._reference_epoch
        if self.patience is not None and waited >= self.patience:
            better = "lower" if self.monitor == "loss" else "higher"
            better = f"{what} {better} by more than {self.min_delta:g}" if self.min_delta else f"{better} {what}"
            trainer.stop(
                f"no {better} than the {self._sign * self._reference_value:.4f} of epoch {self._reference_epoch} "
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

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._forget()
        if state["monitor"] == self.monitor:  # of another figure there is no best yet
            super().load_state(state)
