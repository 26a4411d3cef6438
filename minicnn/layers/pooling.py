"""The pooling layers. They have no parameters, and yet they take part in backprop: they route or share gradients."""

import math
from typing import Any

import numpy as np

from minicnn.engine.arrays import Shape
from minicnn.engine.cache import Kernels
from minicnn.engine.memory import Map
from minicnn.engine.work import Work
from minicnn.errors import ShapeError

from .arguments import Pair, Window, image_shape, pair
from .explain import PRODUCT, Explanation, Place, Step, index, number, strongest
from .explain_windows import View
from .lane_layer import LaneLayer
from .layer import Backward, OnnxGraph

kernels = Kernels("pool")


class Pool(LaneLayer):
    """What layers have that make one number of each window of a map; padding and ceil_mode let it reach outside."""

    per_sample = True

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
    ) -> None:
        name = type(self).__name__
        self.kernel_size = pair(kernel_size, f"{name}: kernel_size", 1)
        self.stride = self.kernel_size if stride is None else pair(stride, f"{name}: stride", 1)
        self.padding = pair(padding, f"{name}: padding", 0)
        self.ceil_mode = bool(ceil_mode)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ShapeError(
                f"{name}: expected padding of at most half the kernel {self.kernel_size}, received {self.padding}"
            )

    @property
    def window(self) -> Window:
        return self.kernel_size, self.stride, self.padding, (1, 1)

    def output_shape(self, input_shape: Shape) -> Shape:
        channels, *size = image_shape(self, input_shape)
        out = []
        for n, k, s, p, _ in zip(size, *self.window, strict=True):
            # With ceil_mode a last window may hang over the edge, if it begins inside.
            count = (n + 2 * p - k + (s - 1 if self.ceil_mode else 0)) // s + 1
            if self.ceil_mode and (count - 1) * s >= n + p:
                count -= 1
            if count < 1:
                raise ShapeError(
                    f"{self!r}: expected an input (with padding) at least as large as the window, "
                    f"{k}, received {n} + 2 * {p}"
                )
            out.append(count)
        return (channels, *out)

    def connections(self, input_shape: Shape) -> int:
        return math.prod(self.kernel_size) * math.prod(self.output_shape(input_shape))

    def _geometry(self, x_shape: Shape, y_shape: Shape) -> tuple[int, ...]:
        """What the kernels take: the sizes of input and output, of the window, its strides and its padding."""
        return (*x_shape[1:], *y_shape[1:], *self.kernel_size, *self.stride, *self.padding)

    def _ends(self, shape: Shape) -> Pair:
        """The padding at bottom and right that the last windows reach into.

        ONNX and its runtimes are not of one mind about ceil_mode; with padding written out there is nothing to choose.
        """
        sizes = zip(self.output_shape(shape)[1:], shape[1:], *self.window, strict=True)
        bottom, right = (max(p, (o - 1) * s + k - n - p) for o, n, k, s, p, _ in sizes)
        return bottom, right

    def differing(self, **defaults: Any) -> list[str]:
        own = {"stride": self.kernel_size, "padding": (0, 0), "ceil_mode": False}
        return super().differing(**own, **defaults)

    def __repr__(self) -> str:
        parts = [f"kernel_size={self.kernel_size}", *self.differing()]
        return f"{type(self).__name__}({', '.join(parts)})"


class MaxPool(Pool):
    """y[n, c, i, j] = the maximum of x over window (i, j); PyTorch's MaxPool2d.

    Window (i, j) begins at row i s - p, column j s - p and is `kernel_size` large. Padding counts as minus infinity,
    so it never wins over a number. `stride` is the kernel size unless given. OH = floor((H + 2 p - k) / s) + 1,
    with `ceil_mode` rounded up as long as the last window begins inside the map or its left padding.

    Backward: the whole dy of a window goes to its maximum, to the first one in row-major order where several are equal;
    where windows overlap, gradients add up.

    Source: Ranzato et al., Unsupervised learning of invariant feature hierarchies (2007), section 2.
    Raises ShapeError for arguments out of range and for inputs that do not fit.
    """

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        return self._maximum(work, x, -np.inf)

    def rectify(self, work: Work, x: Map) -> tuple[Map, Backward]:
        """The work of a ReLU and of this layer behind it, in one."""
        return self._maximum(work, x, 0.0)

    def _maximum(self, work: Work, x: Map, floor: float) -> tuple[Map, Backward]:
        """The maximum of `floor` and the window; where the floor wins, no place of the window gets a gradient."""
        y = work.map(self.output_shape(x.shape))
        argmax = work.map(y.shape)
        geometry = self._geometry(x.shape, y.shape)
        work.call(kernels.max_forward, x, y, argmax, *geometry, floor, tasks=x.shape[0])

        def backward(dy: Map, need_dx: bool) -> Map:
            dx = work.map(x.shape)
            work.call(kernels.max_backward, dy, argmax, dx, *geometry, tasks=x.shape[0])
            return dx

        return y, backward

    def explain(self, step: Step, at: Place) -> Explanation:
        view, c = View(step, self.window, at), at[0]
        window = view.of(c, -np.inf)
        u, v = divmod(int(window.argmax()), window.shape[1])
        source, dy = view.source(c, u, v), number(step.dy[at])
        forward = [
            *view.pooled(-np.inf),
            f"  the largest is {index('y', at)} = {number(step.y[at])}, from {index('x', source)}",
        ]
        backward = [
            f"{index('dy', at)} = {dy} goes to the place of the maximum, {index('x', source)}, and to no other of the "
            f"{window.size} in the window: {view.arrives(source, dy)}"
        ]
        return Explanation(source, forward, backward)

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        pads = (*self.padding, *self._ends(shape))
        return graph.node("MaxPool", x, kernel_shape=self.kernel_size, strides=self.stride, pads=pads)


