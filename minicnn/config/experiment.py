"""Settings made real: data, the network, checked layer by layer, its loss and its optimizer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from pydantic import BaseModel, create_model

from minicnn import data
from minicnn.config.messages import suggest, validated
from minicnn.config.settings import Data, Group, Settings, arguments
from minicnn.data import Augmentation, Batches, Dataset, Spec
from minicnn.data.hard_examples import HardExamples, later_steps
from minicnn.engine.cache import Request
from minicnn.errors import ConfigError
from minicnn.layers import Layer
from minicnn.layers.registry import LAYERS
from minicnn.layers.sequential import Sequential
from minicnn.losses import LOSSES, Loss
from minicnn.optimizers import EMA, OPTIMIZERS, Optimizer
from minicnn.schedules import Schedule, make_schedule
from minicnn.training.step import evaluation_work, step_work

EVALUATION_BATCH = 256

#: What follows from the layer before may be left out: Dense: {out_features: 10}.
INFERRED = ("in_channels", "in_features", "num_features", "input_size")


def find_spec(chosen: Data) -> Spec:
    """The shape of the images (with data.padding), the classes, and what else is known before the data are loaded.

    Raises ConfigError for a mean or std that do not fit, DataError for a folder or arrays that
    cannot be used.
    """
    spec = data.find_spec(chosen.name, chosen.path, chosen.resize, chosen.grey)
    channels, height, width = spec.input_shape
    for key, values in (("mean", chosen.mean), ("std", chosen.std)):
        if isinstance(values, list) and len(values) != channels:
            raise ConfigError(
                f"data.{key}: expected one number for each of the {channels} channels of "
                f"{chosen.name}, received {len(values)}"
            )
    shape = (channels, height + 2 * chosen.padding, width + 2 * chosen.padding)
    return replace(spec, input_shape=shape)


def load_data(settings: Settings, warn: Callable[[str], None]) -> Dataset:
    """The data set under `data`; its validation images, if any, are drawn with `training.seed`."""
    chosen = settings.data
    return data.load_dataset(
        chosen.name,
        chosen.root,
        chosen.if_unavailable,
        warn,
        path=chosen.path,
        resize=chosen.resize,
        grey=chosen.grey,
        validation=chosen.validation,
        seed=settings.training.seed,
    )


def build_network(settings: Settings) -> Sequential:
    """The network under `network.layers`, not initialised yet.

    Raises ConfigError with the path of the first layer that is unknown, has wrong options or does
    not fit the layer before it, or when the last does not give one number for each class.
    """
    network = Sequential(_layers(settings))
    if not network.parameters():
        raise ConfigError("network.layers: expected a layer with weights to train, received none")
    return network


def _layers(settings: Settings) -> list[Layer]:
    spec = find_spec(settings.data)
    shape: tuple[int, ...] = spec.input_shape
    layers: list[Layer] = []
    for position, item in enumerate(settings.network.layers):
        [(name, given)] = item.items()
        place = f"network.layers.{position}"
        if name not in LAYERS:
            raise ConfigError(f"{place}: unknown layer {name}; {suggest(name, LAYERS)}")
        place = f"{place}.{name}"
        options = validated(_options_model(LAYERS[name]), given, place).model_dump()
        for key in INFERRED:
            if key in options and options[key] is None:
                if key == "in_features" and len(shape) != 1:
                    raise ConfigError(
                        f"{place}: expected an input of one axis, received {shape}: a Flatten before it makes it one"
                    )
                if key == "input_size" and len(shape) != 3:
                    raise ConfigError(f"{place}: expected an input of (C, H, W), received {shape}")
                options[key] = shape[1:] if key == "input_size" else shape[0]
        try:
            layer = LAYERS[name](**options)
            shape = layer.output_shape(shape)
        except (ValueError, OverflowError, MemoryError) as error:  # the last two: a huge layer
            raise ConfigError(f"{place}: {error}") from None
        layers.append(layer)
    classes = len(spec.classes)
    if shape != (classes,):
        raise ConfigError(
            f"{place}: expected an output of shape ({classes},), a number for each class of "
            f"{settings.data.name}, received {shape}"
        )
    return layers


@cache
def _options_model(layer: type[Layer]) -> type[BaseModel]:
    """The arguments of a layer's constructor, with types and defaults, to check options with."""
    fields = arguments(layer)
    inferred = {name: (hint | None, None) for name, (hint, _) in fields.items() if name in INFERRED}
    return create_model(layer.__name__, __base__=Group, **(fields | inferred))


