"""What a data set is, before and after it is loaded, and the checks and figures that all share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from minicnn.errors import DataError

HeldOut = Literal["test", "validation"]


@dataclass(frozen=True)
class Spec:
    """What is known of a data set before it is loaded.

    `mean` and `std` have one entry per channel, for pixels from 0 to 1. If they are not known, they are computed from
    the training images.
    """

    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory: images uint8 (N, C, H, W), labels int64 (N,) that index `classes`.

    `name` is the data set that was really loaded; after a fallback it is not the one that was asked for.
    `mean` and `std` have one entry per channel, for pixels from 0 to 1.
    `held_out` says what `test_images` are: the test images of the data set, or images held out for validation. In the
    second case no test image has been looked at. `test_files` are their files, if there is one for each.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    held_out: HeldOut = "test"
    test_files: tuple[str, ...] | None = None


def statistics(images: np.ndarray) -> dict[str, NDArray[np.float64]]:
    """Mean and standard deviation of each channel, for pixels from 0 to 1.

    For uint8 they are computed from integer sums, which are exact. The variance divides by the number of pixels, not by
    one less.
    """
    if images.dtype != np.uint8:
        axes = (0, 2, 3)
        return {"mean": images.mean(axes, np.float64), "std": images.std(axes, np.float64)}
    values = np.arange(256)
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(images), 1000):  # bincount works on a copy of eight times the size
            pixels = images[start : start + 1000, channel]
            counts += np.bincount(pixels.ravel(), minlength=256)
        number, total, squares = (int(counts @ values**power) for power in (0, 1, 2))
        means.append(total / number / 255)
        stds.append((number * squares - total**2) ** 0.5 / number / 255)
    return {"mean": np.array(means), "std": np.array(stds)}


def make_dataset(
    name: str,
    spec: Spec,
    arrays: Mapping[str, np.ndarray],
    held_out: HeldOut = "test",
    validation: float | None = None,
    seed: int = 0,
    files: Mapping[str, Sequence[str]] | None = None,
) -> Dataset:
    """The data set of train_images, train_labels, test_images, test_labels (and mean and std where they are known).

    With `validation`, that share of the training images replaces the test images. files: those of the images of each
    split, if there is one for each. Raises DataError for a split without images, images of another shape, labels that
    do not fit, and no images to test with.
    """
    check_arrays(name, spec, arrays, held_out)
    mean, std = spec.mean, spec.std
    if mean is None or std is None:
        known = arrays if "mean" in arrays else statistics(arrays["train_images"])
        mean, std = tuple(known["mean"].tolist()), tuple(known["std"].tolist())
    if 0 in std:
        raise DataError(
            f"data set {name}: expected training images with something in them, received one value "
            f"in all pixels of channel {std.index(0)}"
        )
    files = files or {}
    test_files = files.get("test")
    if validation is not None:
        chosen = hold_out(arrays["train_labels"], validation, seed)
        parts, held_out = {"train": ~chosen, "test": chosen}, "validation"
        arrays = {f"{part}_{k}": arrays[f"train_{k}"][of] for part, of in parts.items() for k in ("images", "labels")}
        if files:
            test_files = [files["train"][number] for number in np.flatnonzero(chosen).tolist()]
    return Dataset(
        name=name,
        train_images=arrays["train_images"],
        train_labels=arrays["train_labels"].astype(np.int64),
        test_images=arrays["test_images"],
        test_labels=arrays["test_labels"].astype(np.int64),
        classes=spec.classes,
        mean=mean,
        std=std,
        held_out=held_out,
        test_files=tuple(test_files) if test_files else None,
    )


def check_arrays(name: str, spec: Spec, arrays: Mapping[str, np.ndarray], held_out: HeldOut = "test") -> None:
    """Check the arrays that `make_dataset` takes against each other and the spec. Raises DataError."""
    for split, words in (("train", "train"), ("test", held_out)):
        if f"{split}_images" not in arrays:
            continue
        place = f"data set {name}, {words} split"
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if len(images) == 0:
            raise DataError(f"{place}: expected at least one image, received none")
        if images.shape[1:] != spec.input_shape:
            raise DataError(f"{place}: expected images of shape {spec.input_shape}, received {images.shape[1:]}")
        if len(labels) != len(images):
            raise DataError(
                f"{place}: expected one label per image, received {len(images)} images and {len(labels)} labels"
            )
        for label in (labels.min(), labels.max()):
            if not 0 <= label < len(spec.classes):
                raise DataError(f"{place}: expected labels from 0 to {len(spec.classes) - 1}, received {label}")


def hold_out(labels: np.ndarray, share: float, seed: int) -> NDArray[np.bool_]:
    """Which images are held out for validation: round(share n) of the n images of each class, but at least one remains
    for training. The choice depends on the labels, `share` and `seed` alone. Rows of numbers count as one class.

    Raises DataError for a share that is not between 0 and 1, or holds out nothing.
    """
    if not 0 < share < 1:
        raise DataError(f"validation: expected a share between 0 and 1, received {share}")
    classes = labels if labels.ndim == 1 else np.zeros(len(labels), int)
    rng = np.random.default_rng((seed, 0, 1))  # no epoch's order comes from these numbers
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        count = min(round(share * len(members)), len(members) - 1)
        chosen[rng.permutation(members)[:count]] = True
    if not chosen.any():
        raise DataError(
            "validation: expected a share that holds out at least one image of a class, "
            f"received {share} of {len(labels)} training images"
        )
    return chosen
