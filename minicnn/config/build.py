"""Each part of a training from its settings: network, checked layer by layer, data, loss, optimizer and schedule."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import groupby
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, create_model

from minicnn import data, own_code
from minicnn.config.choices import Group, arguments, loss_class, optimizer_class
from minicnn.config.settings import Data, LayerItem, Settings
from minicnn.console import warn
from minicnn.data import Augmentation, Dataset, Spec
from minicnn.engine.arrays import Shape
from minicnn.errors import ConfigError, MinicnnError
from minicnn.layers import Layer
from minicnn.layers.parameter import Cell
from minicnn.layers.registry import LAYERS
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss
from minicnn.optimizers import Optimizer
from minicnn.schedules import Schedule, make_schedule
from minicnn.training.callbacks.hard_examples import later_steps
from minicnn.training.trainer import Callback
from minicnn.validation import suggest, validated

#: What follows from the layer before may be left out: Dense: {out_features: 10}.
INFERRED = ("in_channels", "in_features", "num_features", "input_size")


def find_spec(chosen: Data) -> Spec:
    """The shape of the images (with data.padding), the classes, and what else is known before the data are loaded.

    Raises ConfigError for a mean or std that do not fit, DataError for a folder or arrays that
    cannot be used.
    """
    spec = data.find_spec(chosen.name, **vars(chosen.own))
    channels, height, width = spec.input_shape
    for key, values in (("mean", chosen.mean), ("std", chosen.std)):
        if isinstance(values, list) and len(values) != channels:
            raise ConfigError(
                f"data.{key}: expected one number for each of the {channels} channels of "
                f"{chosen.name}, received {len(values)}"
            )
    shape = (channels, height + 2 * chosen.padding, width + 2 * chosen.padding)
    return replace(spec, input_shape=shape)


def load_data(settings: Settings, warn: Callable[[str], None] = warn) -> Dataset:
    """The data set under `data`."""
    chosen = settings.data
    return data.load_dataset(
        chosen.name,
        chosen.root,
        chosen.if_unavailable,
        warn,
        **vars(chosen.own),
        validation=chosen.validation,
        seed=chosen.split_seed,
    )


def build_network(settings: Settings, spec: Spec | None = None) -> Sequential:
    """The network under `network.layers`, not initialised yet. spec: that of the data set, if it is known.

    Raises ConfigError with the path of the first layer that is unknown, has wrong options or does
    not fit the layer before it, or when the last does not give one number for each class.
    """
    spec = spec or find_spec(settings.data)
    layers, shape, place = _layers(settings.network.layers, spec.input_shape, "network.layers")
    classes = len(spec.classes)
    if shape != (classes,):
        raise ConfigError(
            f"{place}: expected an output of shape ({classes},), a number for each class of "
            f"{settings.data.name}, received {shape}"
        )
    network = Sequential(layers)
    if not network.parameters():
        raise ConfigError("network.layers: expected a layer with weights to train, received none")
    return network


def _layers(items: Sequence[dict[str, Any]], shape: Shape, before: str) -> tuple[list[Layer], Shape, str]:
    """The layers for an input of `shape`, the shape of their output, and the place of the last one."""
    layers, place = list[Layer](), before
    for position, item in enumerate(items):
        [(name, given)] = item.items()
        place = f"{before}.{position}"
        kind = own_code.find(name, Layer, place) if own_code.is_own(name) else LAYERS.get(name)
        if kind is None:
            raise ConfigError(f"{place}: unknown layer {name}; {suggest(name, LAYERS)}")
        place = f"{place}.{name}"
        options = validated(_options_model(kind), given, place).model_dump()
        for key in _rows(kind):
            if options[key] is not None:
                options[key], _, _ = _layers(options[key], shape, f"{place}.{key}")
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
            layer = kind(**options)
            shape = layer.output_shape(shape)
        except (ValueError, OverflowError, MemoryError) as error:  # the last two: a huge layer
            raise ConfigError(f"{place}: {error}") from None
        layers.append(layer)
    return layers, shape, place


@cache
def _options_model(layer: type) -> type[BaseModel]:
    """The arguments of the constructor of a layer or callback, with types and defaults, to check options with."""
    fields = arguments(layer)
    for name in _rows(layer):
        default = fields[name][1]
        row = Annotated[list[LayerItem], Field(min_length=1)]
        fields[name] = (row, ...) if default is ... else (row | None, default)
    inferred = {name: (hint | None, None) for name, (hint, _) in fields.items() if name in INFERRED}
    return create_model(layer.__name__, __base__=Group, **(fields | inferred))


def _rows(layer: type[Layer]) -> list[str]:
    """The arguments of a layer's constructor that are layers themselves."""
    return [name for name, (hint, _) in arguments(layer).items() if Iterable[Layer] in (hint, *get_args(hint))]


def build_augmentation(settings: Settings) -> Augmentation:
    return Augmentation(**vars(settings.augmentation))


def build_loss(settings: Settings, spec: Spec | None = None) -> Loss:
    """The loss, for data of such a spec. Raises ConfigError for class weights that do not fit."""
    try:
        loss = loss_class(settings.loss.name)(**settings.loss.options())
    except MinicnnError as error:
        raise ConfigError(f"loss.{error}") from None
    weights = settings.loss.options().get("class_weights")
    if spec and isinstance(weights, list) and len(weights) != len(spec.classes):
        raise ConfigError(
            f"loss.class_weights: expected {len(spec.classes)} numbers, one for each class of {settings.data.name}, "
            f"received {len(weights)}"
        )
    return loss


def build_optimizer(settings: Settings, network: Sequential) -> Optimizer:
    options, lr_factors = settings.optimizer.model_dump(exclude={"name"}), settings.training.lr_factors
    factors: dict[Cell, float] = {}
    for place in sorted(lr_factors, key=lambda place: place.count(".")):  # those of layers within others come last
        for parameter in layer_at(network, place, "lr_factors").parameters():
            factors[parameter.cell] = lr_factors[place]
    kind = optimizer_class(settings.optimizer.name)
    if not factors:
        return kind(network.parameters(), **options)
    runs = groupby(network.parameters(), lambda parameter: factors.get(parameter.cell, 1.0))
    groups = [{"params": list(run), "lr": settings.optimizer.lr * factor} for factor, run in runs]
    return kind(groups, **options)


def layer_at(network: Sequential, place: int | str, key: str) -> Layer:
    """The layer there; -1 is the last one. Raises ConfigError."""
    known, name = dict(network.places()), str(place)
    if re.fullmatch(r"-\d+", name):
        name = str(len(network) + int(name))
    if name not in known:
        raise ConfigError(
            f"training.{key}: expected layers of the network, numbered from 0 to {len(network) - 1}, received {place}"
        )
    return known[name]


def own_callbacks(settings: Settings) -> list[Callable[[], Callback]]:
    """What makes the callbacks of the user's own. Raises ConfigError for unknown ones, and for wrong options."""
    found: list[Callable[[], Callback]] = []
    for position, item in enumerate(settings.training.callbacks):
        [(name, given)] = item.items()
        place = f"training.callbacks.{position}"
        if not own_code.is_own(name):
            raise ConfigError(f"{place}: expected one of your own, such as my_module:MyCallback, received {name}")
        kind = own_code.find(name, Callback, place)
        options = validated(_options_model(kind), given, f"{place}.{name}").model_dump()
        found.append(partial(kind, **options))
    return found


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
