"""Data sets by name. Each is loaded as uint8 images and integer labels."""

import difflib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from minicnn.data import cache
from minicnn.data.arrays import find_arrays_spec, load_arrays
from minicnn.data.base import Dataset, HeldOut, Spec, check_arrays, make_dataset, statistics
from minicnn.data.cifar import Cifar10
from minicnn.data.csv_table import list_csv
from minicnn.data.download import UnavailableError
from minicnn.data.folder import list_folder
from minicnn.data.image_list import Listing, Options, find_listing_spec, load_listing
from minicnn.data.mnist import Emnist, Mnist
from minicnn.data.picture import WHITE
from minicnn.errors import DataError

SUBSET_FILE = Path(__file__).with_name("mnist_subset.npz")


class Source(Protocol):
    """Where a data set comes from: torchvision's files below the data root."""

    def raw_files(self, root: Path) -> list[Path]: ...

    def fetch(self, root: Path) -> None: ...

    def read(self, root: Path) -> dict[str, np.ndarray]: ...


SOURCES: dict[str, Source] = {
    "mnist": Mnist("MNIST"),
    "fashion_mnist": Mnist("FashionMNIST"),
    "kmnist": Mnist("KMNIST"),
    "emnist-letters": Emnist("letters", 124_800, 20_800),
    "emnist-balanced": Emnist("balanced", 112_800, 18_800),
    "cifar10": Cifar10(),
}

