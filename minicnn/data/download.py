"""Downloads with torchvision that end soon where there is no network, and leave whole files only.

torchvision, and with it torch, takes seconds to import, so each function imports it when called.
"""

import contextlib
import http.client
import io
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from minicnn.console import at_terminal
from minicnn.errors import DataError

TIMEOUT = 8.0  # seconds that a server may be silent


class UnavailableError(DataError):
    """A data set is neither on disk nor downloadable."""


def fetch_files(title: str, folder: Path, mirrors: Sequence[str], files: Mapping[str, str]) -> None:
    """Downloads the `files`, names ending in `.gz` with their MD5, from one of the mirrors into `folder`, unpacked;
    those that lie there as they are or as `.gz` are not downloaded again.

    Raises UnavailableError, which says why, and where the files can be put by hand.
    """
    from torchvision.datasets.utils import check_integrity, download_and_extract_archive, extract_archive

    missing = {file: md5 for file, md5 in files.items() if not (folder / file.removesuffix(".gz")).is_file()}
    packed = {file for file, md5 in missing.items() if check_integrity(folder / file, md5)}
    damaged = [file for file in missing if file not in packed and (folder / file).is_file()]
    names = ", ".join(file.removesuffix(".gz") for file in files)
    with _unavailable(title, folder, f"put {names} there, as they are or as .gz", damaged):
        mirror = _first_answering(mirrors, next(iter(missing))) if len(packed) < len(missing) else ""
        with _scratch(folder) as scratch:
            for file, md5 in missing.items():
                if file in packed:
                    extract_archive(folder / file, scratch)
                else:
                    download_and_extract_archive(mirror + file, scratch, md5=md5)
                name = file.removesuffix(".gz")
                os.replace(scratch / name, folder / name)


def fetch_archive(title: str, archive: Path, url: str, md5: str, members: Mapping[str, Path]) -> None:
    """Unpacks the `members` of an archive to their paths; it is downloaded from `url` if it is not there, and stays.
    Members that end in `.gz` are unpacked as well.

    Raises UnavailableError, which says why, and where the archive can be put by hand.
    """
    from torchvision.datasets.utils import check_integrity, download_url, extract_archive

    whole = check_integrity(archive, md5)
    damaged = [archive.name] if archive.is_file() and not whole else []
    with _unavailable(title, archive.parent, f"put {archive.name} from {url} there", damaged):
        if not whole:
            _first_answering([url], "")
        with _scratch(archive.parent) as scratch:
            if not whole:
                download_url(url, scratch, archive.name, md5)
                os.replace(scratch / archive.name, archive)
            extract_archive(archive, scratch)
            for member, target in members.items():
                unpacked = scratch / member
                if member.endswith(".gz"):
                    extract_archive(unpacked)
                    unpacked = unpacked.with_suffix("")
                target.parent.mkdir(exist_ok=True)
                os.replace(unpacked, target)


@contextlib.contextmanager
def _unavailable(title: str, folder: Path, remedy: str, damaged: Iterable[str]) -> Iterator[None]:
    """Whatever goes wrong is an UnavailableError."""
    try:
        yield
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = "; ".join([str(error), *(f"{file} fails its checksum" for file in damaged)])
        raise UnavailableError(
            f"{title} is neither in {folder} nor downloadable ({reason}); to provide it by hand, {remedy}"
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
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder in `folder`, which is made, to download into. Meanwhile the silence of a server is limited, and of what
    torchvision prints, only its progress bars show, on a terminal."""
    folder.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with TemporaryDirectory(prefix=".download-", dir=folder) as scratch, contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            if not at_terminal():
                stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            yield Path(scratch)
    finally:
        socket.setdefaulttimeout(before)
