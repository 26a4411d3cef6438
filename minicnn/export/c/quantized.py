"""A model in integers: weights and maps of 8 bits, sums of 32, and no float before the scores.

A map x is stored as integers q with x = scale q, from -127 to 127, or from 0 to 255 where no value can be below 0. A
weight of output channel o is scale[o] times an integer from -127 to 127. A sum of their products, plus the bias as an
integer of 32 bits, becomes an element of the next map as

    q = (sum multiplier[o] + 2^(shift - 1)) >> shift, cut off at the ends of the range

in 64 bits, where multiplier[o] / 2^shift is what the scales of x, weight and y make of it, and >> rounds down. An
activation other than ReLU is a table with an entry for each q. Two maps are added up as x factor + other other_factor,
the larger of both factors being 2^14, a sum like any other. The program in C does the same, to the bit.

Source: Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only inference
(2018), sections 2.1 and 2.2, here with symmetric ranges.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicnn.checks import checked
from minicnn.engine.arrays import Array
from minicnn.errors import MinicnnError, ShapeError
from minicnn.layers import ReLU
from minicnn.model import Model

from .operation import Operation, Weighted
from .others import (
    Distances,
    Identity,
    LogSoftmaxAlongChannels,
    MaxPooling,
    MeanPooling,
    Normalization,
    SoftmaxAlongChannels,
    Sum,
)
from .steps import Step, chain, is_activation

BATCH = 100  # images that pass through the network at once
SAMPLE = 2**14  # values of a map of which the range is chosen, per batch
INPUT_SHIFT = 20
EXP_ONE = 2**16  # what exp(0) is in the table of a softmax
LOG_ONE = 2**16  # what 1 is in the values of a log-softmax
SUM_ONE = 2**14  # what the larger scale of two maps is in units of their sum
LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Grid:
    """The numbers that an element of a map can be: scale q, q from low to high."""

    scale: float
    low: int
    high: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int8 if self.low < 0 else np.uint8)

    def levels(self, x: Array) -> Array:
        """The q of the nearest numbers, in float64."""
        levels: Array = np.clip(np.rint(x / self.scale), self.low, self.high)
        return levels


@dataclass
class IntegerStep:
    """A step in integers.

    x, y        the grids of input and output; y None for the last step, which gives the scores
    other       the grid of the second input, if there is one
    arrays      the constant arrays of the operation, in integers
    constants   the numbers
    rectify     whether what is below 0 becomes 0
    table       y's q for each q before the activations, from the lowest on
    scale       float32, what the last step multiplies its integers by: a number, or one for each channel
    """

    step: Step
    x: Grid | None
    y: Grid | None = None
    arrays: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, int] = field(default_factory=dict)
    rectify: bool = False
    table: Array | None = None
    scale: Array | None = None
    other: Grid | None = None

    def run(self, x: Array, other: Array | None = None) -> Array:
        """The output (N, ...) for integers x (N, ...); both in float64, but scores in float32."""
        operation = self.step.operation
        each = (-1,) + (1,) * (len(operation.y_shape) - 1)
        if isinstance(operation, Weighted | Distances | Sum):
            q = self._sums(operation, x, other).astype(np.int64)
            if "multiplier" in self.arrays:
                product = q * self.arrays["multiplier"].astype(np.int64).reshape(each)
                shift = self.constants["shift"]
                q = ((product + (1 << (shift - 1))) >> shift).clip(self.constants["low"], self.constants["high"])
        else:
            q = self._levels(operation, x).astype(np.int64)
        if self.rectify:
            q = np.maximum(q, 0)
        if self.table is not None:
            q = self.table[q - self.constants["first"]]
        if self.scale is None:
            return q.astype(np.float64)
        scores: Array = q.astype(np.float32) * (self.scale.reshape(each) if self.scale.ndim else self.scale)
        return scores

    def _sums(self, operation: Weighted | Distances | Sum, x: Array, other: Array | None) -> Array:
        if isinstance(operation, Sum):
            assert other is not None
            sums: Array = x * self.constants["factor"] + other * self.constants["other_factor"]
            return sums
        if isinstance(operation, Distances):
            return operation.sums(x, self.arrays["prototypes"])
        bias = self.arrays["bias"].astype(np.float64)
        each = bias.shape if bias.ndim > 1 else (-1,) + (1,) * (len(operation.y_shape) - 1)
        return operation.sums(x, self.arrays["weight"]) + bias.reshape(each)

    def _levels(self, operation: Operation, x: Array) -> Array:
        if isinstance(operation, Normalization):
            pixels = operation.padded(x.astype(np.int64))
            each = (-1,) + (1,) * (pixels.ndim - 2)
            factor, offset = (self.arrays[name].astype(np.int64).reshape(each) for name in ("multiplier", "offset"))
            q: Array = (pixels * factor + offset) >> INPUT_SHIFT
            return q
        if isinstance(operation, SoftmaxAlongChannels):
            exp = self.arrays["exp"].astype(np.int64)[(x.max(axis=1, keepdims=True) - x).astype(np.int64)]
            total = exp.sum(axis=1, keepdims=True)
            if isinstance(operation, LogSoftmaxAlongChannels):
                shift = np.frexp(total)[1].astype(np.int64) - 9
                rest = shift * self.constants["ln2"] + self.arrays["log"].astype(np.int64)[(total >> shift) - 256]
                differences = (x - x.max(axis=1, keepdims=True)).astype(np.int64)
                q = differences * self.constants["factor"] - rest
                return q
            q = (2 * self.constants["levels"] * exp + total) // (2 * total)
            return q
        assert isinstance(operation, MaxPooling | MeanPooling | Identity)
        return operation.integers(x)


class QuantizedModel:
    """A model in integers, which `quantize` makes. `model` is the one that it is made of, `steps` its arithmetic."""

    def __init__(self, model: Model, steps: list[IntegerStep]) -> None:
        self.model, self.steps = model, steps

    def scores(self, images: Any) -> Array:
        """The scores of uint8 images, float32 (N, K), to the bit those of the program in C.

        images: of shape (N, C, H, W), (N, H, W) where C = 1, or one image. Raises ShapeError for others.
        """
        batch = self.model.as_batch(images)
        if batch.dtype != np.uint8 or batch.shape[1:] != self.model.input_shape:
            raise ShapeError(
                f"images: expected uint8 from 0 to 255 of {self.model.input_shape}, "
                f"received {batch.dtype} of {batch.shape[1:]}"
            )
        return np.concatenate([self._run(batch[start : start + BATCH]) for start in range(0, len(batch), BATCH)])

    def predict(self, images: Any) -> np.ndarray:
        """The class of each image, int64 (N,): the place of its highest score. Images as for `scores`."""
        classes: np.ndarray = self.scores(images).argmax(axis=1)
        return classes

    def _run(self, x: Array) -> Array:
        maps = list[Array]()
        for step in self.steps:
            given = [maps[k] for k in step.step.inputs] or [x]
            maps.append(step.run(*(one.reshape(len(x), *step.step.operation.x_shape) for one in given)))
        return maps[-1].reshape(len(x), *self.model.output_shape)

    def __repr__(self) -> str:
        return f"QuantizedModel({self.model!r})"


@checked(MinicnnError)
def quantize(model: Model, images: Any) -> QuantizedModel:
    """The model in integers of 8 bits, without training.

    images: some hundreds of the training images, as for `Model.scores`. The range of each map is the one that gives
    the least squared error on them; values beyond it are cut off.

    Raises MinicnnError, which names the layer, for one that has no such arithmetic, and for sums that may not fit into
    32 bits; what `Model.scores` raises for the images.
    """
    steps = chain(model)
    seen = _observe(model, steps, images)
    found: list[IntegerStep] = []
    for step, (before, after) in zip(steps, seen, strict=True):
        x, other, *_ = *(found[k].y for k in step.inputs), None, None
        integer = IntegerStep(step, x, other=other)
        _fill(integer, before, after, last=step is steps[-1])
        found.append(integer)
    return QuantizedModel(model, found)


def _observe(model: Model, steps: list[Step], images: Any) -> list[tuple[Array, Array]]:
    """For each step some of the values before its activations and behind them."""
    batch = model.as_batch(images)
    seen: list[tuple[list[Array], list[Array]]] = [([], []) for _ in steps]
    for start in range(0, len(batch), BATCH):
        maps, pixels = list[Array](), model.transform(batch[start : start + BATCH])
        for step, (before, after) in zip(steps, seen, strict=True):
            given = [maps[k].reshape(len(pixels), *step.operation.x_shape) for k in step.inputs]
            x, layers = given[0] if given else pixels, step.layers
            if isinstance(step.operation, Sum):
                x, layers = given[0] + given[1], layers[1:]
            first = next((i for i, one in enumerate(layers) if is_activation(one)), len(layers))
            for layer in layers[:first]:
                x = layer.forward(x)
            before.append(_sample(x))
            for layer in layers[first:]:
                x = layer.forward(x)
            after.append(_sample(x))
            maps.append(x)
    return [(np.concatenate(before), np.concatenate(after)) for before, after in seen]


def _sample(x: Array) -> Array:
    values = x.ravel()[:: x.size // SAMPLE | 1].astype(np.float64)  # an odd step visits all columns
    return np.append(values, [x.min(), x.max()])


def _fill(integer: IntegerStep, before: Array, after: Array, last: bool) -> None:
    """Chooses the numbers of a step, whose values before and behind the activations are of the samples given."""
    step = integer.step
    operation, activations = step.operation, step.activations
    only_relu = all(isinstance(one, ReLU) for one in step.layers if is_activation(one))
    nonnegative = bool(activations) and activations[-1].nonnegative
    integer.rectify = only_relu and bool(activations)

    def function(x: Array) -> Array:
        for activation in activations:
            x = activation(x)
        return x

    if isinstance(operation, Weighted | Distances | Sum):
        scale = _sum_scale(integer, operation)
        if last and only_relu:
            integer.scale = scale.astype(np.float32)
            return
        grid = _best_grid(after, nonnegative) if only_relu else _best_grid(before, False, function)
        _set_multiplier(integer, scale, grid)
    else:
        grid = _level_grid(integer, operation, last and not activations)
        if integer.rectify:
            grid = Grid(grid.scale, 0, grid.high)
    if not only_relu:
        inputs = grid.scale * np.arange(grid.low, grid.high + 1)
        integer.constants["first"] = grid.low
        grid = _best_grid(after, nonnegative)
        integer.table = grid.levels(function(inputs)).astype(grid.dtype)
    integer.y = grid
    if last:
        integer.y, integer.scale = None, np.array(grid.scale, np.float32)


def _best_grid(values: Array, nonnegative: bool, function: Callable[[Array], Array] = lambda x: x) -> Grid:
    """The grid on which function(values) has the least squared error, its end being some share of the largest."""
    low, high = (0, 255) if nonnegative else (-127, 127)
    largest = np.abs(values).max()
    if largest == 0:
        return Grid(1.0, low, high)
    expected = function(values)

    def error(grid: Grid) -> float:
        difference = function(grid.scale * grid.levels(values)) - expected
        return float(difference @ difference)

    return min((Grid(float(largest * 0.96**k / high), low, high) for k in range(80)), key=error)


def _sum_scale(integer: IntegerStep, operation: Weighted | Distances | Sum) -> Array:
    """Puts weights, prototypes or factors into integers; returns what a sum is in units of, for each channel."""
    grid, other = integer.x, integer.other
    assert grid is not None
    if isinstance(operation, Sum):
        assert other is not None
        smallest = max(grid.scale, other.scale) / SUM_ONE
        integer.constants |= {"factor": round(grid.scale / smallest), "other_factor": round(other.scale / smallest)}
        return np.full(operation.y_shape[0], smallest)
    largest = max(grid.high, -grid.low)
    if isinstance(operation, Distances):
        prototypes = np.rint(operation.arrays()["prototypes"] / grid.scale)
        peak = np.abs(prototypes).max()
        _check_bound(integer, operation.x_shape[0] * (largest + peak) ** 2)
        integer.arrays["prototypes"] = prototypes.astype(np.int16 if peak < 2**15 else np.int32)
        return np.full(operation.y_shape[0], grid.scale**2)
    weight, bias = operation.weight, operation.bias
    peak, bias_peak = np.zeros(operation.y_shape[0]), np.abs(bias).reshape(len(bias), -1).max(axis=1)
    np.maximum.at(peak, np.broadcast_to(operation.channels(), weight.shape), np.abs(weight))
    # So that a bias fits into 24 bits, even beside weights that are all but 0.
    scale = np.maximum(peak / 127, bias_peak / grid.scale / 2**24)
    scale[scale == 0] = 1
    quantized = np.rint(weight / scale[operation.channels()])
    unit: Array = scale * grid.scale
    biases = np.rint(bias / unit.reshape((-1,) + (1,) * (bias.ndim - 1)))
    bound = operation.sums(np.full((1, *operation.x_shape), float(largest)), np.abs(quantized)).max()
    _check_bound(integer, bound + np.abs(biases).max())
    integer.arrays |= operation.arrays() | {"weight": quantized.astype(np.int8), "bias": biases.astype(np.int32)}
    return unit


def _check_bound(integer: IntegerStep, bound: float) -> None:
    if not bound <= LARGEST:
        raise MinicnnError(f"{integer.step.title}: expected sums of at most 32 bits, received up to {bound:.3g}")


def _set_multiplier(integer: IntegerStep, scale: Array, grid: Grid) -> None:
    """How a sum becomes a level of the grid."""
    factor = scale / grid.scale
    shift = int(np.clip(30 - np.floor(np.log2(factor.max())), 1, 62))
    multiplier = np.rint(np.ldexp(factor, shift))
    if multiplier.max() > LARGEST:
        shift -= 1
        multiplier = np.rint(np.ldexp(factor, shift))
    if shift < 1 or multiplier.max() > LARGEST:
        raise MinicnnError(f"{integer.step.title}: expected a smaller range of weights, received {scale.max():.3g}")
    integer.arrays["multiplier"] = multiplier.astype(np.int32)
    integer.constants |= {"shift": shift, "low": grid.low, "high": grid.high}


def _level_grid(integer: IntegerStep, operation: Operation, last: bool) -> Grid:
    """The grid of an operation that gives levels, and its numbers."""
    if isinstance(operation, Normalization):
        ends = np.array([(0 - operation.mean) / operation.std, (1 - operation.mean) / operation.std])
        low, high = (0, 255) if ends.min() >= 0 else (-127, 127)
        scale = float(np.abs(ends).max() / high)
        factor, offset = 1 / (255 * operation.std * scale), -operation.mean / (operation.std * scale)
        half = 1 << (INPUT_SHIFT - 1)
        integer.arrays["multiplier"] = np.rint(np.ldexp(factor, INPUT_SHIFT)).astype(np.int32)
        integer.arrays["offset"] = (np.rint(np.ldexp(offset, INPUT_SHIFT)) + half).astype(np.int32)
        integer.constants["shift"] = INPUT_SHIFT
        return Grid(scale, low, high)
    grid = integer.x
    assert grid is not None
    if not isinstance(operation, SoftmaxAlongChannels):
        return grid
    _check_bound(integer, EXP_ONE * operation.x_shape[0])
    differences = np.arange(grid.high - grid.low + 1)
    integer.arrays["exp"] = np.rint(EXP_ONE * np.exp(-grid.scale * differences)).astype(np.int32)
    if isinstance(operation, LogSoftmaxAlongChannels):
        if not last:
            raise MinicnnError(f"{integer.step.title}: expected it as the last layer; put Softmax in its place")
        unit = round(grid.scale * LOG_ONE)
        _check_bound(integer, len(differences) * unit + 22 * LOG_ONE)  # exp(22) > 2^31
        integer.constants |= {"factor": unit, "ln2": round(math.log(2) * LOG_ONE)}
        middles = (np.arange(256, 512) + 0.5) / EXP_ONE
        integer.arrays["log"] = np.rint(LOG_ONE * np.log(middles)).astype(np.int32)
        return Grid(1 / LOG_ONE, -LARGEST, 0)
    levels = integer.constants["levels"] = 2**15 if last else 255
    return Grid(1 / levels, 0, levels)
