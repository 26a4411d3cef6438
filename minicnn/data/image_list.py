"""A user's own image files, listed with their labels: what they have in common, and their pixels."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minicnn.console import at_terminal
from minicnn.data import cache
from minicnn.data.base import HeldOut, Spec, statistics
from minicnn.data.picture import WHITE, quiet
from minicnn.engine.driver import get_threads
from minicnn.errors import DataError

COLOURS = {1: "grey", 3: "colour"}
SKIP = "data.skip_unreadable=true goes on without"
MOST_NAMED = 50  # files in a message
Sample = tuple[Path, int]
Pixels = np.ndarray

#: Usual names of the parts of a data set, in small letters.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Listing:
    """Image files with their labels, and the classes in the order of these.

    `test` is None where there is only one set of images.
    """

    classes: tuple[str, ...]
    train: list[Sample]
    test: list[Sample] | None
    held_out: HeldOut = "validation"

    @property
    def samples(self) -> dict[str, list[Sample]]:
        return {"train": self.train} | ({} if self.test is None else {"test": self.test})


@dataclass(frozen=True)
class Reading:
    """How image files become arrays; see `load_dataset`."""

    resize: int | Sequence[int] | None = None
    grey: bool | None = None
    background: int | Sequence[int] = WHITE
    skip_unreadable: bool = False

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W)"""
        if self.resize is None:
            return None
        height, width = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        return height, width


def find_listing_spec(listing: Listing, reading: Reading) -> Spec:
    """The names of the classes, and the shape of the first image that can be read. Raises DataError if none can."""
    _, pixels = _first(listing, reading)
    return Spec((pixels.shape[0], pixels.shape[1], pixels.shape[2]), listing.classes)


