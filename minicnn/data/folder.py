"""A user's own images in the layout of torchvision's ImageFolder: one sub-folder a class."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicnn.data import cache
from minicnn.data.base import HeldOut, Spec, statistics
from minicnn.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
COLOURS = {1: "grey", 3: "colour"}
Sample = tuple[Path, int]
_SPLITS = {  # usual names, in small letters
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Listing:
    """What lies in the folder: classes in the order of their labels, and image files with labels.

    `test` is None where the folder has only one set of images.
    """

    classes: tuple[str, ...]
    train: list[Sample]
    test: list[Sample] | None
    held_out: HeldOut


def find_folder_spec(path: Path, resize: int | Sequence[int] | None, grey: bool | None) -> Spec:
    """The spec of the images below `path`: the classes' names, and the shape of the first image."""
    train, _ = _splits(path)
    classes = _classes(train)
    [(first, _), *_] = _samples(train, classes[:1])
    image = _decode(first, resize, grey)
    return Spec((image.shape[0], image.shape[1], image.shape[2]), classes)


def list_folder(path: Path) -> Listing:
    """All image files below `path`, by torchvision's rules: by their extensions, at any depth, in sorted order.

    The classes are the sub-folders of `path`, or those of `path`/train where beside train there is
    nothing but test or val, or another of their usual names in any case (training, valid,
    validation, testing); these hold the same classes. Of both, val is taken, and test is left for
    later. Hidden files and folders, and __MACOSX, are passed over. In a class, a folder that links
    lead to again counts once.

    Raises:
        DataError: No such folder, fewer than two classes, a class without images, other classes,
            classes beside the folders of a split, a split without train.
    """
    train, test = _splits(path)
    classes = _classes(train)
    if test is None:
        return Listing(classes, _samples(train, classes), None, "validation")
    others = _classes(test)
    if others != classes:
        [name, *_] = sorted(set(classes) ^ set(others))
        has, lacks = (train, test) if name in classes else (test, train)
        raise DataError(f"{test}: expected the classes of {train}, received others: {name} is in {has}, not in {lacks}")
    held_out: HeldOut = "validation" if _SPLITS[test.name.lower()] == "val" else "test"
    return Listing(classes, _samples(train, classes), _samples(test, classes), held_out)


def load_folder(
    listing: Listing, path: Path, resize: int | Sequence[int] | None, grey: bool | None
) -> dict[str, np.ndarray]:
    """Loads the images of `listing` as uint8 (N, C, H, W), their labels, and the statistics of the training images.

    `resize` stretches all images to (height, width), or to a square, with antialiasing; without it they must have one
    size. `grey` makes all images grey (True) or colour (False); with None they must be all grey or all colour. Images
    are turned upright by their EXIF orientation, and transparency is dropped. The decoded images are kept in the user's
    cache folder until a file, its size or its time of change is different.

    Raises DataError for a file that is not an image, and for an image of another size or colour than the first.
    """
    samples = {"train": listing.train, "test": listing.test or []}
    files = cache.cache_files("folder", path)[1:]  # nothing is written beside the user's images
    stamp = _stamp(path, samples, resize, grey)
    arrays, _ = cache.find_arrays(files, stamp)
    if arrays is None:
        first = listing.train[0][0]
        shape = _decode(first, resize, grey).shape
        arrays = {}
        for split, members in samples.items():
            if members or split == "train":
                images = _room_for(path, len(members), shape)
                for position, (file, _) in enumerate(members):
                    images[position] = _decode(file, resize, grey, first, shape)
                arrays[f"{split}_images"] = images
                arrays[f"{split}_labels"] = np.array([label for _, label in members], np.int64)
        arrays |= statistics(arrays["train_images"])
        cache.keep_arrays(files, arrays, stamp)
    return arrays


