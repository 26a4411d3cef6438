"""Images and labels as users have them, brought to the one form that the rest works with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn import checks
from minicnn.checks import first_nan, labels_hint, numbers_hint, plain_array, range_hint, told
from minicnn.data.picture import is_picture, is_pillow_image, reading_bar
from minicnn.engine.arrays import Array, Shape
from minicnn.errors import DataError, ShapeError

#: What data sets of dicts call their images and labels.
IMAGE_KEYS = ("image", "img", "pixel_values", "pixels")
LABEL_KEYS = ("label", "labels", "class", "target", "fine_label")
CHANNELS_LAST = checks.CHANNELS_LAST.format(name="images")


def as_images(images: Any, input_shape: Shape | None = None) -> Array:
    """Images (N, C, H, W), uint8 or float32, from uint8 (0 to 255) or floats (0 to 1) of (N, H, W) or (N, C, H, W).

    input_shape: of one image, (C, H, W), if it is known.
    Raises ShapeError for other shapes and types, which names the remedy; DataError for floats that are not from 0 to 1.
    """
    array = pixel_array(images)
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


def pixel_array(images: Any) -> Array:
    """`images` as an array of uint8 or floats. Raises ShapeError for others, with the remedy."""
    array: Array = plain_array(images, "images", ShapeError)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        pixels = "; if they are pixels from 0 to 255: images.astype(numpy.uint8)"
        hint = pixels if array.dtype.kind in "iu" else numbers_hint(array, "images")
        raise ShapeError(f"images: expected uint8 from 0 to 255 or floats from 0 to 1, received {array.dtype}{hint}")
    return array


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


def channel_values(name: str, value: Any, channels: int) -> float | tuple[float, ...]:
    """The mean or std of pixels: a number, or one for each channel. Raises DataError for others, and for a std of 0."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    with np.errstate(over="ignore", under="ignore"):
        single = array.astype(np.float32)
    fits = np.isfinite(single).all() and ((single == 0) == (array == 0)).all()
    if array.shape not in ((), (1,), (channels,)) or not fits:
        raise DataError(f"{name}: expected a number or one for each of {channels} channels, received {value!r}")
    if name == "std" and not (array > 0).all():
        raise DataError(f"std: expected numbers > 0, received {value}")
    return tuple(map(float, array)) if array.ndim else float(array)


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


def as_rows(labels: Any, count: int, outputs: int, several: bool) -> Array | None:
    """Targets float32 (N, K), if that is what the labels are: 0 or 1 where a sample may have `several` labels, else
    probabilities that are not all 0 or 1. None stands for labels of one class each, as `as_labels` takes them.

    Raises DataError for rows of another kind.
    """
    array = plain_array(labels, "labels", DataError)
    if not several:
        shares = array.ndim == 2 and array.dtype.kind == "f" and array.shape[1] == outputs
        if not shares or ((array == 0) | (array == 1)).all():
            return None
    if array.shape != (count, outputs) or array.dtype.kind not in "biuf":
        raise DataError(
            f"labels: expected rows of 0 and 1, a column for each label, ({count:,}, {outputs}), "
            f"received {array.dtype} {array.shape}"
        )
    if not ((array >= 0) & (array <= 1)).all():
        raise DataError(f"labels: expected numbers from 0 to 1, received {array.min():g} to {array.max():g}")
    if not several and not np.allclose(array.sum(axis=1), 1, atol=1e-3):
        raise DataError("labels: expected rows of probabilities, which add up to 1, received others")
    rows: Array = array.astype(np.float32)
    return rows


def _check_range(numbers: NDArray[np.int64], outputs: int | None) -> None:
    """Raises DataError for a class that is not there."""
    wrong = numbers < 0 if outputs is None else (numbers < 0) | (numbers >= outputs)
    if wrong.any():
        index = int(wrong.argmax())
        wanted = "integers >= 0" if outputs is None else f"classes 0 to {outputs - 1}"
        raise DataError(
            f"labels: expected {wanted}, received {numbers[index]} at index {index}{range_hint(numbers, outputs)}"
        )


def as_pairs(
    dataset: Any, fit: Callable[[Any], Array] | None, expected: str
) -> tuple[Array, Array, tuple[str, ...] | None]:
    """The images and labels of a data set of torchvision, Hugging Face or one's own, and the names of its classes if it
    knows them: of anything with a length whose items 0, 1, ... are pairs (image, label), or dicts with such keys.

    Images are Pillow images, uint8 arrays (H, W) or (H, W, 3), or what `as_images` takes, without N. fit: brings one of
    the first two kinds into the form of the model; without it, they must have one size and number of channels.
    expected: what stands before the complaint that it is no data set. Raises DataError for anything else.
    """
    if isinstance(dataset, Mapping):
        raise DataError(f"data set: expected one of its parts, such as dataset[{next(iter(dataset), 'train')!r}]")
    if isinstance(dataset, np.ndarray) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise DataError(
            f"{expected}, or a data set, whose items are pairs (image, label), received {type(dataset).__name__}"
        )
    if len(dataset) == 0:
        raise DataError("data set: expected at least one image, received none")
    images, labels, shapes = [], [], set()
    for number in reading_bar(range(len(dataset)), len(dataset)):
        image, label, key = _pair(dataset[number], number)
        images.append(_pixels(image, fit))
        labels.append(label)
        shapes.add(np.shape(images[-1]))
        if len(shapes) > 1:
            raise DataError(
                f"data set, image {number}: expected {np.shape(images[0])} like those before it, received "
                f"{np.shape(images[-1])}; Model(..., input_shape=(C, H, W)) resizes pictures of all sizes"
            )
    names = getattr(getattr(dataset, "features", {}).get(key), "names", None) or getattr(dataset, "classes", None)
    texts = isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
    return np.stack(images), np.asarray(labels), tuple(names) if names and texts else None


def _pair(item: Any, number: int) -> tuple[Any, Any, str]:
    """An image, its label, and what the label is called."""
    if isinstance(item, Mapping):
        keys = [next((key for key in usual if key in item), None) for usual in (IMAGE_KEYS, LABEL_KEYS)]
        if None not in keys:
            return item[keys[0]], item[keys[1]], str(keys[1])
        received = f"a dict with {', '.join(map(str, item))}"
    elif isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1], "label"
    else:
        received = told(item)
    raise DataError(
        f"data set, item {number}: expected (image, label), or a dict with {IMAGE_KEYS[0]} and {LABEL_KEYS[0]}, "
        f"received {received}"
    )


def _pixels(image: Any, fit: Callable[[Any], Array] | None) -> Array:
    from PIL.Image import fromarray

    from minicnn.data.image_file import to_pixels

    if not is_pillow_image(image):
        image = plain_array(image, "image", DataError)
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[0] in (1, 3):  # a tensor
            image = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        if not is_picture(image):
            return np.asarray(image)
        image = fromarray(image)
    return to_pixels(image, 1 if image.mode in ("1", "L", "LA") else 3) if fit is None else fit(image)
