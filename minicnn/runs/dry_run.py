"""What can be known of a run before it starts: whether its gradients are right, and how long it will take."""

import copy
import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from minicnn.config.experiment import (
    build_loss,
    build_network,
    build_optimizer,
    build_schedule,
    find_spec,
    kernels_of_run,
    load_data,
    make_batches,
    total_steps,
)
from minicnn.config.settings import Settings, Stop
from minicnn.console import answer, info, warn
from minicnn.data import Batches
from minicnn.engine import driver
from minicnn.engine.progress import Preparation
from minicnn.errors import MinicnnError
from minicnn.inspect.gradient_table import print_gradient_table
from minicnn.layers.sequential import Sequential
from minicnn.runs.lint import lint
from minicnn.runs.run import use_threads
from minicnn.training.callbacks import logs
from minicnn.training.step import evaluate, train_step
from minicnn.training.trainer import introduction

TIMED_STEPS, TIMED_SECONDS = 50, 3.0
TIMED_BATCHES = 10  # of an evaluation


def check_gradients_of_run(settings: Settings) -> None:
    """Prints the table of gradient checks for the network, with the weights that the run starts with.

    Raises MinicnnError if a gradient is wrong, ConfigError for settings that do not fit together.
    """
    network = _initialized(settings)
    input_shape = find_spec(settings.data).input_shape
    print_gradient_table(network, build_loss(settings), input_shape, answer)


def dry_run(settings: Settings) -> None:
    """All that a run does up to its first step, then a few steps of a network that is thrown away, for their time.

    Leaves no run folder. Raises MinicnnError where the run would.
    """
    use_threads(settings.training.threads)
    logs.check_available(settings.output)
    network = _initialized(settings)
    check_writable(settings.output.dir)
    with Preparation(lambda: kernels_of_run(settings, network), info):
        data = load_data(settings, warn)
    train_batches, test_batches = make_batches(settings, data)
    info(introduction(network, data, settings.data.padding))
    for line in lint(settings, network, train_batches):
        warn(line)
    step, loss = time_steps(settings, network, train_batches)
    evaluation = time_evaluation(settings, network, test_batches)
    epochs, steps = settings.training.epochs, total_steps(settings, len(train_batches))
    size = min(settings.training.batch_size, len(data.train_images))
    most = "" if settings.stop == Stop() else "at most "
    answer(
        f"\na step of {size} images takes {duration(step)}, {size / step:,.0f} images/s; "
        f"an evaluation of {len(data.test_images):,} images {duration(evaluation)}\n"
        f"the whole run, {steps:,} steps and {epochs} evaluations, takes {most}about "
        f"{duration(steps * step + epochs * evaluation)}; threads: {driver.get_threads()}\n"
        f"the loss is {loss:.4f} before the first step; no run folder was made"
    )


def _initialized(settings: Settings) -> Sequential:
    network = build_network(settings)
    return network.initialize(settings.network.init, np.random.default_rng(settings.training.seed))


def check_writable(folder: Path) -> None:
    """Raises MinicnnError if `folder` is no folder that can be written or made, without making it."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise MinicnnError(
            f"output.dir: expected a folder that can be written, received {folder}: "
            f"{there} is {'read-only' if there.is_dir() else 'a file'}"
        )


def time_steps(settings: Settings, network: Sequential, batches: Batches) -> tuple[float, float]:
    """The median of the seconds that the first steps take, and the loss before the first. Trains `network`."""
    loss, schedule = build_loss(settings), build_schedule(settings, len(batches))

    def steps(network: Sequential) -> Iterator[float]:
        optimizer = build_optimizer(settings, network)
        for number, batch in enumerate(batches.epoch()):
            optimizer.lr = schedule(number)
            yield train_step(network, loss, optimizer, batch).loss

    first = copy.deepcopy(network)
    next(steps(first))  # makes the program
    losses: list[float] = []
    seconds: list[float] = []
    start = time.perf_counter()
    for value in islice(steps(network), TIMED_STEPS):
        now = time.perf_counter()
        losses.append(value)
        seconds.append(now - start)
        if sum(seconds) > TIMED_SECONDS:
            break
        start = now
    return median(seconds), losses[0]


def time_evaluation(settings: Settings, network: Sequential, batches: Batches) -> float:
    """The seconds that an evaluation takes, judged by its first batches."""
    loss, count = build_loss(settings), min(TIMED_BATCHES, len(batches))
    for _ in range(2):  # the first makes the program
        start = time.perf_counter()
        evaluate(network, loss, islice(batches.epoch(), count))
        seconds = time.perf_counter() - start
    return seconds * len(batches) / count


def duration(seconds: float) -> str:
    """1.5 ms, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
