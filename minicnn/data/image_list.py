"""A user's own image files, listed with their labels: what they have in common, and their pixels."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from minicnn.data import cache
from minicnn.data.base import HeldOut, Spec, statistics
from minicnn.data.picture import WHITE, quiet, reading_bar
from minicnn.engine.driver import get_threads
from minicnn.errors import DataError

COLOURS = {1: "grey", 3: "colour"}
SKIP = "data.skip_unreadable=true goes on without"
MOST_NAMED = 50  # files in a message
Sample = tuple[Path, int]
Pixels = np.ndarray
Task = tuple[Pixels, Path]  # where the pixels of a file go

#: Usual names of the parts of a data set, in small letters.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Listing:
    """Image files with their labels, and the classes in the order of these.

    `samples` are those of the splits train and test, or of train alone where there is only one set of images.
    """

    classes: tuple[str, ...]
    samples: dict[str, list[Sample]]
    held_out: HeldOut = "validation"


@dataclass(frozen=True)
class Options:
    """Where a user's own images are, and how they are read; see `load_dataset`."""

    resize: int | Sequence[int] | None = None
    grey: bool | None = None
    background: int | Sequence[int] = WHITE
    skip_unreadable: bool = False
    path: str | Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None

    @property
    def place(self) -> Path:
        """The path, absolute, so that errors say where it was looked for."""
        assert self.path is not None
        return Path(os.path.expanduser(self.path)).absolute()

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W)"""
        if self.resize is None:
            return None
        height, width = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        return height, width


def find_listing_spec(listing: Listing, options: Options) -> Spec:
    """The names of the classes, and the shape of the first image that can be read. Raises DataError if none can."""
    _, pixels = _first(listing, options)
    return Spec((pixels.shape[0], pixels.shape[1], pixels.shape[2]), listing.classes)


def load_listing(
    listing: Listing, options: Options, warn: Callable[[str], None]
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Loads the images as uint8 (N, C, H, W), their labels, and the statistics of the training images; and the files
    of the images of each split.

    They are decoded on all cores. The arrays are kept in the user's cache folder until a file, its size or its time of
    change is different.

    Raises DataError for files that are not images, all at once, and for an image of another size or colour than the
    first.
    """
    caches = cache.cache_files("folder", options.place)[1:]  # nothing is written beside the user's images
    stamp = _stamp(listing, options)
    arrays, _ = cache.find_arrays(caches, stamp)
    if arrays is None:
        arrays = _decoded(listing, options, warn)
        cache.keep_arrays(caches, arrays, stamp)
    lost = set(arrays.pop("left_out", np.zeros(0, np.int64)).tolist())
    listed = [(split, str(file)) for split, members in listing.samples.items() for file, _ in members]
    if lost:
        named = _shortened([listed[number][1] for number in sorted(lost)])
        head = f"{options.place}: going on without {len(lost):,} of {len(listed):,} images, which cannot be read"
        warn("\n".join([head, *named]))
    kept = [pair for number, pair in enumerate(listed) if number not in lost]
    return arrays, {split: [file for part, file in kept if part == split] for split in listing.samples}


def _decoded(listing: Listing, options: Options, warn: Callable[[str], None]) -> dict[str, np.ndarray]:
    first, pixels = _first(listing, options)
    unreadable: dict[Path, str] = {}
    animated: list[Path] = []

    def decode(task: tuple[np.ndarray, Path]) -> None:
        image, file = task
        try:
            found, moves = _read(file, options)
        except DataError as error:
            unreadable[file] = str(error)
            return
        _check_alike(file, found, first, pixels.shape)
        image[...] = found
        if moves:
            animated.append(file)

    samples, place = listing.samples, options.place
    images = {split: _room_for(place, len(members), pixels.shape) for split, members in samples.items()}
    tasks = [
        (image, file)
        for split, members in samples.items()
        for image, (file, _) in zip(images[split], members, strict=True)
    ]
    _on_all_cores(decode, tasks)
    if unreadable and not options.skip_unreadable:
        raise _unreadable(unreadable, len(tasks))
    if animated:
        more = f" and {len(animated) - 1:,} more" if len(animated) > 1 else ""
        warn(f"of animated images, the first frame is taken: {min(animated)}{more}")
    wrong = [number for number, (_, file) in enumerate(tasks) if file in unreadable]
    arrays = {"left_out": np.array(wrong, np.int64)}
    for split, members in samples.items():
        good = np.array([file not in unreadable for file, _ in members])
        labels = np.array([label for _, label in members], np.int64)
        if split == "train":
            lost = np.flatnonzero(np.bincount(labels[good], minlength=len(listing.classes)) == 0)
            if len(lost):
                raise DataError(
                    f"{place}: expected images of {listing.classes[lost[0]]} that can be read, received none"
                )
        arrays[f"{split}_images"] = images[split] if good.all() else images[split][good]
        arrays[f"{split}_labels"] = labels[good]
    return arrays | statistics(arrays["train_images"])


