"""How good a classifier is, class by class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minicnn.errors import MinicnnError, ShapeError

Array = NDArray[np.float64]


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
