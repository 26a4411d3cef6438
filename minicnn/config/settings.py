"""Settings: a YAML file with overrides becomes a validated, typed `Settings`, and back.

The layers under `network.layers` stay names with options here: `minicnn.config.build` makes them real.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from minicnn import data, own_code
from minicnn.config import yaml_file as yaml_tree
from minicnn.config.choices import (
    AnyLoss,
    AnyOptimizer,
    Group,
    Loss,
    Positive,
    Schedule,
    arguments,
    loss_class,
    optimizer_class,
)
from minicnn.data import NAMES, OWN
from minicnn.data.augmentation import check_range
from minicnn.data.datasets import unfit
from minicnn.data.image_list import Options
from minicnn.errors import ConfigError
from minicnn.layers.initializers import check_scheme
from minicnn.losses import LABEL_LOSSES
from minicnn.schedules import check_options
from minicnn.validation import show, show_value, suggest, validated


def _user_path(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError(f"expected a path, received {show(str(path))}")
    return Path(os.path.expanduser(path))


UserPath = Annotated[Path, AfterValidator(_user_path)]
Side = Annotated[int, Field(ge=1)]
Level = Annotated[int, Field(ge=0, le=255)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


def _layer(item: Any) -> Any:
    """`ReLU` and `{ReLU: null}` both mean `{ReLU: {}}`."""
    if isinstance(item, str):
        return {item: {}}
    if isinstance(item, dict) and isinstance(listed := item.get("Residual"), list) and len(item) == 1:
        raise ValueError(f"expected Residual: {{layers: [...]}}, received its layers alone: {show(listed)}")
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
    background: Level | Annotated[list[Level], Field(min_length=3, max_length=3)] = 255
    skip_unreadable: bool = False
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    validation: Annotated[float, Field(gt=0, lt=1)] | None = None
    split_seed: Seed = 0
    padding: Annotated[int, Field(ge=0, le=1000)] = 0
    mean: float | list[float] | None = None
    std: Positive | list[Positive] | None = None

    @property
    def own(self) -> Options:
        """What there is to say of the user's own images."""
        return Options(**{field.name: getattr(self, field.name) for field in fields(Options)})


class _Augmentation(Group):
    @field_validator("*")
    @classmethod
    def _in_range(cls, value: Any, field: ValidationInfo) -> Any:
        check_range(str(field.field_name), value)
        return value


if TYPE_CHECKING:
    from minicnn.data import Augmentation as Augmentation
else:
    # What stands in its constructor stands nowhere else.
    Augmentation = create_model("Augmentation", __base__=_Augmentation, **arguments(data.Augmentation, extras=False))


def _layer_place(place: Any) -> Any:
    """The place of a layer: its number, or text for one within another layer."""
    if isinstance(place, bool) or not isinstance(place, int | str):
        raise ValueError(
            'expected the number of a layer, or text such as "2.layers.0" for one within another, '
            f"received {show(place)}"
        )
    return place


LayerPlace = Annotated[int | str, BeforeValidator(_layer_place)]


class Training(Group):
    OLD_NAMES: ClassVar = {"focus": "hard_examples"}

    epochs: Annotated[int, Field(ge=1, le=10**9)]
    batch_size: Annotated[int, Field(ge=1, le=2**31 - 1)] = 64
    accumulate: Annotated[int, Field(ge=1, le=10**6)] = 1
    seed: Seed = 0
    start_from: UserPath | None = None
    freeze: list[LayerPlace] = Field(default_factory=list)
    lr_factors: dict[str, Positive] = Field(default_factory=dict)
    threads: Annotated[int, Field(ge=1)] | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    hard_examples: Annotated[float, Field(gt=0, le=1)] | None = None
    quantize: bool = False
    callbacks: list[LayerItem] = Field(default_factory=list)


class Stop(Group):
    """What ends a run before its last epoch (see `minicnn.training.callbacks.stopping`); None stands for never."""

    train_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    weight_change: Positive | None = None
    patience: Annotated[int, Field(ge=1)] | None = None
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    watch: Literal["loss", "accuracy", "balanced_accuracy", "macro_f1", "top3_accuracy", "top5_accuracy"] = "loss"


class Checkpoint(Group):
    every: Annotated[int, Field(ge=1)] | None = None


class Output(Group):
    dir: UserPath = Path("runs")
    pictures: bool = True
    step_log: bool = False
    tensorboard: bool = False
    keep_epochs: bool = False
    lint: bool = True


class Settings(Group):
    """All settings of a training run; configs/lenet.yaml explains each."""

    network: Network
    data: Data
    augmentation: Augmentation = Augmentation()
    loss: AnyLoss = Loss()
    optimizer: AnyOptimizer
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
        for key, value in unfit(data.name, data.own).items():
            default, received = show(Data.model_fields[key].default), str(value) if key == "path" else value
            raise ValueError(f"data.{key}: expected {default} with {data.name}, received {show_value(received)}")
        for key, value in self.loss.options().items():
            if key not in arguments(loss_class(self.loss.name)):
                default = type(self.loss).model_fields[key].default
                expected = "null" if default is None else f"{default:g}"
                received = f"{value:g}" if isinstance(value, float) else show(value)
                raise ValueError(f"loss.{key}: expected {expected} with {self.loss.name}, received {received}")
        if self.augmentation.mixup and not LABEL_LOSSES[self.loss.name].takes_shares:
            raise ValueError(
                f"augmentation.mixup: expected 0 with {self.loss.name}, whose target is a label, "
                f"received {self.augmentation.mixup:g}"
            )
        try:
            optimizer_class(self.optimizer.name).check(self.optimizer.model_dump())
        except ConfigError as error:
            raise ValueError(f"optimizer.{error}") from None
        if self.schedule.warmup > self.training.epochs:
            raise ValueError(
                f"schedule.warmup: expected at most training.epochs ({self.training.epochs}), "
                f"received {self.schedule.warmup:g}; with fewer epochs, set schedule.warmup, too"
            )
        for key in ("min_delta", "watch"):
            value = getattr(self.stop, key)
            if self.stop.patience is None and value != Stop.model_fields[key].default:
                raise ValueError(f"stop.{key}: expected stop.patience with it, received {key} {value} alone")
        schedule, options = self.schedule, self.schedule.options()
        if "step_size" in options:
            options["step_size"] = 1  # how many steps it is depends on the data
        check_options(schedule.name, options, self.optimizer.lr, schedule.warmup)
        return self


def flat(tree: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The values of groups of settings by their paths, such as training.epochs."""
    return {f"{group}.{key}": value for group, keys in tree.items() for key, value in keys.items()}


def load_settings(path: str | Path, overrides: Sequence[str] = (), of_run: bool = False) -> Settings:
    """The settings in the YAML file `path`, changed by `overrides` such as `optimizer.lr=0.02`.

    Code of the user's own that they name is run (see `minicnn.own_code`), unless they are those `of_run`, of a run that
    has been trained. Raises ConfigError, one line for each thing that is wrong.
    """
    tree = load_tree(path, overrides, of_run)
    if "networks" in tree:
        raise ConfigError(f"{path}: expected one network, received networks to compare")
    return validated(Settings, tree)


def load_tree(path: str | Path, overrides: Sequence[str] = (), of_run: bool = False) -> dict[str, Any]:
    """What the YAML file and the overrides say, not validated yet. Raises ConfigError."""
    tree = yaml_tree.read(path)
    for assignment in overrides:
        yaml_tree.override(tree, assignment)
    own_code.load_from(Path(path).parent, own_code.names_in(tree), path, asked_for=not of_run)
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
