"""Settings: a YAML file with overrides becomes a validated, typed `Settings`, and back.

The layers under `network.layers` stay names with options here: `minicnn.config.experiment` makes them real.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from minicnn.config import yaml_file as yaml_tree
from minicnn.config.messages import show, suggest, validated
from minicnn.data import NAMES, OWN
from minicnn.data.augmentation import check_range
from minicnn.errors import ConfigError
from minicnn.layers.initializers import check_scheme
from minicnn.schedules import check_options


def _user_path(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError(f"expected a path, received {show(str(path))}")
    return Path(os.path.expanduser(path))


UserPath = Annotated[Path, AfterValidator(_user_path)]
Positive = Annotated[float, Field(gt=0)]
Side = Annotated[int, Field(ge=1)]


class Group(BaseModel):
    """A group of settings: unknown keys, text for a number, true for 1 and NaN are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def _layer(item: Any) -> Any:
    """`ReLU` and `{ReLU: null}` both mean `{ReLU: {}}`."""
    if isinstance(item, str):
        return {item: {}}
    if isinstance(item, dict) and len(item) == 1:
        return {name: {} if options is None else options for name, options in item.items()}
    if isinstance(item, dict) and len(item) > 1:  # as an option of a layer that is not there gives
        raise ValueError(f"expected one layer, received {' and '.join(map(str, item))}")
    raise ValueError(f"expected a layer such as ReLU or Dense: {{out_features: 10}}, received {show(item)}")


LayerItem = Annotated[dict[str, dict[str, Any]], BeforeValidator(_layer)]


class Network(Group):
    init: str | dict[str, float] = "kaiming"
    layers: Annotated[list[LayerItem], Field(min_length=1)]

    @field_validator("init", mode="before")
    @classmethod
    def _known_scheme(cls, scheme: Any) -> Any:
        check_scheme(scheme)
        return scheme


def _known_data_set(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"unknown data set {name}; {suggest(name, NAMES)}")
    return name


class Data(Group):
    name: Annotated[str, AfterValidator(_known_data_set)]
    root: UserPath = Path("data")
    if_unavailable: Literal["error", "mnist-subset"] = "error"
    path: UserPath | None = None
    resize: Side | Annotated[list[Side], Field(min_length=2, max_length=2)] | None = None
    grey: bool | None = None
    validation: Annotated[float, Field(gt=0, lt=1)] | None = None
    padding: Annotated[int, Field(ge=0, le=1000)] = 0
    mean: float | list[float] | None = None
    std: Positive | list[Positive] | None = None


class Augmentation(Group):
    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic_alpha: float = 0.0
    elastic_sigma: float = 4.0
    flip: float = 0.0
    crop_padding: int = 0
    cutout: int = 0

    @field_validator("*")
    @classmethod
    def _in_range(cls, value: Any, field: ValidationInfo) -> Any:
        check_range(str(field.field_name), value)
        return value


