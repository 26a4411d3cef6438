"""The pictures of a run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from minicnn.config.experiment import Experiment
from minicnn.console import warn
from minicnn.data import Batches
from minicnn.layers import Conv2d
from minicnn.runs.result import confidence_of
from minicnn.training.step import Evaluation
from minicnn.training.trainer import Trainer

SHOWN = 8  # images, and variants of each


def draw_pictures(experiment: Experiment, folder: Path, trainer: Trainer, test: Evaluation) -> None:
    """Draws curves, filters, confusion matrix, errors and augmentation of a run, as PNG files in `folder`.

    test: the result on the held-out images. A picture that cannot be drawn costs a warning.
    """
    from minicnn.inspect.plots import figures, filters  # matplotlib takes a second to import

    data = experiment.data
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
    if experiment.train_batches.augmented:
        drawings["augmentation.png"] = lambda path: draw_augmentation(path, experiment.train_batches)
    for name, draw in drawings.items():
        try:
            draw(folder / name)
        except Exception as error:  # whatever is wrong with a picture, the run is worth more
            warn(f"{name} could not be drawn: {type(error).__name__}: {error}")


def draw_augmentation(path: Path, batches: Batches) -> None:
    """Some training images of all classes in turn, and what the first epochs make of them."""
    from minicnn.inspect.plots import figures

    labels = batches.labels
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])
    rank = np.empty(len(labels), np.int64)  # of each image among those of its class
    rank[by_class] = np.arange(len(labels)) - starts
    numbers = np.lexsort((labels, rank))[:SHOWN]
    variants = [batches.variants(numbers, epoch) for epoch in range(SHOWN)]
    figures.plot_augmentation(path, batches.originals(numbers), np.stack(variants, axis=1))
