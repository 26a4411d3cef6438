"""The operations that multiply by weights."""

from abc import abstractmethod
from copy import deepcopy
from math import prod
from typing import Any

import numpy as np

from minicnn.engine.arrays import Array, Shape
from minicnn.layers import BatchNorm1d, BatchNorm2d, Conv2d, Dense, LocallyConnected2d, Subsample

from .operation import Code, Numbers, Summing, check_bound, each_channel, input_place, tap, taps
from .text import Lines, loops, place


class Weighted(Summing):
    """y = a sum of x times weights, plus a bias for each channel of y.

    axes          the indices of y, in the loops over it
    weight, bias  in float64, with what follows folded in; the bias 0 where the layer has none
    """

    axes = "oij"

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        self.weight = self._weight()
        self.bias = self._bias()
        self._twin: tuple[Array, Any] | None = None  # the last weight of `_sums`, and the layer that has it

    def _weight(self) -> Array:
        weight: Array = self.layer.weight.value.astype(np.float64)
        return weight

    def _bias(self) -> Array:
        bias: Array = np.zeros(self.y_shape[0]) if self.layer.bias is None else self.layer.bias.value
        return bias.astype(np.float64)

    def arrays(self) -> dict[str, Array]:
        return {"weight": self.weight, "bias": self.bias}

    def channels(self) -> Array:
        """The channel of y that each weight is for: integers that broadcast to the weight's shape."""
        return each_channel(np.arange(self.y_shape[0]), self.weight.ndim)

    def fold(self, factor: Array, shift: Array) -> None:
        """Makes it give factor[c] y + shift[c] for each channel c of y."""
        self.weight = self.weight * factor[self.channels()]
        self.bias = self.bias * each_channel(factor, self.bias.ndim) + each_channel(shift, self.bias.ndim)

    def body(self, code: Code) -> Lines:
        shape = (*self.y_shape[: len(self.axes) - 1], prod(self.y_shape[len(self.axes) - 1 :]))
        terms = self.terms(code)
        indices = "".join(f"[{axis}]" for axis in self.axes[: self.bias.ndim])
        begin = code.array("bias") + indices if self.bias.any() else "0"
        store = code.store(place(self.axes, shape), "sum", self.axes[0])
        return loops(zip(self.axes, shape, strict=True), [f"{code.number} sum = {begin};", *terms, store])

    @abstractmethod
    def terms(self, code: Code) -> Lines:
        """The loops that add to `sum`."""

    def quantize(self, numbers: Numbers) -> Array:
        grid, channels = numbers.x, self.channels()
        peak, bias_peak = np.zeros(self.y_shape[0]), np.abs(self.bias).reshape(len(self.bias), -1).max(axis=1)
        np.maximum.at(peak, np.broadcast_to(channels, self.weight.shape), np.abs(self.weight))
        # So that a bias fits into 24 bits, even beside weights that are all but 0.
        scale = np.maximum(peak / 127, bias_peak / grid.scale / 2**24)
        scale[scale == 0] = 1
        weight = np.rint(self.weight / scale[channels])
        unit: Array = scale * grid.scale
        bias = np.rint(self.bias / each_channel(unit, self.bias.ndim))
        largest = np.full((1, *self.x_shape), float(max(grid.high, -grid.low)))
        check_bound(self._sums(largest, np.abs(weight)).max() + np.abs(bias).max())
        numbers.arrays |= self.arrays() | {"weight": weight.astype(np.int8), "bias": bias.astype(np.int32)}
        return unit

    def integers(self, numbers: Numbers, x: Array, other: Array | None = None) -> Array:
        return self._sums(x, numbers.arrays["weight"]) + each_channel(numbers.arrays["bias"], len(self.y_shape))

    def _sums(self, x: Array, weight: Array) -> Array:
        """The sums without biases of integers x (N, ...) and integer weights, in float64, which holds them exactly.

        It is the layer itself that computes them. Where its way has rounding errors in between (Winograd), they are
        far below 1.
        """
        if self._twin is None or self._twin[0] is not weight:
            twin = deepcopy(self.layer).astype(np.float64)
            twin.weight.value = weight
            if twin.bias is not None:
                twin.bias.value = 0
            self._twin = weight, twin
        sums: Array = np.rint(self._twin[1].forward(x))
        return sums


def _beyond(layer: Any) -> str:
    return ", x being 0 beyond its edge" if any(layer.padding) else ""


