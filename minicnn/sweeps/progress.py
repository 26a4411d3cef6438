"""How far a sweep has come: a bar at a terminal, some lines elsewhere."""

import time
from typing import Any, Self

from tqdm import tqdm

from minicnn.console import at_terminal, info
from minicnn.sweeps.space import SEED, show_point

LINES = 20  # where there is no terminal: at most so many, and one for the first run


class SweepProgress:
    """Runs done, runs per minute, the time to go and the best run so far.

    total  all runs
    done   those that were there before
    keys   the settings that vary
    """

    def __init__(self, total: int, done: int, keys: list[str]) -> None:
        self._total, self._before, self._keys = total, done, keys
        self._done = done
        self._best = -1.0

    def __enter__(self) -> Self:
        self._begin = time.perf_counter()
        self._bar = tqdm(
            total=self._total,
            initial=self._before,
            bar_format="{n_fmt}/{total_fmt} runs |{bar}| {elapsed}, {remaining} to go{postfix}",
            disable=not at_terminal(),
            leave=False,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, row: dict[str, Any]) -> None:
        """One more run is done."""
        self._done += 1
        self._best = max(self._best, row["accuracy"] or -1.0)
        rate = 60 * (self._done - self._before) / max(time.perf_counter() - self._begin, 1e-9)
        best = f", best {self._best:.2%}" if self._best >= 0 else ""
        self._bar.set_postfix_str(f"{rate:.3g} runs/min{best}", False)
        self._bar.update()
        step = max(1, self._total // LINES)
        if not at_terminal() and (self._done % step == 0 or self._done == self._before + 1):
            point = show_point({key: row[key] for key in (*self._keys, SEED)})
            result = row["error"] or f"accuracy {row['accuracy']:.2%}"
            info(f"{self._done:,} of {self._total:,} runs, {rate:.3g} runs/min; {point}: {result}")
