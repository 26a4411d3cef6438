"""Files that are whole or not there."""

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.errors import MinicnnError


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
