"""What can be known of a run before it starts: whether its gradients are right, and how long it will take."""

import os
import time
from itertools import islice
from pathlib import Path
from statistics import median

from minicnn.config.experiment import Experiment
from minicnn.config.settings import Settings, Stop
from minicnn.console import answer, info, warn
from minicnn.engine import driver
from minicnn.errors import MinicnnError
from minicnn.inspect.gradient_table import print_gradient_table
from minicnn.runs.lint import lint
from minicnn.runs.run import check_machine, introduction
from minicnn.training.accumulation import accumulated_step
from minicnn.training.process_group import ProcessGroup
from minicnn.training.step import evaluate

TIMED_STEPS, TIMED_SECONDS = 50, 3.0
TIMED_BATCHES = 10  # of an evaluation


def check_gradients(settings: Settings, group: ProcessGroup | None = None) -> None:
    """Prints the table of gradient checks for the network, with the weights that the run starts with.

    Raises MinicnnError if a gradient is wrong, ConfigError for settings that do not fit together.
    """
    experiment = Experiment(settings)
    print_gradient_table(experiment.network, experiment.loss, experiment.spec.input_shape, answer)


def dry_run(settings: Settings, group: ProcessGroup | None = None) -> None:
    """All that a run does up to its first step, then a few steps of a network that is thrown away, for their time.

    Leaves no run folder. Raises MinicnnError where the run would.
    """
    check_machine(settings, group)
    experiment = Experiment(settings)
    check_writable(settings.output.dir)
    experiment.load(info)
    data = experiment.data
    info(introduction(experiment, data))
    for line in lint(experiment):
        warn(line)
    step, loss = time_steps(experiment)
    evaluation = time_evaluation(experiment)
    epochs, steps = settings.training.epochs, experiment.total_steps
    size = min(experiment.train_batches.batch_size, len(data.train_images))
    most = "" if settings.stop == Stop() else "at most "
    answer(
        f"\na step of {size} images takes {duration(step)}, {size / step:,.0f} images/s; "
        f"an evaluation of {len(data.test_images):,} images {duration(evaluation)}\n"
        f"the whole run, {steps:,} steps and {epochs} evaluations, takes {most}about "
        f"{duration(steps * step + epochs * evaluation)}; threads: {driver.get_threads()}\n"
        f"the loss is {loss:.4f} before the first step; no run folder was made"
    )


def check_writable(folder: Path) -> None:
    """Raises MinicnnError if `folder` is no folder that can be written or made, without making it."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise MinicnnError(
            f"output.dir: expected a folder that can be written, received {folder}: "
            f"{there} is {'read-only' if there.is_dir() else 'a file'}"
        )


def time_steps(experiment: Experiment) -> tuple[float, float]:
    """The median of the seconds that the first steps take, and the loss before the first. Trains the network."""
    optimizer, losses, seconds = experiment.optimizer, [], []
    for number, batch in enumerate(islice(experiment.train_batches.epoch(), TIMED_STEPS + 1)):
        optimizer.lr = experiment.schedule(number)
        start = time.perf_counter()
        size = experiment.settings.training.batch_size
        losses.append(accumulated_step(experiment.network, experiment.loss, optimizer, batch, size).loss)
        seconds.append(time.perf_counter() - start)
        if sum(seconds[1:]) > TIMED_SECONDS:
            break
    return median(seconds[1:] or seconds), losses[0]  # the first makes the program


def time_evaluation(experiment: Experiment) -> float:
    """The seconds that an evaluation takes, judged by its first batches."""
    batches = experiment.test_batches
    count = min(TIMED_BATCHES, len(batches))
    for _ in range(2):  # the first makes the program
        start = time.perf_counter()
        evaluate(experiment.network, experiment.loss, islice(batches.epoch(), count))
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
