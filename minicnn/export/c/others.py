"""The operations without products of weights: pooling, softmax, distances, sums, and the normalisation of pixels."""

import math
from copy import deepcopy
from math import prod
from typing import Any

import numpy as np

from minicnn.data.batches import pad_images
from minicnn.engine.arrays import Array, Shape
from minicnn.errors import MinicnnError
from minicnn.layers import GlobalMeanPool, LogSoftmax, MaxPool, MeanPool, RadialBasis, Residual, Softmax
from minicnn.layers.arguments import Window

from .operation import Code, Grid, Leveling, Numbers, Summing, check_bound, each_channel, input_place, tap, taps
from .text import Lines, loops, place

INPUT_SHIFT = 20
EXP_ONE = 2**16  # what exp(0) is in the table of a softmax
LOG_ONE = 2**16  # what 1 is in the values of a log-softmax
SUM_ONE = 2**14  # what the larger scale of two maps is in units of their sum


class Pooling(Leveling):
    """What both kinds have in common."""

    window: Window

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        self.window = layer.window
        self.in_place = not any(layer.padding)  # then a window begins where it is stored, or behind it
        self.x, self.y = tap(x_shape), place("cij", self.y_shape)


class MaxPooling(Pooling, of=[MaxPool]):
    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        self.formula = (
            f"y[c, i, j] = maximum over u, v of x[c, {input_place(self.window)}], as far as that is in the map"
        )

    def body(self, code: Code) -> Lines:
        larger = [f"if ({self.x} > best) {{", f"best = {self.x};", "}"]
        inner = taps(self.window, self.x_shape, self.y_shape, larger)
        return self.over("cij", [f"{code.number} best = {code.lowest};", *inner, code.store_level(self.y, "best")])

    def integers(self, numbers: Numbers, x: Array, other: Array | None = None) -> Array:
        maxima: Array = self.layer.forward(x)
        return maxima


class MeanPooling(Pooling, of=[MeanPool]):
    """In integers, means are rounded, halves away from 0."""

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        places = "those in the map" if not layer.count_include_pad else "those in the map and its padding"
        self.formula = f"y[c, i, j] = mean over u, v of x[c, {input_place(self.window)}], of {places}"

    def body(self, code: Code) -> Lines:
        inner = taps(self.window, self.x_shape, self.y_shape, [f"sum += {self.x};"])
        lines, count = [f"{code.number} sum = 0;", *inner], str(prod(self.layer.kernel_size))
        if self._varies():
            lines += self._sides()
            count = "(bottom - top) * (right - left)"
        return self.over("cij", [*lines, code.store_level(self.y, code.mean("sum", count))])

    def _varies(self) -> bool:
        """Whether there are windows that do not count all of their places."""
        axes = zip(*self.window[:3], self.x_shape[1:], self.y_shape[1:], strict=True)
        for kernel, stride, padding, size, count in axes:
            edge = padding if self.layer.count_include_pad else 0
            if edge < padding or (count - 1) * stride + kernel - padding > size + edge:
                return True
        return False

    def _sides(self) -> Lines:
        """Where the places begin and end that count."""
        lines = []
        axes = zip(("top", "left"), ("bottom", "right"), "ij", *self.window[:3], self.x_shape[1:], strict=True)
        for first, last, i, kernel, stride, padding, size in axes:
            edge = padding if self.layer.count_include_pad else 0
            begin = f"{stride} * {i} - {padding}"
            lines += [f"int {first} = {begin}, {last} = {first} + {kernel};"]
            lines += [f"{first} = {first} < {-edge} ? {-edge} : {first};"]
            lines += [f"{last} = {last} > {size + edge} ? {size + edge} : {last};"]
        return lines

    def integers(self, numbers: Numbers, x: Array, other: Array | None = None) -> Array:
        mean = self.layer.forward(x)
        # A mean is a multiple of 1 / count and may lie a rounding error below it, so that halves need help.
        rounded: Array = np.sign(mean) * np.floor(np.abs(mean) + 0.5 + 1e-9)
        return rounded


class GlobalMeanPooling(MeanPooling, of=[GlobalMeanPool]):
    """A mean with a window as large as the map."""

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(MeanPool((x_shape[1], x_shape[2])), x_shape)


