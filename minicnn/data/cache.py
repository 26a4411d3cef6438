"""Arrays kept in one file that later runs map into memory instead of parsing again.

The file is a plain `.npy` with a single structured record: one field per array, and last the CRC-32 of all of them. Its
header therefore holds every name, type and shape, and `numpy.load` opens it.
"""

import hashlib
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from minicnn.errors import DataError
from minicnn.files import beside, user_cache

VERSION = 2  # part of the file name: raise it when the fields change


def cache_files(name: str, root: Path) -> list[Path]:
    """Where the cache of a data set may be: in the data root, else in the user's cache folder."""
    file = f"{name}-cache-v{VERSION}"
    places = [root / f"{file}.npy"]
    key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    user = user_cache()
    return places if user is None else [*places, user / f"{file}-{key}.npy"]


def file_stamp(files: Sequence[Path]) -> np.ndarray:
    """Size and time of change of each file, by which a cache knows what it was made from."""
    status = [file.stat() for file in files]
    return np.array([(file.st_size, file.st_mtime_ns) for file in status], np.int64)


def find_arrays(
    files: Sequence[Path], stamp: np.ndarray | None
) -> tuple[dict[str, np.ndarray] | None, DataError | None]:
    """The arrays in the first of `files` that is whole and made from what `stamp` describes (None:
    from whatever), or None; and what is wrong with a file that is damaged.
    """
    damaged = None
    for path in files:
        if not os.path.isfile(path):
            continue
        try:
            arrays = open_arrays(path)
            _check_kinds(path, arrays)
        except DataError as error:
            damaged = error
            continue
        made_from = arrays.pop("raw_stamp")
        if stamp is None or np.array_equal(stamp, made_from):
            return arrays, None
    return None, damaged


#: Element types and axes of what is kept: all arrays of a group, or of those after the first, none.
GROUPS: tuple[dict[str, tuple[type[np.generic], int | None]], ...] = (
    {"raw_stamp": (np.integer, None), "train_images": (np.uint8, 4), "train_labels": (np.integer, 1)},
    {"test_images": (np.uint8, 4), "test_labels": (np.integer, 1)},
    {"mean": (np.floating, 1), "std": (np.floating, 1)},
    {"left_out": (np.integer, 1)},  # numbers of files
)


def _check_kinds(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises DataError for a whole file of something else."""
    wanted = GROUPS[0] | {name: kind for group in GROUPS[1:] if group.keys() & arrays for name, kind in group.items()}
    if arrays.keys() != wanted.keys() or not all(
        np.issubdtype(arrays[name].dtype, kind) and axes in (None, arrays[name].ndim)
        for name, (kind, axes) in wanted.items()
    ):
        received = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
        raise DataError(
            f"{path}: expected the arrays of a data set, received {received}; delete the file to have it built again"
        )


def keep_arrays(files: Sequence[Path], arrays: Mapping[str, np.ndarray], stamp: np.ndarray) -> None:
    """Writes the arrays, and what they are made from, to the first of `files` that can be written."""
    for path in files:
        try:
            save_arrays(path, {**arrays, "raw_stamp": stamp})
            return
        except OSError:  # the cache only saves time: try the next place, or go on without
            continue


def open_arrays(path: Path) -> dict[str, np.ndarray]:
    """Maps the arrays that `save_arrays` wrote to `path`, and verifies every byte of them.

    Raises DataError for a file that is truncated, damaged, or something else.
    """
    try:
        # Copy on write: the arrays may be written to like any other, and the file never changes.
        record = npy.open_memmap(path, mode="c")
        arrays = {field: record[field].view(np.ndarray) for field in record.dtype.names or ()}
        expected = int(arrays.pop("crc32"))
        received = _crc32(arrays)
        if received != expected:
            raise ValueError(f"its checksum is {received:08x} instead of {expected:08x}")
    except Exception as error:  # NumPy's header parser raises nearly anything on damaged bytes
        reason = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{path}: expected a whole cache file of minicnn, received a damaged one ({reason}); "
            "delete it to have it built again"
        ) from error
    return arrays


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays to `path`, which at any moment holds a whole file or none.

    Raises OSError where the folder cannot be written, or the disk is full.
    """
    content = {**arrays, "crc32": np.array(_crc32(arrays), np.uint32)}
    record = np.dtype([(name, array.dtype, array.shape) for name, array in content.items()])
    header = {"descr": npy.dtype_to_descr(record), "fortran_order": False, "shape": ()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path, "tmp")
    try:
        with open(temporary, "wb") as file:
            # Field by field: a whole record would take the memory of all arrays once more.
            npy.write_array_header_1_0(file, header)
            for array in content.values():
                file.write(np.ascontiguousarray(array).data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _crc32(arrays: Mapping[str, np.ndarray]) -> int:
    checksum = 0
    for name, array in arrays.items():
        checksum = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), checksum)
        checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return checksum
