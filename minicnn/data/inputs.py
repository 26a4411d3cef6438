"""Images and labels as users have them, brought to the one form that the rest works with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn import checks
from minicnn.checks import first_nan, labels_hint, numbers_hint, plain_array, range_hint
from minicnn.engine.arrays import Array, Shape
from minicnn.errors import DataError, ShapeError

CHANNELS_LAST = checks.CHANNELS_LAST.format(name="images")


def as_images(images: Any, input_shape: Shape | None = None) -> Array:
    """Images (N, C, H, W), uint8 or float32, from uint8 (0 to 255) or floats (0 to 1) of (N, H, W) or (N, C, H, W).

    input_shape: of one image, (C, H, W), if it is known.
    Raises ShapeError for other shapes and types, which names the remedy; DataError for floats that are not from 0 to 1.
    """
    array: Array = plain_array(images, "images", ShapeError)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        whole = array.dtype.kind in "iu"
        hint = "; if they are pixels from 0 to 255: images.astype(numpy.uint8)"
        hint = hint if whole else numbers_hint(array, "images")
        raise ShapeError(f"images: expected uint8 from 0 to 255 or floats from 0 to 1, received {array.dtype}{hint}")
    if array.ndim == 3:
        array = array[:, np.newaxis]
    wanted = "(N, H, W) or (N, C, H, W)" if input_shape is None else f"(N, {', '.join(map(str, input_shape))})"
    if array.ndim != 4 or 0 in array.shape:
        raise ShapeError(f"images: expected {wanted}, N > 0, received {np.shape(images)}")
    if input_shape is not None and array.shape[1:] != input_shape:
        last = CHANNELS_LAST if (array.shape[3], *array.shape[1:3]) == input_shape else ""
        raise ShapeError(f"images: expected {wanted}, received {np.shape(images)}{last}")
    if array.dtype == np.uint8:
        return array
    check_unit_range(array)
    return array.astype(np.float32, copy=False)


def check_unit_range(images: Array) -> None:
    """Raises DataError for floats that are not from 0 to 1, with the remedy."""
    if ((images >= 0) & (images <= 1)).all():  # NaN is in no range
        return
    low, high, index = images.min(), images.max(), first_nan(images)
    received = f"from {low:g} to {high:g}" if index is None else f"with NaN at index {index}"
    hint = "; divide them by 255" if low >= 0 and 1 < high <= 255 else ""
    raise DataError(
        f"images: expected floats from 0 to 1 or uint8 from 0 to 255, received {images.dtype} {received}{hint}"
    )


def as_labels(
    labels: Any, count: int, classes: Sequence[str] | None = None, outputs: int | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Class numbers (N,) and the names of the classes, from integers, names of classes, or one-hot rows (N, K).

    count: how many labels there should be. classes: their names, if known; else names in `labels` are taken in
    alphabetical order. Raises DataError for labels of another kind, for an unknown name, another number of labels, and
    numbers that are not below `outputs`, the number of classes, if that is given.
    """
    array = plain_array(labels, "labels", DataError)
    names = None if classes is None else tuple(classes)
    if array.shape[:1] != (count,):
        raise DataError(f"labels: expected {count:,}, one for each image, received {array.shape}")
    if array.dtype == object and all(isinstance(label, str) for label in array.flat):
        array = array.astype(str)
    if array.ndim == 1 and array.dtype.kind in "iu":
        numbers = array.astype(np.int64)
    elif array.ndim == 1 and array.dtype.kind == "U":
        names = names or tuple(np.unique(array).tolist())
        places = {name: place for place, name in enumerate(names)}
        unknown = next((name for name in array.tolist() if name not in places), None)
        if unknown is not None:
            raise DataError(f"labels: expected one of {', '.join(names)}, received {unknown!r}")
        numbers = np.array([places[name] for name in array.tolist()])
    elif array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "iufb":
        if not (((array == 0) | (array == 1)).all() and (array.sum(axis=1) == 1).all()):
            raise DataError("labels: expected rows with a single 1 and else 0 (one-hot), received others")
        if outputs is not None and array.shape[1] != outputs:
            raise DataError(f"labels: expected one-hot rows of {outputs} classes, received {array.shape}")
        numbers = array.argmax(axis=1).astype(np.int64)
    else:
        raise DataError(
            f"labels: expected integers (N,), names of classes (N,) or one-hot rows (N, K), "
            f"received {array.dtype} {array.shape}{labels_hint(array)}"
        )
    _check_range(numbers, outputs)
    return numbers, names


def _check_range(numbers: NDArray[np.int64], outputs: int | None) -> None:
    """Raises DataError for a class that is not there."""
    wrong = numbers < 0 if outputs is None else (numbers < 0) | (numbers >= outputs)
    if wrong.any():
        index = int(wrong.argmax())
        wanted = "integers >= 0" if outputs is None else f"classes 0 to {outputs - 1}"
        raise DataError(
            f"labels: expected {wanted}, received {numbers[index]} at index {index}{range_hint(numbers, outputs)}"
        )
