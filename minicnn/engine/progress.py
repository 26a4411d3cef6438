"""Kernels are compiled once per machine, which takes seconds: what a user sees of it, and how to have it done early."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm

from minicnn.console import at_terminal
from minicnn.engine import cache
from minicnn.engine.cache import Kernel, Request

NOTICE = "compiling kernels, once per machine"


@contextmanager
def compiling(announce: Callable[[str], None] | None = None) -> Iterator[None]:
    """For a block in which kernels may have to be compiled.

    Then a line at a terminal, on standard error, says how many are done, of how many, and for how long this has lasted;
    it disappears at the end. Elsewhere `announce` is called with one line.
    """
    bars: list[tqdm[NoReturn]] = []
    said = False

    def show(done: int, total: int, kernel: Kernel | None) -> None:
        nonlocal said
        if not at_terminal():
            if announce and not said:
                announce(f"{NOTICE} ...")
            said = True
            return
        if not bars:
            bars.append(_bar())
        [bar] = bars
        if kernel is None:  # those of one more program
            bar.total = (bar.total or 0) + total
            bar.refresh()
        else:
            bar.set_postfix_str(str(kernel), False)
            bar.update()

    with cache.announced(show):
        try:
            yield
        finally:
            for bar in bars:
                bar.close()


def _bar() -> "tqdm[NoReturn]":
    return tqdm(
        desc=NOTICE,
        total=0,
        bar_format="{desc}: {n_fmt} of {total_fmt}{postfix}, {elapsed}",
        leave=False,
        mininterval=0,
        miniters=1,
    )


class Preparation:
    """While the block runs, another thread compiles or loads kernels; at its end, they are there.

    needed    finds the kernels
    announce  as for `compiling`
    """

    def __init__(self, needed: Callable[[], Iterable[Request]], announce: Callable[[str], None] | None) -> None:
        self._needed = needed
        self._showing = compiling(announce)
        self._error: BaseException | None = None
        #: How long it took.
        self.seconds = 0.0

    def _prepare(self) -> None:
        begin = time.perf_counter()
        try:
            cache.addresses(list(self._needed()))
        except BaseException as error:
            self._error = error
        self.seconds = time.perf_counter() - begin

    def __enter__(self) -> "Preparation":
        self._showing.__enter__()
        self._thread = threading.Thread(target=self._prepare, name="minicnn-compiling", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:  # else nobody needs them any more
                self._thread.join()
        finally:
            self._showing.__exit__(None, None, None)
        if kind is None and self._error is not None:
            raise self._error
