"""One step on one image, as configs/textbook.yaml trains: sigmoid units, half the squared error, batches of one.

    python -m benchmarks.textbook

A step is forward, loss, backward and update.
"""

import statistics
import sys

from benchmarks.harness import Options, Result, Team, count, rates, ratios, run, spread, table
from benchmarks.networks import FEW_IMAGES, Case, textbook
from benchmarks.rivals import Minicnn, PyTorch, prepare
from benchmarks.training import OURS, OURS_ALONE, PLAIN, PLAIN_ALONE

TITLE = "A step on one image"
DEFAULTS = Options(rounds=5, seconds=0.25)

IMAGES = 1024


def measure(team: Team, options: Options) -> Result:
    workers = [
        team.worker("minicnn", Minicnn, 2),
        team.worker("minicnn", Minicnn, 1),
        team.worker("PyTorch", PyTorch, 1),
        team.worker("PyTorch", PyTorch, 2),
    ]
    network = textbook()
    print(f"training {network.name}, batch 1 ...", file=sys.stderr)
    prepare(workers, Case(network, 1, FEW_IMAGES if options.quick else IMAGES))
    measured = rates(workers, "training", options)
    return {
        "network": network.name,
        "microseconds": {name: [1e6 / r for r in found] for name, found in measured.items()},
    }


def best(result: Result, name: str) -> str:
    """With one thread or with two, whichever is faster."""
    return min(
        (key for key in result["microseconds"] if key.startswith(f"{name}, ")),
        key=lambda key: statistics.median(result["microseconds"][key]),
    )


def times_faster(result: Result) -> list[float]:
    """Each with the number of threads that suits it, round by round."""
    times = result["microseconds"]
    return ratios(times[best(result, "PyTorch")], times[best(result, "minicnn")])


def report(result: Result) -> str:
    times = result["microseconds"]
    rows = [[name, spread(times[name], ".0f")] for name in (OURS, OURS_ALONE, PLAIN, PLAIN_ALONE)]
    return (
        f"{result['network']}, microseconds a step: median (min - max) of "
        f"{count(len(times[OURS]), 'alternating round')}.\n\n{table(('', 'microseconds'), rows)}\n\n"
        f"minicnn's speed / PyTorch's, each with the threads that suit it: {spread(times_faster(result), '.2f')}."
    )


if __name__ == "__main__":
    run(sys.modules[__name__])
