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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn.checks import checked
from minicnn.engine.arrays import Array
from minicnn.errors import MinicnnError, ShapeError
from minicnn.layers import ReLU
from minicnn.model import Model

from .operation import BYTES, LARGEST, Grid, Leveling, Numbers, Summing, each_channel
from .others import Sum
from .steps import Step, chain, is_activation

BATCH = 100  # images that pass through the network at once
SAMPLE = 2**14  # values of a map of which the range is chosen, per batch


@dataclass(kw_only=True)
class IntegerStep(Numbers):
    """A step in integers.

    y           the grid of its output, if it is not the last one, which gives the scores
    rectify     whether what is below 0 becomes 0
    table       y's q for each q before the activations, from the lowest on
    scale       float32, what the last step multiplies its integers by: a number, or one for each channel

    Sums that become elements of a map have a `multiplier` among the arrays, and `shift`, `low` and `high` among the
    constants.
    """

    step: Step
    y: Grid = BYTES
    rectify: bool = False
    table: Array | None = None
    scale: Array | None = None

    def run(self, x: Array, other: Array | None = None) -> Array:
        """The output (N, ...) for integers x (N, ...); both in float64, but scores in float32."""
        ndim = len(self.step.operation.y_shape)
        q = self.step.operation.integers(self, x, other).astype(np.int64)
        if "low" in self.constants:
            product = q * each_channel(self.arrays["multiplier"].astype(np.int64), ndim)
            shift = self.constants["shift"]
            q = ((product + (1 << (shift - 1))) >> shift).clip(self.constants["low"], self.constants["high"])
        if self.rectify:
            q = np.maximum(q, 0)
        if self.table is not None:
            q = self.table[q - self.constants["first"]]
        if self.scale is None:
            return q.astype(np.float64)
        scores: Array = q.astype(np.float32) * (each_channel(self.scale, ndim) if self.scale.ndim else self.scale)
        return scores


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
        x, other = [*(found[k].y for k in step.inputs), BYTES, BYTES][:2]
        found.append(IntegerStep(step=step, x=x, other=other))
        try:
            _fill(found[-1], before, after, last=step is steps[-1])
        except MinicnnError as error:
            raise MinicnnError(f"{step.title}: {error}") from None
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
    rectify, nonnegative = only_relu and bool(activations), bool(activations) and activations[-1].nonnegative

    def function(x: Array) -> Array:
        for activation in activations:
            x = activation(x)
        return x

    if isinstance(operation, Summing):
        units = operation.quantize(integer)
        if last and only_relu:
            integer.rectify, integer.scale = rectify, units.astype(np.float32)
            return
        grid = _best_grid(after, nonnegative) if only_relu else _best_grid(before, False, function)
        _set_multiplier(integer, units, grid)
    elif isinstance(operation, Leveling):
        grid = operation.grid(integer, last and not activations)
        if rectify:
            integer.rectify, grid = True, Grid(grid.scale, 0, grid.high)
    else:
        raise MinicnnError("expected an operation in integers; derive it from Summing or Leveling")
    if not only_relu:
        inputs = grid.scale * np.arange(grid.low, grid.high + 1)
        integer.constants["first"] = grid.low
        grid = _best_grid(after, nonnegative)
        integer.table = grid.levels(function(inputs)).astype(grid.dtype)
    integer.y = grid
    if last:
        integer.scale = np.array(grid.scale, np.float32)


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


def _set_multiplier(numbers: Numbers, units: Array, grid: Grid) -> None:
    """How a sum becomes a level of the grid."""
    factor = units / grid.scale
    shift = int(np.clip(30 - np.floor(np.log2(factor.max())), 1, 62))
    multiplier = np.rint(np.ldexp(factor, shift))
    if multiplier.max() > LARGEST:
        shift -= 1
        multiplier = np.rint(np.ldexp(factor, shift))
    if shift < 1 or multiplier.max() > LARGEST:
        raise MinicnnError(f"expected a smaller range of weights, received {units.max():.3g}")
    numbers.arrays["multiplier"] = multiplier.astype(np.int32)
    numbers.constants |= {"shift": shift, "low": grid.low, "high": grid.high}