class SoftmaxAlongChannels(Leveling, of=[Softmax]):
    in_place = True
    formula = "y[c, k] = exp(x[c, k]) / sum over c' of exp(x[c', k]), k being the place in the map"

    def body(self, code: Code) -> Lines:
        channels, *rest = self.x_shape
        at = place("ck", (channels, prod(rest)))
        x, over = f"x[{at}]", [("c", channels)]
        top = [f"{code.number} top = x[k];", *loops(over, [f"if ({x} > top) {{", f"top = {x};", "}"])]
        exp = f"{code.array('exp')}[top - {x}]" if code.integer else f"expf({x} - top)"
        sums = [f"{code.number} sum = 0;", *loops(over, [f"sum += {exp};"])]
        before, value = self._value(code, x, exp)
        return loops([("k", prod(rest))], [*top, *sums, *before, *loops(over, [code.store_level(at, value)])])

    def _value(self, code: Code, x: str, exp: str) -> tuple[Lines, str]:
        """What y is, of `top` and `sum`, and the lines before."""
        return [], code.share(exp, "sum")

    def grid(self, numbers: Numbers, last: bool) -> Grid:
        self._tabulate_exp(numbers)
        levels = numbers.constants["levels"] = 2**15 if last else 255
        return Grid(1 / levels, 0, levels)

    def _tabulate_exp(self, numbers: Numbers) -> Array:
        """Makes a table of exp for each difference of two x; returns the differences."""
        check_bound(EXP_ONE * self.x_shape[0])
        differences = np.arange(numbers.x.high - numbers.x.low + 1)
        numbers.arrays["exp"] = np.rint(EXP_ONE * np.exp(-numbers.x.scale * differences)).astype(np.int32)
        return differences

    def integers(self, numbers: Numbers, x: Array, other: Array | None = None) -> Array:
        top = x.max(axis=1, keepdims=True)
        exp = numbers.arrays["exp"].astype(np.int64)[(top - x).astype(np.int64)]
        return self._of_exp(numbers, (x - top).astype(np.int64), exp, exp.sum(axis=1, keepdims=True))

    def _of_exp(self, numbers: Numbers, x: Array, exp: Array, total: Array) -> Array:
        """y in integers, of x below the largest one, its exp and their sum."""
        y: Array = (2 * numbers.constants["levels"] * exp + total) // (2 * total)
        return y


class LogSoftmaxAlongChannels(SoftmaxAlongChannels, of=[LogSoftmax]):
    """In integers, the logarithm of a sum 2^shift m, with m from 256 to 511, is shift log(2) + log(m), a table."""

    formula = "y[c, k] = x[c, k] - log(sum over c' of exp(x[c', k])), k being the place in the map"

    def _value(self, code: Code, x: str, exp: str) -> tuple[Lines, str]:
        if not code.integer:
            return ["float rest = logf(sum);"], f"{x} - top - rest"
        shift = ["int shift = 0;", "while (sum >> shift >= 512) {", "shift++;", "}"]
        rest = f"int32_t rest = shift * {code.constants['ln2']} + {code.array('log')}[(sum >> shift) - 256];"
        return [*shift, rest], f"({x} - top) * {code.constants['factor']} - rest"

    def grid(self, numbers: Numbers, last: bool) -> Grid:
        differences = self._tabulate_exp(numbers)
        if not last:
            raise MinicnnError("expected it as the last layer; put Softmax in its place")
        unit = round(numbers.x.scale * LOG_ONE)
        check_bound(len(differences) * unit + 22 * LOG_ONE)  # exp(22) > 2^31
        numbers.constants |= {"factor": unit, "ln2": round(math.log(2) * LOG_ONE)}
        middles = (np.arange(256, 512) + 0.5) / EXP_ONE
        numbers.arrays["log"] = np.rint(LOG_ONE * np.log(middles)).astype(np.int32)
        return Grid(1 / LOG_ONE, 1 - 2**31, 0)

    def _of_exp(self, numbers: Numbers, x: Array, exp: Array, total: Array) -> Array:
        shift = np.frexp(total)[1].astype(np.int64) - 9
        rest = shift * numbers.constants["ln2"] + numbers.arrays["log"].astype(np.int64)[(total >> shift) - 256]
        y: Array = x * numbers.constants["factor"] - rest
        return y


class Distances(Summing, of=[RadialBasis]):
    formula = "y[o] = -sum over k of (x[k] - prototypes[o, k])^2"

    def arrays(self) -> dict[str, Array]:
        return {"prototypes": self.layer.prototypes.astype(np.float64)}

    def body(self, code: Code) -> Lines:
        difference = f"{code.number} difference = x[k] - {code.array('prototypes')}[o][k];"
        inner = loops([("k", self.x_shape[0])], [difference, "sum -= difference * difference;"])
        return self.over("o", [f"{code.number} sum = 0;", *inner, code.store("o", "sum", "o")])

    def quantize(self, numbers: Numbers) -> Array:
        grid = numbers.x
        prototypes = np.rint(self.arrays()["prototypes"] / grid.scale)
        peak = np.abs(prototypes).max()
        check_bound(self.x_shape[0] * (max(grid.high, -grid.low) + peak) ** 2)
        numbers.arrays["prototypes"] = prototypes.astype(np.int16 if peak < 2**15 else np.int32)
        return np.full(self.y_shape[0], grid.scale**2)

    def integers(self, numbers: Numbers, x: Array, other: Array | None = None) -> Array:
        twin = deepcopy(self.layer).astype(np.float64)
        twin.prototypes = numbers.arrays["prototypes"].astype(np.float64)
        sums: Array = twin.forward(x)
        return sums


