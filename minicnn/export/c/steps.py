"""The network as steps: which operation each layer is, and what is folded into the one before it."""

from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np

from minicnn.engine.arrays import Shape
from minicnn.errors import MinicnnError
from minicnn.layers import Layer, ReLU, Residual
from minicnn.layers.activation import Activation
from minicnn.layers.normalization import BatchNorm
from minicnn.layers.sequential import Sequential
from minicnn.model import Model

from .activation import Function, function_of
from .operation import OPERATIONS, Operation
from .others import Identity, MaxPooling, Normalization, Sum
from .weighted import Weighted, affine_of


def is_activation(layer: Layer) -> TypeGuard[Activation]:
    """Whether a layer is applied element by element, when the operation before it stores its results."""
    return isinstance(layer, Activation) and layer.code is not None and type(layer).declare is Activation.declare


@dataclass
class Step:
    """An operation and what is done with its results before they are stored.

    inputs       the numbers of the steps whose results it takes
    shared       whether others take its results, too, so that nothing more can be done with them before they are stored
    layers       whose work it is, in their order
    places       of these in the network: "3", or "2.0" in a network in the network
    """

    operation: Operation
    inputs: list[int] = field(default_factory=list)
    shared: bool = False
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
        names = ("Residual" if isinstance(layer, Residual) else repr(layer) for layer in self.layers)
        titles += [f"layer {place} {name}" for place, name in zip(self.places, names, strict=True)]
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
    _add_row(steps, 0, model.network, "", model.network_shape)
    for step in steps:
        _check_numbers(step)
    return steps


def _add_row(steps: list[Step], at: int, network: Sequential, before: str, shape: Shape) -> int:
    """Adds the layers of a network to the results of step `at`; returns the step that gives the network's."""
    for name, layer, shape_of_x in network.along_paths(shape):
        place = f"{before}{name}"
        if isinstance(layer, Sequential) and layer.paths() is not None:
            at = _add_row(steps, at, layer, f"{place}.", shape_of_x)
        elif type(layer) is Residual:
            steps[at].shared = True
            ends = [at, at]
            for k, (key, child) in enumerate(layer.children().items()):
                assert isinstance(child, Sequential)
                ends[k] = _add_row(steps, at, child, f"{place}.{key}.", shape_of_x)
            at = _add_step(steps, Sum(layer, shape_of_x), ends)
            steps[at].take(place, layer)
        else:
            _check(place, layer)
            at = _add(steps, at, place, layer, shape_of_x)
    return at


def _add_step(steps: list[Step], operation: Operation, inputs: list[int]) -> int:
    steps.append(Step(operation, inputs))
    return len(steps) - 1


def _add(steps: list[Step], at: int, place: str, layer: Layer, shape: Shape) -> int:
    last = steps[at]
    if layer.identity:
        last.take(place, layer)
    elif is_activation(layer):
        if last.shared:
            at = _add_step(steps, Identity(layer, shape), [at])
            last = steps[at]
        if isinstance(layer, ReLU):  # the maximum of max(x, 0) is the max of the maximum and 0
            while isinstance(last.operation, MaxPooling) and not steps[last.inputs[0]].shared:
                last = steps[last.inputs[0]]
        last.take(place, layer, function_of(layer))
    elif (
        isinstance(layer, BatchNorm) and isinstance(last.operation, Weighted) and not (last.activations or last.shared)
    ):
        last.operation.fold(*affine_of(layer))
        last.take(place, layer)
    else:
        at = _add_step(steps, OPERATIONS[type(layer)](layer, shape), [at])
        steps[at].take(place, layer)
    return at


def _check(place: str, layer: Layer) -> None:
    where = f"layer {place} {layer!r}"
    if type(layer) not in OPERATIONS and not layer.identity and not is_activation(layer):
        raise MinicnnError(
            f"{where}: expected a layer that can be written in C, received one without an operation; derive one from "
            f"minicnn.export.c.operation.Operation, with of=[{type(layer).__name__}]"
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