def load_listing(
    listing: Listing, path: Path, reading: Reading, warn: Callable[[str], None]
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Loads the images as uint8 (N, C, H, W), their labels, and the statistics of the training images; and the files
    of the images of each split.

    They are decoded on all cores. The arrays are kept in the user's cache folder until a file, its size or its time of
    change is different. `path` is where the listing is from.

    Raises DataError for files that are not images, all at once, and for an image of another size or colour than the
    first.
    """
    caches = cache.cache_files("folder", path)[1:]  # nothing is written beside the user's images
    stamp = _stamp(listing, reading)
    arrays, _ = cache.find_arrays(caches, stamp)
    if arrays is None:
        arrays = _decoded(listing, path, reading, warn)
        cache.keep_arrays(caches, arrays, stamp)
    lost = set(arrays.pop("left_out", np.zeros(0, np.int64)).tolist())
    listed = [(split, str(file)) for split, members in listing.samples.items() for file, _ in members]
    if lost:
        named = _shortened([listed[number][1] for number in sorted(lost)])
        head = f"{path}: going on without {len(lost):,} of {len(listed):,} images, which cannot be read"
        warn("\n".join([head, *named]))
    files: dict[str, list[str]] = {split: [] for split in listing.samples}
    for number, (split, file) in enumerate(listed):
        if number not in lost:
            files[split].append(file)
    return arrays, files


@dataclass
class _Decoder:
    """Decodes images into the arrays of a split, and remembers what there is to say of them."""

    reading: Reading
    first: Path
    shape: tuple[int, ...]
    unreadable: dict[Path, str] = field(default_factory=dict)
    animated: list[Path] = field(default_factory=list)

    def decode(self, task: tuple[np.ndarray, int, Path]) -> None:
        images, position, file = task
        try:
            pixels, animated = _read(file, self.reading)
        except DataError as error:
            self.unreadable[file] = str(error)
            return
        _check_alike(file, pixels, self.first, self.shape)
        images[position] = pixels
        if animated:
            self.animated.append(file)


def _decoded(listing: Listing, path: Path, reading: Reading, warn: Callable[[str], None]) -> dict[str, np.ndarray]:
    first, pixels = _first(listing, reading)
    decoder = _Decoder(reading, first, pixels.shape)
    samples = listing.samples
    images = {split: _room_for(path, len(members), pixels.shape) for split, members in samples.items()}
    tasks = [(images[split], n, file) for split, members in samples.items() for n, (file, _) in enumerate(members)]
    for _ in _on_all_cores(decoder.decode, tasks):
        pass
    if decoder.unreadable and not reading.skip_unreadable:
        raise _unreadable(decoder.unreadable, len(tasks))
    if decoder.animated:
        more = f" and {len(decoder.animated) - 1:,} more" if len(decoder.animated) > 1 else ""
        warn(f"of animated images, the first frame is taken: {min(decoder.animated)}{more}")
    wrong = [number for number, (_, _, file) in enumerate(tasks) if file in decoder.unreadable]
    arrays = {"left_out": np.array(wrong, np.int64)}
    for split, members in samples.items():
        good = np.array([file not in decoder.unreadable for file, _ in members])
        labels = np.array([label for _, label in members], np.int64)
        if split == "train":
            lost = np.flatnonzero(np.bincount(labels[good], minlength=len(listing.classes)) == 0)
            if len(lost):
                raise DataError(
                    f"{path}: expected images of {listing.classes[lost[0]]} that can be read, received none"
                )
        arrays[f"{split}_images"] = images[split] if good.all() else images[split][good]
        arrays[f"{split}_labels"] = labels[good]
    return arrays | statistics(arrays["train_images"])


def _on_all_cores(
    function: Callable[[tuple[np.ndarray, int, Path]], None], tasks: Sequence[tuple[np.ndarray, int, Path]]
) -> Iterator[None]:
    """The results in order, with a bar at a terminal. Threads will do, as Pillow decodes without the GIL."""
    with quiet(), ThreadPoolExecutor(get_threads()) as pool:
        bar = tqdm(
            pool.map(function, tasks),
            "reading images",
            len(tasks),
            unit=" images",
            leave=False,
            delay=0.5,
            disable=not at_terminal(),
        )
        try:
            yield from bar
        except BaseException:  # Ctrl-C, too
            bar.close()
            pool.shutdown(cancel_futures=True)
            raise


def _first(listing: Listing, reading: Reading) -> tuple[Path, Pixels]:
    """The first image that can be read."""
    unreadable = {}
    for file, _ in (*listing.train, *(listing.test or [])):
        try:
            with quiet():
                return file, _read(file, reading)[0]
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
            f"{' x '.join(map(str, shape))}; resize: [height, width] makes them smaller"
        ) from None


def _stamp(listing: Listing, *options: object) -> np.ndarray:
    """A fingerprint of the files' names, sizes and times of change, and of the options."""
    digest = hashlib.sha256(repr(options).encode())
    for split, members in listing.samples.items():
        for file, label in members:
            try:
                status = file.stat()
                facts = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:  # it will be among those that cannot be read
                facts = ""
            digest.update(f"{split} {label} {facts} ".encode() + os.fsencode(file) + b"\0")
    return np.frombuffer(digest.digest(), np.uint8)


def _read(path: Path, reading: Reading) -> tuple[Pixels, bool]:
    """The image in `path` as uint8 (C, H, W), and whether it is animated. Raises DataError."""
    from minicnn.data.image_file import frames_of, is_deep, opened_image, to_pixels

    with opened_image(path) as image:
        if is_deep(image):
            raise DataError(f"{path}: expected 8 bits per pixel and channel, received more than 8 bits")
        channels = 1 if image.mode in ("1", "L", "LA", "La") else 3
        if reading.grey is not None:
            channels = 1 if reading.grey else 3
        animated = frames_of(image) > 1
        return to_pixels(image, channels, reading.size, reading.background), animated


def _check_alike(path: Path, pixels: Pixels, first: Path, shape: tuple[int, ...]) -> None:
    if len(pixels) != shape[0]:
        raise DataError(
            f"{path}: expected a {COLOURS[shape[0]]} image like {first}, received a "
            f"{COLOURS[len(pixels)]} one; grey: true makes all of them grey, false all colour"
        )
    if pixels.shape != shape:
        raise DataError(
            f"{path}: expected {shape[1]} x {shape[2]} pixels (height x width) like {first}, "
            f"received {pixels.shape[1]} x {pixels.shape[2]}; "
            "resize: [height, width] brings all to one size"
        )
