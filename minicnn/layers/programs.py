"""Programs that are kept between calls, and what of a pass a thread has to know for the way back."""

import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from minicnn.engine.memory import Map
from minicnn.engine.program import Program
from minicnn.engine.work import Rows

#: Kinds of programs that are kept whatever their memory, kinds that are kept at most, and bytes.
FEW, MANY, MOST_MEMORY = 4, 32, 1 << 27
_memories: WeakKeyDictionary[Program, int] = WeakKeyDictionary()


class Programs:
    """Programs that nobody is running, by what they are for. Each thread takes one of its own.

    Those that were used last are kept: of a few kinds, or of more as far as their memory is not much.
    """

    def __init__(self) -> None:
        self._free: dict[Hashable, list[Program]] = {}

    def take(self, key: Hashable, make: Callable[[], Program]) -> Program:
        free = self._free.get(key, [])
        while free:
            try:
                program = free.pop()
            except IndexError:  # another thread was faster
                break
            if not program.is_stale:
                return program
        return make()

    def give(self, key: Hashable, program: Program) -> None:
        free = self._free.pop(key, [])
        free.append(program)
        self._free[key] = free  # the last one now
        while len(self._free) > FEW:  # batches of ever new sizes
            kept = [program for free in list(self._free.values()) for program in free]
            if len(self._free) <= MANY and sum(map(_memory, kept)) <= MOST_MEMORY:
                break
            with suppress(RuntimeError, StopIteration, KeyError):  # another thread is at it
                del self._free[next(iter(self._free))]


def _memory(program: Program) -> int:
    """Bytes of the maps and arrays that a program works on."""
    if program not in _memories:
        arrays: dict[int, int] = {}
        for call in program.calls:
            for one in call.arguments:
                if isinstance(one, Map | Rows):
                    one = one.buffer.arena.array if isinstance(one, Map) else one.array
                if isinstance(one, np.ndarray):
                    arrays[one.ctypes.data] = one.nbytes
        _memories[program] = sum(arrays.values())
    return _memories[program]


class Passes(threading.local):
    """The last pass of each thread: backward goes on from that of its own."""

    last: Any = None


class ProgramOwner:
    """Something whose passes are programs. It keeps them between calls, and a copy begins without."""

    @property
    def programs(self) -> Programs:
        found: Programs | None = self.__dict__.get("_programs")
        return self.__dict__.setdefault("_programs", Programs()) if found is None else found

    @property
    def _own(self) -> Passes:
        found: Passes | None = self.__dict__.get("_passes")
        return self.__dict__.setdefault("_passes", Passes()) if found is None else found

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_programs", "_passes")}
