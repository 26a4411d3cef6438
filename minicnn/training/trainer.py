"""The loop of a training: epochs of steps, and an evaluation after each."""

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from minicnn.checks import as_written
from minicnn.data.batches import Batch, Batches
from minicnn.engine.arrays import Array
from minicnn.engine.cache import Request
from minicnn.errors import ConfigError, DivergedError
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss
from minicnn.metrics import FIGURES, tops
from minicnn.optimizers import Optimizer
from minicnn.schedules import Schedule
from minicnn.training.accumulation import accumulated_step
from minicnn.training.divergence import first_not_finite
from minicnn.training.process_group import ProcessGroup
from minicnn.training.progress import Progress
from minicnn.training.step import Evaluation, StepResult, evaluation_work, step_work


class Callback:
    """Does something at certain moments of a training. Derive from it, and override the methods that you need.

    Callbacks are called in their order. Each gets the trainer, which has `network`, `loss`, `optimizer`, `progress`,
    `epochs` and `stop(reason)`. A callback that depends on what it saw before names it in `kept`, or returns it from
    `arrays` and `state`. Then a training that goes on from a checkpoint is the same as one that was never stopped.
    """

    #: The attributes, numbers and texts (or True, False, None), that `state` returns.
    kept: ClassVar[tuple[str, ...]] = ()

    #: Whether `arrays` are weights, which go back together with the network's when a loss is not finite.
    has_weights = False
    #: Whether `result_weights` are those of an epoch; they come before an average of the last ones.
    chooses_epoch = False

    def __repr__(self) -> str:
        return as_written(self)

    def on_setup(self, trainer: "Trainer") -> None:
        """The trainer has been made. It may go on from a checkpoint after this."""

    def on_train_begin(self, trainer: "Trainer") -> None:
        """The first step is next."""

    def on_epoch_begin(self, trainer: "Trainer") -> None:
        """The first step of an epoch is next (in a resumed training, the next step of the current epoch)."""

    def on_step_begin(self, trainer: "Trainer") -> None:
        """Step number `trainer.progress.step`, from 0 on, is next."""

    def on_step_end(self, trainer: "Trainer", batch: Batch, result: StepResult) -> None:
        """A step is done, `trainer.progress.step` of them so far. `result` has the loss before the update."""

    def on_epoch_end(self, trainer: "Trainer", row: dict[str, Any]) -> None:
        """An epoch and its evaluation are done. `row` has its figures; what you add to it is in the history, too.

        `trainer.progress` is at the beginning of the next epoch already.
        """

    def on_interrupt(self, trainer: "Trainer") -> None:
        """The user has stopped the training, which ends after the last step."""

    def on_checkpoint(self, trainer: "Trainer") -> None:
        """A checkpoint is about to be written; flush your files."""

    def on_exception(self, trainer: "Trainer", error: BaseException) -> None:
        """The training ends with an error, or KeyboardInterrupt."""

    def on_train_end(self, trainer: "Trainer", test: Evaluation | None) -> None:
        """The training is over; `test` is the result on the held-out images."""

    def close(self, trainer: "Trainer") -> None:
        """The training has ended, in whatever way: files are closed here."""

    def result_weights(self, trainer: "Trainer") -> AbstractContextManager[None] | None:
        """A block in which the network has the weights to use, if these are not the weights of the last step."""
        return None

    def arrays(self) -> dict[str, Array]:
        """The arrays that a checkpoint keeps; it is restored by writing into them."""
        return {}

    def state(self) -> dict[str, Any]:
        """The numbers and texts that a checkpoint keeps: those of `kept`."""
        return {name.lstrip("_"): getattr(self, name) for name in self.kept}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to what `state` returned."""
        for name in self.kept:
            before, value = getattr(self, name), state[name.lstrip("_")]
            if before is not None and isinstance(value, str) != isinstance(before, str):
                raise TypeError(f"{type(self).__name__}.{name}: expected one like {before!r}, received {value!r}")
            setattr(self, name, value)


class Sampler(Callback):
    """Chooses the images that each epoch trains on."""

    @abstractmethod
    def steps(self, epoch: int) -> int:
        """The number of batches of epoch 0, 1, ..."""

    @abstractmethod
    def chosen(self, epoch: int) -> NDArray[np.int64] | None:
        """The numbers of the images of an epoch, in ascending order; None stands for all."""


class Trainer:
    """Trains a network on batches. Callbacks do everything else.

    network        the network, with the weights to start from
    train_batches  the batches to train on
    test_batches   the batches to evaluate on after each epoch, or None
    epochs         passes over the training images
    schedule       a function that gives the learning rate of step 0, 1, ... [the optimizer's rate]
    callbacks      called in this order
    held_out       the name of test_batches in the figures, as in "test_loss"
    sampler        chooses the images of each epoch [all of them]
    group          the processes that train together [this one alone]
    interrupted    called after each step; if it returns True, the training ends there
    accumulate     the parts, as far as they are equal, in which a batch goes through the network; the gradients are
                   added up, and the batch is one step (see `accumulated_step`)
    """

    def __init__(
        self,
        network: Sequential,
        loss: Loss,
        optimizer: Optimizer,
        train_batches: Batches,
        test_batches: Batches | None,
        epochs: int,
        *,
        schedule: Schedule | None = None,
        callbacks: Sequence[Callback] = (),
        held_out: str = "test",
        sampler: Sampler | None = None,
        group: ProcessGroup | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        accumulate: int = 1,
    ) -> None:
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.train_batches, self.test_batches, self.held_out = train_batches, test_batches, held_out
        self.epochs, self.schedule, self.sampler = epochs, schedule, sampler
        self.group = group or ProcessGroup()
        #: Images that go through the network at once.
        self._at_once = -(-train_batches.batch_size // (accumulate * self.group.world_size))
        self.callbacks: list[Callback] = [*([sampler] if sampler else []), *callbacks]
        self.progress = Progress()
        #: Whether the training has come to its end: all epochs are done, or a rule has stopped it.
        self.finished = False
        self.images_of_epoch = len(train_batches.images)
        self._interrupted = interrupted
        self._methods: dict[str, list[Callable[..., None]]] = {}
        self.group.separate_generators(network)
        kinds = [type(one).__name__ for one in self.callbacks]
        twice = next((name for name in kinds if kinds.count(name) > 1), None)
        if twice:
            raise ConfigError(f"callbacks: expected one {twice} at most, received {kinds.count(twice)}")
        for callback in sorted(self.callbacks, key=lambda one: not one.has_weights):  # others copy their weights
            callback.on_setup(self)

    def fit(self) -> Evaluation | None:
        """Trains all epochs, unless it is stopped before, and returns the last result on the held-out images.

        Raises DivergedError when the loss is not finite.
        """
        test, evaluated = None, None
        try:
            self.call("on_train_begin")
            while not self.done:
                self._train_epoch()
                if self.interrupted:  # first, as who stops a training may soon lose patience
                    self.call("on_interrupt")
                test, evaluated = self._evaluate(), self._result_callback
                if self.progress.batches < self.steps_of_epoch:
                    break
                self._end_epoch(test)
                if self.interrupted:
                    break
            self.finished = self.done
            if test is None or self._result_callback is not evaluated:
                test = self._evaluate()
            self.call("on_train_end", test)
            return test
        except BaseException as error:
            self.call("on_exception", error)
            raise
        finally:
            self._close()

    def _close(self) -> None:
        """Closes all callbacks, also behind one that fails."""
        with ExitStack() as stack:
            for callback in reversed(self.callbacks):
                stack.callback(callback.close, self)

    def _train_epoch(self) -> None:
        """The rest of a pass over the training images, or that part of it that there is time for."""
        progress = self.progress
        numbers = self.sampler.chosen(progress.epoch - 1) if self.sampler else None
        batches = self.train_batches.epoch(progress.epoch - 1, numbers)
        begin = time.perf_counter() - progress.seconds
        self.images_of_epoch = len(self.train_batches.images if numbers is None else numbers)
        if self.schedule and progress.batches:  # the figures of the epoch name the rate, even if no step is left
            self.optimizer.lr = self.schedule(progress.step - 1)
        self.call("on_epoch_begin")
        for batch in islice(batches, progress.batches, None):
            self.call("on_step_begin")
            if self.schedule:
                self.optimizer.lr = self.schedule(progress.step)
            result = accumulated_step(
                self.network,
                self.loss,
                self.optimizer,
                self.group.shard(batch),
                self._at_once,
                self.group.all_reduce,
                errors=self.sampler is not None,
            )
            progress.add(result, time.perf_counter() - begin)
            self.call("on_step_end", batch, result)
            if self.interrupted:
                break
        progress.seconds = time.perf_counter() - begin

    def _end_epoch(self, test: Evaluation | None) -> None:
        """The figures of the epoch; then the next one's turn."""
        row = {"epoch": self.progress.epoch, "step": self.progress.step, "lr": self.optimizer.lr}
        row |= {"train_loss": self.progress.mean_loss, "train_accuracy": self.progress.accuracy}
        if test:
            row |= {f"{self.held_out}_{name}": value for name, value in test.figures().items()}
        self.progress.end_epoch(row)
        self.call("on_epoch_end", row)

    def _evaluate(self) -> Evaluation | None:
        """The result on the held-out images, with the weights that are the result so far."""
        if self.test_batches is None:
            return None
        with self.result():
            test = self.group.evaluate(self.network, self.loss, self.test_batches)
            if not math.isfinite(test.loss):
                layers = (first_not_finite(self.network, batch) for batch in self.test_batches.epoch())
                raise DivergedError(self.progress.step, next(filter(None, layers), "the loss"))
        return test

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures on the held-out images, if there are any."""
        if self.test_batches is None:
            return ()
        [classes] = self.network.output_shape(self.test_batches.sample_shape)
        return FIGURES[:2] if self.test_batches.labels.ndim > 1 else (*FIGURES, *tops(classes))

    @property
    def steps_of_epoch(self) -> int:
        """The number of batches of the epoch under way."""
        return self.sampler.steps(self.progress.epoch - 1) if self.sampler else len(self.train_batches)

    @property
    def done(self) -> bool:
        """Whether all epochs are done, or a rule has ended the training before."""
        return self.progress.epoch > self.epochs or bool(self.progress.stopped)

    @property
    def interrupted(self) -> bool:
        """Whether the training is to end here, which all ranks must see in the same step."""
        return self.group.stop_requested(self._interrupted())

    def kernels(self) -> list[Request]:
        """Those of the steps and evaluations, for whoever wants them compiled before."""
        batch = next(self.train_batches.epoch())
        part = batch.cut(0, min(len(batch), self._at_once))
        works = [step_work(self.network, self.loss, part, self.sampler is not None, self.optimizer)]
        if self.test_batches is not None:
            works.append(evaluation_work(self.network, self.loss, next(self.test_batches.epoch())))
        return [request for work in works for request in work.requests]

    def stop(self, reason: str) -> None:
        """Ends the training after this epoch, unless it is the last anyway."""
        if self.progress.epoch <= self.epochs:
            self.progress.stopped += ("; " if self.progress.stopped else "") + reason

    def call(self, moment: str, *arguments: Any) -> None:
        """Calls the method of that name of each callback which has one of its own."""
        if moment not in self._methods:
            own = [one for one in self.callbacks if getattr(type(one), moment) is not getattr(Callback, moment)]
            self._methods[moment] = [getattr(callback, moment) for callback in own]
        for method in self._methods[moment]:
            method(self, *arguments)

    def result(self) -> AbstractContextManager[None]:
        """A block in which the network has the weights that are the result so far.

        Those are the last ones, unless a callback has better: an average, or those of the best epoch at the end.
        """
        callback = self._result_callback
        return (callback.result_weights(self) if callback else None) or nullcontext()

    @property
    def _result_callback(self) -> Callback | None:
        found = [callback for callback in self.callbacks if callback.result_weights(self)]
        return max(found, key=lambda one: one.chooses_epoch, default=None)

    def copy_weights(self) -> dict[str, Array]:
        """All weights, those of callbacks included, for `restore_weights`."""
        return {name: array.copy() for name, array in self._weights().items()}

    def restore_weights(self, weights: Mapping[str, Array]) -> None:
        own = self._weights()
        for name, array in weights.items():
            own[name][...] = array

    def _weights(self) -> dict[str, Array]:
        weights = {f"network.{name}": array for name, array in self.network.state_arrays().items()}
        for callback in self.callbacks:
            if callback.has_weights:
                weights |= {f"{type(callback).__name__}.{name}": array for name, array in callback.arrays().items()}
        return weights
