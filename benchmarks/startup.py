"""Start-up of minicnn: import, process start to the end of the first step with a cold and a warm cache, peak memory.

    python -m benchmarks.startup

The command is `minicnn train configs/lenet.yaml` on one batch of images, as its user sees it: from the start of the
process to the line that says that the epoch, one step and an evaluation, is over.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import Options, Result, Team, run, spread

TITLE = "Start-up"
DEFAULTS = Options(rounds=5)

ROOT = Path(__file__).resolve().parents[1]
IMPORT = "import time; s = time.perf_counter(); {}; print(time.perf_counter() - s)"


def measure(team: Team, options: Options) -> Result:
    """`team` has no part in this: each measurement is a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (64, 28, 28), np.uint8), np.arange(64) % 10
        arrays = {"train_images": images, "test_images": images[:10]}
        arrays |= {"train_labels": labels, "test_labels": labels[:10]}  # each class is there
        np.savez(place / "one.npz", **{name: a.astype(np.uint8) for name, a in arrays.items()})
        print("starting with a cold cache, then with a warm one ...", file=sys.stderr)
        cache = None if options.quick else place / "cache"
        cold = _train(place, cache)
        warm = [_train(place, cache) for _ in range(options.rounds)]
    return {
        "import": [_import("import minicnn") for _ in range(options.rounds)],
        "import_all": [_import("from minicnn import Sequential") for _ in range(options.rounds)],
        "cold": cold,
        "warm": warm,
    }


def _import(statement: str) -> float:
    command = [sys.executable, "-c", IMPORT.format(statement)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _train(place: Path, cache: Path | None) -> Result:
    """Seconds from the start of the process to the end of its epoch, and its peak memory in megabytes.

    `cache`: the folder of compiled kernels; None for the user's.
    """
    command = [sys.executable, "train.py", "configs/lenet.yaml", "data.name=arrays"]
    command += [f"data.path={place / 'one.npz'}", "data.if_unavailable=error"]
    command += ["training.epochs=1", "schedule.warmup=0", "output.pictures=false"]
    command += [f"output.dir={place / 'runs'}"]
    environment = os.environ | ({} if cache is None else {"MINICNN_CACHE_DIR": str(cache)})
    start, seconds = time.perf_counter(), None
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if line.startswith("epoch"):
                    seconds = time.perf_counter() - start
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or seconds is None:
            errors.seek(0)
            sys.exit(f"{' '.join(command)}: exit code {process.returncode}\n{errors.read()}")
    unit = 1e6 if sys.platform == "darwin" else 1e3  # macOS counts bytes, Linux kilobytes
    return {"seconds": seconds, "megabytes": usage.ru_maxrss / unit}


def report(result: Result) -> str:
    cold, warm = result["cold"], result["warm"]
    seconds, memory = ([one[key] for one in warm] for key in ("seconds", "megabytes"))
    return (
        f"Median (min - max) of {len(warm)} processes; cold: a single one.\n\n"
        f"- `import minicnn`: {spread(result['import'], '.3f')} s; with all of its names and Numba "
        f"(`from minicnn import Sequential`): {spread(result['import_all'], '.2f')} s\n"
        f"- process start to the end of the first epoch, of one step, of `configs/lenet.yaml`: with a warm cache of "
        f"kernels {spread(seconds, '.2f')} s, with none {cold['seconds']:.1f} s\n"
        f"- peak memory: {spread(memory, '.0f')} MB, while compiling {cold['megabytes']:.0f} MB"
    )


if __name__ == "__main__":
    run(sys.modules[__name__])
