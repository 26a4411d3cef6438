"""What a run learns: its model, and the weights of each epoch."""

from typing import Any

import numpy as np

from minicnn.config.experiment import Experiment
from minicnn.console import printable
from minicnn.engine.arrays import Array
from minicnn.model import softmax
from minicnn.training.run_folder import RunFolder
from minicnn.training.step import Evaluation
from minicnn.training.trainer import Callback, Trainer

#: Of errors.csv.
ERROR_COLUMNS = ("index", "true", "predicted", "confidence", "file")


def confidence_of(experiment: Experiment, scores: Array) -> Array:
    """How sure the network is of each prediction (N,), from 0 to 1."""
    shares: Array = softmax(scores) if experiment.loss.takes_logits else scores
    largest: Array = shares.max(axis=1).clip(0, 1)
    return largest


def error_table(experiment: Experiment, test: Evaluation) -> list[dict[str, Any]]:
    """The rows of errors.csv: the misclassified images by their number among those held out, as --image takes it, and
    their file, if they have one each, with the most confident errors first."""
    files = experiment.data.test_files or [""] * len(test.scores)
    labels, classes = experiment.data.test_labels, tuple(map(printable, experiment.data.classes))
    predictions, confidence = test.scores.argmax(axis=1), confidence_of(experiment, test.scores)
    wrong = np.flatnonzero(labels != predictions)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    rows = (
        (i, classes[labels[i]], classes[predictions[i]], f"{confidence[i]:.4f}", printable(files[i]))
        for i in wrong.tolist()
    )
    return [dict(zip(ERROR_COLUMNS, row, strict=True)) for row in rows]


class EpochWeights(Callback):
    """Writes the weights after each epoch as a state dict: epochs/001.safetensors, 002, ... in the run's folder."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        with trainer.result():
            weights = trainer.network.state_dict()
        self._folder.attempt("the weights of each epoch", self._write, f"epochs/{row['epoch']:03}.safetensors", weights)

    def _write(self, name: str, weights: dict[str, Array]) -> None:
        from safetensors.numpy import save

        (self._folder.path / name).parent.mkdir(exist_ok=True)
        self._folder.write(name, save(weights))
