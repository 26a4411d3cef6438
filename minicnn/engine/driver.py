"""The threads that run programs.

The thread that asks for a program runs it, and threads of our own help. They are Python threads that spend their time
in compiled code, without the interpreter's lock: there they look for jobs for a moment, then sleep until woken.
One program at a time has helpers; others that are asked for meanwhile, by other threads, run on their own. No result
depends on who did what.
"""

import ctypes
import os
import threading
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from minicnn.errors import ConfigError

from . import arrays
from . import cache as code

#: The entry of anything compiled: room for a result and an error, words, two numbers.
Entry = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)
MOST = 256  # threads
#: Words of the state, see `loop`, each on a cache line of its own where several threads write.
TICKET, FRONT, BACK, DONE, PROGRAM, FIRST, THREADS, AWAKE, LINE = 0, 1, 2, 8, 16, 17, 18, 24, 8
#: How often a helper looks for work before it sleeps: some 400 us, longer than the gap between two training steps, as
#: to wake it takes a good part of a step. More would take time from other programs that need its core.
PATIENCE = 8000

_room = ctypes.create_string_buffer(16)  # Numba writes a null pointer there, whichever thread it is
_result = ctypes.addressof(_room)


def _cores() -> int:
    given = os.environ.get("NUMBA_NUM_THREADS")
    if given is not None:
        if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= MOST:
            raise ConfigError(f"NUMBA_NUM_THREADS: expected a whole number from 1 to {MOST}, received {given!r}")
        return int(given)
    affinity = getattr(os, "sched_getaffinity", None)
    return min(MOST, len(affinity(0)) if affinity else os.cpu_count() or 1)


class _Helper:
    """A thread that helps; it sleeps at `gate`."""

    def __init__(self, pool: "_Pool", number: int) -> None:
        self.gate = threading.Semaphore(0)
        self._pool, self._number = pool, number
        threading.Thread(target=self._work, name=f"minicnn-{number}", daemon=True).start()

    def _work(self) -> None:
        entry, state = _entries()[1], self._pool.address
        while True:
            self.gate.acquire()
            entry(_result, _result + 8, state, self._number, PATIENCE)


class _Pool:
    """The state that the threads of this process share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.helpers: list[_Helper] = []
        self.state = arrays.aligned_zeros(AWAKE + LINE * MOST, np.int64)
        self.address = self.state.ctypes.data

    def wake(self, threads: int) -> None:
        """Sees to it that helpers 1 to threads - 1 look for work, as far as there are threads to be had."""
        with suppress(RuntimeError):  # the system gives no more, or Python is about to exit
            while len(self.helpers) < threads - 1:
                self.helpers.append(_Helper(self, len(self.helpers) + 1))
        for number, helper in enumerate(self.helpers[: threads - 1], 1):
            if not self.state[AWAKE + LINE * number]:
                self.state[AWAKE + LINE * number] = 1
                helper.gate.release()


_pool = _Pool()
_threads = 0
_capacity = 0


def _after_fork() -> None:
    """In a child, there are no helpers, and whoever held the lock is not there either."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def get_threads() -> int:
    """How many threads a program may use."""
    return _threads or most_threads()


@cache
def most_threads() -> int:
    """How many cores this process may use; the environment variable NUMBA_NUM_THREADS, if set, says another number."""
    return _cores()


def set_threads(threads: int) -> None:
    """Sets how many threads programs may use from now on; more than cores are allowed, and slower."""
    global _threads, _capacity
    if not 1 <= threads <= MOST:
        raise ConfigError(f"threads: expected 1 to {MOST}, received {threads}")
    _threads, _capacity = threads, max(_capacity, threads)


def capacity() -> int:
    """For how many threads a program needs memory: the most that were ever allowed."""
    global _capacity
    _capacity = max(_capacity, most_threads())
    return _capacity


#: What every program needs.
REQUESTS: list[code.Request] = [(code.Kernel("minicnn.engine.loop", name), "entry") for name in ("run", "work")]


@cache
def _entries() -> tuple[Any, Any]:
    run, work = code.addresses(REQUESTS)
    return Entry(run), Entry(work)


def run(address: int, jobs: int, room: int) -> None:
    """Runs the program whose record is at `address` and whose largest phase has that many jobs.

    It has memory for `room` threads. Where there are more helpers it runs on its own: also one that is not meant to
    take part may be about to ask for a job, and gets one if it asks too late for the program before.
    """
    entry, pool = _entries()[0], _pool
    threads = min(get_threads(), jobs, room)
    if threads > 1 and pool.lock.acquire(blocking=False):
        try:
            if len(pool.helpers) < room:
                pool.state[THREADS] = threads
                pool.wake(threads)
                entry(_result, _result + 8, pool.address, address, 0)
                return
        finally:
            pool.lock.release()
    state = np.zeros(AWAKE, np.int64)
    entry(_result, _result + 8, arrays.address(state), address, 0)
