"""LeNet-5 in further frameworks: images per second of training.

    python -m benchmarks.others
    python -m benchmarks.others --compile     # also torch.compile, which takes a minute before the first step

JAX and TensorFlow take part where they are installed; the usual DataLoader of PyTorch always does.
"""

import sys
from importlib.util import find_spec

from benchmarks.harness import Options, Result, Team, count, rates, ratios, run, spread, table
from benchmarks.more_rivals import CompiledPyTorch, Jax, LoaderPyTorch, TensorFlow
from benchmarks.networks import FEW_IMAGES, IMAGES, Case, lenet
from benchmarks.rivals import Minicnn, PyTorch, prepare
from benchmarks.training import OURS

TITLE = "Further frameworks"
DEFAULTS = Options(rounds=5, seconds=0.25, compile=False)

BATCH_SIZE = 64


def measure(team: Team, options: Options) -> Result:
    workers = [team.worker("minicnn", Minicnn, 2), team.worker("PyTorch with DataLoader", LoaderPyTorch, 2)]
    if options.compile:
        workers.append(team.worker("torch.compile", CompiledPyTorch, 2))
    versions: dict[str, str] = {}
    guests = [
        team.worker(rival.__name__, rival, 2)
        for package, rival in (("jax", Jax), ("tensorflow", TensorFlow))
        if find_spec(package) and not options.quick
    ]
    for guest in guests:
        versions |= guest.call("environment")
    workers += guests
    workers.append(team.worker("PyTorch", PyTorch, 2))
    print(f"training with {', '.join(worker.name for worker in workers)} ...", file=sys.stderr)
    prepare(workers, Case(lenet(), BATCH_SIZE, FEW_IMAGES if options.quick else IMAGES))
    return {"versions": versions, "images_per_second": rates(workers, "training", options)}


def report(result: Result) -> str:
    measured = result["images_per_second"]
    rows = [
        [name, spread(speeds, ",.0f"), spread(ratios(measured[OURS], speeds), ".2f")]
        for name, speeds in measured.items()
    ]
    versions = "".join(f", {package} {number}" for package, number in result["versions"].items())
    return (
        f"Training LeNet-5 (ReLU, max) in batches of {BATCH_SIZE}{versions}: median (min - max) of "
        f"{count(len(measured[OURS]), 'alternating round')}.\n\n"
        + table(("", "images/s", "minicnn's speed / this one's"), rows)
    )


if __name__ == "__main__":
    run(sys.modules[__name__])
