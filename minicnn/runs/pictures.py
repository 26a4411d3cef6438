"""The pictures of a run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from minicnn.config.experiment import Experiment
from minicnn.console import warn
from minicnn.layers import Conv2d
from minicnn.runs.result import confidence_of
from minicnn.training.step import Evaluation
from minicnn.training.trainer import Trainer


class Pictures:
    """Curves, filters, confusion matrix, errors and augmentation of a run, as PNG files in `folder`."""

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        self._experiment, self._folder = experiment, folder

    def draw(self, trainer: Trainer, test: Evaluation) -> None:
        """Draws all of them; `test` is the result on the held-out images. One that cannot be drawn costs a warning."""
        from minicnn.inspect.plots import figures, filters  # matplotlib takes a second to import

        data, experiment = self._experiment.data, self._experiment
        scores, labels, classes = test.scores, data.test_labels, data.classes
        predictions = scores.argmax(axis=1)
        confidence = confidence_of(experiment, scores)
        drawings: dict[str, Callable[[Path], None]] = {
            "confusion.png": lambda path: figures.plot_confusion(path, labels, predictions, classes),
            "errors.png": lambda path: figures.plot_errors(
                path, data.test_images, labels, predictions, confidence, classes
            ),
        }
        if rows := trainer.progress.metrics:
            drawings["curves.png"] = lambda path: figures.plot_curves(path, rows)
        convolutions = [layer for layer in experiment.network if isinstance(layer, Conv2d)]
        if convolutions:
            with trainer.result():
                weight = convolutions[0].full_weight()
            drawings["filters.png"] = lambda path: filters.plot_filters(path, weight)
        if experiment.train_batches.augmenter is not None:
            drawings["augmentation.png"] = self._draw_augmentation
        for name, draw in drawings.items():
            try:
                draw(self._folder / name)
            except Exception as error:  # whatever is wrong with a picture, the run is worth more
                warn(f"{name} could not be drawn: {type(error).__name__}: {error}")

    def _draw_augmentation(self, path: Path) -> None:
        """The first training image of each class, and what the first epochs made of it."""
        from minicnn.inspect.plots import figures

        batches = self._experiment.train_batches
        numbers = np.unique(self._experiment.data.train_labels, return_index=True)[1][:10]
        variants = [batches.variants(numbers, epoch) for epoch in range(9)]
        figures.plot_augmentation(path, batches.originals(numbers), np.stack(variants, axis=1))
