"""Activations, element by element (Softmax: along the channels), for inputs of any shape, and Dropout."""

import math
from typing import Self

import numpy as np

from minicnn.engine.arrays import Shape
from minicnn.engine.cache import Kernel, Kernels
from minicnn.engine.memory import Map
from minicnn.engine.work import Input, Work
from minicnn.errors import ShapeError
from minicnn.kernels import LANES

from .explain import PRODUCT, Explanation, Place, Step, index, number, pointwise
from .initializers import Scheme
from .lane_layer import LaneLayer
from .layer import Backward, OnnxGraph

__all__ = ["Dropout", "LeakyReLU", "ReLU", "ScaledTanh", "Sigmoid", "Softmax", "Tanh"]

kernels = Kernels("activation")


class _SameShape(LaneLayer):
    per_sample = True

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


class Activation(_SameShape):
    """y = f(x), element by element, by two kernels: `there(x, y, ...)`, and `back(y, dy, ...)`, which turns dy into dx.

    Both take `numbers` behind these arguments. A new one is a class here and its kernels in kernels/activation.py.
    """

    elementwise = True
    there: Kernel
    back: Kernel
    #: Whether `back` takes x in the place of y.
    needs_input = False
    #: f(x), and f'(x) by x and y, for `explain`: as formulas, and with {x} and {y} where the numbers go.
    formula: tuple[str, str] | None = None
    derivative: tuple[str, str]
    #: The operator of ONNX that is the same.
    onnx: str | None = None

    @property
    def numbers(self) -> tuple[float, ...]:
        return ()

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        y = work.map(x.shape)
        work.call(self.there, x, y, *self.numbers, tasks=x.vectors)

        def backward(dy: Map, need_dx: bool) -> Map:
            known = x if self.needs_input else y
            work.call(self.back, known, dy, *self.numbers, tasks=x.vectors)
            return dy

        return y, backward

    def explain(self, step: Step, at: Place) -> Explanation:
        if self.formula is None:
            return super().explain(step, at)
        return pointwise(step, at, self.formula, self.derivative)

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return super().to_onnx(graph, x, shape) if self.onnx is None else graph.node(self.onnx, x)


class ReLU(Activation):
    """y = max(x, 0). Backward: dx = dy where x > 0, else 0 (also at x = 0).

    Source: Nair and Hinton, Rectified linear units improve restricted Boltzmann machines (2010).
    """

    there, back = kernels.relu_forward, kernels.relu_backward
    onnx = "Relu"
    output_range = 0.0, math.inf

    def explain(self, step: Step, at: Place) -> Explanation:
        passed, count, x = int((step.x > 0).sum()), step.x.size, step.x[at]
        does, sign = ("passes", "> 0") if x > 0 else ("is stopped", "<= 0")
        forward = [f"{index('y', at)} = max(x, 0) = max({number(x)}, 0) = {number(step.y[at])}"]
        backward = [
            f"{index('dy', at)} = {number(step.dy[at])} {does}, as x was {sign}: {index('dx', at)} = "
            f"{number(step.dx[at])}; of all {count:,} gradients {passed:,} pass and {count - passed:,} are stopped"
        ]
        return Explanation(at, forward, backward)