class MeanPool(Pool):
    """y[n, c, i, j] = the mean of x over window (i, j); PyTorch's AvgPool2d.

    Windows as in `MaxPool`; padding counts as zeros, or is left out of the mean with count_include_pad=False.

    Backward: each of the m places of a window receives dy / m (to copy dy would multiply the gradient by m).

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), section II.B (there with a
    trainable coefficient and bias).
    Raises ShapeError for arguments out of range and for inputs that do not fit.
    """

    linear = True

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = bool(count_include_pad)

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        y = work.map(self.output_shape(x.shape))
        return _declare_mean(work, x, y, (*self._geometry(x.shape, y.shape), int(self.count_include_pad)))

    def explain(self, step: Step, at: Place) -> Explanation:
        view, c = View(step, self.window, at), at[0]
        window = view.of(c)
        source = view.source(c, *view.strongest(window[None])[1:])
        n = math.prod(self._counted(*sizes) for sizes in zip(at[1:], step.x.shape[1:], *self.window, strict=True))
        total, share = float(window.sum(dtype=np.float64)), number(float(step.dy[at]) / n, PRODUCT)
        forward = [
            *view.pooled(),
            f"  {index('y', at)} = sum / {n} = {number(total)} / {n} = {number(step.y[at], PRODUCT)}",
        ]
        backward = [
            f"{index('dy', at)} is shared out, so that the sum stays: each of the {n} places gets dy / {n} = "
            f"{number(step.dy[at])} / {n} = {share}; {view.arrives(source, share)}"
        ]
        return Explanation(source, forward, backward)

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        begins, ends, counted = self.padding, self._ends(shape), self.count_include_pad
        if counted and ends != begins:
            # The last windows count the padding, but not what lies beyond it: padding as part of the map does the same.
            x = graph.node("Pad", x, graph.constant("pads", np.array([0, 0, *begins] * 2)))
            ends, begins, counted = (ends[0] - begins[0], ends[1] - begins[1]), (0, 0), False
        return graph.node(
            "AveragePool",
            x,
            kernel_shape=self.kernel_size,
            strides=self.stride,
            pads=(*begins, *ends),
            count_include_pad=int(counted),
        )

    def _counted(self, i: int, n: int, k: int, s: int, p: int, d: int) -> int:
        """The rows, or columns, of window i that count in its mean: the padding does, but not what lies beyond it."""
        first, low, high = i * s - p, *((-p, n + p) if self.count_include_pad else (0, n))
        return min(first + k, high) - max(first, low)

    def differing(self, **defaults: Any) -> list[str]:
        return super().differing(**defaults, count_include_pad=True)


class GlobalMeanPool(LaneLayer):
    """y[n, c] = the mean of x[n, c, i, j] over all m = H W places; (N, C, H, W) becomes (N, C), whatever H and W are.

    So a Dense may follow, and the network takes images of any size. It is PyTorch's AdaptiveAvgPool2d(1) with a
    Flatten, and Keras' GlobalAveragePooling2D. Backward: dx[n, c, i, j] = dy[n, c] / m.

    Source: Lin, Chen and Yan, Network in network (2014), section 3.2. Raises ShapeError for inputs without maps.
    """

    per_sample = linear = True

    def output_shape(self, input_shape: Shape) -> Shape:
        return image_shape(self, input_shape)[:1]

    def connections(self, input_shape: Shape) -> int:
        return math.prod(input_shape)

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        y, size = work.map(self.output_shape(x.shape)), x.shape[1:]
        return _declare_mean(work, x, y, (*size, 1, 1, *size, *size, 0, 0, 1))  # one window, as large as the map

    def explain(self, step: Step, at: Place) -> Explanation:
        [c] = at
        values, n = step.x[c], step.x[c].size
        source = c, *strongest(values)
        forward = [
            f"{index('y', at)} = sum of x[{c}] / {n} = {number(float(values.sum(dtype=np.float64)))} / {n} = "
            f"{number(step.y[at], PRODUCT)}, over all {n} places of the map; the largest is {index('x', source)} = "
            f"{number(step.x[source])}"
        ]
        backward = [
            f"each of the {n} places gets an equal share: {index('dx', source)} = dy / {n} = {number(step.dy[at])} / "
            f"{n} = {number(step.dx[source], PRODUCT)}"
        ]
        return Explanation(source, forward, backward)

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return graph.node("Flatten", graph.node("GlobalAveragePool", x), axis=1)


def _declare_mean(work: Work, x: Map, y: Map, geometry: tuple[int, ...]) -> tuple[Map, Backward]:
    """The mean of each window, and the way back."""
    work.call(kernels.mean_forward, x, y, *geometry, tasks=x.shape[0])

    def backward(dy: Map, need_dx: bool) -> Map:
        dx = work.map(x.shape)
        work.call(kernels.mean_backward, dy, dx, *geometry, tasks=x.shape[0])
        return dx

    return y, backward


#: PyTorch's names of the two, and the usual one of the third.
MaxPool2d, AvgPool2d, GlobalAvgPool2d = MaxPool, MeanPool, GlobalMeanPool