def build_augmentation(settings: Settings) -> Augmentation:
    return Augmentation(**vars(settings.augmentation))


def normalization(settings: Settings, data: Dataset) -> tuple[float | Sequence[float], float | Sequence[float]]:
    """The mean and the standard deviation that pixels in 0..1 are normalised with: the data set's, if none are set."""
    mean = data.mean if settings.data.mean is None else settings.data.mean
    return mean, data.std if settings.data.std is None else settings.data.std


def make_batches(settings: Settings, data: Dataset) -> tuple[Batches, Batches]:
    """Those to train with and those to evaluate with."""
    size, seed = settings.training.batch_size, settings.training.seed
    mean, std = normalization(settings, data)
    augmentation, padding = build_augmentation(settings), settings.data.padding
    train, test = data.train_images, data.test_images
    return (
        Batches(train, data.train_labels, size, mean, std, seed, augmentation, padding),
        Batches(test, data.test_labels, EVALUATION_BATCH, mean, std, padding=padding),
    )


def build_loss(settings: Settings) -> Loss:
    return LOSSES[settings.loss.name](**settings.loss.options())


def build_optimizer(settings: Settings, network: Sequential) -> Optimizer:
    options = settings.optimizer.model_dump(exclude={"name"})
    return OPTIMIZERS[settings.optimizer.name](network.parameters(), **options)


def kernels_of_run(settings: Settings, network: Sequential) -> list[Request]:
    """Those of a run's steps and evaluations, which can be told before there are data."""
    shape, size = find_spec(settings.data).input_shape, settings.training.batch_size
    images, labels = np.zeros((size, *shape), np.uint8), np.zeros(size, np.int64)
    augmented = Batches(images, labels, size, augmentation=build_augmentation(settings))
    plain = Batches(images[:EVALUATION_BATCH], labels[:EVALUATION_BATCH], EVALUATION_BATCH)
    loss, training = build_loss(settings), settings.training
    works = [
        step_work(network, loss, next(augmented.epoch()), errors=training.hard_examples is not None),
        evaluation_work(network, loss, next(plain.epoch())),
        build_optimizer(settings, network).work(),
    ]
    if training.ema is not None:
        works.append(EMA(network.parameters(), training.ema).work())
    return [request for work in works for request in work.requests]


def build_hard_examples(settings: Settings, batches: data.Batches) -> HardExamples | None:
    share = settings.training.hard_examples
    return None if share is None else HardExamples(share, batches)


def total_steps(settings: Settings, steps_per_epoch: int) -> int:
    """The steps of the whole run, whose first epoch has `steps_per_epoch`."""
    epochs, hard_examples = settings.training.epochs, settings.training.hard_examples
    later = steps_per_epoch if hard_examples is None else later_steps(hard_examples, steps_per_epoch)
    return steps_per_epoch + (epochs - 1) * later


def build_schedule(settings: Settings, steps_per_epoch: int) -> Schedule:
    """The learning rate of each step, the first being step 0; what is set in epochs becomes steps."""
    schedule = settings.schedule
    options = schedule.options()
    if "step_size" in options:
        options["step_size"] = max(1, round(options["step_size"] * steps_per_epoch))
    if schedule.name == "exponential":
        options["gamma"] **= 1 / steps_per_epoch
    return make_schedule(
        schedule.name,
        settings.optimizer.lr,
        total_steps(settings, steps_per_epoch),
        round(schedule.warmup * steps_per_epoch),
        **options,
    )
