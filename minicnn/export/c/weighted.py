"""The operations that multiply by weights."""

from math import prod
from typing import Any

import numpy as np

from minicnn.engine.arrays import Array, Shape
from minicnn.layers import BatchNorm1d, BatchNorm2d, Conv2d, Dense, LocallyConnected2d, Subsample

from .operation import Code, Weighted, input_place, taps
from .text import Lines, loops, place


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

    def body(self, code: Code) -> Lines:
        x = f"x[{place((self.channel, 'row', 'column'), self.x_shape)}]"
        weight = code.array("weight") + ("[o][c][u][v]" if self.table is None else "[n][u][v]")
        inner = taps(self.layer.window, self.x_shape, self.y_shape, [f"sum += {weight} * {x};"])
        if self.table is None:
            inner = loops([("c", self.layer.in_channels // self.layer.groups)], inner)
        else:
            first, channel = code.array("first"), code.array("channel")
            head = f"for (int n = {first}[o]; n < {first}[o + 1]; n++) {{"
            inner = [head, f"int c = {channel}[n];", *inner, "}"]
        store = code.store(place("oij", self.y_shape), "sum", "o")
        return loops(list(zip("oij", self.y_shape, strict=True)), [self.first(code, "[o]"), *inner, store])


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

    def body(self, code: Code) -> Lines:
        x = f"x[{place(('c', 'row', 'column'), self.x_shape)}]"
        sums = [f"sum += {code.array('weight')}[i][j][o][c][u][v] * {x};"]
        inner = loops([("c", self.x_shape[0])], taps(self.layer.window, self.x_shape, self.y_shape, sums))
        store = code.store(place("oij", self.y_shape), "sum", "o")
        return loops(list(zip("oij", self.y_shape, strict=True)), [self.first(code, "[o][i][j]"), *inner, store])


class Product(Weighted, of=[Dense]):
    formula = "y[o] = bias[o] + sum over k of weight[o, k] x[k]"

    def body(self, code: Code) -> Lines:
        inner = loops([("k", self.x_shape[0])], [f"sum += {code.array('weight')}[o][k] * x[k];"])
        return loops([("o", self.y_shape[0])], [self.first(code, "[o]"), *inner, code.store("o", "sum", "o")])


class Subsampling(Weighted, of=[Subsample]):
    in_place = True

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        self.formula = f"y[c, i, j] = bias[c] + weight[c] times the sum over u, v of x[c, {input_place(layer.window)}]"

    def body(self, code: Code) -> Lines:
        x = f"x[{place(('c', 'row', 'column'), self.x_shape)}]"
        total = [f"{code.number} total = 0;"]
        total += taps(self.layer.window, self.x_shape, self.y_shape, [f"total += {x};"])
        sums = [self.first(code, "[c]"), f"sum += {code.array('weight')}[c] * total;"]
        store = code.store(place("cij", self.y_shape), "sum", "c")
        return loops(list(zip("cij", self.y_shape, strict=True)), [*total, *sums, store])


class BatchNormalization(Weighted, of=[BatchNorm1d, BatchNorm2d]):
    """With running statistics, that is weight x + bias; mostly it is folded into the operation before it."""

    in_place = True
    formula = "y[c, k] = weight[c] x[c, k] + bias[c], k being the place in the map"

    def _weight(self) -> Array:
        factor, _ = affine_of(self.layer)
        return factor

    def _bias(self) -> Array:
        _, shift = affine_of(self.layer)
        return shift

    def sums(self, x: Array, weight: Array) -> Array:
        sums: Array = x * weight.reshape(-1, *[1] * (len(self.x_shape) - 1))
        return sums

    def body(self, code: Code) -> Lines:
        channels, places = self.x_shape[0], prod(self.x_shape[1:])
        at = place(("c", "k"), (channels, places))
        sums = [self.first(code, "[c]"), f"sum += {code.array('weight')}[c] * x[{at}];"]
        return loops([("c", channels), ("k", places)], [*sums, code.store(at, "sum", "c")])


def affine_of(norm: Any) -> tuple[Array, Array]:
    """(factor, shift), of each channel, such that batch normalisation is factor x + shift."""
    with np.errstate(divide="ignore", invalid="ignore"):  # the arrays are checked when all are there
        factor = 1 / np.sqrt(norm.running_var.astype(np.float64) + norm.eps)
        factor = factor if norm.weight is None else factor * norm.weight.value
        shift = -norm.running_mean * factor
    return factor, shift if norm.bias is None else shift + norm.bias.value
