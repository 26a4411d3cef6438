"""What the files of minicnn hold beside arrays: one schema for each, by which they are checked at the door.

A checksum says that a file is as it was written, and nothing of who wrote it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf

from minicnn.data.augmentation import Augmentation
from minicnn.errors import ConfigError, MinicnnError
from minicnn.training.progress import Progress
from minicnn.validation import validated

MOST_LAYERS = 10_000
#: Options of layers whose product is about the number of a layer's weights.
SIZES = ("in_channels", "out_channels", "in_features", "out_features", "num_features", "kernel_size", "input_size")
#: The product may be so many times the numbers in the file; below so many weights it is not looked at.
MOST_RATIO, UNSUSPICIOUS = 100, 1_000_000

Schema = TypeVar("Schema", bound=BaseModel)


class _Strict(BaseModel):
    """Types are not converted: true is no number. Keys that a later version may have are passed over."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True)


def _augmentation(options: Any) -> Any:
    if not isinstance(options, dict):
        return options
    known = {field.name for field in fields(Augmentation)}
    return Augmentation(**{name: value for name, value in options.items() if name in known})


Level = Annotated[int, Field(ge=0, le=255)]
Layers = list[Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1)]]


class ModelFile(_Strict):
    """The description in a model file."""

    format: Annotated[int, Field(ge=1)]
    layers: Layers
    input_shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=8)]
    mean: float | list[float] = 0.0
    std: float | list[float] = 1.0
    classes: list[str] | None = None
    data_set: str | None = None
    loss: str = "softmax-cross-entropy"
    padding: Annotated[int, Field(ge=0, le=1000)] = 0
    background: Level | Annotated[list[Level], Field(min_length=3, max_length=3)] = 255
    augmentation: Annotated[InstanceOf[Augmentation] | None, BeforeValidator(_augmentation)] = None


Part = Annotated[list[int], Field(min_length=3, max_length=3)]


class DataState(_Strict):
    """What tells data from other data; see runs.resume.fingerprint."""

    name: str
    classes: list[str]
    train: Part
    test: Part


def _fits(progress: Progress) -> Progress:
    if progress.images < progress.batches or progress.correct > progress.answers:
        raise ValueError(
            f"expected at least one image a batch, and no more correct ones, received {progress.images} in "
            f"{progress.batches}, {progress.correct} correct"
        )
    return progress


class CheckpointState(_Strict):
    """The state in a checkpoint."""

    settings: dict[str, Any]
    layers: Layers
    data: DataState
    complete: bool
    progress: Annotated[Progress, AfterValidator(_fits)]
    callbacks: dict[str, dict[str, bool | int | float | str | None]]
    generators: Annotated[list[list[dict[str, Any]]], Field(min_length=1)]


def parsed(schema: type[Schema], content: Any, what: str) -> Schema:
    """`content` by its schema. Raises MinicnnError, one line, which says `what` is wrong."""
    if not isinstance(content, Mapping):
        raise MinicnnError(f"{what}: expected a group of keys, received {type(content).__name__}")
    try:
        return validated(schema, dict(content))
    except ConfigError as error:
        lines = str(error).splitlines()
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise MinicnnError(f"{what}: {lines[0]}{more}") from None


def check_sizes(layers: Sequence[Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Raises MinicnnError for layers that are far larger than the arrays, before any of them is built."""
    most = UNSUSPICIOUS + MOST_RATIO * sum(array.size for array in arrays.values())
    for number, (name, options) in enumerate(_flat(layers)):
        if number == MOST_LAYERS:
            raise MinicnnError(f"layers: expected at most {MOST_LAYERS:,}, received more")
        size = math.prod(_product(key, options.get(key)) for key in SIZES)
        if size > most:
            raise MinicnnError(
                f"layer {number} {name}: expected at most about {most:,} weights, as the file has, "
                f"received options for {size:,}"
            )


def _product(key: str, value: Any) -> int:
    pair = key in ("kernel_size", "input_size")  # a single number is a square's side
    numbers = value if isinstance(value, list) else [value] * (2 if pair else 1)
    return math.prod(abs(n) for n in numbers if type(n) is int and n)


def _flat(layers: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, options) of all layers, also of those among the options."""
    if isinstance(layers, list | tuple):
        for item in layers:
            yield from _flat(item)
    elif isinstance(layers, Mapping):
        for name, options in layers.items():
            if isinstance(options, Mapping):
                yield str(name), options
                for option in options.values():
                    yield from _flat(option)
