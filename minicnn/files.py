"""Files: written whole or not at all, and read only if they are files, up to a size."""

import errno
import hashlib
import json
import os
import stat
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import platformdirs

from minicnn.errors import DataError, MinicnnError


def open_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """The regular file at `path`, opened to read its bytes; also a link to one.

    Raises DataError for a FIFO, on which others would wait, a socket, and a device, which may never end; OSError for
    a folder, and for what is not there or cannot be read.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO opens at once

    try:
        file = open(path, "rb", opener=opener)  # noqa: SIM115 # the caller closes it
    except PermissionError:
        if os.path.isdir(path):  # so says Windows
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise DataError(f"{path}: expected a file, received a pipe, a socket or a device")
    return file


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of the regular file at `path`, of at most `most` bytes. Raises DataError, one line."""
    try:
        with open_file(path) as file:
            content = file.read(most + 1)
    except DataError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read: {reason}") from None
    if len(content) > most:
        raise DataError(f"{path}: expected a file of at most {most:,} bytes, received a larger one")
    return content


def write_whole(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Gives the file `path` that content, all at once: whenever the machine may stop, it has its old or its new one.

    With `previous`, the file that was there before is kept under that name, and a stop may leave only that one.
    Raises MinicnnError where it cannot be written, or the disk is full.
    """
    temporary = beside(path, "tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous and path.exists():
            path.replace(previous)
        temporary.replace(path)
    except OSError as error:
        raise MinicnnError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def make_folder(path: Path, place: str) -> Path:
    """The folder `path`, made with those above it. Raises MinicnnError, which names the `place` that asks for it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise MinicnnError(f"{place}: expected a folder that can be written, received {path}: {reason}") from None
    return path


def user_cache() -> Path | None:
    """The user's folder for what can be made again, ~/.cache/minicnn on Linux; None for a user without a home."""
    with suppress(RuntimeError):
        place = platformdirs.user_cache_path("minicnn", appauthor=False)
        return place if place.is_absolute() else None  # older releases leave a ~ as it is
    return None


def beside(path: Path, ending: str) -> Path:
    """Where a file is written before it becomes `path`: a hidden name that no other process or thread has."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.{ending}")


def checksum(arrays: Mapping[str, np.ndarray], values: Any) -> str:
    """SHA-256 of plain values, as JSON, and of all names, types, shapes and numbers of the arrays."""
    digest = hashlib.sha256(json.dumps(values).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


# --- arrays with a description in one file: model files and checkpoints ----------------------------
# They are safetensors files, with JSON under one key of the metadata, and a checksum over both.

KEY = "minicnn"  # one key, since safetensors writes several in random order


class DamagedError(MinicnnError):
    """The content of a file is not what was written, or is of another kind."""


def pack(arrays: Mapping[str, np.ndarray], description: Mapping[str, Any], covered: Any) -> bytes:
    """The content of a file, the same for the same values; `covered` is what the checksum covers besides the arrays."""
    from safetensors.numpy import save

    return save(dict(arrays), {KEY: json.dumps({**description, "checksum": checksum(arrays, covered)})})


def unpack(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """The arrays and the description, None for a file of other software that has none. Raises DamagedError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
        size = int.from_bytes(content[:8], "little")
        text = json.loads(content[8 : 8 + size]).get("__metadata__", {}).get(KEY)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedError(f"a damaged or foreign one; safetensors says: {error}") from None
    if text is None:
        return arrays, None
    try:
        return arrays, dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedError(f"a damaged one, whose description cannot be read: {error}") from None


def check(arrays: Mapping[str, np.ndarray], covered: Any, found: object) -> None:
    """Raises DamagedError unless `found` is the checksum."""
    if found != checksum(arrays, covered):
        raise DamagedError("a damaged one: wrong checksum")
