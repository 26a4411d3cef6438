"""The network as a chain of steps: which operation each layer is, and what is folded into the one before it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np

from minicnn.engine.arrays import Shape
from minicnn.errors import MinicnnError
from minicnn.layers import (
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    LocallyConnected2d,
    LogSoftmax,
    MaxPool2d,
    RadialBasis,
    ReLU,
    Softmax,
    Subsample,
)
from minicnn.layers.activation import Activation
from minicnn.layers.normalization import BatchNorm
from minicnn.layers.sequential import Sequential
from minicnn.model import Model

from .activation import Function, function_of
from .operation import Operation, Weighted
from .others import Distances, LogSoftmaxAlongChannels, MaxPooling, MeanPooling, Normalization, SoftmaxAlongChannels
from .weighted import BatchNormalization, Convolution, LocallyConnected, Product, Subsampling, affine_of

#: For each layer type that computes an operation of its own, that operation.
OPERATIONS: Mapping[type[Layer], Callable[[Any, Shape], Operation]] = {
    AvgPool2d: MeanPooling,
    BatchNorm1d: BatchNormalization,
    BatchNorm2d: BatchNormalization,
    Conv2d: Convolution,
    GlobalAvgPool2d: lambda layer, shape: MeanPooling(AvgPool2d((shape[1], shape[2])), shape),
    Linear: Product,
    LocallyConnected2d: LocallyConnected,
    LogSoftmax: LogSoftmaxAlongChannels,
    MaxPool2d: MaxPooling,
    RadialBasis: Distances,
    Softmax: SoftmaxAlongChannels,
    Subsample: Subsampling,
}

#: Layer types that leave every number as it is, where it is.
NOTHING = (Dropout, Dropout2d, Flatten)


def is_activation(layer: Layer) -> TypeGuard[Activation]:
    """Whether a layer is applied element by element, when the operation before it stores its results."""
    return isinstance(layer, Activation) and layer.code is not None and type(layer).declare is Activation.declare


@dataclass
class Step:
    """An operation and what is done with its results before they are stored.

    layers       whose work it is, in their order
    places       of these in the network: "3", or "2.0" in a network in the network
    """

    operation: Operation
    layers: list[Layer] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    activations: list[Function] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For the names of its function and its arrays."""
        first = isinstance(self.operation, Normalization)
        return "input" if first else "layer_" + self.places[0].replace(".", "_")

    @property
    def title(self) -> str:
        titles = ["the input"] if isinstance(self.operation, Normalization) else []
        titles += [f"layer {place} {layer!r}" for place, layer in zip(self.places, self.layers, strict=True)]
        return ", ".join(titles)

    def take(self, place: str, layer: Layer, activation: Function | None = None) -> None:
        """Does the work of one more layer."""
        self.places.append(place)
        self.layers.append(layer)
        if activation:
            self.activations.append(activation)


def chain(model: Model) -> list[Step]:
    """The steps of a model, of which the first normalises the pixels.

    Raises MinicnnError, which names the layer, for one that has no operation, that needs a whole batch, or that has
    weights that are no finite numbers of float32.
    """
    first = Normalization(model.input_shape, model.padding, model.mean, model.std)
    steps = [Step(first)]
    shape = model.network_shape
    for place, layer in _leaves(model.network, ""):
        _check(place, layer)
        _add(steps, place, layer, shape)
        shape = layer.output_shape(shape)
    for step in steps:
        _check_numbers(step)
    return steps


def _add(steps: list[Step], place: str, layer: Layer, shape: Shape) -> None:
    last = steps[-1]
    operation = last.operation
    if isinstance(layer, NOTHING):
        last.take(place, layer)
    elif is_activation(layer):
        if isinstance(layer, ReLU):  # the maximum of max(x, 0) is the max of the maximum and 0
            last = next(step for step in reversed(steps) if not isinstance(step.operation, MaxPooling))
        last.take(place, layer, function_of(layer))
    elif isinstance(layer, BatchNorm) and isinstance(operation, Weighted) and not last.activations:
        operation.fold(*affine_of(layer))
        last.take(place, layer)
    else:
        steps.append(Step(OPERATIONS[type(layer)](layer, shape)))
        steps[-1].take(place, layer)


def _leaves(network: Sequential, before: str) -> list[tuple[str, Layer]]:
    """The layers, also those of networks in the network, with their places."""
    found: list[tuple[str, Layer]] = []
    for i, layer in enumerate(network):
        if isinstance(layer, Sequential) and type(layer).declare is Sequential.declare:
            found += _leaves(layer, f"{before}{i}.")
        else:
            found.append((f"{before}{i}", layer))
    return found


def _check(place: str, layer: Layer) -> None:
    where = f"layer {place} {layer!r}"
    if type(layer) not in (*OPERATIONS, *NOTHING) and not is_activation(layer):
        raise MinicnnError(
            f"{where}: expected a layer that can be written in C, received one without an operation; put one into "
            f"minicnn.export.c.steps.OPERATIONS[{type(layer).__name__}]"
        )
    if not layer.per_sample_inference:
        raise MinicnnError(
            f"{where}: expected a layer that takes one image at a time, received one that takes the statistics of each "
            "batch; train it with track_running_stats=True"
        )


def _check_numbers(step: Step) -> None:
    for name, array in step.operation.arrays().items():
        with np.errstate(over="ignore"):
            finite = np.isfinite(array.astype(np.float32)).all()
        if not finite:
            raise MinicnnError(
                f"{step.title}: {name}: expected numbers of float32, received NaN, infinity or larger ones; are the "
                "weights damaged?"
            )
