"""Sweeps: trainings per second in worker processes against one training alone, the first result, memory of a worker.

    python -m benchmarks.sweep                   # 200 seeds of configs/speedrun.yaml
    python -m benchmarks.sweep --rounds 1000     # as many seeds

The rate is that from the first result to the last. Alone means one worker with one thread; it is measured before and
after all cores have been at work. The first result counts from the start of `minicnn sweep`, with kernels that are
compiled. The memory of a worker is what it shares with no other process.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import LOOK, Options, Result, Team, run
from benchmarks.speedrun import CONFIG, QUICK, spread
from minicnn.config.settings import load_settings
from minicnn.engine import driver
from minicnn.sweeps.backends import find_backend, run_tasks
from minicnn.sweeps.worker import Task

TITLE = "Sweeps"
DEFAULTS = Options(rounds=200, data="data")
ALONE = 10  # trainings before, and as many after
STARTS = 5
PATIENCE = 180  # seconds


def measure(team: Team, options: Options) -> Result:
    """`team` has no part in this but its environment: each training is in a process of its own."""
    os.environ.update(team.environment)
    overrides = [*(QUICK if options.quick else ()), f"data.root={options.data}"]
    cores = driver.most_threads()
    alone = 2 if options.quick else ALONE
    print(f"training alone, then {options.rounds} seeds with {cores} workers, then alone ...", file=sys.stderr)
    pause, starts = (0.0, 1) if options.quick else (LOOK, STARTS)
    before = _rate(alone, 1, overrides, pause)
    together = _rate(max(options.rounds, cores + 1), cores, overrides, pause)
    after = before if options.quick else _rate(alone, 1, overrides, pause)
    return {
        "cores": cores,
        "alone": [before["per_second"], after["per_second"]],
        "together": together,
        "first_result": [_first_result(overrides) for _ in range(starts)],
    }


def _rate(seeds: int, jobs: int, overrides: Sequence[str], pause: float) -> Result:
    """Trains with so many seeds; not timed is one before for each worker, which loads the kernels and the data."""
    tree = load_settings(CONFIG, overrides).model_dump(mode="json")

    def task(seed: int) -> Task:
        return Task(seed, {**tree, "training": {**tree["training"], "seed": seed}}, tree["training"]["epochs"])

    backend = find_backend("local", jobs, Path())
    try:
        list(run_tasks([task(seed) for seed in range(jobs)], jobs, backend))
        time.sleep(pause)
        times, accuracies = [], []
        for outcome in run_tasks([task(seed) for seed in range(seeds)], seeds, backend):
            times.append(time.perf_counter())
            if outcome.error:
                sys.exit(f"seed {outcome.task.run}: {outcome.error}")
            accuracies.append(outcome.figures["accuracy"])
        memory = _memory(backend._executor._processes)  # type: ignore[union-attr]
    finally:
        backend.end(at_once=True)
    return {
        "seeds": seeds,
        "per_second": (seeds - 1) / (times[-1] - times[0]),
        "megabytes": memory,
        "accuracies": sorted(accuracies),
    }


def _memory(pids: Sequence[int]) -> list[float] | None:
    """The private memory of processes in megabytes; None where the system does not tell."""
    found = []
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return None
        found.append(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1e3)
    return found


def _first_result(overrides: Sequence[str]) -> float:
    """Seconds from the start of the command to the first row of its table."""
    with tempfile.TemporaryDirectory() as folder:
        words = [str(CONFIG), *overrides, f"output.dir={folder}", "--seeds", "1000"]
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "minicnn", "sweep", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while not any(path.read_bytes().count(b"\n") > 1 for path in Path(folder).glob("*/sweep.csv")):
            if process.poll() is not None or time.perf_counter() - start > PATIENCE:
                process.kill()
                sys.exit(f"minicnn sweep: no result\n{process.communicate()[1].decode()}")
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        process.terminate()
        process.communicate()
    return seconds


def report(result: Result) -> str:
    together, cores = result["together"], result["cores"]
    alone = sum(result["alone"]) / len(result["alone"])
    share = together["per_second"] / (cores * alone)
    found = spread(together["accuracies"])
    memory = together["megabytes"]
    lines = [
        f"{together['seeds']:,} seeds of configs/speedrun.yaml, {cores} workers: {together['per_second']:.3f} "
        f"trainings a second, {share:.3f} x {cores} x {alone:.3f}, the rate of one alone (goal: at least 0.95)",
        f"first result: {min(result['first_result']):.2f} - {max(result['first_result']):.2f} s (goal: 3 s)",
        "memory of a worker: "
        + ("unknown on this system" if memory is None else f"at most {max(memory):.0f} MB (goal: 250 MB)"),
        f"accuracy: mean {found['mean']:.3%} +- {found['standard_error']:.3%} (standard error), "
        f"std {found['std']:.3%}, {found['min']:.2%} - {found['max']:.2%}",
    ]
    return "\n".join(f"- {line}" for line in lines)


if __name__ == "__main__":
    run(sys.modules[__name__])
