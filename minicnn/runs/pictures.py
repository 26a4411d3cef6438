"""The pictures of a run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.console import warn
from minicnn.data import Batches, Dataset
from minicnn.layers import Conv2d
from minicnn.layers.sequential import Sequential
from minicnn.model import softmax
from minicnn.training.step import Evaluation


def draw_pictures(
    folder: Path,
    network: Sequential,
    data: Dataset,
    batches: Batches,
    test: Evaluation,
    rows: Sequence[Mapping[str, Any]],
    logits: bool,
) -> None:
    """Curves of the epochs in `rows`, filters, confusion matrix, errors and augmentation, as PNG files in `folder`.

    `batches` are those of training; `logits`: the network's scores are to be taken through a softmax to be
    probabilities. A picture that cannot be drawn costs a warning.
    """
    from minicnn.inspect.plots import figures, filters  # matplotlib takes a second to import

    scores, labels, classes = test.scores, data.test_labels, data.classes
    predictions = scores.argmax(axis=1)
    if logits:
        scores = softmax(scores)
    confidence = scores.max(axis=1).clip(0, 1)
    drawings: dict[str, Callable[[Path], None]] = {
        "confusion.png": lambda path: figures.plot_confusion(path, labels, predictions, classes),
        "errors.png": lambda path: figures.plot_errors(
            path, data.test_images, labels, predictions, confidence, classes
        ),
    }
    if rows:
        drawings["curves.png"] = lambda path: figures.plot_curves(path, rows)
    convolutions = [layer for layer in network if isinstance(layer, Conv2d)]
    if convolutions:
        weight = convolutions[0].full_weight()
        drawings["filters.png"] = lambda path: filters.plot_filters(path, weight)
    if batches.augmenter is not None:
        drawings["augmentation.png"] = lambda path: _draw_augmentation(path, data, batches)
    for name, draw in drawings.items():
        try:
            draw(folder / name)
        except Exception as error:  # whatever is wrong with a picture, the run is worth more
            warn(f"{name} could not be drawn: {type(error).__name__}: {error}")


def _draw_augmentation(path: Path, data: Dataset, batches: Batches) -> None:
    """The first training image of each class, and what the first epochs made of it."""
    from minicnn.inspect.plots import figures

    numbers = np.unique(data.train_labels, return_index=True)[1][:10]
    variants = [batches.variants(numbers, epoch) for epoch in range(9)]
    figures.plot_augmentation(path, batches.originals(numbers), np.stack(variants, axis=1))