def _room_for(path: Path, count: int, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.empty((count, *shape), np.uint8)
    except MemoryError:
        raise DataError(
            f"{path}: expected images that fit into memory, received {count:,} of "
            f"{' x '.join(map(str, shape))}; resize: [height, width] makes them smaller"
        ) from None


def _splits(path: Path) -> tuple[Path, Path | None]:
    """The folders of the training and of the held-out classes. Raises DataError for splits by half."""
    names = _subfolders(path)
    splits = {name: _SPLITS[name.lower()] for name in names if name.lower() in _SPLITS}
    others = [name for name in names if name not in splits]
    divided = {name: _subfolders(path / name) for name in splits}
    if (others or len(splits) < 2) and all(len(classes) < 2 for classes in divided.values()):
        return path, None  # a class may be called train, too
    problem = None
    roles = list(splits.values())
    if others:
        problem = (
            f"received classes in {', '.join(splits)} and {', '.join(others[:5])} beside them; move or rename some"
        )
    elif not all(divided.values()):
        problem = f"received none in {next(name for name in splits if not divided[name])}"
    elif "train" not in roles:
        problem = f"received {', '.join(splits)} without train"
    elif len(set(roles)) < len(roles):
        problem = f"received two of one kind among {', '.join(splits)}"
    if problem:
        raise DataError(
            f"{path}: expected a sub-folder for each class, or train and test (or val) with such "
            f"sub-folders in each, {problem}"
        )
    by_role = {role: path / name for name, role in splits.items()}
    return by_role["train"], by_role.get("val") or by_role.get("test")


def _visible(name: str) -> bool:
    """Whether a file or folder is the user's: not hidden, and nothing that macOS or a NAS has put there."""
    return not name.startswith(".") and name not in ("__MACOSX", "@eaDir", "lost+found")


def _subfolders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and _visible(entry.name))
    except OSError as error:
        raise DataError(
            f"{path.absolute()}: expected a folder with one sub-folder of images a class, received {error.strerror}"
        ) from None


def _classes(path: Path) -> tuple[str, ...]:
    names = _subfolders(path)
    if len(names) < 2:
        received = f"one ({names[0]})" if names else "none"
        raise DataError(f"{path}: expected two or more sub-folders, one for each class, received {received}")
    return tuple(names)


def _samples(path: Path, classes: Sequence[str]) -> list[Sample]:
    samples = []
    for label, name in enumerate(classes):
        files = _image_files(path / name)
        if not files:
            raise DataError(f"{path / name}: expected at least one image ({' '.join(EXTENSIONS)}), received none")
        samples += [(file, label) for file in files]
    return samples


def _image_files(top: Path) -> list[Path]:
    found, seen = [], set()
    for folder, subfolders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link leads back: walked on, its images would count dozens of times
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(filter(_visible, subfolders))
        images = (file for file in files if file.lower().endswith(EXTENSIONS))
        found += [(folder, file) for file in images if _visible(file)]
    return [Path(folder, file) for folder, file in sorted(found)]


def _stamp(path: Path, samples: dict[str, list[Sample]], *options: object) -> np.ndarray:
    """A fingerprint of the files' names, sizes and times of change, and of the options."""
    digest = hashlib.sha256(repr(options).encode())
    for split, members in samples.items():
        for file, label in members:
            try:
                status = file.stat()
            except OSError as error:
                raise DataError(f"{file}: expected an image that can be read, received {error.strerror}") from None
            name = os.fsencode(file.relative_to(path))
            entry = f"{split} {label} {status.st_size} {status.st_mtime_ns} ".encode()
            digest.update(entry + name + b"\0")
    return np.frombuffer(digest.digest(), np.uint8)


def _decode(
    path: Path,
    resize: int | Sequence[int] | None,
    grey: bool | None,
    first: Path | None = None,
    shape: tuple[int, ...] | None = None,
) -> np.ndarray:
    """The image in `path` as uint8 (C, H, W), of the shape of the first image where that is given."""
    from PIL import Image, ImageOps

    from minicnn.handwriting.image_file import opened_image

    with opened_image(path) as opened:
        if opened.mode.startswith(("I", "F")):
            raise DataError(f"{path}: expected 8 bits a pixel and channel, received more than 8 bits")
        channels = 1 if opened.mode in ("1", "L", "LA", "La") else 3
        if grey is not None:
            channels = 1 if grey else 3
        image = ImageOps.exif_transpose(opened).convert("L" if channels == 1 else "RGB")
        if resize is not None:
            height, width = (resize, resize) if isinstance(resize, int) else resize
            image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    if first is not None and shape is not None:
        if channels != shape[0]:
            raise DataError(
                f"{path}: expected a {COLOURS[shape[0]]} image like {first}, received a "
                f"{COLOURS[channels]} one; grey: true makes all of them grey, false all colour"
            )
        if pixels.shape[:2] != shape[1:]:
            raise DataError(
                f"{path}: expected {shape[1]} x {shape[2]} pixels (height x width) like {first}, "
                f"received {pixels.shape[0]} x {pixels.shape[1]}; "
                "resize: [height, width] brings all to one size"
            )
    return pixels[np.newaxis] if channels == 1 else pixels.transpose(2, 0, 1)
