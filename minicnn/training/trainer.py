"""The loop of a training run: epochs of steps, an evaluation after each, and what a run leaves behind."""

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice

import numpy as np
from tqdm import tqdm

from minicnn.config.experiment import (
    build_hard_examples,
    build_loss,
    build_optimizer,
    build_schedule,
    make_batches,
    normalization,
)
from minicnn.config.settings import Output, Settings
from minicnn.console import at_terminal, info, leads, warn
from minicnn.data import Dataset
from minicnn.engine import driver
from minicnn.errors import ConfigError, DivergedError, MinicnnError
from minicnn.inspect.summary import summary
from minicnn.layers.registry import to_config
from minicnn.layers.sequential import Sequential
from minicnn.losses import LOGIT_LOSSES
from minicnn.model import Model
from minicnn.optimizers import EMA
from minicnn.runs.pictures import draw_pictures
from minicnn.runs.resume import check_data, fingerprint
from minicnn.training.callbacks.logs import Logs, Row
from minicnn.training.callbacks.stopping import last_improvement, reason_to_stop
from minicnn.training.checkpoint import Checkpoint, Checkpoints
from minicnn.training.interrupt import Interrupt
from minicnn.training.pace import Pace
from minicnn.training.process_group import OneProcess
from minicnn.training.run_folder import RunFolder, environment
from minicnn.training.state import Memory, Progress
from minicnn.training.step import Evaluation, first_not_finite, train_step

FIGURES = ("loss", "accuracy")
SNAPSHOT_EVERY = 100  # steps: a copy of LeNet's weights takes 10 us, a step 600


def introduction(network: Sequential, data: Dataset, padding: int) -> str:
    """What is going to be trained, and with what."""
    channels, height, width = shape = data.train_images.shape[1:]
    seen = channels, height + 2 * padding, width + 2 * padding
    around = f" with {padding} pixels of black around them" if padding else ""
    return (
        f"{summary(network, seen)}\n\n"
        f"{data.name}: {len(data.train_images):,} training and {len(data.test_images):,} "
        f"{data.held_out} images of {' x '.join(map(str, shape))}{around}, "
        f"{len(data.classes)} classes"
    )


