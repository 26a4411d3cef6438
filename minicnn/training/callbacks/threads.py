"""How many threads a training uses: all that it has or one, whichever is faster just now."""

import time
from statistics import median

from minicnn.engine import driver
from minicnn.training.trainer import Callback, Trainer

PROBE = 12  # steps that are timed with each number of threads
PERIOD = 600  # steps until they are timed again


class ThreadTuner(Callback):
    """Sets the number of threads before each step of a training that may use up to `most`.

    Where a step takes no more than 100 us, the others wake up too late to be of use, and where other programs keep the
    cores busy, they may come late for any. The results are the same for any number.
    """

    def __init__(self, most: int) -> None:
        self._choices = (most, 1)
        self._step = 0
        self._began = 0.0
        self._seconds: dict[int, list[float]] = {}

    def on_step_begin(self, trainer: Trainer) -> None:
        most, least = self._choices
        now = time.perf_counter()
        place = self._step % PERIOD
        if place == 0:
            self._seconds = {most: [], least: []}
            driver.set_threads(most)
        elif place <= 2 * PROBE:
            self._seconds[most if place <= PROBE else least].append(now - self._began)
            if place == PROBE:
                driver.set_threads(least)
            elif place == 2 * PROBE:
                driver.set_threads(min(self._seconds, key=lambda n: median(self._seconds[n])))
        self._began = now
        self._step += 1