def _on_all_cores(function: Callable[[Task], None], tasks: Sequence[Task]) -> None:
    """Threads will do, as Pillow decodes without the GIL."""
    with quiet(), ThreadPoolExecutor(get_threads()) as pool:
        bar = reading_bar(pool.map(function, tasks), len(tasks))
        try:
            for _ in bar:
                pass
        except BaseException:  # Ctrl-C, too
            bar.close()
            pool.shutdown(cancel_futures=True)
            raise


def _first(listing: Listing, options: Options) -> tuple[Path, Pixels]:
    """The first image that can be read."""
    unreadable = {}
    for file, _ in chain(*listing.samples.values()):
        try:
            with quiet():
                return file, _read(file, options)[0]
        except DataError as error:
            unreadable[file] = str(error)
    raise _unreadable(unreadable, len(unreadable))


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - MOST_NAMED
    return [*lines[:MOST_NAMED], f"and {more:,} more"] if more > 0 else lines


def _unreadable(reasons: dict[Path, str], total: int) -> DataError:
    lines = _shortened([reasons[file] for file in sorted(reasons)])
    if len(reasons) == 1:
        return DataError(f"{lines[0]}; {SKIP} it")
    return DataError("\n".join([f"{len(reasons):,} of {total:,} images cannot be read; {SKIP} them", *lines]))


def _room_for(path: Path, count: int, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.empty((count, *shape), np.uint8)
    except MemoryError:
        raise DataError(
            f"{path}: expected images that fit into memory, received {count:,} of "
            f"{' x '.join(map(str, shape))}; data.resize=[height, width] makes them smaller"
        ) from None


def _stamp(listing: Listing, options: Options) -> np.ndarray:
    """A fingerprint of the files' names, sizes and times of change, and of how they are read."""
    reading = options.size, options.grey, np.ravel(options.background).tolist(), options.skip_unreadable
    digest = hashlib.sha256(repr(reading).encode())
    for split, members in listing.samples.items():
        for file, label in members:
            try:
                status = file.stat()
                facts = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:  # it will be among those that cannot be read
                facts = ""
            digest.update(f"{split} {label} {facts} ".encode() + os.fsencode(file) + b"\0")
    return np.frombuffer(digest.digest(), np.uint8)


def _read(path: Path, options: Options) -> tuple[Pixels, bool]:
    """The image in `path` as uint8 (C, H, W), and whether it is animated. Raises DataError."""
    from minicnn.data.image_file import frames_of, is_deep, opened_image, to_pixels

    with opened_image(path) as image:
        if is_deep(image):
            raise DataError(f"{path}: expected 8 bits per pixel and channel, received more than 8 bits")
        channels = 1 if image.mode in ("1", "L", "LA", "La") else 3
        if options.grey is not None:
            channels = 1 if options.grey else 3
        animated = frames_of(image) > 1
        return to_pixels(image, channels, options.size, options.background), animated


def _check_alike(path: Path, pixels: Pixels, first: Path, shape: tuple[int, ...]) -> None:
    if len(pixels) != shape[0]:
        raise DataError(
            f"{path}: expected a {COLOURS[shape[0]]} image like {first}, received a "
            f"{COLOURS[len(pixels)]} one; data.grey=true makes all of them grey, false all colour"
        )
    if pixels.shape != shape:
        raise DataError(
            f"{path}: expected {shape[1]} x {shape[2]} pixels (height x width) like {first}, "
            f"received {pixels.shape[1]} x {pixels.shape[2]}; "
            f"data.resize=[{shape[1]}, {shape[2]}] brings all to one size"
        )