_DIGITS = Spec((1, 28, 28), tuple("0123456789"), mean=(0.1307,), std=(0.3081,))
_CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_CIFAR10 = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
# Balanced EMNIST: small letters that look like their capitals are one class with them.
_BALANCED = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
SPECS = {
    "mnist": _DIGITS,
    "mnist-subset": _DIGITS,
    "fashion_mnist": Spec((1, 28, 28), tuple(_CLOTHES.split(","))),
    "kmnist": Spec((1, 28, 28), ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")),
    "emnist-letters": Spec((1, 28, 28), tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")),
    "emnist-balanced": Spec((1, 28, 28), tuple(_BALANCED)),
    "cifar10": Spec((3, 32, 32), tuple(_CIFAR10.split(","))),
}
_PIXELS = ("path", "resize", "grey", "background", "skip_unreadable")
#: The user's own images, whose shapes show on disk only, and the options that each takes; other data sets take none.
OPTIONS: dict[str, tuple[str, ...]] = {
    "folder": _PIXELS,
    "csv": (*_PIXELS, "image_column", "label_column", "split_column"),
    "arrays": ("path",),
}
OWN = tuple(OPTIONS)
NAMES = (*SPECS, *OWN)
#: Light characters on black, 28 x 28, in MNIST's form.
CHARACTERS = ("mnist", "mnist-subset", "kmnist", "emnist-letters", "emnist-balanced")


def unfit(name: str, options: Options) -> dict[str, Any]:
    """The options that are given, and that the data set does not take."""
    values = {field.name: (getattr(options, field.name), field.default) for field in fields(options)}
    allowed = OPTIONS.get(name, ())
    return {key: value for key, (value, default) in values.items() if value != default and key not in allowed}


def _listing(name: str, options: Options, warn: Callable[[str], None] = lambda _: None) -> Listing:
    """The image files of the data set folder or csv."""
    if name == "folder":
        return list_folder(options.place, warn)
    return list_csv(options.place, options.image_column, options.label_column, options.split_column)


def find_spec(name: str, path: str | Path | None = None, **options: Any) -> Spec:
    """What is known of the data set `name` before it is loaded; the options are those of `load_dataset`.

    For your own data, this reads the names of the files and one image, or the headers of the arrays and the labels.
    Raises DataError for an unknown name (and gives the nearest one), a missing `path`, and data of another kind.
    """
    own = Options(path=path, **options)
    _check(name, own)
    if name not in OWN:
        return SPECS[name]
    return find_arrays_spec(own.place) if name == "arrays" else find_listing_spec(_listing(name, own), own)


def _check(name: str, own: Options) -> None:
    """Raises DataError for an unknown name, and for options that do not fit it."""
    if name not in NAMES:
        nearest = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise DataError(f"data set: expected one of {', '.join(NAMES)}, received {name!r}{hint}")
    if name in OWN and own.path is None:
        raise DataError(f"data set {name}: expected a path with it, received none")
    for option, value in unfit(name, own).items():
        raise DataError(f"data set {name}: expected no {option} with it, received {value}")


def load_dataset(
    name: str,
    root: str | Path = "data",
    if_unavailable: str = "error",
    warn: Callable[[str], None] = warnings.warn,
    *,
    path: str | Path | None = None,
    resize: int | Sequence[int] | None = None,
    grey: bool | None = None,
    background: int | Sequence[int] = WHITE,
    skip_unreadable: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    validation: float | None = None,
    seed: int = 0,
    test_on_all: bool = False,
) -> Dataset:
    """Loads a data set by name, and downloads it if it is not there.

    name             mnist, mnist-subset, fashion_mnist, kmnist, emnist-letters, emnist-balanced, cifar10, or, for your
                     own data, folder (see `list_folder`), csv (see `list_csv`) or arrays (see `load_arrays`)
    root             the folder of downloaded data sets. torchvision parses a data set the first time; the arrays are
                     kept in one file there, which later calls map into memory
    if_unavailable   what to do if mnist is neither there nor can be downloaded: "error" raises, "mnist-subset" calls
                     `warn` with one line and loads that data set
    warn             is called with a text for what is perhaps not meant, such as images that are left out
    path             where your own data are
    resize           for folder and csv: stretches all images to that height and width, or to a square, with
                     antialiasing; without it they must have one size
    grey             for folder and csv: makes all images grey (True) or colour (False); with None they must be all one
                     or the other
    background       for folder and csv: what transparent images are laid over, a grey level from 0 to 255 or
                     [red, green, blue]. Images are also turned upright by their EXIF orientation, and of animated ones,
                     the first frame is taken
    skip_unreadable  for folder and csv: leaves out files that cannot be read, which otherwise are an error
    image_column, label_column, split_column
                     for csv: the names of its columns [usual ones, such as path, label and split]
    validation       a share between 0 and 1: this share of the training images of each class, drawn with `seed`,
                     replaces the test images. Mean and standard deviation remain those of all training images
    test_on_all      if your own data have no test images, all of them are test images, too

    Raises DataError for an unknown name, and for data that are unavailable, damaged or inconsistent.
    """
    own = Options(resize, grey, background, skip_unreadable, path, image_column, label_column, split_column)
    _check(name, own)
    if if_unavailable not in ("error", "mnist-subset"):
        raise DataError(f"if_unavailable: expected error or mnist-subset, received {if_unavailable!r}")
    if name in OWN:
        needs_test = validation is None and not test_on_all
        spec, arrays, held_out, files = _load_own(name, own, needs_test, warn)
        if test_on_all and "test_images" not in arrays:
            held_out = "test"
            arrays |= {f"test_{key}": arrays[f"train_{key}"] for key in ("images", "labels")}
            files["test"] = files.get("train", [])
        return make_dataset(name, spec, arrays, held_out, validation, seed, files)
    try:
        arrays = _load_subset() if name == "mnist-subset" else _load_source(name, Path(os.path.expanduser(root)))
    except UnavailableError as error:
        if if_unavailable == "error" or name != "mnist":
            raise
        name, arrays = "mnist-subset", _load_subset()
        warn(
            f"{error}; using mnist-subset instead ({len(arrays['train_images']):,} training "
            f"and {len(arrays['test_images']):,} test images)"
        )
    return make_dataset(name, SPECS[name], arrays, "test", validation, seed)


def _load_own(
    name: str, own: Options, needs_test: bool, warn: Callable[[str], None]
) -> tuple[Spec, dict[str, np.ndarray], HeldOut, dict[str, list[str]]]:
    """The spec of the user's own images, their arrays, what the test images are, and the files of each split."""
    listing = None if name == "arrays" else _listing(name, own, warn)
    arrays = {} if listing else load_arrays(own.place)
    tested = "test" in listing.samples if listing else "test_images" in arrays
    if needs_test and not tested:
        raise DataError(
            f"{own.place}: expected images that are not trained on, to see what has been learned, "
            "received none; data.validation=0.2 sets a fifth of the images aside for that"
        )
    if listing is None:
        return find_arrays_spec(own.place), arrays, "test", {}
    arrays, files = load_listing(listing, own, warn)
    channels, height, width = arrays["train_images"].shape[1:]
    return Spec((channels, height, width), listing.classes), arrays, listing.held_out, files


def _load_source(name: str, root: Path) -> dict[str, np.ndarray]:
    source = SOURCES[name]
    raw_files, cache_files = source.raw_files(root), cache.cache_files(name, root)
    is_there = all(os.path.isfile(path) for path in raw_files)
    # Raw files other than those it was made from make a cache stale; it outlives their removal.
    stamp = cache.file_stamp(raw_files) if is_there else None
    arrays, damaged = cache.find_arrays(cache_files, stamp)
    if arrays is not None:
        return arrays
    if stamp is None:
        try:
            source.fetch(root)
        except UnavailableError:
            if damaged is not None:
                raise damaged from None
            raise
        stamp = cache.file_stamp(raw_files)
    arrays = source.read(root)
    check_arrays(name, SPECS[name], arrays)
    arrays |= statistics(arrays["train_images"])
    cache.keep_arrays(cache_files, arrays, stamp)
    return arrays


def _load_subset() -> dict[str, np.ndarray]:
    try:
        # NumPy leaves a damaged file open that it opened itself.
        with open(SUBSET_FILE, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # zipfile, zlib and NumPy each have their own
        raise DataError(
            f"{SUBSET_FILE}: expected the data file that minicnn ships, received a missing or "
            f"damaged one ({type(error).__name__}: {error}); install minicnn again"
        ) from error
