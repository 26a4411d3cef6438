"""What the project wants to reach, beside what was measured. Processors with AVX-512 have other targets than others."""

import statistics
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from benchmarks import busy, evaluation, kernels, scaling, startup, textbook, training
from benchmarks.harness import Result, ratios, table
from benchmarks.networks import lenet, vgg

STEP_FLOP = 2.264e6  # of LeNet-5, an image: forward 0.833, dweight 0.833, dx 0.598 million

RELU, TANH = (lenet(*flavour).name for flavour in training.FLAVOURS)


class Target(NamedTuple):
    what: str
    wanted: float | None
    """None where it is only to be seen."""
    measured: float
    unit: str = ""
    at_most: bool = False
    stretch: float | None = None

    @property
    def verdict(self) -> str:
        if self.wanted is None:
            return ""
        shortfall = self.measured / self.wanted - 1
        if (shortfall <= 0) if self.at_most else (shortfall >= 0):
            return "reached"
        digits = ".0%" if abs(shortfall) >= 0.01 else ".2%"
        return f"{abs(shortfall):{digits}} {'too much' if self.at_most else 'short'}"

    @property
    def goal(self) -> str:
        if self.wanted is None:
            return "-"
        numbers = [self.wanted] if self.stretch is None else [self.wanted, self.stretch]
        scale = 100 if self.unit == "%" else 1
        shown = [f"{scale * number:.4g}{self.unit}" for number in numbers]
        sign = "<=" if self.at_most else ">="
        return " ".join([f"{sign} {shown[0]}", *(f"({other})" for other in shown[1:])])

    @property
    def value(self) -> str:
        if self.unit == "%":
            return f"{self.measured:.2%}"
        return f"{self.measured:.0f}{self.unit}" if "us" in self.unit else f"{self.measured:.2f}{self.unit}"


def find(results: Result, wide: bool) -> list[Target]:
    """Those for which there is a figure in `results` (by name of the benchmark); `wide`: with AVX-512."""
    found: list[Target] = []
    for name, targets in (
        ("training", _training),
        ("evaluation", _evaluation),
        ("textbook", _textbook),
        ("scaling", _scaling),
        ("busy", _busy),
        ("kernels", _kernels),
        ("startup", _startup),
        ("accuracy", _record),
    ):
        if name in results:
            found += targets(results[name], wide)
    if "training" in results and "kernels" in results:
        found += _step(results["training"], results["kernels"])
    return found


def report(measured: Mapping[str, Result], wide: Mapping[str, bool]) -> str:
    """Medians of the rounds' ratios, as a table with three columns for each set of instructions."""
    columns = {isa: {target.what: target for target in find(results, wide[isa])} for isa, results in measured.items()}
    head = ["target"]
    for isa in columns:
        head += [f"{isa}: wanted", "measured", ""]
    rows = []
    for what in dict.fromkeys(what for column in columns.values() for what in column):
        row = [what]
        for column in columns.values():
            target = column.get(what)
            row += [target.goal, target.value, target.verdict] if target else [""] * 3
        rows.append(row)
    return "In brackets: what would be better still.\n\n" + table(head, rows)


def _training(result: Result, wide: bool) -> Iterator[Target]:
    special: dict[tuple[str, int], tuple[float, float | None]] = {
        (RELU, 64): (9, 10) if wide else (7, None),
        (RELU, 256): (9 if wide else 6.5, None),
        (TANH, 64): (9 if wide else 6.5, None),
    }
    further = []
    for row in result["rows"]:
        rates, size = row["images_per_second"], row["batch_size"]
        ours, place = rates[training.OURS], f"training, {row['network']}, batch {size}"
        wanted, stretch = special.get((row["network"], size), (7 if wide else 5, None))
        plain = statistics.median(ratios(ours, rates[training.PLAIN]))
        yield Target(f"{place}: times plain PyTorch", wanted, plain, stretch=stretch)
        if size == 64:
            tuned = statistics.median(ratios(ours, rates[training.TUNED]))
            further.append(Target(f"{place}: times tuned PyTorch", 4.5, tuned))
        if size in (64, 256):
            alone = statistics.median(ratios(ours, rates[training.OURS_ALONE]))
            further.append(Target(f"{place}: 2 threads / 1", 1.9 if wide else 1.85, alone))
    yield from further


