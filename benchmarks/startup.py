"""Start-up of minicnn: import, process start to the end of the first step with a cold and a warm cache, peak memory.

    python -m benchmarks.startup

The command is `minicnn train configs/lenet.yaml` on mnist-subset, which is part of minicnn: from the start of the
process to the end of its first training step, where it is ended. Each cold one has a new folder for compiled kernels.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness import Options, Result, Team, run, spread

TITLE = "Start-up"
DEFAULTS = Options(rounds=5)

ROOT = Path(__file__).resolve().parents[1]
COLD = 3  # a cold start takes seconds
IMPORT = "import time; s = time.perf_counter(); {}; print(time.perf_counter() - s)"
PATIENCE = 180  # seconds
#: `minicnn`, which ends after its first step and says how much memory it had at most, in megabytes.
COMMAND = """
import os, resource, sys
from minicnn.training import trainer
from minicnn.cli import main

def memory():
    if os.path.exists("/proc/self/status"):  # of this program, without what was there before it was one
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

step = trainer.accumulated_step
def first_step(*arguments, **options):
    step(*arguments, **options)
    print(memory(), flush=True)
    os._exit(0)
trainer.accumulated_step = first_step
sys.exit(main(sys.argv[1:]) or "there was no step")
"""


def measure(team: Team, options: Options) -> Result:
    """`team` has no part in this but its environment: each measurement is a process of its own."""
    environment = dict(os.environ) | team.environment
    colds = 1 if options.quick else min(COLD, options.rounds)
    print("starting with a cold cache, then with a warm one ...", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / f"cache{number}" for number in range(colds)]
        if not options.quick:  # which takes what there is for a cold cache, too
            environment["MINICNN_CACHE_DIR"] = str(places[-1])
        cold = []
        for place in places:
            own = {} if options.quick else {"MINICNN_CACHE_DIR": str(place)}
            cold.append(first_step(Path(folder), environment | own))
        warm = [first_step(Path(folder), environment) for _ in range(options.rounds)]
    return {
        "import": [_import("import minicnn", environment) for _ in range(options.rounds)],
        "import_all": [_import("from minicnn import Sequential", environment) for _ in range(options.rounds)],
        "cold": cold,
        "warm": warm,
    }


def _import(statement: str, environment: Mapping[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT.format(statement)],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def first_step(place: Path, environment: Mapping[str, str], overrides: Sequence[str] = ()) -> Result:
    """Seconds from the start of the process to the end of its first step, and its peak memory in megabytes.

    The memory of processes that compile is not in it.
    """
    command = [sys.executable, "-c", COMMAND, "train", "configs/lenet.yaml"]
    command += ["data.name=mnist-subset", f"output.dir={place / 'runs'}", *overrides]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"minicnn {' '.join(command[3:])}: exit code {done.returncode}\n{done.stderr}")
    return {"seconds": seconds, "megabytes": float(done.stdout.split()[-1])}


def median(starts: Sequence[Result]) -> float:
    """Of their seconds."""
    return statistics.median(one["seconds"] for one in starts)


def report(result: Result) -> str:
    cold, warm = result["cold"], result["warm"]
    seconds = {key: [one["seconds"] for one in result[key]] for key in ("cold", "warm")}
    memory = {key: [one["megabytes"] for one in result[key]] for key in ("cold", "warm")}
    return (
        f"Median (min - max) of {len(warm)} processes, cold: of {len(cold)}.\n\n"
        f"- `import minicnn`: {spread(result['import'], '.3f')} s; with all of its names "
        f"(`from minicnn import Sequential`): {spread(result['import_all'], '.2f')} s\n"
        f"- process start to the end of the first step of `configs/lenet.yaml`: with a warm cache of "
        f"kernels {spread(seconds['warm'], '.2f')} s, with none {spread(seconds['cold'], '.1f')} s\n"
        f"- peak memory: {spread(memory['warm'], '.0f')} MB, in a process that has kernels compiled "
        f"{spread(memory['cold'], '.0f')} MB"
    )


if __name__ == "__main__":
    run(sys.modules[__name__])
