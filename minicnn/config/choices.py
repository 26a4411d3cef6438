"""Losses, optimizers and schedules in settings: one of several by its name, with the arguments of its constructor."""

import inspect
import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializeAsAny,
    Strict,
    Tag,
    ValidationInfo,
    WrapValidator,
    create_model,
)

from minicnn import losses, optimizers, own_code
from minicnn.losses import LABEL_LOSSES
from minicnn.optimizers import OPTIMIZERS
from minicnn.schedules import OPTIONS
from minicnn.validation import validated

Positive = Annotated[float, Field(gt=0)]


class Group(BaseModel):
    """A group of settings: unknown keys, text for a number, true for 1 and NaN are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def arguments(kind: type, extras: bool = True) -> dict[str, Any]:
    """The arguments of a constructor as the fields of a group: each with its type (and range) and its default."""
    hints = get_type_hints(kind.__init__, include_extras=extras)  # type: ignore[misc]
    return {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


class Choice(Group):
    """One of several things, by its name, with options."""

    name: str = ""

    def options(self) -> dict[str, Any]:
        """Those that are given, or have another value than the default."""
        fields = type(self).model_fields
        given = {key: value for key, value in self.model_dump().items() if value != fields[key].default}
        return {key: value for key, value in given.items() if key not in ("name", "warmup")}


class OptimizerChoice(Choice):
    OLD_NAMES: ClassVar = {"max_norm": "clip_norm"}

    lr: Positive


class ScheduleChoice(Choice):
    """`warmup` and `step_size` in epochs; None stands for the default of an option."""

    warmup: Annotated[float, Field(ge=0)] = 0.0
    step_size: Positive | None = None


def optimizer_fields(kind: type[optimizers.Optimizer]) -> dict[str, Any]:
    """The arguments of an optimizer as the fields of its settings; `lr` has a default where one suits most networks."""
    fields = {key: field for key, field in arguments(kind).items() if key != "parameters"}
    for key, (hint, value) in fields.items():
        if get_origin(hint) is tuple:  # which a list in a file stands for, also where a union has left JSON behind
            fields[key] = (Annotated[hint, Strict(False)], value)
    return {**fields, "lr": (Positive, fields["lr"][1] if kind.lr_is_step else ...)}


def optimizer_choice(optimizers: Mapping[str, type[optimizers.Optimizer]]) -> Any:
    """The settings of one of them, told apart by `name`, which is that of the first if it is left out."""
    default, groups = next(iter(optimizers)), []
    for name, kind in optimizers.items():
        fields = optimizer_fields(kind)
        fields["name"] = (Literal[tuple(optimizers)], name)
        groups.append(create_model(name, __base__=OptimizerChoice, **fields))

    def chosen(group: Any) -> str:
        name = group.get("name", default) if isinstance(group, dict) else getattr(group, "name", default)
        return name if name in optimizers else default

    tagged = [Annotated[group, Tag(group.__name__)] for group in groups]
    return groups[0] if len(groups) == 1 else Annotated[reduce(operator.or_, tagged), Discriminator(chosen)]


def loss_class(name: str) -> type[losses.Loss]:
    """The loss of that name in settings, perhaps one of the user's own."""
    return own_code.find(name, losses.Loss, "loss.name") if own_code.is_own(name) else LABEL_LOSSES[name]


def optimizer_class(name: str) -> type[optimizers.Optimizer]:
    """The optimizer of that name in settings, perhaps one of the user's own."""
    own = own_code.is_own(name)
    return own_code.find(name, optimizers.Optimizer, "optimizer.name") if own else OPTIMIZERS[name]


def _or_own(class_of: Callable[[str], Any], fields_of: Callable[[Any], Any], base: type[Choice]) -> WrapValidator:
    """For a group of settings that may be that of a class of the user's own, with the options of its constructor."""

    def validate(group: Any, handler: Any, info: ValidationInfo) -> Any:
        name: Any = group.get("name") if isinstance(group, dict) else None
        if not own_code.is_own(name):
            return handler(group)
        kind = class_of(name)
        own: Any = create_model(kind.__name__, __base__=base, **fields_of(kind), name=(str, name))
        return validated(own, group, str(info.field_name))

    return WrapValidator(validate)


if TYPE_CHECKING:
    Loss = Choice
    Optimizer = OptimizerChoice
    Schedule = ScheduleChoice
else:
    # What stands in their constructors stands nowhere else.
    Loss = create_model(
        "Loss",
        __base__=Choice,
        name=(Literal[tuple(LABEL_LOSSES)], next(iter(LABEL_LOSSES))),
        **{key: field for loss in LABEL_LOSSES.values() for key, field in arguments(loss).items()}
        | {"label_smoothing": (Annotated[float, Field(ge=0, lt=1)], 0.0)},  # with 1, there is nothing to learn
    )
    Optimizer = optimizer_choice(OPTIMIZERS)
    Schedule = create_model(
        "Schedule",
        __base__=ScheduleChoice,
        name=(Literal[tuple(OPTIONS)], next(iter(OPTIONS))),
        **{key: (float | None, None) for options in OPTIONS.values() for key in options if key != "step_size"},
    )

AnyLoss = Annotated[SerializeAsAny[Loss], _or_own(loss_class, arguments, Choice)]
AnyOptimizer = Annotated[SerializeAsAny[Optimizer], _or_own(optimizer_class, optimizer_fields, OptimizerChoice)]
