"""The operations without products of weights: pooling, softmax, distances, sums, and the normalisation of pixels."""

from copy import deepcopy
from math import prod
from typing import Any

import numpy as np

from minicnn.data.batches import pad_images
from minicnn.engine.arrays import Array, Shape
from minicnn.layers import GlobalMeanPool, LogSoftmax, MaxPool, MeanPool, RadialBasis, Residual, Softmax
from minicnn.layers.arguments import Window

from .operation import Code, Operation, input_place, taps
from .text import Lines, loops, place


class Pooling(Operation):
    """What both kinds have in common."""

    window: Window

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        self.window = layer.window
        self.in_place = not any(layer.padding)  # then a window begins where it is stored, or behind it
        self.x = f"x[{place(('c', 'row', 'column'), x_shape)}]"
        self.y = place("cij", self.y_shape)

    def _over(self, body: Lines) -> Lines:
        return loops(list(zip("cij", self.y_shape, strict=True)), body)


class MaxPooling(Pooling, of=[MaxPool]):
    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        self.formula = (
            f"y[c, i, j] = maximum over u, v of x[c, {input_place(self.window)}], as far as that is in the map"
        )

    def body(self, code: Code) -> Lines:
        larger = [f"if ({self.x} > best) {{", f"best = {self.x};", "}"]
        inner = taps(self.window, self.x_shape, self.y_shape, larger)
        return self._over([f"{code.number} best = {code.lowest};", *inner, code.store_level(self.y, "best")])

    def integers(self, x: Array) -> Array:
        """The maxima of integers (N, ...), in float64."""
        maxima: Array = self.layer.forward(x)
        return maxima


class MeanPooling(Pooling, of=[MeanPool]):
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
        return self._over([*lines, code.store_level(self.y, code.mean("sum", count))])

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

    def integers(self, x: Array) -> Array:
        """The means of integers (N, ...), rounded, halves away from 0, in float64."""
        mean = self.layer.forward(x)
        # A mean is a multiple of 1 / count and may lie a rounding error below it, so that halves need help.
        rounded: Array = np.sign(mean) * np.floor(np.abs(mean) + 0.5 + 1e-9)
        return rounded


class GlobalMeanPooling(MeanPooling, of=[GlobalMeanPool]):
    """A mean with a window as large as the map."""

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(MeanPool((x_shape[1], x_shape[2])), x_shape)


class SoftmaxAlongChannels(Operation, of=[Softmax]):
    in_place = True
    formula = "y[c, k] = exp(x[c, k]) / sum over c' of exp(x[c', k]), k being the place in the map"

    def body(self, code: Code) -> Lines:
        channels, *rest = self.x_shape
        at = place(("c", "k"), (channels, prod(rest)))
        x, over = f"x[{at}]", [("c", channels)]
        top = [f"{code.number} top = x[k];", *loops(over, [f"if ({x} > top) {{", f"top = {x};", "}"])]
        exp = f"{code.array('exp')}[top - {x}]" if code.integer else f"expf({x} - top)"
        sums = [f"{code.number} sum = 0;", *loops(over, [f"sum += {exp};"])]
        before, value = self._value(code, x, exp)
        return loops([("k", prod(rest))], [*top, *sums, *before, *loops(over, [code.store_level(at, value)])])

    def _value(self, code: Code, x: str, exp: str) -> tuple[Lines, str]:
        """What y is, of `top` and `sum`, and the lines before."""
        return [], code.share(exp, "sum")


class LogSoftmaxAlongChannels(SoftmaxAlongChannels, of=[LogSoftmax]):
    formula = "y[c, k] = x[c, k] - log(sum over c' of exp(x[c', k])), k being the place in the map"

    def _value(self, code: Code, x: str, exp: str) -> tuple[Lines, str]:
        if not code.integer:
            return ["float rest = logf(sum);"], f"{x} - top - rest"
        # sum = 2^shift m with m from 256 to 511, whose logarithm is in a table
        shift = ["int shift = 0;", "while (sum >> shift >= 512) {", "shift++;", "}"]
        rest = f"int32_t rest = shift * {code.constant('ln2')} + {code.array('log')}[(sum >> shift) - 256];"
        return [*shift, rest], f"({x} - top) * {code.constant('factor')} - rest"


class Distances(Operation, of=[RadialBasis]):
    formula = "y[o] = -sum over k of (x[k] - prototypes[o, k])^2"

    def arrays(self) -> dict[str, Array]:
        return {"prototypes": self.layer.prototypes.astype(np.float64)}

    def sums(self, x: Array, prototypes: Array) -> Array:
        """The sums for integers x (N, features) and integer prototypes, in float64."""
        twin = deepcopy(self.layer).astype(np.float64)
        twin.prototypes = prototypes.astype(np.float64)
        sums: Array = twin.forward(x)
        return sums

    def body(self, code: Code) -> Lines:
        difference = f"{code.number} difference = x[k] - {code.array('prototypes')}[o][k];"
        inner = loops([("k", self.x_shape[0])], [difference, "sum -= difference * difference;"])
        return loops([("o", self.y_shape[0])], [f"{code.number} sum = 0;", *inner, code.store("o", "sum", "o")])


class Identity(Operation):
    """For an activation of a map that others need as it is."""

    in_place = True
    formula = "y = x"

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        self.layer, self.x_shape, self.y_shape = layer, x_shape, x_shape

    def body(self, code: Code) -> Lines:
        return loops([("k", prod(self.x_shape))], [code.store_level("k", "x[k]")])

    def integers(self, x: Array) -> Array:
        return x


class Sum(Operation, of=[Residual]):
    """Two maps added up, as Residual does."""

    in_place = True
    formula = "y = x + other"

    def __init__(self, layer: Any, x_shape: Shape) -> None:
        super().__init__(layer, x_shape)
        self.x_shape = self.y_shape  # what layers and shortcut give, not what they are given

    def body(self, code: Code) -> Lines:
        channels, *rest = self.y_shape
        at = place(("c", "k"), (channels, prod(rest)))
        x, other = f"x[{at}]", f"other[{at}]"
        if code.integer:
            x, other = (f"{one} * {code.constant(name)}" for one, name in ((x, "factor"), (other, "other_factor")))
        return loops([("c", channels), ("k", prod(rest))], [code.store(at, f"{x} + {other}", "c")])


class Normalization(Operation):
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

    def padded(self, pixels: Array) -> Array:
        """Images (N, ...) with the black pixels around them."""
        return pad_images(pixels, self.padding) if self.padding else pixels

    def body(self, code: Code) -> Lines:
        channels, *rest = self.y_shape
        if self.padding:
            (rows, columns), p = rest, self.padding
            inside = f"i >= {p} && i < {rows - p} && j >= {p} && j < {columns - p}"
            x = place(("c", f"i - {p}", f"j - {p}"), self.x_shape)
            pixel, ranges, at = f"{inside} ? pixels[{x}] : 0", list(zip("cij", self.y_shape, strict=True)), "cij"
            y = place(at, self.y_shape)
        else:
            y = place(("c", "k"), (channels, prod(rest)))
            pixel, ranges = f"pixels[{y}]", [("c", channels), ("k", prod(rest))]
        if code.integer:
            factor, shift = code.array("multiplier"), code.constant("shift")
            value = f"(pixel * {factor}[c] + {code.array('offset')}[c]) >> {shift}"
        else:
            value = f"((float)pixel / 255.0f - {code.array('mean')}[c]) / {code.array('std')}[c]"
        return loops(ranges, [f"int32_t pixel = {pixel};", code.store_level(y, value)])
