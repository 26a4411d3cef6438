"""How good a classifier is, in one number, and class by class."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.errors import MinicnnError, ShapeError

Array = NDArray[np.float64]

#: Of `top_k_accuracy`, where there are more classes.
TOPS = (3, 5)
#: What can be watched on held-out images, besides "top3_accuracy" and "top5_accuracy".
FIGURES = ("loss", "accuracy", "balanced_accuracy", "macro_f1")
#: Those that say more than accuracy where classes are uneven.
CLASS_FIGURES = FIGURES[2:]


@dataclass(frozen=True)
class ClassFigures:
    """One number a class, (K,): precision, recall and f1 from 0 to 1, support the number of images of the class."""

    precision: Array
    recall: Array
    f1: Array
    support: NDArray[np.int64]


def confusion_matrix(labels: object, predictions: object, classes: int) -> NDArray[np.int64]:
    """How often each class (row) was taken for each (column), int64 (classes, classes).

    labels, predictions: integers (N,) from 0 to classes - 1. Raises ShapeError or MinicnnError for others.
    """
    given = {"labels": np.asarray(labels), "predictions": np.asarray(predictions)}
    for name, values in given.items():
        if values.shape != (len(given["labels"]),) or values.dtype.kind not in "iu":
            raise ShapeError(
                f"{name}: expected {len(given['labels'])} integers, received {values.dtype} {values.shape}"
            )
        if len(values) and not 0 <= values.min() <= values.max() < classes:
            raise MinicnnError(
                f"{name}: expected classes 0 to {classes - 1}, received {values.min()} to {values.max()}"
            )
    pairs = given["labels"].astype(np.int64) * classes + given["predictions"]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def precision_recall(confusion: NDArray[np.int64]) -> ClassFigures:
    """Precision, recall and F1 of each class, of a confusion matrix (true, predicted).

    With tp[k] = confusion[k, k]: precision[k] = tp[k] / sum over i of confusion[i, k], the share of what was taken for
    k that is k; recall[k] = tp[k] / sum over j of confusion[k, j], the share of k that was taken for it;
    f1[k] = 2 tp[k] / (both sums), their harmonic mean. 0 / 0 is 0, as in scikit-learn, whose definitions these are:
    the precision of a class that was never predicted, the recall of one without images.
    """
    confusion = np.asarray(confusion)
    right = confusion.diagonal()
    predicted, support = confusion.sum(axis=0), confusion.sum(axis=1)
    return ClassFigures(
        right / predicted.clip(1), right / support.clip(1), 2 * right / (predicted + support).clip(1), support
    )


def balanced_accuracy(confusion: NDArray[np.int64]) -> float:
    """The mean recall of the classes that have images, as in scikit-learn: each class counts alike, however small.

    Source: Brodersen et al., The balanced accuracy and its posterior distribution (2010).
    """
    figures = precision_recall(confusion)
    there = figures.support > 0
    return float(figures.recall[there].mean()) if there.any() else 0.0


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """The mean F1 of the classes that have images, or for which an image was taken, as scikit-learn has it."""
    confusion = np.asarray(confusion)
    there = confusion.any(axis=0) | confusion.any(axis=1)
    return float(precision_recall(confusion).f1[there].mean()) if there.any() else 0.0


def top_k_accuracy(scores: NDArray[np.floating[Any]], labels: NDArray[np.int64], k: int) -> float:
    """The share of samples whose class has one of the k highest scores (N, K); of equal ones, the first count.

    Raises MinicnnError for a k that is not from 1 to K.
    """
    classes = scores.shape[1]
    if not 1 <= k <= classes:
        raise MinicnnError(f"top_k_accuracy: k: expected 1 to {classes}, the number of classes, received {k}")
    own = np.take_along_axis(scores, labels[:, np.newaxis], axis=1)
    before = (scores > own) | ((scores == own) & (np.arange(classes) < labels[:, np.newaxis]))
    return float((before.sum(axis=1) < k).mean())


def tops(classes: int) -> dict[str, int]:
    """The names of the top-k accuracies of so many classes, each with its k."""
    return {f"top{k}_accuracy": k for k in TOPS if k < classes}


def words_of(name: str) -> str:
    """A figure's name in words: balanced accuracy, macro F1, top-3 accuracy."""
    return name.replace("_", " ").replace("f1", "F1").replace("top", "top-")


def tell_more(pairs: Iterable[tuple[float | None, Mapping[str, Any]]]) -> bool:
    """Whether `CLASS_FIGURES` belong into a table: in a pair of an accuracy and all figures, the balanced accuracy is
    another one, by more than 1 %."""
    known = ((accuracy, figures.get(CLASS_FIGURES[0])) for accuracy, figures in pairs)
    return any(a is not None and b is not None and abs(a - b) > 0.01 for a, b in known)


def class_figures(scores: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> dict[str, float]:
    """Balanced accuracy, macro F1 and top-k accuracies by their names, of scores (N, K) and labels (N,)."""
    classes = scores.shape[1]
    confusion = confusion_matrix(labels, scores.argmax(axis=1), classes)
    found = {"balanced_accuracy": balanced_accuracy(confusion), "macro_f1": macro_f1(confusion)}
    return found | {name: top_k_accuracy(scores, labels, k) for name, k in tops(classes).items()}