def _step(trained: Result, kernel_result: Result) -> Iterator[Target]:
    for row in trained["rows"]:
        if (row["network"], row["batch_size"]) == (RELU, 64):
            rate = statistics.median(row["images_per_second"][training.OURS])
            share = rate * STEP_FLOP / 1e9 / max(kernel_result["peak"]["2"])
            name = "the whole training step, ReLU, batch 64: of the fma limit of 2 cores"
            yield Target(name, 0.55, share, "%")


def _evaluation(result: Result, wide: bool) -> Iterator[Target]:
    for row in result["latency"]:
        network, times = row["network"], row["microseconds"]
        wanted = (10 if wide else 8) if network == RELU else (9 if wide else 6)
        bulk = statistics.median(evaluation.bulk_ratios(result, network, evaluation.PLAIN))
        yield Target(f"evaluation in bulk, {network}: times plain PyTorch", wanted, bulk)
        ours = statistics.median(median for median, _ in times[evaluation.OURS])
        name = f"one image, {network}, array to scores"
        yield Target(name, 40 if wide else 70, ours, " us", at_most=True)


def _textbook(result: Result, wide: bool) -> Iterator[Target]:
    ours = result["microseconds"][textbook.best(result, "minicnn")]
    place = "a step on one image, textbook.yaml"
    yield Target(place, None, statistics.median(ours), " us")
    faster = statistics.median(textbook.times_faster(result))
    yield Target(f"{place}: times plain PyTorch", None, faster)


def _scaling(result: Result, wide: bool) -> Iterator[Target]:
    wanted = {
        lenet(width=2).name: 1.5,
        lenet(width=4).name: 4 if wide else 2.5,
        lenet(width=8).name: 3 if wide else 2,
        vgg().name: 2 if wide else 1.6,
    }
    for row in result["rows"]:
        rates, name = row["images_per_second"], row["network"]
        if name != RELU:  # which is a row of `training`
            measured = statistics.median(ratios(rates[scaling.OURS], rates[scaling.PLAIN]))
            yield Target(f"training, {name}: times plain PyTorch", wanted.get(name, 1), measured)


def _busy(result: Result, wide: bool) -> Iterator[Target]:
    if "missing" not in result:
        yield Target(
            "with one core taken, batch 64: 2 threads / 1, the least of the rounds", 0.9, min(busy.two_to_one(result))
        )


def _kernels(result: Result, wide: bool) -> Iterator[Target]:
    for name in [name for name in result["layers"] if name.startswith(("C3", "64"))]:
        for key in kernels.PASSES:
            wanted = 0.8 if key == "forward" else 0.65
            if shares := kernels.shares(result, name, key, 1):
                share = statistics.median(shares)
                yield Target(f"{name}, {key}, 1 thread: of the fma peak", wanted, share, "%")


def _startup(result: Result, wide: bool) -> Iterator[Target]:
    everything = statistics.median(result["import_all"])
    yield Target("importing minicnn with all of its names", 0.5, everything, " s", at_most=True)
    warm, cold = startup.median(result["warm"]), startup.median(result["cold"])
    yield Target("first step, warm cache", 0.6, warm, " s", at_most=True)
    yield Target("first step, cold cache", 6, cold, " s", at_most=True, stretch=3)


def _record(result: Result, wide: bool) -> Iterator[Target]:
    if "seconds" in result:
        place = f"{result['config']}, {len(result['runs'])} seeds, {result['data']}"
        yield Target(f"{place}: mean accuracy", 0.993, result["accuracy"]["mean"], "%")
        seconds, wanted = result["seconds"]["mean"], 0.35 if wide else 1.0
        yield Target(f"{place}: mean time", wanted, seconds, " s", at_most=True)
