"""The record: the time in which configs/speedrun.yaml trains to 99 % on MNIST, and its accuracy, over many seeds.

    python -m benchmarks.speedrun --seeds 20
    python -m benchmarks.speedrun --seeds 5 data.validation=0.15    # to choose settings: no look at test images

The clock runs from the first batch to the last update: shuffling, augmentation and normalisation are in it; loading
the data (uint8, in memory), compiling the kernels (a training that does not count goes first) and the one evaluation
at the end are not. The loop is that of minicnn's users, and ends in the weights of `python train.py` with that seed.
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import load, warning, write_json
from benchmarks.isa import ISAS, limits
from minicnn.config.build import load_data
from minicnn.config.experiment import Experiment
from minicnn.config.settings import Settings, load_settings
from minicnn.console import warn
from minicnn.data import Dataset
from minicnn.engine.cache import vector_registers
from minicnn.errors import MinicnnError
from minicnn.layers.sequential import Sequential
from minicnn.runs.run import check_machine
from minicnn.training.callbacks.weights import WeightAverage
from minicnn.training.run_folder import environment
from minicnn.training.step import evaluate

CONFIG = Path(__file__).parents[1] / "configs/speedrun.yaml"
QUICK = ("data.name=mnist-subset", "training.epochs=2")


def train(settings: Settings, data: Dataset) -> tuple[Sequential, float, float]:
    """The trained network, the seconds that it took, and its accuracy on the images that are held out."""
    experiment = Experiment(settings)
    experiment.data = data
    ema = settings.training.ema
    trainer = experiment.trainer([] if ema is None else [WeightAverage(ema)], evaluates=False)
    begin = time.perf_counter()
    trainer.fit()
    seconds = time.perf_counter() - begin
    with trainer.result():
        test = evaluate(experiment.network, experiment.loss, experiment.test_batches)
    return experiment.network, seconds, test.accuracy


def fingerprint(settings: Settings) -> str:
    """A hash of all settings that the weights follow from, but the seed, which differs from run to run."""
    tree = settings.model_dump(mode="json", exclude={"output": True, "checkpoint": True})
    del tree["training"]["seed"], tree["training"]["threads"], tree["data"]["root"]
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation, smallest, largest, and the standard error of the mean."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {
        "mean": statistics.mean(values),
        "std": deviation,
        "min": min(values),
        "max": max(values),
        "standard_error": deviation / len(values) ** 0.5,
    }


def measure(config: Path, overrides: Sequence[str], seeds: int) -> dict[str, Any]:
    """Trains with seeds 0, 1, ... and prints a line for each. Raises MinicnnError for settings and data."""
    settings = load_settings(config, overrides)
    check_machine(settings)
    busy = load()
    train(settings, load_data(settings, warn))  # compiles the kernels
    runs = []
    for seed in range(seeds):
        settings = load_settings(config, [*overrides, f"training.seed={seed}"])
        data = load_data(settings, warn)
        _, seconds, accuracy = train(settings, data)
        runs.append({"seed": seed, "accuracy": accuracy, "seconds": seconds})
        print(f"seed {seed:2}   {data.held_out} accuracy {accuracy:.2%}   {seconds:.3f} s")
    return {
        "config": config.name,
        "overrides": [text for text in overrides if not text.startswith("data.root=")],
        "hash": fingerprint(settings),
        "machine": environment(),
        "wide": vector_registers() == 32,
        "load_before": busy,
        "data": data.name,
        "held_out": data.held_out,
        "training_images": len(data.train_images),
        "runs": runs,
        "accuracy": spread([run["accuracy"] for run in runs]),
        "seconds": spread([run["seconds"] for run in runs]),
    }


def report(result: dict[str, Any]) -> str:
    """The figures over all seeds, and what they were measured on."""
    machine, accuracy, seconds = result["machine"], result["accuracy"], result["seconds"]
    lines = [
        f"{result['data']}, {result['training_images']:,} training images, {len(result['runs'])} seeds",
        f"{result['held_out']} accuracy: mean {accuracy['mean']:.3%} +- {accuracy['standard_error']:.3%} "
        f"(standard error), std {accuracy['std']:.3%}, {accuracy['min']:.2%} - {accuracy['max']:.2%}",
        f"training time: mean {seconds['mean']:.3f} s, std {seconds['std']:.3f}, "
        f"{seconds['min']:.3f} - {seconds['max']:.3f}",
        f"settings: {' '.join([result['config'], *result['overrides']])}, hash {result['hash']}",
        f"{machine['cpu']}, {machine['cores']} cores, {'' if result['wide'] else 'no '}AVX-512; "
        f"{machine['threads']} threads",
        f"minicnn {machine['minicnn']}, Numba {machine['numba']}, NumPy {machine['numpy']}, "
        f"Python {machine['python']}, {machine['platform']}",
    ]
    lines += filter(None, [warning(result["load_before"])])
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings to change")
    parser.add_argument("--config", type=Path, default=CONFIG, help="settings (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=20, help="trainings (default: %(default)s)")
    parser.add_argument("--isa", choices=ISAS, default=ISAS[0], help="avx2: without newer instructions [native]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    parser.add_argument("--quick", action="store_true", help="only see whether it runs: the figures mean nothing")
    options = parser.parse_intermixed_args(argv)
    if options.seeds < 1:
        parser.error(f"--seeds: expected at least 1, received {options.seeds}")
    os.environ.update(limits(options.isa))  # in time: nothing has been compiled or loaded yet
    overrides = [*(QUICK if options.quick else ()), *options.overrides]
    try:
        result = measure(options.config, overrides, 2 if options.quick else options.seeds)
    except MinicnnError as error:
        sys.exit(f"error: {error}")
    print(f"\n{report(result)}")
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
