"""Two threads on two cores, one of which another program keeps busy: images per second beside those of one thread.

python -m benchmarks.busy
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness import Options, Result, Team, count, rates, ratios, run, spread
from benchmarks.networks import FEW_IMAGES, IMAGES, Case, lenet
from benchmarks.rivals import Minicnn, prepare
from benchmarks.training import OURS, OURS_ALONE
from benchmarks.worker import Worker

TITLE = "With one core taken"
DEFAULTS = Options(rounds=7, seconds=0.5)

BATCH_SIZE = 64
#: A program that never rests, on the core that its argument says; it ends with the one that has started it.
BUSY = """
import os, sys
os.sched_setaffinity(0, [int(sys.argv[1])])
parent = os.getppid()
print("busy", flush=True)
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


def cores() -> list[int]:
    """Two that this process may use; fewer where there are not as many, or where one cannot choose."""
    return sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_getaffinity") else []


class OnTwoCores(Minicnn):
    """minicnn, on two cores, however many there are."""

    def use_threads(self, threads: int) -> None:
        os.sched_setaffinity(0, cores())
        super().use_threads(threads)


@contextmanager
def taken(core: int) -> Iterator[None]:
    """Within the block, another program keeps the core busy."""
    command = [sys.executable, "-c", BUSY, str(core)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != "busy":
                sys.exit(f"the program that was to take core {core} has ended")
            yield
        finally:
            process.kill()


def measure(team: Team, options: Options) -> Result:
    if len(cores()) < 2:
        return {"missing": "no two cores that can be chosen here"}
    print("training with one core taken ...", file=sys.stderr)
    workers: list[Worker] = []
    try:
        for threads in (2, 1):
            name = f"minicnn, {count(threads, 'thread')}"
            workers.append(Worker(name, OnTwoCores, threads, team.environment))
        prepare(workers, Case(lenet(), BATCH_SIZE, FEW_IMAGES if options.quick else IMAGES))
        with taken(cores()[0]):
            return {"images_per_second": rates(workers, "training", options)}
    finally:
        for worker in workers:
            worker.end()


def two_to_one(result: Result) -> list[float]:
    """Round by round."""
    return ratios(*(result["images_per_second"][name] for name in (OURS, OURS_ALONE)))


def report(result: Result) -> str:
    if "missing" in result:
        return f"Not measured: {result['missing']}."
    measured = result["images_per_second"]
    return (
        f"LeNet-5 (ReLU, max) in batches of {BATCH_SIZE} on two cores, one of which a program keeps busy that never "
        f"rests. Images per second, median (min - max) of {count(len(measured[OURS]), 'alternating round')}:\n\n"
        f"- 2 threads: {spread(measured[OURS], ',.0f')}\n"
        f"- 1 thread: {spread(measured[OURS_ALONE], ',.0f')}\n"
        f"- 2 threads / 1: {spread(two_to_one(result), '.2f')}"
    )


if __name__ == "__main__":
    run(sys.modules[__name__])
