"""A rival in a process of its own, so that no thread pool meets another."""

import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

PATIENCE = 180  # seconds: a call that takes longer hangs
THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


class Worker:
    """An object in a process of its own with `threads` threads, whose methods are called from here.

    `make` is called there without arguments; it must be importable, like a class of a module. What it
    makes has a method `use_threads(threads)`. `environment`: further variables of the process.
    """

    def __init__(
        self, name: str, make: Callable[[], Any], threads: int, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.alive = name, True
        # Numba, OpenMP and TensorFlow read these when they start, before any code of ours could set them.
        before = dict(os.environ)
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)) | dict(environment or {}))
        try:
            context = get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, make, threads), daemon=True)
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """Ends the program (SystemExit) if the process has ended; its traceback is on stderr."""
        try:
            self._connection.send((method, arguments))
            if not self._connection.poll(PATIENCE):
                self.end()
                sys.exit(f"{self.name}: {method}() took more than {PATIENCE} s")
            return self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.end()
            sys.exit(f"{self.name}: the process ended in {method}(); its error stands above")

    def end(self) -> None:
        """Ends the process, of which nothing is wanted any more."""
        self.alive = False
        self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(connection: Connection, make: Callable[[], Any], threads: int) -> None:
    target = make()
    target.use_threads(threads)
    while True:
        try:
            method, arguments = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        connection.send(getattr(target, method)(*arguments))


class Here:
    """The same without a process, for a quick look: rivals take turns in this one, whatever threads it has."""

    alive = True

    def __init__(self, name: str, make: Callable[[], Any], threads: int) -> None:
        self.name, self._target = name, make()

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._target, method)(*arguments)
