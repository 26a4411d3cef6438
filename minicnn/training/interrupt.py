"""Ctrl-C that waits for the end of a step."""

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """While entered, SIGINT and SIGTERM raise KeyboardInterrupt, but with `polite` set the first
    of them only sets `requested`, so that whoever asks can end what is being done in good order.
    """

    def __init__(self) -> None:
        self.polite = False
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # Python takes handlers in the main thread only; elsewhere Ctrl-C is somebody else's.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
            self._hook, sys.unraisablehook = sys.unraisablehook, _unraisable
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            sys.unraisablehook = self._hook

    def _handle(self, number: int, frame: FrameType | None) -> None:
        polite = self.polite and not self.requested
        self.requested = True  # also where a callback swallows the exception
        if not polite:
            raise KeyboardInterrupt


def _unraisable(problem: "sys.UnraisableHookArgs") -> None:
    """Python prints a traceback where a callback cannot pass an exception on; Ctrl-C needs none."""
    if not isinstance(problem.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(problem)
