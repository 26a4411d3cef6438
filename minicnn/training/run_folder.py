"""The folder of one training run, and what its environment.json says of the machine."""

import csv
import io
import itertools
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

import minicnn
from minicnn.console import warn
from minicnn.engine import driver
from minicnn.errors import MinicnnError
from minicnn.files import write_whole
from minicnn.kernels import LANES

MOST_NAMES = 10  # of runs, in a message

if TYPE_CHECKING:
    from filelock import BaseFileLock


class RunFolder:
    """A folder that this process alone trains in, until it leaves the `with` block.

    Raises MinicnnError where the folder or, later, a file cannot be written, and when another process trains there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _locked(path)
        self._warned: set[str] = set()

    @classmethod
    def new(cls, parent: Path, name: str) -> Self:
        """`parent/<name>-<time>/`, made at once, so that a place that cannot be written shows early."""
        stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for attempt in itertools.count(1):  # two runs may start in the same second
                path = parent / (stem if attempt == 1 else f"{stem}-{attempt}")
                try:
                    path.mkdir()
                    break
                except FileExistsError:
                    continue
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise MinicnnError(
                f"output.dir: expected a folder that can be written, received {parent}: {reason}"
            ) from None
        return cls(path)

    @classmethod
    def at(cls, path: Path) -> Self:
        """The folder `path` itself, made if it is not there."""
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MinicnnError(f"{path}: expected a folder that can be written: {error.strerror}") from None
        return cls(path)

    @classmethod
    def existing(cls, path: Path) -> Self:
        """The folder of a run that was stopped."""
        if not os.path.isdir(path):
            kind = "received a file" if os.path.exists(path) else "there is none"
            raise MinicnnError(f"{path}: expected the folder of a run, {kind}")
        return cls(path)

    def remove_halves(self) -> None:
        """Removes the half files that a kill has left, and no others: the folder may have been given by mistake."""
        for place in (self.path, self.path / "checkpoints"):
            for ending in ("tmp", "part"):
                for left in place.glob(f".*.*.[0-9]*.{ending}"):
                    with suppress(OSError):
                        left.unlink()

    def write(self, name: str, content: bytes) -> None:
        """The file `name` with that content, whole or not at all, whenever the machine may stop."""
        write_whole(self.path / name, content)

    def write_text(self, name: str, text: str) -> None:
        self.write(name, text.encode())

    def write_code(self, files: Mapping[str, bytes]) -> None:
        """Copies of the modules of the user's own, by path, so that the run can be loaded and gone on with."""
        for path, content in files.items():
            (self.path / path).parent.mkdir(parents=True, exist_ok=True)
            self.write(path, content)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self.write_text(name, json.dumps(value, indent=2) + "\n")

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]], head: Sequence[str] | None = None) -> None:
        """A CSV file with a line of column names [those of the first row]."""
        text = io.StringIO()
        writer = csv.DictWriter(text, head or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(name, text.getvalue())

    def attempt(self, what: str, write: Callable[..., None], *arguments: Any) -> None:
        """Calls `write` for something the run can do without: where it fails, a warning, the first time."""
        try:
            write(*arguments)
        except (OSError, MinicnnError) as error:
            if what not in self._warned:
                self._warned.add(what)
                warn(f"{error}; the training goes on without {what}")

    def discard(self) -> None:
        """Removes the folder of a run that ended before its first step."""
        self.__exit__()  # Windows removes no folder with an open file
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            with suppress(OSError):  # Windows removes no open file: the lock does so itself there
                (self.path / LOCK).unlink()
            self._lock.release()
            self._lock = None


class NoFolder(RunFolder):
    """The folder at `path` for a rank that writes nothing there."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, None

    def write(self, name: str, content: bytes) -> None:
        pass

    def write_code(self, files: Mapping[str, bytes]) -> None:
        pass

    def attempt(self, what: str, write: Callable[..., None], *arguments: Any) -> None:
        pass

    def remove_halves(self) -> None:
        pass

    def discard(self) -> None:
        pass


def run_name(config: Path) -> str:
    """What a run is called: like its file, or, when that is the config.yaml of a run, like that run."""
    if config.name != "config.yaml":
        return config.stem
    return re.sub(r"-\d{8}-\d{6}(-\d+)?$", "", config.absolute().parent.name) or config.stem


def runs_in(folder: Path) -> str:
    """The runs in a folder that is none itself, for the end of a message."""
    names = sorted(
        {path.parent.name for file in ("model.safetensors", "checkpoints") for path in folder.glob(f"*/{file}")}
    )
    if not names:
        return ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"; it has the runs {', '.join(names[:MOST_NAMES])}{more}: name one of them, {folder / names[0]} for example"


#: In the folder of a run while a process trains there; the system's lock on it ends with the process, even if killed.
LOCK = ".lock"


def is_training(run: Path) -> bool | None:
    """Whether a process trains in the folder of a run; None where the system does not tell."""
    if not (run / LOCK).exists():
        return False
    try:
        lock = _locked(run)
    except MinicnnError:
        return True
    if lock is None:
        return None
    lock.release()
    return False


def _locked(path: Path) -> "BaseFileLock | None":
    """A lock on the folder that no other process has; None where the system has no such thing."""
    from filelock import FileLock, Timeout  # late, as its import takes longer than the work it does

    lock = FileLock(path / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise MinicnnError(f"{path}: another process is training in this folder") from None
    except (OSError, NotImplementedError):  # a network file system without locks, or a folder that cannot be written
        return None
    return lock


def environment() -> dict[str, Any]:
    """Versions and machine, as far as they can change the figures of a run."""
    return {
        "minicnn": minicnn.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": version("numba"),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": driver.get_threads(),
        "lanes": LANES,
    }


def _cpu_name() -> str:
    try:  # platform.processor() is empty or just "x86_64" on Linux
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
