"""Data sets by name: one door, through which each comes as uint8 images and integer labels."""

import difflib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicnn.data import cache, mnist
from minicnn.errors import DataError

SUBSET_FILE = Path(__file__).with_name("mnist_subset.npz")


@dataclass(frozen=True)
class Spec:
    """What is known of a data set before it is loaded.

    `mean` and `std` have one entry per channel, for pixels scaled to [0, 1].
    """

    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


_DIGITS = Spec((1, 28, 28), tuple("0123456789"), mean=(0.1307,), std=(0.3081,))
SPECS = {"mnist": _DIGITS, "mnist-subset": _DIGITS}


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory: images uint8 (N, C, H, W), labels int64 (N,) that index `classes`.

    `name` is the data set that was really loaded, which a fallback makes another than asked for.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def find_spec(name: str) -> Spec:
    """The spec of the data set called `name`.

    Raises:
        DataError: There is none; names the nearest.
    """
    if name in SPECS:
        return SPECS[name]
    nearest = difflib.get_close_matches(name, SPECS, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise DataError(f"data set: expected one of {', '.join(SPECS)}, received {name!r}{hint}")


def load_dataset(
    name: str,
    root: str | Path = "data",
    if_unavailable: str = "error",
    warn: Callable[[str], None] = warnings.warn,
) -> Dataset:
    """Load a data set by name, downloading it into `root` if it is not there.

    The first time it is parsed by torchvision and kept as one file of arrays, which later calls
    only map into memory. `if_unavailable` says what happens when it is neither on disk nor
    downloadable: "error" raises, "mnist-subset" calls `warn` with one line and loads the subset.

    Raises:
        DataError: The name is unknown; the data is unavailable, damaged or inconsistent.
    """
    find_spec(name)
    if if_unavailable not in ("error", "mnist-subset"):
        raise DataError(
            f"if_unavailable: expected error or mnist-subset, received {if_unavailable!r}"
        )
    if name == "mnist-subset":
        return _load_subset()
    try:
        return _load_mnist(Path(root).expanduser())
    except mnist.UnavailableError as error:
        if if_unavailable == "error":
            raise
        subset = _load_subset()
        warn(
            f"{error}; using mnist-subset instead ({len(subset.train_images):,} training and "
            f"{len(subset.test_images):,} test images)"
        )
        return subset


def _load_mnist(root: Path) -> Dataset:
    cache_files = cache.cache_files("mnist", root)
    damaged: DataError | None = None
    for path in cache_files:
        if not os.path.isfile(path):
            continue
        try:
            arrays = cache.open_arrays(path)
        except DataError as error:
            damaged = error
            continue
        # Raw files other than those it was made from make a cache stale; it outlives their removal.
        if not mnist.has_raw(root) or np.array_equal(mnist.raw_stamp(root), arrays["raw_stamp"]):
            return _from_arrays("mnist", arrays)

    if not mnist.has_raw(root):
        try:
            mnist.fetch_raw(root)
        except mnist.UnavailableError:
            if damaged is not None:
                raise damaged from None
            raise
    stamp = mnist.raw_stamp(root)
    arrays = mnist.read_raw(root)
    dataset = _from_arrays("mnist", arrays)
    for path in cache_files:
        try:
            cache.save_arrays(path, {**arrays, "raw_stamp": stamp})
            break
        except OSError:  # the cache only saves time: try the next place, or go on without
            continue
    return dataset


def _load_subset() -> Dataset:
    try:
        # NumPy leaves a damaged file open that it opened itself.
        with open(SUBSET_FILE, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = dict(file)
    except Exception as error:  # zipfile, zlib and NumPy each have their own
        raise DataError(
            f"{SUBSET_FILE}: expected the data file that minicnn ships, received a missing or "
            f"damaged one ({type(error).__name__}: {error}); install minicnn again"
        ) from error
    return _from_arrays("mnist-subset", arrays)


def _from_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> Dataset:
    """A Dataset of arrays that were checked against each other and the spec called `name`."""
    spec = SPECS[name]
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        place = f"data set {name}, {split} split"
        if len(images) == 0:
            raise DataError(f"{place}: expected at least one image, received none")
        if images.shape[1:] != spec.input_shape:
            raise DataError(
                f"{place}: expected images of shape {spec.input_shape}, received {images.shape[1:]}"
            )
        if len(labels) != len(images):
            raise DataError(
                f"{place}: expected one label per image, "
                f"received {len(images)} images and {len(labels)} labels"
            )
        if labels.max() >= len(spec.classes):
            raise DataError(
                f"{place}: expected labels from 0 to {len(spec.classes) - 1}, "
                f"received {labels.max()}"
            )
    return Dataset(
        name=name,
        train_images=arrays["train_images"],
        train_labels=arrays["train_labels"].astype(np.int64),
        test_images=arrays["test_images"],
        test_labels=arrays["test_labels"].astype(np.int64),
        classes=spec.classes,
        mean=spec.mean,
        std=spec.std,
    )
