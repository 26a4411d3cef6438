"""Programs: phases of jobs, jobs of calls.

A job of a phase is done by one thread, call by call; between phases all threads wait for each other. `work` is where
programs come from, `loop` what runs them.
"""

import math
import struct
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from minicnn.errors import MinicnnError
from minicnn.kernels import LANES

from . import driver
from .arrays import Array, replacements

#: Words of an argument (its value, and what a block, a thread and a place in the job add to it), of a call (entry, its
#: first argument, their number, first and last task, whether it is for all blocks of a job) and of a job (its first and
#: last call, its first block, the number of its blocks).
WORD, CALL, JOB = 4, 6, 4
#: Words for the arguments of one call, of each thread.
ARGUMENTS = 64
#: Jobs of a phase. The ticket of `loop` counts 20 bits, and each thread may ask once more than there are jobs.
MOST_JOBS = (1 << 20) - driver.MOST


def to_word(number: float) -> int:
    """A number as the 64 bits that a kernel takes for it: an int as it is, the bits of a float."""
    if isinstance(number, float):
        return int(struct.unpack("<q", struct.pack("<d", number))[0])
    return int(number)


class Program:
    """What has been declared to a `Work`, ready to be run."""

    def __init__(self, blocks: int, threads: int, calls: Sequence[Any], watched: Sequence[Any], number: int) -> None:
        self.blocks, self.threads, self.calls = blocks, threads, calls
        #: Images of the run under way: for steps in Python.
        self.count = 0
        #: Phases from a first one up to another, and Python's steps.
        self.parts: list[tuple[int, int] | Callable[[Program], None]] = []
        self.pause: int | None = None
        self.places: dict[str, list[int]] = {}
        #: Whether there is a single block of images, for which no other thread is woken.
        self.is_small = False
        self._watched, self._replacements = watched, number
        #: Of each block: the sum of the losses, and the number of right images.
        self.losses, self.correct = np.empty(0), np.empty(0, np.int64)

    @property
    def is_stale(self) -> bool:
        """Whether it is to be made anew: it works on other arrays, or has memory for too few threads."""
        return self.threads < driver.capacity() or self.is_outdated

    @property
    def is_outdated(self) -> bool:
        """Whether it works on arrays that have been replaced since."""
        number = replacements.number
        if self._replacements == number:
            return False
        if any(getattr(owner, name) is not array for owner, name, array in self._watched):
            return True
        self._replacements = number
        return False

    def lay_out(
        self,
        phases: Sequence[Any],
        jobs: Sequence[Any],
        table: Sequence[Any],
        words: Sequence[Any],
        setters: Sequence[Callable[["Program"], dict[str, float]]],
    ) -> None:
        self.phases, self.jobs, self.table, self.words = (
            np.array(rows, np.int64).reshape(-1, width)
            for rows, width in ((phases, 2), (jobs, JOB), (table, CALL), (words, WORD))
        )
        # What is set before each run is in no cache any more then, so little of it is to be touched.
        #: The inputs as they were set.
        self._view, self.inputs = self.words.reshape(-1).data, dict[str, float]()
        self._setters = setters
        self._arguments = np.empty(self.threads * ARGUMENTS, np.int64)
        self._records: list[tuple[Any, int, int] | Callable[[Program], None]] = []
        for part in self.parts:
            if not isinstance(part, tuple):
                self._records.append(part)
                continue
            first, last = part
            most = int(self.phases[first:last, 1].max())
            if most >= MOST_JOBS:
                raise MinicnnError(f"expected fewer than {MOST_JOBS * LANES:,} images at once")
            record, address = self._record(self.phases[first:last], self.jobs)
            # A single block of images is done before another thread would be awake.
            self._records.append((record, address, 1 if self.is_small else most))

    def _record(self, phases: Any, jobs: Array) -> tuple[Any, int]:
        """What the driver is given, and its address; it has to be kept while that is in use."""
        phases = np.array(phases, np.int64)
        arrays = (phases, jobs, self.table, self.words, self._arguments)
        record = np.array([len(phases), *(array.ctypes.data for array in arrays)], np.int64)
        return (record, arrays), record.ctypes.data

    def set(self, name: str, value: float) -> None:
        """Sets an input, if the program has one of that name: a number, or an address."""
        if value and self.inputs.get(name) == value:
            return
        self.inputs[name] = value
        word = to_word(value)
        for place in self.places.get(name, ()):
            self._view[WORD * place] = word

    def calls_see(self, arrays: object) -> None:
        """Keeps the arrays of inputs alive as long as the program, whose calls may be run one by one."""
        self._seen = arrays

    def run(self, count: int, paused: bool = False) -> None:
        """Runs it for a batch of `count` images, up to its pause, or with `paused` from there to the end."""
        if not paused:
            self.count = count
            self.set("samples", count)
            for setter in self._setters:
                for name, value in setter(self).items():
                    self.set(name, value)
        for record in self._records[self.pause :] if paused else self._records[: self.pause]:
            if isinstance(record, tuple):
                driver.run(record[1], record[2], self.threads)
            else:
                record(self)

    def seconds(self, rounds: int = 9) -> list[float]:
        """How long each call takes, for one block on this thread: the fastest of some rounds. Ask after a run."""
        numbers = range(len(self.table))
        best = [math.inf] * (len(self.table) + 1)
        for _ in range(rounds):
            for k in (*numbers, -1):  # -1: no call at all
                block = 0 if k < 0 else self.jobs[(self.jobs[:, 0] <= k) & (k < self.jobs[:, 1]), 2][0]
                job = np.array([[max(k, 0), k + 1, block, 1]], np.int64)
                record, address = self._record([[0, 1]], job)
                begin = perf_counter()
                driver.run(address, 1, self.threads)
                best[k] = min(best[k], perf_counter() - begin)
                del record
        return [max(0.0, time - best[-1]) for time in best[:-1]]