class Loss(Group):
    name: Literal["softmax-cross-entropy", "mean-squared-error", "half-squared-error", "maximum-a-posteriori"] = (
        "softmax-cross-entropy"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    j: Positive | None = None


class Optimizer(Group):
    OLD_NAMES: ClassVar = {"max_norm": "clip_norm"}

    name: Literal["sgd"] = "sgd"
    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Positive | None = None


class Schedule(Group):
    """`warmup` and `step_size` in epochs; None stands for the default of an option."""

    name: Literal["constant", "step", "exponential", "cosine", "one-cycle"] = "constant"
    warmup: Annotated[float, Field(ge=0)] = 0.0
    step_size: Positive | None = None
    gamma: float | None = None
    eta_min: float | None = None
    pct_start: float | None = None
    div_factor: float | None = None
    final_div_factor: float | None = None

    def options(self) -> dict[str, float]:
        """Those that are given."""
        given = self.model_dump(exclude={"name", "warmup"})
        return {key: value for key, value in given.items() if value is not None}


class Training(Group):
    OLD_NAMES: ClassVar = {"focus": "hard_examples"}

    epochs: Annotated[int, Field(ge=1, le=10**9)]
    batch_size: Annotated[int, Field(ge=1, le=2**31 - 1)] = 64
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    threads: Annotated[int, Field(ge=1)] | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    hard_examples: Annotated[float, Field(gt=0, le=1)] | None = None


class Stop(Group):
    """What ends a run before its last epoch (see `minicnn.training.callbacks.stopping`); None stands for never."""

    train_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    weight_change: Positive | None = None
    patience: Annotated[int, Field(ge=1)] | None = None
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class Checkpoint(Group):
    every: Annotated[int, Field(ge=1)] | None = None


class Output(Group):
    dir: UserPath = Path("runs")
    pictures: bool = True
    step_log: bool = False
    tensorboard: bool = False
    lint: bool = True


class Settings(Group):
    """All settings of a training run; configs/lenet.yaml explains each."""

    network: Network
    data: Data
    augmentation: Augmentation = Augmentation()
    loss: Loss = Loss()
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    training: Training
    stop: Stop = Stop()
    checkpoint: Checkpoint = Checkpoint()
    output: Output = Output()

    @model_validator(mode="before")
    @classmethod
    def _empty_group(cls, groups: Any) -> Any:
        """A group whose keys are all commented out is one that is left out."""
        return {key: group for key, group in groups.items() if group is not None}

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        data = self.data
        if data.name in OWN and data.path is None:
            raise ValueError(f"data.path: expected the place of the images with {data.name}, it is missing")
        for key, names in (("path", OWN), ("resize", ("folder",)), ("grey", ("folder",))):
            if getattr(data, key) is not None and data.name not in names:
                raise ValueError(f"data.{key}: expected null with {data.name}, received {getattr(data, key)}")
        if self.loss.label_smoothing and self.loss.name != "softmax-cross-entropy":
            raise ValueError(
                f"loss.label_smoothing: expected 0 with {self.loss.name}, received {self.loss.label_smoothing:g}"
            )
        if self.loss.j is not None and self.loss.name != "maximum-a-posteriori":
            raise ValueError(f"loss.j: expected null with {self.loss.name}, received {self.loss.j:g}")
        if self.optimizer.nesterov and not self.optimizer.momentum:
            raise ValueError("optimizer.nesterov: expected a momentum with it, received momentum 0")
        if self.schedule.warmup > self.training.epochs:
            raise ValueError(
                f"schedule.warmup: expected at most training.epochs ({self.training.epochs}), "
                f"received {self.schedule.warmup:g}"
            )
        if self.stop.min_delta and self.stop.patience is None:
            raise ValueError(
                f"stop.min_delta: expected stop.patience with it, received min_delta {self.stop.min_delta:g} alone"
            )
        schedule, options = self.schedule, self.schedule.options()
        if "step_size" in options:
            options["step_size"] = 1  # how many steps it is depends on the data
        check_options(schedule.name, options, self.optimizer.lr, schedule.warmup)
        return self


def flat(tree: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The values of groups of settings by their paths, such as training.epochs."""
    return {f"{group}.{key}": value for group, keys in tree.items() for key, value in keys.items()}


def load_settings(path: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """The settings in the YAML file `path`, changed by `overrides` such as `optimizer.lr=0.02`.

    Raises ConfigError, one line for each thing that is wrong.
    """
    tree = load_tree(path, overrides)
    if "networks" in tree:
        raise ConfigError(f"{path}: expected one network, received networks to compare")
    return validated(Settings, tree)


def load_tree(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What the YAML file and the overrides say, not validated yet. Raises ConfigError."""
    tree = yaml_tree.read(path)
    for assignment in overrides:
        yaml_tree.override(tree, assignment)
    return tree


def dump_settings(settings: Settings) -> str:
    """The YAML text of `settings`, defaults included, one line a layer; it loads as the same."""
    tree = settings.model_dump(mode="json")
    return dump_groups({**tree, "network": dump_network(settings.network)})


def dump_network(network: Network) -> dict[str, Any]:
    """The group `network` as one writes it: `ReLU` for `{ReLU: {}}`."""
    tree = network.model_dump(mode="json")
    tree["layers"] = [item if all(item.values()) else next(iter(item)) for item in tree["layers"]]
    return tree


def dump_groups(tree: Mapping[str, Any]) -> str:
    """The YAML text of all groups, with a line for each layer."""
    # With default_flow_style=None the innermost mappings and lists take one line each.
    return "".join(
        yaml_tree.dump(
            {group: values}, default_flow_style=None if group in ("network", "networks") else False, width=1000
        )
        for group, values in tree.items()
    )
