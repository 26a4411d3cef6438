"""Gradient check: does `backward` compute the derivative of `forward`?

With y = layer(x) and a fixed random upstream gradient dy, the scalar f = sum(dy * y) has the
gradients that `backward(dy)` must return for x and assign to every parameter. Each of their
elements is compared with the central difference

    df/dt  ~  (f(t + h) - f(t - h)) / 2h          error O(h^2), all in float64

and passes when |analytic - numeric| <= tolerance * max(|analytic|, |numeric|, FLOOR).

A difference quotient says nothing about a kink (ReLU at 0, two equal maxima in a pooling window):
the input is drawn so that no two values are close and none is near 0, and a step that crosses a
kink inside a network is noticed, because the quotients at h and h/2 disagree; a smaller h is tried.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, Protocol

import numpy as np

from minicnn.checks import checked
from minicnn.errors import MinicnnError, ShapeError
from minicnn.layers.layer import Layer
from minicnn.layers.parameter import Parameter

FLOOR = 1e-3  # smaller gradients are compared absolutely, to tolerance * FLOOR
STEPS = (1e-4, 1e-5, 1e-6, 1e-7)  # the first whose quotients at h and h/2 agree is used, or the one where they do best
AGREEMENT = 1e-7

Array = np.ndarray[Any, np.dtype[np.float64]]
Index = tuple[int, ...] | None  # None: a random direction


class Loss(Protocol):
    def forward(self, y: Any, target: Any) -> float: ...
    def backward(self) -> Any: ...


class GradientError(MinicnnError):
    """A gradient that differs from its central difference; the attributes say where.

    `index` is the element of the array, or None where a random direction was checked.
    """

    def __init__(self, layer: str, array: str, index: Index, analytic: float, numeric: float, tolerance: float) -> None:
        where = "in a random direction" if index is None else f"at index {index}"
        super().__init__(
            f"{layer}: gradient of {array} {where}: backward gives {analytic:.9g}, "
            f"central differences give {numeric:.9g} "
            f"(relative error {relative_error(analytic, numeric):.2g}, allowed {tolerance:.2g})"
        )
        self.layer, self.array, self.index = layer, array, index
        self.analytic, self.numeric = analytic, numeric


@dataclass(frozen=True)
class ArrayCheck:
    """How the gradient of one array compares with central differences.

    `array` is "input" or a parameter's name. `checked` of its `size` elements were compared, and it along
    `directions` random directions. `worst` is the largest relative error (infinite for a gradient that is not a
    number), found at `index`, None standing for a random direction, between `analytic` and `numeric`.
    """

    array: str
    size: int
    checked: int
    directions: int
    worst: float
    index: Index
    analytic: float
    numeric: float

    def error(self, layer: str, tolerance: float) -> GradientError:
        """What is wrong, as an error about `layer`."""
        return GradientError(layer, self.array, self.index, self.analytic, self.numeric, tolerance)


@checked(ShapeError)
def check_gradients(
    layer: Layer,
    input_shape: Sequence[int],
    *,
    batch: int = 2,
    directions: int | None = None,
    training: bool = False,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> dict[str, float]:
    """Compare every gradient of a layer or network with central differences in float64.

    layer        any Layer, your own included; it is copied and not changed
    input_shape  without the batch axis, as for `output_shape`
    directions   None checks every element of the input and of each parameter; a number n checks n
                 random directions v in each array (sum(gradient * v) against the derivative along
                 v), which is what a large network affords
    training     the mode of `forward`; every evaluation then sees the same random numbers (the mask
                 of Dropout)

    Returns the worst relative error of each array: {"input": ..., "weight": ..., "bias": ...}.
    Raises GradientError for the first array with an error above `tolerance`, at its worst element.
    """
    elements = None if directions is None else 0
    worst = {}
    for check in measure_gradients(
        layer, input_shape, batch=batch, elements=elements, directions=directions or 0, training=training, seed=seed
    ):
        if not check.worst <= tolerance:
            raise check.error(type(layer).__name__, tolerance)
        worst[check.array] = check.worst
    return worst


def measure_gradients(
    layer: Layer,
    input_shape: Sequence[int],
    *,
    batch: int = 2,
    elements: int | None = None,
    directions: int = 0,
    training: bool = False,
    seed: int = 0,
) -> Iterator[ArrayCheck]:
    """The figures behind `check_gradients`, array by array, whatever they are.

    Of each array `elements` are compared, drawn with `seed` (None: all), and `directions` random directions, which
    involve every element.
    """
    rng = np.random.default_rng(seed)
    layer = copy.deepcopy(layer).astype(np.float64)
    x = well_separated((batch, *input_shape), rng)

    def output() -> Array:
        # A fresh copy starts from the same random state; only training draws from it.
        network = copy.deepcopy(layer) if training else layer
        return network.forward(x.copy(), training=training).copy()

    dy: Array = np.asarray(rng.standard_normal(output().shape))
    differentiated = copy.deepcopy(layer)
    differentiated.forward(x.copy(), training=training)
    arrays = {"input": (x, differentiated.backward(dy.copy()))}
    for parameter, twin in _learning(layer, differentiated):
        arrays[parameter.name] = (parameter.value, twin.grad)

    for name, (value, gradient) in arrays.items():
        yield _measure(name, value, gradient, output, dy, elements, directions, rng)


def measure_training_gradients(
    network: Layer, loss: Loss, input_shape: Sequence[int], target: np.ndarray, *, directions: int = 3, seed: int = 0
) -> Iterator[ArrayCheck]:
    """The gradients that a step of training uses, of the loss by each parameter, in random directions.

    `target` has an entry for each sample of the batch, which is random and evenly spread.
    """
    rng = np.random.default_rng(seed)
    network = copy.deepcopy(network).astype(np.float64)
    x = well_separated((len(target), *input_shape), rng)

    def output() -> Array:
        return np.array(loss.forward(copy.deepcopy(network).forward(x, training=True), target))

    differentiated = copy.deepcopy(network)
    loss.forward(differentiated.forward(x, training=True), target)
    differentiated.backward(loss.backward())
    for parameter, twin in _learning(network, differentiated):
        value, gradient = parameter.value, twin.grad
        one = np.array(1.0)
        yield _measure(parameter.name, value, gradient, output, one, 0, directions, rng)


def _learning(layer: Layer, copied: Layer) -> Iterator[tuple[Parameter, Parameter]]:
    """The parameters that have a gradient, and those of a copy."""
    pairs = zip(layer.parameters(), copied.parameters(), strict=True)
    return ((parameter, twin) for parameter, twin in pairs if not parameter.frozen)


def check_loss_gradient(loss: Loss, y: Array, target: np.ndarray, *, tolerance: float = 1e-6) -> float:
    """Compare `loss.backward()` with the central difference at every element of y.

    Returns the worst relative error; raises GradientError.
    """
    check = measure_loss_gradient(loss, y, target)
    if not check.worst <= tolerance:
        raise check.error(type(loss).__name__, tolerance)
    return check.worst


def measure_loss_gradient(loss: Loss, y: Array, target: np.ndarray) -> ArrayCheck:
    """The figures behind `check_loss_gradient`."""
    y = np.array(y, dtype=np.float64)
    loss.forward(y.copy(), target)
    gradient = loss.backward()

    def output() -> Array:
        return np.array(loss.forward(y.copy(), target))

    one, rng = np.array(1.0), np.random.default_rng(0)
    return _measure("input", y, gradient, output, one, None, 0, rng)


def well_separated(shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Values spread evenly over (-2, 2) in random order: no ties, and none at the kink of ReLU."""
    size = int(np.prod(shape))
    order = rng.permutation(size).astype(np.float64)
    return ((order + 0.25) * (4 / size) - 2).reshape(shape)