class Convolution(Weighted, of=[Conv2d]):
    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        self.table = layer.table
        ins, outs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        self.channel, channel = "c", "c"
        if layer.groups > 1:
            self.channel, channel = f"o / {outs} * {ins} + c", f"(o div {outs}) {ins} + c"
        over = "c, u, v" if self.table is None else "u, v and the c that o is connected with"
        self.formula = (
            f"y[o, i, j] = bias[o] + sum over {over} of weight[o, c, u, v] "
            f"x[{channel}, {input_place(layer.window)}]{_beyond(layer)}"
        )

    def channels(self) -> Array:
        if self.table is None:
            return super().channels()
        outputs: Array = self.table.outputs.reshape(-1, 1, 1)
        return outputs

    def arrays(self) -> dict[str, Array]:
        arrays = super().arrays()
        if self.table is not None:
            first = np.searchsorted(self.table.outputs, np.arange(self.y_shape[0] + 1))
            arrays |= {"first": _narrow(first), "channel": _narrow(self.table.inputs)}
        return arrays

    def terms(self, code: Code) -> Lines:
        weight = code.array("weight") + ("[o][c][u][v]" if self.table is None else "[n][u][v]")
        added = [f"sum += {weight} * {tap(self.x_shape, self.channel)};"]
        inner = taps(self.layer.window, self.x_shape, self.y_shape, added)
        if self.table is None:
            return loops([("c", self.layer.in_channels // self.layer.groups)], inner)
        first, channel = code.array("first"), code.array("channel")
        head = f"for (int n = {first}[o]; n < {first}[o + 1]; n++) {{"
        return [head, f"int c = {channel}[n];", *inner, "}"]


def _narrow(array: Array) -> Array:
    """The integers >= 0 in the smallest type that holds them."""
    largest = array.max()
    return array.astype(np.uint8 if largest < 2**8 else np.int16 if largest < 2**15 else np.int32)


class LocallyConnected(Weighted, of=[LocallyConnected2d]):
    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        self.formula = (
            "y[o, i, j] = bias[o, i, j] + sum over c, u, v of weight[i, j, o, c, u, v] "
            f"x[c, {input_place(layer.window)}]{_beyond(layer)}"
        )

    def _bias(self) -> Array:
        return np.zeros(self.y_shape) if self.layer.bias is None else super()._bias()

    def channels(self) -> Array:
        return np.arange(self.y_shape[0]).reshape(-1, 1, 1, 1)

    def terms(self, code: Code) -> Lines:
        added = [f"sum += {code.array('weight')}[i][j][o][c][u][v] * {tap(self.x_shape)};"]
        return loops([("c", self.x_shape[0])], taps(self.layer.window, self.x_shape, self.y_shape, added))


class Product(Weighted, of=[Dense]):
    axes = "o"
    formula = "y[o] = bias[o] + sum over k of weight[o, k] x[k]"

    def terms(self, code: Code) -> Lines:
        return loops([("k", self.x_shape[0])], [f"sum += {code.array('weight')}[o][k] * x[k];"])


class Subsampling(Weighted, of=[Subsample]):
    axes = "cij"
    in_place = True

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        self.formula = f"y[c, i, j] = bias[c] + weight[c] times the sum over u, v of x[c, {input_place(layer.window)}]"

    def terms(self, code: Code) -> Lines:
        added = taps(self.layer.window, self.x_shape, self.y_shape, [f"total += {tap(self.x_shape)};"])
        return [f"{code.number} total = 0;", *added, f"sum += {code.array('weight')}[c] * total;"]


class BatchNormalization(Weighted, of=[BatchNorm1d, BatchNorm2d]):
    """With running statistics, that is weight x + bias; mostly it is folded into the operation before it."""

    axes = "ck"
    in_place = True
    formula = "y[c, k] = weight[c] x[c, k] + bias[c], k being the place in the map"

    def _weight(self) -> Array:
        factor, _ = affine_of(self.layer)
        return factor

    def _bias(self) -> Array:
        _, shift = affine_of(self.layer)
        return shift

    def _sums(self, x: Array, weight: Array) -> Array:
        sums: Array = x * each_channel(weight, len(self.x_shape))
        return sums

    def terms(self, code: Code) -> Lines:
        at = place("ck", (self.x_shape[0], prod(self.x_shape[1:])))
        return [f"sum += {code.array('weight')}[c] * x[{at}];"]


def affine_of(norm: Any) -> tuple[Array, Array]:
    """(factor, shift), of each channel, such that batch normalisation is factor x + shift."""
    with np.errstate(divide="ignore", invalid="ignore"):  # the arrays are checked when all are there
        factor = 1 / np.sqrt(norm.running_var.astype(np.float64) + norm.eps)
        factor = factor if norm.weight is None else factor * norm.weight.value
        shift = -norm.running_mean * factor
    return factor, shift if norm.bias is None else shift + norm.bias.value
