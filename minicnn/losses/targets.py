"""Targets of a batch, weights of its samples and of classes: checked, and as the programs of losses take them."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minicnn.checks import labels_hint, plain_array, range_hint
from minicnn.engine.arrays import Array, Shape
from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import LANES, blocks_of
from minicnn.layers.lane_layer import check_nan

#: In the place of class weights: those that make all classes count alike.
BALANCED = "balanced"


class Kind(NamedTuple):
    """What of a target the calls of a program depend on."""

    by_label: bool = True  # labels (N,), not an array of y's shape
    counted: bool = True  # there are right answers, which can be counted
    weighted: bool = False  # samples have weights


class Target(NamedTuple):
    """The target of a batch.

    inputs   the arrays that programs take, or where they lie, by the names of their inputs
    weight   the weights of all samples, added up
    labels   the right class of each sample, int64 (N,), if it has one
    """

    kind: Kind
    inputs: Mapping[str, Array | int]
    weight: float
    labels: NDArray[np.int64] | None


def check_labels(labels: Any, y_shape: Shape, name: str) -> NDArray[np.int64]:
    """Labels (N,) for scores (N, classes) as int64.

    Raises ShapeError for other shapes and types, MinicnnError if one is out of range.
    """
    labels, samples = plain_array(labels, "labels", ShapeError), y_shape[0]
    if len(y_shape) != 2:
        raise ShapeError(f"{name}: expected scores (N, classes), received {y_shape}")
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"labels: expected {samples} integers ({samples},), received {labels.dtype} {labels.shape}"
            f"{labels_hint(labels)}"
        )
    numbers: NDArray[np.int64] = labels.astype(np.int64)
    unsigned = numbers.view(np.uint64)  # where negative ones are large
    if samples and unsigned[unsigned.argmax()] >= y_shape[1]:
        index = int(((labels < 0) | (labels >= y_shape[1])).argmax())
        raise MinicnnError(
            f"labels: expected classes 0 to {y_shape[1] - 1}, received {labels[index]} at index {index}"
            f"{range_hint(labels, y_shape[1])}"
        )
    return numbers


def labels_or_numbers(target: Any, y_shape: Shape, dtype: Any, name: str) -> Array:
    """Labels (N,), as `check_labels` takes them, or numbers in the shape of y. Raises ShapeError or MinicnnError."""
    target = plain_array(target, "target", ShapeError)
    if target.ndim == 1 and target.dtype.kind in "iu" and len(y_shape) == 2:
        return check_labels(target, y_shape, name)
    if target.shape != y_shape:
        raise ShapeError(f"{name}: expected a target of {y_shape}, received {target.shape}")
    numbers: Array = np.ascontiguousarray(target, dtype)
    check_nan(name, "target", numbers)
    return numbers


def check_shares(target: Any, y_shape: Shape, dtype: Any, name: str) -> Array:
    """A target of y's shape with numbers from 0 to 1. Raises ShapeError, MinicnnError for numbers out of range."""
    if target.shape != y_shape:
        raise ShapeError(f"{name}: expected a target of {y_shape}, received {target.shape}")
    numbers: Array = np.ascontiguousarray(target, dtype)
    wrong = ~((numbers >= 0) & (numbers <= 1))  # also NaN
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise MinicnnError(f"{name}: expected targets from 0 to 1, received {numbers[index]:g} at index {index}")
    return numbers


def check_numbers(name: str, values: Any) -> tuple[float, ...] | None:
    """Finite numbers >= 0, one of them positive, or None. Raises MinicnnError."""
    if values is None:
        return None
    array = plain_array(values, name, MinicnnError)
    if array.ndim != 1 or array.dtype.kind not in "iuf" or not (np.isfinite(array) & (array >= 0)).all():
        raise MinicnnError(f"{name}: expected a list of finite numbers >= 0, received {values!r:.80}")
    if not array.any():
        raise MinicnnError(f"{name}: expected a number above 0 among them, received {values!r:.80}")
    return tuple(array.astype(float).tolist())


@lru_cache(maxsize=64)  # as each step asks for the same
def weights_or_ones(values: tuple[float, ...] | None, count: int, dtype: Any) -> Array:
    """`count` weights as an array that is not to be written: those that were given, or ones."""
    return np.ones(count, dtype) if values is None else np.array(values, dtype)


def balanced_weights(labels: NDArray[np.int64], classes: int) -> tuple[float, ...]:
    """N / (classes n[k]) for class k, which n[k] of N labels name; so all classes count alike, and the mean is 1.

    Classes without labels have the weight 0, and do not count among the classes. The numbers are scikit-learn's
    (`class_weight="balanced"`); King and Zeng, Logistic regression in rare events data (2001), section 4.2.
    """
    counts = np.bincount(labels, minlength=classes)
    present = int(np.count_nonzero(counts))
    return tuple(len(labels) / (present * n) if n else 0.0 for n in counts.tolist())


def weights_of_classes(given: Any, classes: Sequence[str] | None, labels: NDArray[np.int64], count: int) -> Array:
    """The weight of each of `count` classes, float64, from "balanced", a list, or a dict by number or name [1].

    Raises MinicnnError for others.
    """
    if isinstance(given, Mapping):
        weights = [1.0] * count
        names = {name: k for k, name in enumerate(classes or ())}
        for key, value in given.items():
            place = names.get(key, key)
            if isinstance(place, bool) or not isinstance(place, int | np.integer) or not 0 <= place < count:
                known = f"0 to {count - 1}" + (f", or one of {', '.join(names)}" if names else "")
                raise MinicnnError(f"class_weight: expected classes {known}, received {key!r}")
            weights[place] = value
        given = weights
    elif isinstance(given, str):
        if given != BALANCED:
            raise MinicnnError(f"class_weight: expected {BALANCED!r}, a list or a dict, received {given!r}")
        given = balanced_weights(labels, count)
    numbers = check_numbers("class_weight", given) or ()
    if len(numbers) != count:
        raise MinicnnError(f"class_weight: expected {count} numbers, one for each class, received {len(numbers)}")
    return np.array(numbers)


def added_up(weights: Array) -> float:
    """Their sum, rounded once: the same on every machine."""
    return math.fsum(weights.tolist())


def whole_blocks(array: Array) -> Array:
    """(N,) with zeros behind that complete the last block, which programs read as a whole."""
    padded = np.zeros(blocks_of(len(array)) * LANES, array.dtype)
    padded[: len(array)] = array
    return padded