class Trainer:
    """A network with its data, loss and optimizer, and how far its training has come."""

    def __init__(
        self,
        settings: Settings,
        network: Sequential,
        data: Dataset,
        folder: RunFolder,
        ranks: OneProcess | None = None,
        compile_seconds: float = 0.0,
    ) -> None:
        self.ranks = ranks or OneProcess()
        self.settings, self.network, self.data, self.folder = settings, network, data, folder
        training = settings.training
        network.initialize(settings.network.init, np.random.default_rng(training.seed))
        self.ranks.separate_generators(network)
        self.loss = build_loss(settings)
        self.optimizer = build_optimizer(settings, network)
        self.ema = None if training.ema is None else EMA(network.parameters(), training.ema)
        self.mean, self.std = normalization(settings, data)
        self.train_batches, self.test_batches = make_batches(settings, data)
        self.hard_examples = build_hard_examples(settings, self.train_batches)
        if self.hard_examples and self.ranks.size > 1:
            raise ConfigError(
                "training.hard_examples: expected null with several processes, each of which sees the errors of a "
                f"part of the images only, received {self.hard_examples.share:g} with {self.ranks.size}"
            )
        self.schedule = build_schedule(settings, len(self.train_batches))
        self.logs = Logs(folder, settings.output if leads() else Output(pictures=False))
        self.checkpoints = Checkpoints(folder.path)
        self.data_fingerprint = fingerprint(data)
        self.memory = Memory(network, self.optimizer, self.ema, self.ranks, self.hard_examples)
        #: The rows of the epochs with the lowest loss on the watched images, and of the last that stop.patience counts.
        self.lowest: Row = {}
        self.watched: Row = {}
        #: How long it took to compile or load the kernels, which was done while the data were loaded.
        self.compile_seconds = compile_seconds
        threads = driver.get_threads()
        self.pace = Pace(threads) if training.threads is None and threads > 1 else None

    @property
    def progress(self) -> Progress:
        return self.memory.progress

    @property
    def done(self) -> bool:
        """Whether all epochs are done, or a rule under `stop` has ended the run before."""
        return self.progress.epoch > self.settings.training.epochs or bool(self.progress.stopped)

    def start(self) -> None:
        """Says what is going to happen."""
        info(introduction(self.network, self.data, self.settings.data.padding))
        self.folder.write_json("environment.json", {"data_set": self.data.name, **environment()})

    def fit(self, interrupt: Interrupt) -> Evaluation:
        """All epochs, or those there was time for; returns the last result on the held-out images.

        Raises MinicnnError when the loss is not finite, with the last good weights put back.
        """
        self.logs.go_on(self.progress.step, self.progress.metrics, self.progress.timings)
        test = None
        try:
            while not self.done and (test is None or not self._stopped(interrupt)):
                self._train_epoch(interrupt)
                if self._stopped(interrupt):  # first, as who stops a run may soon lose patience
                    self.save()
                test = self._evaluate()
                if self.progress.batches == self._steps_of_epoch():
                    self._end_epoch(test)
            return self._evaluate() if test is None or self._early_stopping else test
        except DivergedError as error:
            self.memory.restore_weights(self.memory.good)
            raise DivergedError(
                error.step,
                error.layer,
                f"; the last good weights, those after step {self.progress.good_step}, are "
                f"in {self.folder.path / 'model.safetensors'}",
                error.gradient,
            ) from None
        finally:
            self.logs.flush(sync=True)

    def _train_epoch(self, interrupt: Interrupt) -> None:
        """The rest of a pass over the training images, or that part of it that there was time for."""
        progress, hard_examples, number = self.progress, self.hard_examples, self.progress.epoch - 1
        chosen = hard_examples.chosen(number) if hard_examples else None
        batches = self.train_batches.epoch(number, chosen)
        every = self.settings.checkpoint.every
        begin = time.perf_counter() - progress.seconds
        if progress.batches == 0:
            self.memory.begin_epoch()
        with tqdm(
            total=len(self.data.train_images) if chosen is None else len(chosen),
            initial=progress.images,
            desc=f"epoch {progress.epoch}/{self.settings.training.epochs}",
            unit=" images",
            unit_scale=True,
            leave=False,
            disable=not (leads() and at_terminal()),
        ) as bar:
            for batch in islice(batches, progress.batches, None):
                keep = progress.step % SNAPSHOT_EVERY == 0 or progress.batches == 0
                weights = self.memory.copy_weights() if keep else {}
                self.optimizer.lr = self.schedule(progress.step)
                shard = self.ranks.shard(batch)
                if self.pace:
                    self.pace.before_step()
                result = train_step(
                    self.network, self.loss, self.optimizer, shard, self.ranks.reduce, errors=hard_examples is not None
                )
                if hard_examples and result.errors is not None:
                    hard_examples.update(batch, result.errors)
                if self.ema:
                    self.ema.update()
                if keep:  # the loss that proved finite is that of the weights before the step
                    progress.good_step, self.memory.good = progress.step, weights
                progress.step += 1
                progress.batches += 1
                progress.loss += result.loss * result.count
                progress.correct += result.correct
                progress.images += result.count
                if self.logs.every_step:
                    self._log_step(result.loss, result.correct / result.count)
                if not bar.disable:
                    loss, accuracy = self._means()
                    bar.set_postfix_str(f"loss {loss:.4f}, {accuracy:.2%}", False)
                    bar.update(result.count)
                if self._stopped(interrupt):
                    break
                if every and progress.step % every == 0:
                    progress.seconds = time.perf_counter() - begin
                    self.save()
        progress.seconds = time.perf_counter() - begin

    def _steps_of_epoch(self) -> int:
        """The number of batches of the epoch under way."""
        if self.hard_examples:
            return self.hard_examples.steps(self.progress.epoch - 1)
        return len(self.train_batches)

    def _stopped(self, interrupt: Interrupt) -> bool:
        """Whether the training is to end here, which all ranks must see in the same step."""
        return self.ranks.stop_requested(interrupt.requested)

    def _means(self) -> tuple[float, float]:
        """Loss and accuracy over the images of the epoch so far."""
        return (self.progress.loss / self.progress.images, self.progress.correct / self.progress.images)

    def _log_step(self, loss: float, accuracy: float) -> None:
        self.logs.step(
            {
                "step": self.progress.step,
                "epoch": self.progress.epoch,
                "lr": self.optimizer.lr,
                "loss": loss,
                "accuracy": accuracy,
            }
        )

    def _evaluate(self) -> Evaluation:
        """The result on the held-out images, with the averaged weights if there are such."""
        with self._final_weights():
            test = self.ranks.evaluate(self.network, self.loss, self.test_batches)
            if not math.isfinite(test.loss):
                batches = self.test_batches.epoch()
                layers = (first_not_finite(self.network, batch) for batch in batches)
                raise DivergedError(self.progress.step, next(filter(None, layers), "the loss"))
        return test

    def _end_epoch(self, test: Evaluation) -> None:
        """The line of an epoch on the console and in the tables; then the next one's turn."""
        progress, held_out = self.progress, self.data.held_out
        loss, accuracy = self._means()
        figures = (progress.epoch, progress.step, self.optimizer.lr, loss, accuracy)
        watched = (test.loss, test.accuracy, self.memory.weight_change())
        progress.metrics.append(dict(zip(self._columns(), figures + watched, strict=True)))
        seconds, rate = progress.seconds, round(progress.images / progress.seconds)
        progress.timings.append({"epoch": progress.epoch, "seconds": round(seconds, 3), "images_per_second": rate})
        epochs = self.settings.training.epochs
        info(
            f"epoch {progress.epoch:{len(str(epochs))}}/{epochs}"
            f"   train loss {loss:.4f}, accuracy {accuracy:.2%}"
            f"   {held_out} loss {test.loss:.4f}, accuracy {test.accuracy:.2%}"
            f"   {seconds:.2f} s, {rate:,} images/s"
        )
        self.logs.epoch(progress.metrics[-1], progress.timings[-1])
        if test.accuracy > progress.best_accuracy:
            progress.best_accuracy = test.accuracy
            best = self._model_file()
            self.folder.attempt("the best weights", self.checkpoints.write_best, best)
        if self.hard_examples:
            self.hard_examples.end_epoch()
        self._watch(progress.metrics[-1:])
        if self.lowest["epoch"] == progress.epoch:
            with self._final_weights():
                self.memory.keep_lowest()
        if progress.epoch < epochs:
            rows = [self.watched, progress.metrics[-1]]
            progress.stopped = reason_to_stop(self.settings.stop, rows, held_out) or ""
        progress.all_images += progress.images
        progress.all_seconds += seconds
        progress.epoch += 1
        progress.batches = progress.images = progress.correct = 0
        progress.loss = progress.seconds = 0.0
        self.save()

    def _columns(self) -> list[str]:
        """Those of metrics.csv."""
        parts = [f"{part}_{figure}" for part in ("train", self.data.held_out) for figure in FIGURES]
        return ["epoch", "step", "lr", *parts, "weight_change"]

    def _watch(self, rows: Sequence[Row]) -> None:
        """Takes new rows into account for what the rules under `stop` compare with."""
        held_out, delta = self.data.held_out, self.settings.stop.min_delta
        if rows:
            self.lowest = last_improvement([*filter(None, [self.lowest]), *rows], held_out)
            self.watched = last_improvement([*filter(None, [self.watched]), *rows], held_out, delta)

    def save(self, complete: bool = False) -> None:
        """A checkpoint of this very moment, between two steps; a warning where it cannot be written."""
        if not np.isfinite(self.network.values).all():
            return  # the next step will say so, and the checkpoints before are worth more
        self.logs.flush(sync=True)
        checkpoint = self.memory.checkpoint(
            complete=complete,  # with the pictures, and all that there is to do at the end
            settings=self.settings.model_dump(mode="json"),
            layers=to_config(self.network),
            data=self.data_fingerprint,
        )
        self.folder.attempt("a new checkpoint", self.checkpoints.write, checkpoint)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to that moment. Raises MinicnnError if it is one of other data or of another network."""
        check_data(checkpoint.state["data"], self.data_fingerprint)
        self.memory.restore(checkpoint)
        if self.progress.batches >= self._steps_of_epoch():
            raise MinicnnError(
                f"checkpoint: expected less than the {self._steps_of_epoch()} batches of an epoch, "
                f"received {self.progress.batches} that are done"
            )
        metrics = self.progress.metrics
        if metrics and list(metrics[0]) != self._columns():
            warn("metrics.csv: expected the columns of the run so far; going on without its rows")
            metrics.clear()
        self._watch(metrics)

    @property
    def _early_stopping(self) -> bool:
        """Whether the run is over, and its result is the epoch with the lowest loss on the held-out images."""
        return self.done and self.settings.stop.patience is not None

    def _final_weights(self) -> AbstractContextManager[None]:
        """Within the block, the network has the weights that it is to be used with."""
        if self._early_stopping:
            return self.memory.lowest_applied()
        return self.ema.applied() if self.ema else nullcontext()

    def save_weights(self) -> None:
        """model.safetensors: the weights, and what it takes to use them without the settings."""
        self.folder.write("model.safetensors", self._model_file())

    def _model_file(self) -> bytes:
        data = self.data
        model = Model(
            self.network,
            data.train_images.shape[1:],
            self.mean,
            self.std,
            data.classes,
            data.name,
            self.settings.loss.name,
            self.settings.data.padding,
        )
        with self._final_weights():
            return model.to_bytes()

    def finish(self, test: Evaluation) -> None:
        """Draws the pictures and says what came out."""
        progress, settings = self.progress, self.settings
        if settings.output.pictures and leads():
            logits = settings.loss.name in LOGIT_LOSSES
            with self._final_weights():
                draw_pictures(
                    self.folder.path, self.network, self.data, self.train_batches, test, progress.metrics, logits
                )
        if not self.done:
            info(
                f"interrupted after step {progress.step:,}, in epoch {progress.epoch} of "
                f"{settings.training.epochs}; to go on: minicnn train --resume {self.folder.path}"
            )
        elif progress.stopped:
            info(f"stopped after epoch {progress.epoch - 1} of {settings.training.epochs}: {progress.stopped}")
        if self._early_stopping:
            epoch = self.lowest.get("epoch", "?")  # the tables may have got lost
            info(f"the model is that of epoch {epoch}, with the lowest {self.data.held_out} loss")
        images = progress.all_images + progress.images
        seconds = progress.all_seconds + progress.seconds
        info(
            f"\n{self.data.held_out} accuracy {test.accuracy:.2%} on {self.data.name}\n"
            f"training took {seconds:.2f} s, {images / seconds:,.0f} "
            f"images/s, after {self.compile_seconds:.2f} s of loading or compiling kernels\n"
            f"{self.folder.path}"
        )
        if self.done:
            self.save(complete=True)
