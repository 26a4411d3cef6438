"""One training of a sweep, in a worker process: the weights of `minicnn train`, without a folder of its own."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicnn import own_code
from minicnn.config.build import load_data
from minicnn.config.experiment import Experiment
from minicnn.config.settings import Settings
from minicnn.console import muted
from minicnn.data import Dataset
from minicnn.engine import driver
from minicnn.errors import MinicnnError
from minicnn.model import weights_hash
from minicnn.training import state
from minicnn.training.callbacks.stopping import EarlyStopping
from minicnn.training.callbacks.weights import LastFiniteWeights
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.step import evaluate
from minicnn.validation import validated

LOOK = 0.5  # seconds between two looks for the parent process


@dataclass(frozen=True)
class Task:
    """A run to train.

    tree        its settings, as in a file
    epochs      ends after so many, as if it were only interrupted there
    checkpoint  goes on from there
    keep        asks for a checkpoint of the end
    folder      that of the sweep, with the code of the user's own that the settings name
    """

    run: int
    tree: dict[str, Any]
    epochs: int
    checkpoint: bytes | None = None
    keep: bool = False
    folder: str = ""


@dataclass(frozen=True)
class Outcome:
    """What has become of a task: `figures` of a finished one, or the `error` that ended it."""

    task: Task
    figures: dict[str, Any]
    error: str = ""
    checkpoint: bytes | None = None


def begin(parent: int) -> None:
    """The first thing that a local worker process does: Ctrl-C is for its parent, and without that it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process soon after its parent, which may have been killed. (On Windows it ends when it is idle.)"""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)


def work(tasks: Sequence[Task]) -> list[Outcome]:
    """Trains each of them with a single thread; an error ends its own training only."""
    outcomes = []
    for task in tasks:
        try:
            with muted():
                outcomes.append(_train(task))
        except Exception as error:  # of the run: it gets a row that says so
            outcomes.append(Outcome(task, {}, _message(error)))
    return outcomes


def _message(error: Exception) -> str:
    """On one line, as it stands in a table."""
    text = " ".join(str(error).split())
    return text if isinstance(error, MinicnnError) else f"{type(error).__name__}: {text}"


def _train(task: Task) -> Outcome:
    driver.set_threads(1)
    own_code.load_from(Path(task.folder), own_code.names_in(task.tree), task.folder, asked_for=True)
    settings = validated(Settings, task.tree)
    experiment = Experiment(settings, resumed=task.checkpoint is not None)
    experiment.data = _data(settings)
    stop = settings.stop
    early = None if stop.patience is None else EarlyStopping(stop.patience, stop.min_delta, stop.watch)
    trainer = experiment.trainer(
        experiment.rules(LastFiniteWeights(), early),
        evaluates=early is not None,
        interrupted=lambda: trainer.progress.epoch > task.epochs,
    )
    if task.checkpoint is not None:
        checkpoint = Checkpoint.from_bytes(task.checkpoint)
        state.restore(trainer, checkpoint)
        trainer.progress.metrics += checkpoint.state["metrics"]
    trainer.fit()
    progress = trainer.progress
    with trainer.result():
        test = evaluate(experiment.network, experiment.loss, experiment.test_batches)
        figures = {
            **test.figures(),
            "seconds": round(progress.all_seconds, 3),
            "weights": weights_hash(experiment.network),
        }
    kept = state.take(trainer, metrics=progress.metrics).to_bytes() if task.keep else None
    return Outcome(task, figures, checkpoint=kept)


def _data(settings: Settings) -> Dataset:
    """The data set, mapped into memory once for all runs that have the same."""
    chosen = settings.data.model_dump_json()
    data = _kept.get(chosen)  # which another thread of a worker may replace at any time
    if data is None:
        _kept.clear()
        data = _kept[chosen] = load_data(settings)
    return data


_kept: dict[str, Dataset] = {}  # the last one