class LeakyReLU(Activation):
    """y = x where x > 0, else negative_slope x. Backward: dx = dy where x > 0, else negative_slope dy.

    Source: Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic models (2013).
    """

    there, back = kernels.leaky_relu_forward, kernels.leaky_relu_backward
    needs_input = True

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = float(negative_slope)

    @property
    def numbers(self) -> tuple[float, ...]:
        return (self.negative_slope,)

    def explain(self, step: Step, at: Place) -> Explanation:
        slope = f"{self.negative_slope:g}"
        value, factor = ("{x}", "1") if step.x[at] > 0 else (f"{slope} x {{x}}", slope)
        return pointwise(step, at, ("x, or slope x where x < 0", value), ("where x > 0, else slope dy", factor))

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return graph.node("LeakyRelu", x, alpha=self.negative_slope)

    def __repr__(self) -> str:
        return f"LeakyReLU(negative_slope={self.negative_slope})"


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)). Backward: dx = dy y (1 - y)."""

    there, back = kernels.sigmoid_forward, kernels.sigmoid_backward
    onnx = "Sigmoid"
    output_range = 0.0, 1.0
    formula, derivative = ("1 / (1 + exp(-x))", "1 / (1 + exp(-({x})))"), ("y (1 - y)", "{y} x (1 - {y})")


class Tanh(Activation):
    """y = tanh(x). Backward: dx = dy (1 - y^2)."""

    there, back = kernels.tanh_forward, kernels.tanh_backward
    numbers = 1.0, 1.0
    onnx = "Tanh"
    output_range = -1.0, 1.0
    formula, derivative = ("tanh(x)", "tanh({x})"), ("(1 - y^2)", "(1 - ({y})^2)")


class ScaledTanh(Activation):
    """y = 1.7159 tanh(2 x / 3), so that y(1) = 1 and y(-1) = -1. Backward: dx = dy (2/3) (1.7159 - y^2 / 1.7159).

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), appendix A.
    """

    AMPLITUDE, SLOPE = 1.7159, 2 / 3
    there, back = kernels.tanh_forward, kernels.tanh_backward
    numbers = AMPLITUDE, SLOPE
    output_range = -AMPLITUDE, AMPLITUDE
    formula = "1.7159 tanh(2 x / 3)", "1.7159 x tanh(2/3 x {x})"
    derivative = "(2/3) (1.7159 - y^2 / 1.7159)", "2/3 x (1.7159 - ({y})^2 / 1.7159)"

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        x = graph.node("Mul", x, graph.constant("slope", np.array(self.SLOPE)))
        return graph.node("Mul", graph.node("Tanh", x), graph.constant("amplitude", np.array(self.AMPLITUDE)))


class Softmax(_SameShape):
    """y[n, c] = exp(x[n, c]) / sum over c' of exp(x[n, c']), along axis 1 (features or channels).

    Backward: dx[n, c] = y[n, c] (dy[n, c] - sum over c' of dy[n, c'] y[n, c']). A network that is trained with
    `SoftmaxCrossEntropy` needs no Softmax at its end: that loss takes logits.
    """

    gives_probabilities = True
    output_range = 0.0, 1.0

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        y, channels = work.map(x.shape), x.shape[0]
        places = x.vectors // channels
        work.call(kernels.softmax_forward, x, y, channels, places, tasks=places)

        def backward(dy: Map, need_dx: bool) -> Map:
            work.call(kernels.softmax_backward, y, dy, channels, places, tasks=places)
            return dy

        return y, backward

    def explain(self, step: Step, at: Place) -> Explanation:
        c = at[0]
        x, y, dy = (np.moveaxis(a, 0, -1)[at[1:]].astype(np.float64) for a in (step.x, step.y, step.dy))
        e = np.exp(x - x.max())
        forward = [
            f"{index('y', at)} = exp(x[{c}]) / sum of exp(x) = {number(e[c])} / {number(e.sum())} = "
            f"{number(y[c], PRODUCT)} (after {number(x.max())}, the largest x, was subtracted from each)"
        ]
        backward = [
            f"{index('dx', at)} = y (dy - sum of dy y) = {number(y[c])} x ({number(dy[c])} - {number(dy @ y)}) = "
            f"{number(step.dx[at], PRODUCT)}"
        ]
        return Explanation(at, forward, backward)

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return graph.node("Softmax", x, axis=1)


class Dropout(_SameShape):
    """In training, each element is zeroed with probability p and the others are divided by 1 - p; else y = x.

    Backward: dx = dy times the same mask. The mask comes from the layer's own generator, which
    `initialize(rng=...)` seeds: a run with the same seed drops the same elements.

    Source: Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting (2014), section 10
    (inverted form). Raises ShapeError unless 0 <= p <= 1.
    """

    elementwise = linear = identity = True

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ShapeError(f"Dropout: p: expected a probability from 0 to 1, received {p!r}")
        self.p = float(p)
        self.rng = np.random.default_rng()

    def initialize(self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None) -> Self:
        self.rng = np.random.default_rng(rng).spawn(1)[0]
        return self

    def generators(self) -> list[np.random.Generator]:
        return [self.rng]

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        if not work.training or self.p == 0:
            return x, lambda dy, need_dx: dy
        y, mask = work.map(x.shape), work.map(x.shape)
        key, first = Input(f"key {id(self)}", "n"), Input("zero", "n", LANES)
        work.on_run(lambda program: {key.name: int(self.rng.integers(-(2**63), 2**63))})
        factor = 0.0 if self.p == 1 else 1 / (1 - self.p)
        arguments = (x, y, mask, x.vectors, first, key, self.p, factor)
        work.call(kernels.dropout, *arguments, tasks=x.vectors)

        def backward(dy: Map, need_dx: bool) -> Map:
            work.call(kernels.scale, dy, mask, dy, tasks=x.vectors)
            return dy

        return y, backward

    def explain(self, step: Step, at: Place) -> Explanation:
        dropped = int(((step.y == 0) & (step.x != 0)).sum())
        kept = step.y[at] != 0 or step.x[at] == 0
        does, share = ("kept", f" / (1 - {self.p:g})") if kept else ("dropped", " x 0")
        forward = [
            f"{dropped:,} of the {step.x.size:,} numbers that were not 0 are dropped; {index('y', at)} is {does}: "
            f"{number(step.x[at])}{share} = {number(step.y[at])}"
        ]
        backward = [f"the same factor: {index('dx', at)} = {number(step.dy[at])}{share} = {number(step.dx[at])}"]
        return Explanation(at, forward, backward)

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return graph.node("Identity", x)

    def __repr__(self) -> str:
        return f"Dropout(p={self.p})"
