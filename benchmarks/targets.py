"""What the project wants to reach, beside what was measured."""

import statistics
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks import evaluation, kernels, scaling, training
from benchmarks.harness import Result, ratios, table
from benchmarks.networks import lenet, vgg

STEP_FLOP = 2.264e6  # of LeNet-5, an image: forward 0.833, dweight 0.833, dx 0.598 million


class Target(NamedTuple):
    what: str
    wanted: float
    measured: float
    unit: str = ""
    at_most: bool = False

    @property
    def verdict(self) -> str:
        shortfall = self.measured / self.wanted - 1
        if (shortfall <= 0) if self.at_most else (shortfall >= 0):
            return "reached"
        return f"{abs(shortfall):.0%} {'too much' if self.at_most else 'short'}"


def find(results: Result) -> list[Target]:
    """Those for which there is a figure in `results` (by name of the benchmark)."""
    found: list[Target] = []
    for name, targets in (
        ("training", _training),
        ("evaluation", _evaluation),
        ("kernels", _kernels),
        ("scaling", _scaling),
        ("startup", _startup),
        ("accuracy", _record),
    ):
        if name in results:
            found += targets(results[name])
    if "training" in results and "kernels" in results:
        found.append(_step(results["training"], results["kernels"]))
    return found


def report(results: Result) -> str:
    """Medians of the rounds' ratios, as a table."""
    rows = []
    for target in find(results):
        sign, digits = "<=" if target.at_most else ">=", "%" if target.unit == "%" else "g"
        wanted = f"{target.wanted:.0%}" if digits == "%" else f"{target.wanted:g}{target.unit}"
        measured = (
            f"{target.measured:.0%}" if digits == "%" else f"{target.measured:.2f}{target.unit}"
        )
        rows.append([target.what, f"{sign} {wanted}", measured, target.verdict])
    return table(("target", "wanted", "measured", ""), rows)


def _training(result: Result) -> Iterator[Target]:
    tuned_too = []
    for row in result["rows"]:
        rates, size = row["images_per_second"], row["batch_size"]
        ours = rates[training.OURS]
        wanted = {64: 7, 256: 6}.get(size, 5)
        plain = statistics.median(ratios(ours, rates[training.PLAIN]))
        yield Target(
            f"training, {row['network']}, batch {size}: times plain PyTorch", wanted, plain
        )
        if size == 64:
            tuned = statistics.median(ratios(ours, rates[training.TUNED]))
            tuned_too.append(
                Target(f"training, {row['network']}, batch {size}: times tuned PyTorch", 4.5, tuned)
            )
        if size == 256:
            alone = statistics.median(ratios(ours, rates[training.OURS_ALONE]))
            tuned_too.append(
                Target(f"training, {row['network']}, batch {size}: 2 threads / 1", 1.8, alone)
            )
    yield from tuned_too


def _step(trained: Result, kernel_result: Result) -> Target:
    row = next(row for row in trained["rows"] if row["batch_size"] == 64)
    rate = statistics.median(row["images_per_second"][training.OURS])
    share = rate * STEP_FLOP / 1e9 / max(kernel_result["peak"]["2"])
    return Target(
        "the whole training step, ReLU, batch 64: of the fma limit of 2 cores", 0.55, share, "%"
    )


def _evaluation(result: Result) -> Iterator[Target]:
    for row in result["latency"]:
        network, times = row["network"], row["microseconds"]
        bulk = statistics.median(evaluation.bulk_ratios(result, network, evaluation.PLAIN))
        yield Target(f"evaluation in bulk, {network}: times plain PyTorch", 10, bulk)
        theirs, ours = (
            [median for median, _ in times[name]] for name in (evaluation.PLAIN, evaluation.OURS)
        )
        yield Target(
            f"one image, {network}: PyTorch's time / ours",
            1,
            statistics.median(ratios(theirs, ours)),
        )


def _kernels(result: Result) -> Iterator[Target]:
    for name in [name for name in result["layers"] if name.startswith(("C3", "64"))]:
        for key in kernels.PASSES:
            wanted = 0.8 if key == "forward" else 0.65
            if shares := kernels.shares(result, name, key, 1):
                share = statistics.median(shares)
                yield Target(f"{name}, {key}, 1 thread: of the fma peak", wanted, share, "%")


def _scaling(result: Result) -> Iterator[Target]:
    judged = [*(lenet(width=width).name for width in scaling.WIDTHS[1:]), vgg().name]
    for row in result["rows"]:
        rates, name = row["images_per_second"], row["network"]
        measured = statistics.median(ratios(rates[scaling.OURS], rates[scaling.PLAIN]))
        wanted = 1.5 if name in judged else 1
        yield Target(f"training, {name}: times plain PyTorch", wanted, measured)


def _startup(result: Result) -> Iterator[Target]:
    warm = statistics.median(one["seconds"] for one in result["warm"])
    everything = statistics.median(result["import_all"])
    yield Target("importing minicnn with all of its names", 0.5, everything, " s", at_most=True)
    yield Target("first step, warm cache", 1, warm, " s", at_most=True)
    yield Target("first step, cold cache", 12, result["cold"]["seconds"], " s", at_most=True)


def _record(result: Result) -> Iterator[Target]:
    if "seconds" in result:
        place = f"{result['config']}, {len(result['runs'])} seeds, {result['data']}"
        yield Target(f"{place}: mean accuracy", 0.99, result["accuracy"]["mean"], "%")
        for seconds in (1.5, 1.0, 0.76):
            measured = result["seconds"]["mean"]
            yield Target(f"{place}: mean time", seconds, measured, " s", at_most=True)
