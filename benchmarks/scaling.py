"""Wider and larger networks in minicnn and in PyTorch: how the speed of training changes with size.

python -m benchmarks.scaling
"""

import sys

from benchmarks.harness import Options, Result, Team, count, rates, ratios, run, spread, table
from benchmarks.networks import FEW_IMAGES, IMAGES, Case, lenet, vgg
from benchmarks.rivals import Minicnn, PyTorch, TunedPyTorch, prepare
from benchmarks.training import OURS, PLAIN, TUNED

TITLE = "Wider and larger networks"
DEFAULTS = Options(rounds=5, seconds=0.5)

BATCH_SIZE = 64
WIDTHS, SIDES = (1, 2, 4, 8), (56, 112)


def measure(team: Team, options: Options) -> Result:
    images = FEW_IMAGES if options.quick else IMAGES
    workers = [
        team.worker("minicnn", Minicnn, 2),
        team.worker("PyTorch tuned", TunedPyTorch, 2),
        team.worker("PyTorch", PyTorch, 2),
    ]
    networks = [lenet(width=width) for width in WIDTHS]
    networks += [*(lenet(side=side) for side in SIDES), vgg()]
    rows = []
    for network in networks[:1] if options.quick else networks:
        print(f"training {network.name} ...", file=sys.stderr)
        prepare(workers, Case(network, BATCH_SIZE, images))
        measured = rates(workers, "training", options)
        rows.append({"network": network.name, "images_per_second": measured})
    return {"rows": rows}


def report(result: Result) -> str:
    rows = []
    for row in result["rows"]:
        measured = row["images_per_second"]
        rows.append(
            [row["network"]]
            + [spread(measured[name], ",.0f") for name in (OURS, PLAIN, TUNED)]
            + [spread(ratios(measured[OURS], measured[name]), ".2f") for name in (PLAIN, TUNED)]
        )
    rounds = len(result["rows"][0]["images_per_second"][OURS])
    head = ("network", OURS, PLAIN, TUNED, "minicnn / PyTorch", "minicnn / PyTorch tuned")
    return (
        f"Training in batches of {BATCH_SIZE}, images per second: median (min - max) of "
        f"{count(rounds, 'alternating round')}.\n\n{table(head, rows)}"
    )


if __name__ == "__main__":
    run(sys.modules[__name__])
