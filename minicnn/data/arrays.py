"""A user's own arrays: a .npz file, or a folder of .npy files, with images and labels."""

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from minicnn.checks import labels_hint, numbers_hint, range_hint
from minicnn.data.base import Spec
from minicnn.errors import DataError
from minicnn.files import open_file

TRAIN, TEST = ("train_images", "train_labels"), ("test_images", "test_labels")
WHOLE = ("images", "labels")
MOST_CHANNELS = 4
UNSUSPICIOUS = 1024**3  # bytes of a packed array; a larger one may be a bomb:
MOST_RATIO = 100  # its size may be so many times that in the file


def find_arrays_spec(path: Path) -> Spec:
    """The spec of the arrays at `path`, from the training images' shape and the training labels.

    Raises DataError: no such arrays, labels below 0, a single class, a class without a label.
    """
    images_key, labels_key, *_ = _keys(path)
    with _stream(path, images_key) as stream:
        shape, _, _ = _head(stream)
    axes = _axes(f"{path}, {images_key}", shape)
    channels, height, width = (1 if axis is None else shape[axis] for axis in axes)
    if 0 in (channels, height, width):
        raise DataError(f"{path}, {images_key}: expected images with pixels, received {shape}")

    place = f"{path}, {labels_key}"
    present = np.unique(_labels(path, labels_key))
    if len(present) < 2:
        raise DataError(f"{place}: expected two or more classes, received {len(present)}")
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        raise DataError(
            f"{place}: expected labels from 0 on, each at least once, "
            f"received {present[0]} to {present[-1]} without {gaps[0]}{range_hint(present, len(present))}"
        )
    return Spec((channels, height, width), tuple(map(str, present)))


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Loads the arrays in the .npz file `path`, or in the .npy files of the folder `path`.

    Their names are train_images and train_labels, with or without test_images and test_labels; or images and labels,
    which are then for training. Images are uint8 (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 to 4 channels. Labels
    are integers from 0. An array of Python objects is refused, because opening it could run code.

    Raises DataError for another file or folder, a damaged file, and arrays of another kind.
    """
    loaded = {}
    for key in _keys(path):
        target = key if key not in WHOLE else f"train_{key}"
        if key.endswith("labels"):
            loaded[target] = _labels(path, key)
        else:
            images = _read(path, key)
            if images.dtype != np.uint8:
                hint = "; floats from 0 to 1 become such by (images * 255).astype(numpy.uint8)"
                raise DataError(
                    f"{path}, {key}: expected uint8 (pixels from 0 to 255), received {images.dtype}"
                    f"{hint if images.dtype.kind == 'f' else numbers_hint(images, 'images', 'uint8')}"
                )
            channel, height, width = _axes(f"{path}, {key}", images.shape)
            loaded[target] = images[:, np.newaxis] if channel is None else images.transpose(0, channel, height, width)
    return loaded


def _keys(path: Path) -> tuple[str, ...]:
    """The names of the arrays to read: images, labels, and those for testing if there are any."""
    if path.is_dir():
        names = {file.stem for file in path.glob("*.npy")}
    elif path.is_file():
        try:
            with open_file(path) as file, zipfile.ZipFile(file) as archive:
                names = {name.removesuffix(".npy") for name in archive.namelist()}
        except DataError:
            raise
        except Exception as error:  # also NotImplementedError, for a later kind of zip file
            raise DataError(f"{path}: expected a whole .npz file, received {error}") from error
    else:
        raise DataError(f"{path}: expected a .npz file or a folder of .npy files, received no such path")
    for keys in ((*TRAIN, *TEST), TRAIN, WHOLE):
        if names.issuperset(keys) and not (keys is TRAIN and names.intersection(TEST)):
            return keys
    raise DataError(
        f"{path}: expected arrays called {', '.join(TRAIN + TEST)}, or {' and '.join(WHOLE)}, "
        f"received {', '.join(sorted(names)) or 'none'}"
    )


def _labels(path: Path, key: str) -> np.ndarray:
    labels = _read(path, key)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        hint = labels_hint(labels)
        raise DataError(f"{path}, {key}: expected integers (N,), received {labels.dtype} {labels.shape}{hint}")
    return labels.astype(np.int64)


def _read(path: Path, key: str) -> np.ndarray:
    with _stream(path, key) as stream:
        array: np.ndarray = npy.read_array(stream, allow_pickle=False)
    return array


def _head(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and element type of an array, from its head."""
    heads = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    return heads[npy.read_magic(stream)](stream)


def _check_size(stream: IO[bytes], size: int) -> None:
    """Compares what the head of an array declares with the size of its file, before any of it is believed."""
    shape, _, dtype = _head(stream)
    declared, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if not dtype.hasobject and declared != there:
        raise ValueError(f"{declared:,} bytes by its head, {there:,} in the file")
    stream.seek(0)


@contextmanager
def _stream(path: Path, key: str) -> Iterator[IO[bytes]]:
    """The array's .npy file, opened; whatever goes wrong with it is a DataError."""
    try:
        if path.is_dir():
            with open_file(path / f"{key}.npy") as file:
                _check_size(file, os.fstat(file.fileno()).st_size)
                yield file
        else:
            with open_file(path) as file, zipfile.ZipFile(file) as archive, archive.open(f"{key}.npy") as member:
                info = archive.getinfo(f"{key}.npy")
                if info.file_size > max(UNSUSPICIOUS, MOST_RATIO * info.compress_size):
                    raise ValueError(
                        f"{info.file_size:,} bytes packed into {info.compress_size:,}; "
                        "arrays that are really so empty can be saved as .npy files"
                    )
                _check_size(member, info.file_size)
                yield member
    except Exception as error:  # zipfile, zlib and NumPy each have their own
        raise DataError(
            f"{path}, {key}: expected a whole array of numbers, "
            f"received one that cannot be read ({type(error).__name__}: {error})"
        ) from error


def _axes(place: str, shape: tuple[int, ...]) -> tuple[int | None, int, int]:
    """Which axes of images are their channels (None: there is one channel), rows and columns."""
    if len(shape) == 3:
        return None, 1, 2
    candidates = [axis for axis in (1, 3) if len(shape) == 4 and shape[axis] <= MOST_CHANNELS]
    if len(candidates) != 1:
        doubt = "; axes 1 and 3 may both be channels" if candidates else ""
        raise DataError(
            f"{place}: expected images (N, H, W), (N, C, H, W) or (N, H, W, C) of at most "
            f"{MOST_CHANNELS} channels, received {shape}{doubt}"
        )
    return (1, 2, 3) if candidates == [1] else (3, 1, 2)
