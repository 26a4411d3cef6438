"""LeNet-5 answering, in minicnn and in PyTorch: images per second in bulk, and how long one image takes.

    python -m benchmarks.evaluation

Nobody has to evaluate in batches of one size: the figure in bulk is that of each framework at the batch size, of
those tried, that suits it best.
"""

import statistics
import sys

from benchmarks.harness import Options, Result, Team, count, rates, ratios, run, spread, table
from benchmarks.networks import FEW_IMAGES, IMAGES, Case, lenet
from benchmarks.rivals import Minicnn, PyTorch, TunedPyTorch, prepare
from benchmarks.training import FLAVOURS, OURS, OURS_ALONE, PLAIN, PLAIN_ALONE, TUNED

TITLE = "Evaluating LeNet-5"
DEFAULTS = Options(rounds=5, seconds=0.25)

BATCH_SIZES = (64, 256, 1000)  # 1000 is that of PyTorch's own MNIST example


def measure(team: Team, options: Options) -> Result:
    images = FEW_IMAGES if options.quick else IMAGES
    pairs = [
        team.worker("minicnn", Minicnn, 2),
        team.worker("PyTorch tuned", TunedPyTorch, 2),
        team.worker("PyTorch", PyTorch, 2),
    ]
    singles = [
        team.worker("minicnn", Minicnn, 2),
        team.worker("minicnn", Minicnn, 1),
        team.worker("PyTorch", PyTorch, 1),
        team.worker("PyTorch", PyTorch, 2),
    ]
    bulk, latency = [], []
    for flavour in FLAVOURS[:1] if options.quick else FLAVOURS:
        network = lenet(*flavour)
        for size in (64,) if options.quick else BATCH_SIZES:
            print(f"evaluating {network.name}, batch {size} ...", file=sys.stderr)
            prepare(pairs, Case(network, size, images))
            measured = rates(pairs, "evaluation", options)
            bulk.append({"network": network.name, "batch_size": size, "images_per_second": measured})
        print(f"evaluating {network.name}, one image ...", file=sys.stderr)
        prepare(singles, Case(network, 1, images))
        times = rates(singles, "latency", options)
        latency.append({"network": network.name, "microseconds": times})
    return {"bulk": bulk, "latency": latency}


def best(result: Result, network: str, name: str) -> tuple[int, list[float]]:
    """The batch size with the highest median, and the rates measured there."""
    rows = [row for row in result["bulk"] if row["network"] == network]
    row = max(rows, key=lambda row: statistics.median(row["images_per_second"][name]))
    return row["batch_size"], row["images_per_second"][name]


def bulk_ratios(result: Result, network: str, rival: str) -> list[float]:
    """Each at its best batch size, round by round."""
    return ratios(best(result, network, OURS)[1], best(result, network, rival)[1])


def report(result: Result) -> str:
    networks = [row["network"] for row in result["latency"]]
    rounds = len(result["bulk"][0]["images_per_second"][OURS])
    rows = []
    for row in result["bulk"]:
        measured = row["images_per_second"]
        rows.append(
            [row["network"], str(row["batch_size"])]
            + [spread(measured[name], ",.0f") for name in (OURS, PLAIN, TUNED)]
            + [spread(ratios(measured[OURS], measured[name]), ".2f") for name in (PLAIN, TUNED)]
        )
    head = (OURS, PLAIN, TUNED, "minicnn / PyTorch", "minicnn / PyTorch tuned")
    text = (
        f"Images per second, with loss and accuracy: median (min - max) of {count(rounds, 'alternating round')}.\n\n"
        f"{table(('network', 'batch', *head), rows)}\n\nIn bulk, each at its best batch size: "
    )
    for network in networks:
        parts = [
            f"{spread(bulk_ratios(result, network, rival), '.2f')} times {rival.partition(',')[0]} "
            f"(batch {best(result, network, OURS)[0]} against {best(result, network, rival)[0]})"
            for rival in (PLAIN, TUNED)
        ]
        text += f"{network}: {', '.join(parts)}; "
    text = text.removesuffix("; ") + ".\n\n"
    text += "One image, from array to scores, in microseconds: median of the rounds (min - max) of their "
    text += "median and of their 99th percentile.\n\n"
    rows = []
    for row in result["latency"]:
        for name in (OURS, PLAIN, OURS_ALONE, PLAIN_ALONE):
            medians, late = zip(*row["microseconds"][name], strict=True)
            rows.append([row["network"], name, spread(medians, ".0f"), spread(late, ".0f")])
    return text + table(("network", "", "median", "99th percentile"), rows)


if __name__ == "__main__":
    run(sys.modules[__name__])