def relative_error(analytic: float, numeric: float) -> float:
    """|a - n| / max(|a|, |n|, FLOOR)."""
    return abs(analytic - numeric) / max(abs(analytic), abs(numeric), FLOOR)


def _measure(
    name: str,
    value: Array,
    gradient: Array,
    output: Callable[[], Array],
    dy: Array,
    elements: int | None,
    directions: int,
    rng: np.random.Generator,
) -> ArrayCheck:
    """The worst of some elements (None: all) and random directions of one array; `value` is an input of `output`."""
    if np.shape(gradient) != value.shape:
        raise MinicnnError(f"gradient check: expected a gradient of shape {value.shape}, received {np.shape(gradient)}")
    if elements is None or elements >= value.size:
        chosen = np.arange(value.size)
    else:
        chosen = np.sort(rng.choice(value.size, elements, replace=False))
    found: list[tuple[float, Index, float, float]] = []
    for index, direction in chain(_units(value.shape, chosen), _random_directions(value.shape, directions, rng)):
        analytic, numeric = float(np.sum(gradient * direction)), _derivative(value, direction, output, dy)
        error = relative_error(analytic, numeric)
        found.append((math.inf if math.isnan(error) else error, index, analytic, numeric))
    worst = max(found, key=itemgetter(0), default=(0.0, None, 0.0, 0.0))
    return ArrayCheck(name, value.size, len(chosen), directions, *worst)


def _units(shape: tuple[int, ...], chosen: np.ndarray) -> Iterator[tuple[Index, Array]]:
    """The unit vectors of the elements with the flat numbers `chosen`, with their indices."""
    for number in chosen:
        index = tuple(int(i) for i in np.unravel_index(number, shape))
        direction = np.zeros(shape)
        direction[index] = 1.0
        yield index, direction


def _random_directions(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> Iterator[tuple[Index, Array]]:
    """Random vectors of length 1."""
    for _ in range(count):
        direction = rng.standard_normal(shape)
        yield None, direction / np.linalg.norm(direction)


def _derivative(value: Array, direction: Array, output: Callable[[], Array], dy: Array) -> float:
    """df/dt of f = sum(dy * output()) as `value` moves to value + t * direction, and back."""
    start = value.copy()

    def quotient(step: float) -> float:
        value[...] = start + step * direction
        forwards = output()
        value[...] = start - step * direction
        backwards = output()
        value[...] = start
        return float(np.sum(dy * (forwards - backwards))) / (2 * step)

    best = math.inf, math.nan
    for step in STEPS:
        coarse, fine = quotient(step), quotient(step / 2)
        apart = relative_error(coarse, fine)
        if apart <= best[0]:
            best = apart, fine
        if apart <= AGREEMENT:
            break
    return best[1]
