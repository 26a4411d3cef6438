"""The layers' kernels alone, beside the most multiply-adds that the machine can do: GFLOP/s.

    python -m benchmarks.kernels --rounds 5 --json kernels.json

Counted are the multiplications and additions of the layers' definition, two a multiply-add, whatever way a kernel takes
to the result: one that needs fewer ("effective" GFLOP/s) may come out above the machine's peak. The times include all
that a layer does with a batch, such as padding and preparing its weights. dx is the time that forward and backward
together take longer with it than without. Each block has its maps for itself, as forward and backward are timed apart;
in a training step they are those of a thread, and nearer to it.
"""

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import Options, Result, Team, count, rates, run, spread, table
from benchmarks.networks import Conv, Dense

TITLE = "Kernels"
DEFAULTS = Options(rounds=5, seconds=0.1)

BATCH_SIZE = 64
CASES: dict[str, tuple[Conv | Dense, tuple[int, ...]]] = {
    "C1: 1 -> 6, 5x5, on 28x28": (Conv(1, 6, 5, 2), (1, 28, 28)),
    "C3: 6 -> 16, 5x5, on 14x14": (Conv(6, 16, 5), (6, 14, 14)),
    "64 -> 64, 3x3, on 16x16": (Conv(64, 64, 3, 1), (64, 16, 16)),
    "C5: dense, 400 -> 120": (Dense(400, 120), (400,)),
    "F6: dense, 120 -> 84": (Dense(120, 84), (120,)),
    "output: dense, 84 -> 10": (Dense(84, 10), (84,)),
}
PASSES = ("forward", "dweight", "dx")


class Kernels:
    """The layers of minicnn, in the lane layout, in this process."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[Any, Any, Any]] = {}  # and its programs without dx, with it

    def use_threads(self, threads: int) -> None:
        from minicnn.engine import driver

        driver.set_threads(min(threads, driver.most_threads()))

    def peak(self, seconds: float) -> float:
        """GFLOP/s of all threads together in multiply-adds that wait neither for memory nor for each other."""
        from minicnn.inspect import selftest

        return selftest.peak(seconds)

    def speeds(self, seconds: float, name: str) -> dict[str, float | None]:
        """GFLOP/s of forward, dweight and dx of the layer CASES[name]; the time of each is the median of many calls.

        None for dx where it took no longer with it than without.
        """
        from minicnn.inspect.selftest import call_times

        if name not in self._layers:
            self._layers[name] = self._make(name)
        layer, without, program = self._layers[name]
        forward, dweight, forward_for_dx, both = map(
            statistics.median,
            call_times(
                [
                    lambda: without.run(BATCH_SIZE),
                    lambda: without.run(BATCH_SIZE, paused=True),
                    lambda: program.run(BATCH_SIZE),
                    lambda: program.run(BATCH_SIZE, paused=True),
                ],
                seconds,
            ),
        )
        dx = forward_for_dx + both - forward - dweight
        flop = 2 * layer.multiply_adds(CASES[name][1]) * BATCH_SIZE / 1e9
        times = zip(PASSES, (forward, dweight, dx), strict=True)
        return {key: flop / time if time > 0 else None for key, time in times}

    def _make(self, name: str) -> tuple[Any, Any, Any]:
        """The layer, and programs of its forward and, behind a pause, its backward pass: without dx and with it."""
        import minicnn
        from minicnn.engine.work import Work
        from minicnn.kernels import LANES

        kind, shape = CASES[name]
        if isinstance(kind, Conv):
            layer: Any = minicnn.Conv2d(kind.inputs, kind.outputs, kind.kernel, padding=kind.padding)
        else:
            layer = minicnn.Dense(kind.inputs, kind.outputs)
        programs = []
        for need_dx in (False, True):
            work = Work(-(-BATCH_SIZE // LANES), np.float32, True, True)
            x = work.map(shape)
            y, backward = layer.declare(work, x)
            dy = work.map(y.shape)
            work.pause()
            backward(dy, need_dx)
            for given in (x, dy):  # nothing else may lie there, whose numbers would change from run to run
                given.buffer.use(0)
                given.buffer.use(math.inf)
            programs.append(work.finish())
            # All maps are in one array, and what is in them makes no difference but that zeros might be faster.
            numbers = np.random.default_rng(0).standard_normal(x.buffer.arena.array.size, np.float32)
            x.buffer.arena.array[:] = numbers
            programs[-1].run(BATCH_SIZE)
        return layer, *programs


def measure(team: Team, options: Options) -> Result:
    names = list(CASES)[1:2] if options.quick else list(CASES)
    result: Result = {"peak": {}, "layers": {name: {} for name in names}}
    for threads in (1, 2):
        print(f"timing kernels, {count(threads, 'thread')} ...", file=sys.stderr)
        worker = team.worker("kernels", Kernels, threads)
        [result["peak"][str(threads)]] = rates([worker], "peak", options).values()
        for name in names:
            [speeds] = rates([worker], "speeds", options, name).values()
            result["layers"][name][str(threads)] = {key: [speed[key] for speed in speeds] for key in PASSES}
    return result


def shares(result: Result, name: str, key: str, threads: int) -> list[float]:
    """Of a layer's pass: the share of the peak, round by round; the peak is the best of all rounds.

    Rounds without a figure are left out.
    """
    peak = max(result["peak"][str(threads)])
    return [speed / peak for speed in _known(result["layers"][name][str(threads)][key])]


def _known(speeds: Sequence[float | None]) -> list[float]:
    return [speed for speed in speeds if speed is not None]


def report(result: Result) -> str:
    rounds = len(result["peak"]["1"])
    rows = []
    for name, layer in result["layers"].items():
        for key in PASSES:
            cells = []
            for threads in (1, 2):
                speeds = _known(layer[str(threads)][key])
                if speeds:
                    share = statistics.median(shares(result, name, key, threads))
                    cells += [spread(speeds, ".0f"), f"{share:.0%}"]
                else:
                    cells += ["-", "-"]
            rows.append([name, key, *cells])
    peaks: Mapping[str, list[float]] = result["peak"]
    head = ("layer", "", "1 thread", "of the peak", "2 threads", "of the peak")
    return (
        f"Effective GFLOP/s in batches of {BATCH_SIZE}, counted by the layers' definition: median (min - max) of "
        f"{count(rounds, 'round')}.\n"
        f"Peak of multiply-adds, the best round: {max(peaks['1']):.0f} GFLOP/s with 1 thread, "
        f"{max(peaks['2']):.0f} with 2.\n\n{table(head, rows)}"
    )


if __name__ == "__main__":
    run(sys.modules[__name__])
