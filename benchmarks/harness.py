"""What the benchmarks share: rivals in processes of their own, alternating rounds, medians.

Each rival has its own process, so that no thread pool meets another, and sleeps while another one
runs. A ratio is taken within a round, because what slows the machine down for a moment slows down
both rivals; what is reported is the median of the rounds with the smallest and the largest.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PAUSE = 0.25  # seconds until the idle threads of the rival before have stopped spinning


class Worker:
    """An object in a process of its own with `threads` threads, whose methods are called from here.

    `make` is called there without arguments; it must be importable, like a class of a module.
    """

    def __init__(self, name: str, make: Callable[[], Any], threads: int) -> None:
        self.name = name
        # Numba and OpenMP read these when they start, before any code of ours could set them.
        os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, make), daemon=True).start()
        theirs.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """Ends the program if the process has ended; its traceback is on stderr."""
        self._connection.send((method, arguments))
        try:
            return self._connection.recv()
        except EOFError:
            sys.exit(f"{self.name}: the process ended in {method}(); its error stands above")


def _serve(connection: Connection, make: Callable[[], Any]) -> None:
    target = make()
    while True:
        try:
            method, arguments = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        connection.send(getattr(target, method)(*arguments))


def rates(
    workers: Sequence[Worker], task: str, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """What `task(seconds)` of each worker gives, in a list over rounds in which they alternate."""
    measured: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for number in range(rounds):
        for worker in workers if number % 2 == 0 else reversed(workers):
            time.sleep(PAUSE)
            measured[worker.name].append(worker.call(task, seconds))
    return measured


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def spread(values: Sequence[float], digits: str) -> str:
    """Median (min - max), each written with the format `digits`."""
    shown = (format(v, digits) for v in (statistics.median(values), min(values), max(values)))
    return "{} ({} - {})".format(*shown)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def load() -> float | None:
    """How many programs wanted a core in the last minute; a quiet machine has less than 0.5."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def write_json(path: Path, result: Any) -> None:
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
