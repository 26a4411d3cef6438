"""The memory of a training run: everything that the rest of it depends on, in one file at a time.

A checkpoint has arrays, and plain values as its description (see `minicnn.files`). RUN/checkpoints/ has the
last one, the one before it, in case that the last gets damaged, and the weights with the best accuracy so far, which
are a model file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from minicnn.console import warn
from minicnn.errors import MinicnnError
from minicnn.files import DamagedError, check, open_file, pack, unpack, write_whole
from minicnn.training.run_folder import runs_in

FORMAT = 5  # a checkpoint with another number is refused


class UnusableError(MinicnnError):
    """A file is damaged, or no checkpoint; the one before it may do."""


@dataclass(frozen=True)
class Checkpoint:
    """Arrays by name, and a state of plain values: numbers, text, lists, dictionaries."""

    arrays: Mapping[str, np.ndarray]
    state: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """The content of a file; the same arrays and state give the same bytes."""
        return pack(self.arrays, {"format": FORMAT, "kind": "checkpoint", "state": self.state}, self.state)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Raises UnusableError for a damaged or foreign file, MinicnnError for one of another format."""
        try:
            arrays, described = unpack(content)
        except DamagedError as error:
            raise UnusableError(f"expected a checkpoint, received {error}") from None
        if described is None or "format" not in described:
            raise UnusableError("expected a checkpoint, received a file of other software")
        kind, number = described.get("kind", "model"), described["format"]
        if kind != "checkpoint":
            raise UnusableError(f"expected a checkpoint, received a {kind} file")
        if number != FORMAT:
            older = isinstance(number, int) and number < FORMAT
            raise MinicnnError(
                f"expected a checkpoint of format {FORMAT}, received {number!r}, of "
                f"{'an older' if older else 'a newer'} minicnn, which it takes to go on with it"
            )
        state: Any = described.get("state")
        try:
            check(arrays, state, described.get("checksum"))
        except DamagedError as error:
            raise UnusableError(f"expected a whole checkpoint, received {error}") from None
        return cls(arrays, state)


class Checkpoints:
    """The folder checkpoints/ of a run."""

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run, run / "checkpoints"
        self.last, self.previous, self.best = (
            self.folder / f"{name}.safetensors" for name in ("last", "previous", "best")
        )
        self._last_is_whole = True

    def write(self, checkpoint: Checkpoint) -> None:
        """A new last one; that before it becomes the previous. Raises MinicnnError, and both stay as they were."""
        self._write(self.last, checkpoint.to_bytes(), self._last_is_whole)
        self._last_is_whole = True

    def write_best(self, model: bytes) -> None:
        """Raises MinicnnError."""
        self._write(self.best, model)

    def _write(self, path: Path, content: bytes, rotate: bool = False) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise MinicnnError(f"{self.folder}: cannot be written: {error.strerror}") from None
        write_whole(path, content, self.previous if rotate else None)

    def read(self) -> Checkpoint:
        """The last complete one; a warning if that is not the last.

        Raises MinicnnError, a line for each file, when there is none, or when the last is of another format.
        """
        problems = []
        for path in (self.last, self.previous):
            try:
                with open_file(path) as file:
                    checkpoint = Checkpoint.from_bytes(file.read())
            except FileNotFoundError:  # of the last one: a kill between two renames
                continue
            except OSError as error:
                problems.append(f"{path}: cannot be read: {error.strerror}")
            except UnusableError as error:
                problems.append(f"{path}: {error}")
            except MinicnnError as error:
                raise MinicnnError(f"{path}: {error}") from None
            else:
                for problem in problems:
                    warn(f"{problem}; going on with the one before it")
                    self._last_is_whole = False
                return checkpoint
        if problems:
            raise MinicnnError("\n".join(problems))
        config = self.run / "config.yaml"
        hint = f"; to start anew: minicnn train {config}" if config.is_file() else runs_in(self.run)
        raise MinicnnError(f"{self.run}: expected a run with a checkpoint, there is none{hint}")
