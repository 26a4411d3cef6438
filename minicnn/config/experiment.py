"""Settings made real: the parts of a training, each in one place."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from minicnn.config.build import (
    build_augmentation,
    build_loss,
    build_network,
    build_optimizer,
    build_schedule,
    find_spec,
    layer_at,
    load_data,
    own_callbacks,
    total_steps,
)
from minicnn.config.settings import Settings
from minicnn.data import Batches, Dataset, Spec
from minicnn.data.batches import EVALUATION_BATCH
from minicnn.engine import driver
from minicnn.engine.cache import Request
from minicnn.engine.progress import Preparation
from minicnn.errors import ConfigError, MinicnnError
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss, name_of
from minicnn.model import Model
from minicnn.model.transfer import Transfer, take_weights
from minicnn.optimizers import EMA, Optimizer
from minicnn.schedules import Schedule
from minicnn.training.callbacks.hard_examples import HardExamples
from minicnn.training.callbacks.quantization import FakeQuantization
from minicnn.training.callbacks.stopping import EarlyStopping, StopAtAccuracy
from minicnn.training.callbacks.threads import ThreadTuner
from minicnn.training.callbacks.weights import LastFiniteWeights, WeightAverage, WeightChange
from minicnn.training.process_group import ProcessGroup
from minicnn.training.step import evaluation_work, step_work
from minicnn.training.trainer import Callback, Trainer


class Experiment:
    """The parts of a training that settings describe. Each is made once, when it is first asked for.

    `network` has the weights that the training starts with; `data` are loaded when they, or what depends on them, are
    first asked for. Raises ConfigError for settings that do not fit together, DataError for data that cannot be had.

    resumed: the weights will be those of a checkpoint, and `training.start_from` is not read again.
    """

    def __init__(self, settings: Settings, resumed: bool = False) -> None:
        self.settings = settings
        self._resumed = resumed
        #: What the network has of training.start_from.
        self.transfer: Transfer | None = None

    @cached_property
    def spec(self) -> Spec:
        return find_spec(self.settings.data)

    @cached_property
    def network(self) -> Sequential:
        training = self.settings.training
        generator = np.random.default_rng(training.seed)
        network = build_network(self.settings, self.spec).initialize(self.settings.network.init, generator)
        if training.start_from is not None and not self._resumed:
            try:
                self.transfer = take_weights(network, training.start_from)
            except MinicnnError as error:
                raise ConfigError(f"training.start_from: {error}") from None
        for place in training.freeze:
            layer_at(network, place, "freeze").freeze()
        for place in training.lr_factors:
            if not layer_at(network, place, "lr_factors").parameters():
                raise ConfigError(f"training.lr_factors: expected layers with weights, received layer {place}")
        if all(parameter.frozen for parameter in network.parameters()):
            raise ConfigError("training.freeze: expected a layer with weights that is not frozen, received all of them")
        return network

    @cached_property
    def loss(self) -> Loss:
        return build_loss(self.settings, self.spec)

    @cached_property
    def optimizer(self) -> Optimizer:
        return build_optimizer(self.settings, self.network)

    @cached_property
    def data(self) -> Dataset:
        return load_data(self.settings)

    @property
    def normalization(self) -> tuple[float | Sequence[float], float | Sequence[float]]:
        """The mean and the standard deviation that pixels in 0..1 are normalised with: the data's, if none are set."""
        chosen = self.settings.data
        mean = self.data.mean if chosen.mean is None else chosen.mean
        return mean, self.data.std if chosen.std is None else chosen.std

    @cached_property
    def train_batches(self) -> Batches:
        training, data = self.settings.training, self.data
        augmentation, padding = build_augmentation(self.settings), self.settings.data.padding
        self.loss.balance(data.train_labels, len(data.classes))
        return Batches(
            data.train_images,
            data.train_labels,
            training.batch_size * training.accumulate,
            *self.normalization,
            training.seed,
            augmentation,
            padding,
        )

    @cached_property
    def test_batches(self) -> Batches:
        return self.evaluation_batches(self.data.test_images, self.data.test_labels)

    def evaluation_batches(self, images: np.ndarray, labels: np.ndarray) -> Batches:
        """Images of the data set, in their order and as they are."""
        padding = self.settings.data.padding
        return Batches(images, labels, EVALUATION_BATCH, *self.normalization, padding=padding)

    @cached_property
    def hard_examples(self) -> HardExamples | None:
        share = self.settings.training.hard_examples
        return None if share is None else HardExamples(share, self.train_batches)

    @cached_property
    def schedule(self) -> Schedule:
        return build_schedule(self.settings, len(self.train_batches))

    @property
    def total_steps(self) -> int:
        """The steps of the whole training."""
        return total_steps(self.settings, len(self.train_batches))

    @property
    def model(self) -> Model:
        """The network, as it is now, with what it takes to use it."""
        data, chosen = self.data, self.settings.data
        arguments: dict[str, Any] = {"padding": chosen.padding, "background": chosen.background}
        arguments |= {"classes": data.classes, "data_set": data.name, "loss": name_of(self.loss)}
        arguments |= {"augmentation": build_augmentation(self.settings)}
        return Model(self.network, data.train_images.shape[1:], *self.normalization, **arguments)

    def rules(self, guard: LastFiniteWeights, early: EarlyStopping | None) -> list[Callback]:
        """What has a part in the training, wherever it runs."""
        settings, threads = self.settings, driver.get_threads()
        accuracy, ema = settings.stop.train_accuracy, settings.training.ema
        return [
            *([] if accuracy is None else [StopAtAccuracy(accuracy)]),
            WeightChange(settings.stop.weight_change),
            guard,
            *([FakeQuantization()] if settings.training.quantize else []),  # before what looks at the weights behind it
            *([] if ema is None else [WeightAverage(ema)]),
            *([early] if early else []),
            *(make() for make in own_callbacks(settings)),
            *([ThreadTuner(threads)] if settings.training.threads is None and threads > 1 else []),
        ]

    def trainer(
        self,
        callbacks: Sequence[Callback],
        evaluates: bool = True,
        group: ProcessGroup | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> Trainer:
        """What trains the network.

        evaluates: after each epoch, on the held-out images; if no epoch needs to know, the trainer has none of them.
        """
        return Trainer(
            self.network,
            self.loss,
            self.optimizer,
            self.train_batches,
            self.test_batches if evaluates else None,
            self.settings.training.epochs,
            schedule=self.schedule,
            callbacks=callbacks,
            held_out=self.data.held_out,
            sampler=self.hard_examples,
            group=group,
            interrupted=interrupted,
            accumulate=self.settings.training.accumulate,
        )

    def load(self, announce: Callable[[str], None]) -> float:
        """Loads the data while the kernels are compiled or loaded; returns the seconds that the kernels took."""
        self.network  # noqa: B018 # settings that are wrong show before anything takes time
        with Preparation(self.kernels, announce) as preparation:
            self.data  # noqa: B018
        return preparation.seconds

    def kernels(self) -> list[Request]:
        """Those of the training's steps and evaluations, which can be told before there are data."""
        training, shape = self.settings.training, self.spec.input_shape
        size = training.batch_size
        images, labels = np.zeros((size, *shape), np.uint8), np.zeros(size, np.int64)
        augmented = Batches(images, labels, size, augmentation=build_augmentation(self.settings))
        plain = Batches(images[:EVALUATION_BATCH], labels[:EVALUATION_BATCH], EVALUATION_BATCH)
        errors, optimizer = training.hard_examples is not None, build_optimizer(self.settings, self.network)
        works = [
            step_work(self.network, self.loss, next(augmented.epoch()), errors, optimizer),
            evaluation_work(self.network, self.loss, next(plain.epoch())),
        ]
        if training.ema is not None:
            works.append(EMA(self.network.parameters(), training.ema).work())
        return [request for work in works for request in work.requests]
