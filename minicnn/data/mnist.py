"""MNIST's four raw files: download, unpack, checksum and parse them, all with torchvision.

torchvision, and with it torch, takes seconds to import, so each function imports it when called.
"""

import contextlib
import http.client
import io
import os
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from minicnn.errors import DataError

RAW_FILES = {  # name: size in bytes
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}
TIMEOUT = 8.0  # seconds that a server may be silent


class UnavailableError(DataError):
    """A data set is neither on disk nor downloadable."""


def raw_folder(root: Path) -> Path:
    """The folder of the raw files, which is also torchvision's."""
    return root / "MNIST" / "raw"


def has_raw(root: Path) -> bool:
    """Whether all four raw files are there."""
    return all(os.path.isfile(raw_folder(root) / name) for name in RAW_FILES)


def raw_stamp(root: Path) -> np.ndarray:
    """Size and time of change of each raw file, by which a cache knows what it was made from."""
    status = [(raw_folder(root) / name).stat() for name in RAW_FILES]
    return np.array([(file.st_size, file.st_mtime_ns) for file in status], np.int64)


def read_raw(root: Path) -> dict[str, np.ndarray]:
    """Parse the raw files into uint8 arrays: images (N, 1, 28, 28) and labels (N,).

    Raises:
        DataError: A file is truncated or corrupt.
    """
    from torchvision.datasets.mnist import read_image_file, read_label_file

    arrays = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = _parse(read_image_file, raw_folder(root) / f"{prefix}-images-idx3-ubyte")
        labels = _parse(read_label_file, raw_folder(root) / f"{prefix}-labels-idx1-ubyte")
        arrays[f"{split}_images"] = images[:, np.newaxis]
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    return arrays


def _parse(read: Callable[[str], Any], path: Path) -> np.ndarray:
    try:
        array: np.ndarray = read(os.fspath(path)).numpy()
    except OSError as error:
        raise DataError(f"{path}: expected a readable file, received {error}") from error
    except Exception as error:  # torchvision asserts, indexes and reshapes without looking first
        raise DataError(
            f"{path}: expected a whole IDX file (MNIST's has {RAW_FILES[path.name]:,} bytes), "
            f"received {path.stat().st_size:,} bytes that cannot be parsed; replace the file, or "
            "delete it to have it downloaded again"
        ) from error
    return array


def fetch_raw(root: Path) -> None:
    """Download the raw files that are missing, or unpack their `.gz` if it lies beside them.

    A machine without network gets its answer within `TIMEOUT` seconds. Each file arrives whole or
    not at all.

    Raises:
        UnavailableError: Says why, and where the files can be put by hand.
    """
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import (
        check_integrity,
        download_and_extract_archive,
        extract_archive,
    )

    raw = raw_folder(root)
    missing = {
        file: md5
        for file, md5 in MNIST.resources
        if not os.path.isfile(raw / file.removesuffix(".gz"))
    }
    packed = {file for file, md5 in missing.items() if check_integrity(raw / file, md5)}
    damaged = [file for file in missing if file not in packed and os.path.isfile(raw / file)]
    try:
        mirror = ""
        if len(packed) < len(missing):
            mirror = _first_answering(MNIST.mirrors, next(iter(missing)))
        raw.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".download-", dir=raw) as scratch, _quiet_and_bounded():
            for file, md5 in missing.items():
                if file in packed:
                    extract_archive(raw / file, scratch)
                else:
                    download_and_extract_archive(mirror + file, scratch, md5=md5)
                name = file.removesuffix(".gz")
                os.replace(Path(scratch) / name, raw / name)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = "; ".join([str(error), *(f"{file} fails its checksum" for file in damaged)])
        raise UnavailableError(
            f"MNIST is neither in {raw} nor downloadable ({reason}); to provide it by hand, "
            f"put {', '.join(RAW_FILES)} there, as they are or as .gz"
        ) from error


def _first_answering(mirrors: Sequence[str], file: str) -> str:
    """The first mirror that offers `file`.

    urllib's own timeout bounds neither the name lookup nor the number of addresses that it tries
    one after another, so the question is asked in threads that may be left behind.
    """
    outcomes: dict[str, str] = {}

    def ask(mirror: str) -> None:
        request = urllib.request.Request(mirror + file, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT).close()
            outcomes[mirror] = ""
        except (OSError, http.client.HTTPException) as error:
            outcomes[mirror] = str(getattr(error, "reason", error))

    threads = [threading.Thread(target=ask, args=(mirror,), daemon=True) for mirror in mirrors]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + TIMEOUT
    failures = []
    for mirror, thread in zip(mirrors, threads, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        outcome = outcomes.get(mirror, f"no answer within {TIMEOUT:g} s")
        if not outcome:
            return mirror
        failures.append(f"{urlsplit(mirror).hostname}: {outcome}")
    raise RuntimeError("; ".join(failures))


@contextlib.contextmanager
def _quiet_and_bounded() -> Iterator[None]:
    """Limit the silence of a server, and show torchvision's progress bars on a terminal only."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        if sys.stderr.isatty():
            yield
        else:
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        socket.setdefaulttimeout(before)
