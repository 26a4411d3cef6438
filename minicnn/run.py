"""One training run, from settings to a folder with the trained weights, figures and pictures.

What is wrong shows as early as it can: first the settings, then a folder that cannot be written,
then the data; only then are kernels compiled and weights trained.
"""

import math
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from tqdm import tqdm

from minicnn.build import (
    build_loss,
    build_network,
    build_optimizer,
    build_schedule,
    layer_list,
)
from minicnn.config import Settings, dump_settings
from minicnn.data import Batches, Dataset, load_dataset
from minicnn.errors import ConfigError, DivergedError, MinicnnError
from minicnn.inspect.summary import summary
from minicnn.interrupt import Interrupt
from minicnn.kernels.jit import cache_is_warm
from minicnn.layers import Conv2d
from minicnn.network import Sequential
from minicnn.run_folder import RunFolder, environment
from minicnn.training import Evaluation, check_finite, evaluate, train_step

SNAPSHOT_EVERY = 100  # steps: a copy of LeNet's weights takes 10 us, a step 600
EVALUATION_BATCH = 256


def say(text: str) -> None:
    """A line for the user, at once. Without a reader (`| head`, a closed session) the run goes on."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


def train(settings: Settings, name: str) -> bool:
    """Trains in a new folder called `name` and the time; False if Ctrl-C or SIGTERM ended it early.

    Raises MinicnnError: settings that do not fit together, data that cannot be had, a folder that
    cannot be written, a loss that is not finite (the folder has the last good weights then).
    """
    use_threads(settings.training.threads)
    network = build_network(settings)
    folder = RunFolder(settings.output.dir, name)
    with Interrupt() as interrupt:
        try:
            folder.write_text("config.yaml", dump_settings(settings))
            chosen = settings.data
            data = load_dataset(chosen.name, chosen.root, chosen.if_unavailable, warn)
            run = Run(settings, network, data, folder)
            run.start()
        except BaseException:
            folder.discard()
            raise
        interrupt.polite = True
        try:
            test = run.fit(interrupt)
        finally:  # whatever has happened, what has been learned is not lost
            run.save_weights()
        run.finish(test)
    return not interrupt.requested


def use_threads(threads: int | None) -> None:
    """Sets the number of threads of all kernels; None stands for all cores."""
    cores = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if threads is not None and threads > cores:
        raise ConfigError(
            f"training.threads: expected at most {cores}, the number of cores, received {threads}"
        )
    numba.set_num_threads(threads or cores)


class Run:
    """A network with its data, loss and optimizer, and how far its training has come."""

    def __init__(
        self, settings: Settings, network: Sequential, data: Dataset, folder: RunFolder
    ) -> None:
        self.settings, self.network, self.data, self.folder = settings, network, data, folder
        training = settings.training
        network.initialize(settings.network.init, np.random.default_rng(training.seed))
        self.loss = build_loss(settings)
        self.optimizer = build_optimizer(settings, network)
        self.mean = data.mean if settings.data.mean is None else settings.data.mean
        self.std = data.std if settings.data.std is None else settings.data.std
        self.train_batches = Batches(
            data.train_images,
            data.train_labels,
            training.batch_size,
            self.mean,
            self.std,
            seed=training.seed,
        )
        self.test_batches = Batches(
            data.test_images, data.test_labels, EVALUATION_BATCH, self.mean, self.std
        )
        self.schedule = build_schedule(settings, len(self.train_batches))
        self.rows: list[dict[str, Any]] = []
        self.step = self.images = 0
        self.compile_seconds = self.train_seconds = 0.0
        self.good_step, self.good_weights = 0, self._copy_weights()

    def start(self) -> None:
        """Says what is going to happen, and compiles or loads every kernel that it takes."""
        data = self.data
        shape = data.train_images.shape[1:]
        say(summary(self.network, shape))
        say(
            f"\n{data.name}: {len(data.train_images):,} training and {len(data.test_images):,} "
            f"test images of {' x '.join(map(str, shape))}, {len(data.classes)} classes"
        )
        # Also a warm cache may lack the kernels of a layer that no run has had before.
        delay = 1.0 if cache_is_warm() else 0.0
        notice = threading.Timer(delay, say, ["compiling kernels, once per machine ..."])
        notice.start()
        begin = time.perf_counter()
        try:
            self._warm_up()
        finally:
            notice.cancel()
        self.compile_seconds = time.perf_counter() - begin
        self.folder.write_json("environment.json", {"data_set": data.name, **environment()})

    def _warm_up(self) -> None:
        """A step and an evaluation of another network, so that training starts with all kernels."""
        network = build_network(self.settings)
        optimizer = build_optimizer(self.settings, network)
        train_step(network, self.loss, optimizer, next(iter(self.train_batches.epoch(0))))
        images, labels = self.data.test_images[:1], self.data.test_labels[:1]
        evaluate(network, self.loss, Batches(images, labels, 1, self.mean, self.std))

    def fit(self, interrupt: Interrupt) -> Evaluation:
        """All epochs, or those there was time for; returns the last result on the test images.

        Raises MinicnnError when the loss is not finite, with the last good weights put back.
        """
        try:
            for epoch in range(1, self.settings.training.epochs + 1):
                row, test = self._run_epoch(epoch, interrupt)
                if interrupt.requested:
                    break
                self._report(row)
            return test
        except DivergedError as error:
            for parameter, value in zip(self.network.parameters(), self.good_weights, strict=True):
                parameter.value[...] = value
            raise MinicnnError(
                f"{error}; the last good weights, those after step {self.good_step}, are in "
                f"{self.folder.path / 'model.safetensors'}"
            ) from None

    def _run_epoch(self, epoch: int, interrupt: Interrupt) -> tuple[dict[str, Any], Evaluation]:
        """One pass over the training images, or a part of it, and one over the test images."""
        loss, correct, count = 0.0, 0, 0
        begin = time.perf_counter()
        with tqdm(
            total=len(self.data.train_images),
            desc=f"epoch {epoch}/{self.settings.training.epochs}",
            unit=" images",
            unit_scale=True,
            leave=False,
            disable=not sys.stderr.isatty(),
        ) as bar:
            for batch in self.train_batches.epoch(epoch - 1):
                keep = self.step % SNAPSHOT_EVERY == 0 or count == 0
                weights = self._copy_weights() if keep else []
                self.optimizer.lr = self.schedule(self.step)
                result = train_step(self.network, self.loss, self.optimizer, batch)
                self.step += 1
                if keep:  # the loss that proved finite is that of the weights before the step
                    self.good_step, self.good_weights = self.step - 1, weights
                loss += result.loss * result.count
                correct += result.correct
                count += result.count
                if not bar.disable:
                    bar.set_postfix_str(f"loss {loss / count:.4f}, {correct / count:.2%}", False)
                    bar.update(result.count)
                if interrupt.requested:
                    break
        seconds = time.perf_counter() - begin
        self.train_seconds += seconds
        self.images += count

        test = evaluate(self.network, self.loss, self.test_batches)
        if not math.isfinite(test.loss):
            raise DivergedError(self.step, check_finite(self.network) or "the loss")
        row = {
            "epoch": epoch,
            "step": self.step,
            "lr": self.optimizer.lr,
            "train_loss": loss / count,
            "train_accuracy": correct / count,
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
            "seconds": round(seconds, 3),
            "images_per_second": round(count / seconds),
        }
        return row, test

    def _copy_weights(self) -> list[np.ndarray]:
        return [parameter.value.copy() for parameter in self.network.parameters()]

    def _report(self, row: dict[str, Any]) -> None:
        """The line of an epoch on the console and in metrics.csv."""
        epochs = self.settings.training.epochs
        say(
            f"epoch {row['epoch']:{len(str(epochs))}}/{epochs}"
            f"   train loss {row['train_loss']:.4f}, accuracy {row['train_accuracy']:.2%}"
            f"   test loss {row['test_loss']:.4f}, accuracy {row['test_accuracy']:.2%}"
            f"   {row['seconds']:.2f} s, {row['images_per_second']:,} images/s"
        )
        self.rows.append(row)
        self.folder.write_table("metrics.csv", self.rows)

    def save_weights(self) -> None:
        """model.safetensors: the weights, and what it takes to use them without the settings."""
        self.folder.write_weights(
            "model.safetensors",
            {parameter.name: parameter.value for parameter in self.network.parameters()},
            {
                "format": 1,
                "layers": layer_list(self.settings),
                "input_shape": self.data.train_images.shape[1:],
                "mean": self.mean,
                "std": self.std,
                "classes": self.data.classes,
                "data_set": self.data.name,
            },
        )

    def finish(self, test: Evaluation) -> None:
        """Draws the pictures and says what came out."""
        if self.settings.output.pictures:
            self._draw(test)
        epochs = self.settings.training.epochs
        if len(self.rows) < epochs:
            say(f"interrupted after step {self.step:,}, in epoch {len(self.rows) + 1} of {epochs}")
        say(
            f"\ntest accuracy {test.accuracy:.2%} on {self.data.name}\n"
            f"training took {self.train_seconds:.2f} s, {self.images / self.train_seconds:,.0f} "
            f"images/s, after {self.compile_seconds:.2f} s of loading or compiling kernels\n"
            f"{self.folder.path}"
        )

    def _draw(self, test: Evaluation) -> None:
        from minicnn.inspect import pictures  # matplotlib takes a second to import

        data, scores = self.data, test.scores
        labels, classes, predictions = data.test_labels, data.classes, scores.argmax(axis=1)
        if self.settings.loss.name == "softmax-cross-entropy":
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        confidence = scores.max(axis=1).clip(0, 1)
        drawings: dict[str, Callable[[Path], None]] = {
            "confusion.png": lambda path: pictures.plot_confusion(
                path, labels, predictions, classes
            ),
            "errors.png": lambda path: pictures.plot_errors(
                path, data.test_images, labels, predictions, confidence, classes
            ),
        }
        if self.rows:
            drawings["curves.png"] = lambda path: pictures.plot_curves(path, self.rows)
        convolutions = [layer for layer in self.network if isinstance(layer, Conv2d)]
        if convolutions:
            weight = convolutions[0].parameters()[0].value
            drawings["filters.png"] = lambda path: pictures.plot_filters(path, weight)
        for name, draw in drawings.items():
            try:
                draw(self.folder.path / name)
            except Exception as error:  # whatever is wrong with a picture, the run is worth more
                warn(f"{name} could not be drawn: {type(error).__name__}: {error}")
