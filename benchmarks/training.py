"""Training LeNet-5 in minicnn and in PyTorch, with one thread and with two: images per second.

python -m benchmarks.training
python -m benchmarks.training --rounds 9 --json training.json
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import Options, Result, Team, count, rates, ratios, run, spread, table
from benchmarks.networks import FEW_IMAGES, IMAGES, Case, lenet
from benchmarks.rivals import IDENTITY_STEPS, Minicnn, PyTorch, TunedPyTorch, prepare

TITLE = "Training LeNet-5"
DEFAULTS = Options(rounds=5, seconds=0.25)

FLAVOURS = (("relu", "max"), ("tanh", "mean"))
BATCH_SIZES = (16, 32, 64, 128, 256, 512)

OURS, OURS_ALONE = "minicnn, 2 threads", "minicnn, 1 thread"
PLAIN, PLAIN_ALONE = "PyTorch, 2 threads", "PyTorch, 1 thread"
TUNED = "PyTorch tuned, 2 threads"


def measure(team: Team, options: Options) -> Result:
    images = FEW_IMAGES if options.quick else IMAGES
    workers = [
        team.worker("minicnn", Minicnn, 2),
        team.worker("minicnn", Minicnn, 1),
        team.worker("PyTorch", PyTorch, 1),
        team.worker("PyTorch tuned", TunedPyTorch, 2),
        team.worker("PyTorch", PyTorch, 2),
    ]
    flavours = FLAVOURS[:1] if options.quick else FLAVOURS
    sizes = (64,) if options.quick else BATCH_SIZES
    rows = []
    for case in [Case(lenet(*flavour), size, images) for flavour in flavours for size in sizes]:
        print(f"training {case.network.name}, batch {case.batch_size} ...", file=sys.stderr)
        prepare(workers, case)
        ours, ours_alone = workers[:2]
        prints = [worker.call("fingerprint") for worker in (ours, ours, ours_alone)]
        rows.append(
            {
                "network": case.network.name,
                "batch_size": case.batch_size,
                "images_per_second": rates(workers, "training", options),
                "same_bits_again": prints[0] == prints[1],
                "same_bits_1_and_2_threads": prints[0] == prints[2],
            }
        )
    return {"rows": rows}


def report(result: Result) -> str:
    rows: Sequence[Mapping[str, Any]] = result["rows"]
    rounds = len(rows[0]["images_per_second"][OURS])
    speeds, compared = [], []
    for row in rows:
        measured = row["images_per_second"]
        place = [row["network"], str(row["batch_size"])]
        names = (OURS, PLAIN, TUNED, OURS_ALONE, PLAIN_ALONE)
        speeds.append(place + [spread(measured[name], ",.0f") for name in names])
        pairs = ((OURS, PLAIN), (OURS, TUNED), (OURS_ALONE, PLAIN_ALONE), (OURS, OURS_ALONE))
        compared.append(place + [spread(ratios(measured[a], measured[b]), ".2f") for a, b in pairs])
    text = f"Images per second: median (min - max) of {count(rounds, 'alternating round')}.\n\n"
    text += table(("network", "batch", OURS, PLAIN, TUNED, OURS_ALONE, PLAIN_ALONE), speeds)
    text += "\n\nRatios within a round: median (min - max).\n\n"
    head = ("minicnn / PyTorch", "minicnn / PyTorch tuned", "both with 1 thread", "minicnn, 2 / 1 threads")
    text += table(("network", "batch", *head), compared) + "\n"
    for what, key in (("run again", "same_bits_again"), ("with 1 and with 2 threads", "same_bits_1_and_2_threads")):
        verdict = "bit-identical" if all(row[key] for row in rows) else "**DIFFERENT**"
        text += f"\nminicnn's parameters after {IDENTITY_STEPS} steps, {what}: {verdict}."
    return text


if __name__ == "__main__":
    run(sys.modules[__name__])