class Identity(Leveling):
    """For an activation of a map that others need as it is."""

    in_place = True
    formula = "y = x"

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        self.layer, self.x_shape, self.y_shape = layer, x_shape, x_shape

    def body(self, code: Code) -> Lines:
        return loops([("k", prod(self.x_shape))], [code.store_level("k", "x[k]")])

    def integers(self, numbers: Numbers, x: Array, other: Array | None = None) -> Array:
        return x


class Sum(Summing, of=[Residual]):
    """Two maps added up, as Residual does."""

    in_place = True
    formula = "y = x + other"

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        self.x_shape = self.y_shape  # what layers and shortcut give, not what they are given

    def body(self, code: Code) -> Lines:
        channels, *rest = self.y_shape
        at = place("ck", (channels, prod(rest)))
        x, other = f"x[{at}]", f"other[{at}]"
        if code.integer:
            x, other = (f"{one} * {code.constants[name]}" for one, name in ((x, "factor"), (other, "other_factor")))
        return loops([("c", channels), ("k", prod(rest))], [code.store(at, f"{x} + {other}", "c")])

    def quantize(self, numbers: Numbers) -> Array:
        x, other = numbers.x.scale, numbers.other.scale
        unit = max(x, other) / SUM_ONE
        numbers.constants |= {"factor": round(x / unit), "other_factor": round(other / unit)}
        return np.full(self.y_shape[0], unit)

    def integers(self, numbers: Numbers, x: Array, other: Array | None = None) -> Array:
        assert other is not None
        sums: Array = x * numbers.constants["factor"] + other * numbers.constants["other_factor"]
        return sums


class Normalization(Leveling):
    """From the bytes of the image to what the network takes, with black pixels around it."""

    formula = "y = (pixel / 255 - mean) / std, of each channel"

    def __init__(self, input_shape: Shape, padding: int, mean: Any, std: Any) -> None:
        channels, *sides = input_shape
        self.layer, self.x_shape, self.padding = None, input_shape, padding
        self.y_shape = (channels, *(side + 2 * padding for side in sides))
        self.mean, self.std = (np.broadcast_to(np.asarray(v, np.float64), channels) for v in (mean, std))
        if padding:
            self.formula += f", with {padding} black pixels on each side"

    def arrays(self) -> dict[str, Array]:
        return {"mean": self.mean, "std": self.std}

    def body(self, code: Code) -> Lines:
        channels, *rest = self.y_shape
        if self.padding:
            (rows, columns), p = rest, self.padding
            inside = f"i >= {p} && i < {rows - p} && j >= {p} && j < {columns - p}"
            x = place(("c", f"i - {p}", f"j - {p}"), self.x_shape)
            axes, shape, pixel = "cij", self.y_shape, f"{inside} ? pixels[{x}] : 0"
        else:
            axes, shape = "ck", (channels, prod(rest))
            pixel = f"pixels[{place(axes, shape)}]"
        if code.integer:
            factor, shift = code.array("multiplier"), code.constants["shift"]
            value = f"(pixel * {factor}[c] + {code.array('offset')}[c]) >> {shift}"
        else:
            value = f"((float)pixel / 255.0f - {code.array('mean')}[c]) / {code.array('std')}[c]"
        body = [f"int32_t pixel = {pixel};", code.store_level(place(axes, shape), value)]
        return loops(zip(axes, shape, strict=True), body)

    def grid(self, numbers: Numbers, last: bool) -> Grid:
        ends = np.array([(0 - self.mean) / self.std, (1 - self.mean) / self.std])
        low, high = (0, 255) if ends.min() >= 0 else (-127, 127)
        scale = float(np.abs(ends).max() / high)
        factor, offset = 1 / (255 * self.std * scale), -self.mean / (self.std * scale)
        half = 1 << (INPUT_SHIFT - 1)
        numbers.arrays["multiplier"] = np.rint(np.ldexp(factor, INPUT_SHIFT)).astype(np.int32)
        numbers.arrays["offset"] = (np.rint(np.ldexp(offset, INPUT_SHIFT)) + half).astype(np.int32)
        numbers.constants["shift"] = INPUT_SHIFT
        return Grid(scale, low, high)

    def integers(self, numbers: Numbers, x: Array, other: Array | None = None) -> Array:
        pixels = x.astype(np.int64)
        pixels = pad_images(pixels, self.padding) if self.padding else pixels
        arrays = (numbers.arrays[name].astype(np.int64) for name in ("multiplier", "offset"))
        factor, offset = (each_channel(array, len(self.y_shape)) for array in arrays)
        q: Array = (pixels * factor + offset) >> INPUT_SHIFT
        return q
