"""Activations, element by element (Softmax: along the channels), for inputs of any shape."""

import math
from typing import Any, ClassVar

import numpy as np

from minicnn.engine.arrays import Shape
from minicnn.engine.cache import Kernel, Kernels
from minicnn.engine.memory import Map
from minicnn.engine.work import Work
from minicnn.errors import ShapeError

from .explain import PRODUCT, Explanation, Place, Step, in_brackets, index, number, pointwise
from .lane_layer import LaneLayer
from .layer import Backward, OnnxGraph

__all__ = ["ELU", "GELU", "LeakyReLU", "LogSoftmax", "ReLU", "ScaledTanh", "SiLU", "Sigmoid", "Softmax", "Tanh"]

kernels = Kernels("activation")


class _SameShape(LaneLayer):
    per_sample = True

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


class Activation(_SameShape):
    """y = f(x), element by element, by two kernels: `there(x, y, ...)`, and `back(y, dy, ...)`, which turns dy into dx.

    Both take `numbers` behind these arguments. A new one is a class here and its kernels in kernels/activation.py. From
    `code` follow what it is in C and in the page.
    """

    elementwise = True
    there: Kernel
    back: Kernel
    #: Whether `back` takes x in the place of y.
    needs_input = False
    #: f(x), and f'(x) by x and y, for `explain`: as formulas, and with {x} and {y} where the numbers go.
    formula: tuple[str, str] | None = None
    derivative: tuple[str, str]
    #: f(x), and f'(x) by x and y, as C and JavaScript both write it: numbers, arguments of the constructor, + - * / and
    #: comparisons, a ? b : c, exp, tanh and erfc.
    code: tuple[str, str] | None = None
    #: The operator of ONNX that is the same.
    onnx: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "there" in cls.__dict__:  # what another activation says of its kernels does not hold
            for name in {"formula", "code", "onnx"} - cls.__dict__.keys():
                setattr(cls, name, None)

    @property
    def numbers(self) -> tuple[float, ...]:
        return ()

    def value_code(self) -> str | None:
        """f(x) of `code`, for the arguments of this layer."""
        return self.code and self.code[0]

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
    formula, derivative = ("max(x, 0)", "max({x}, 0)"), ("where x > 0, else 0", "")
    code = "x > 0 ? x : 0", "x > 0 ? 1 : 0"
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


class _Bent(Activation):
    """y = x where x > 0; elsewhere something else, with a number that is an argument of the constructor."""

    needs_input = True
    #: The name of that argument.
    argument: str
    #: f(x) and f'(x) where x <= 0, for `explain`: as formulas, and with {n} where that number goes.
    below: tuple[tuple[str, str], tuple[str, str]]

    @property
    def numbers(self) -> tuple[float, ...]:
        return (getattr(self, self.argument),)

    def explain(self, step: Step, at: Place) -> Explanation:
        if step.x[at] > 0:
            return pointwise(step, at, ("x where x > 0", ""), ("where x > 0", "1"))
        n = f"{self.numbers[0]:g}"
        value, derivative = ((formula, text.replace("{n}", n)) for formula, text in self.below)
        return pointwise(step, at, value, derivative)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.argument}={self.numbers[0]})"


class LeakyReLU(_Bent):
    """y = x where x > 0, else negative_slope x. Backward: dx = dy where x > 0, else negative_slope dy.

    Source: Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic models (2013).
    """

    there, back = kernels.leaky_relu_forward, kernels.leaky_relu_backward
    argument = "negative_slope"
    formula = "x, or slope x where x < 0", ""
    below = ("slope x where x <= 0", "{n} x {x}"), ("slope where x <= 0", "{n}")
    code = "x > 0 ? x : negative_slope * x", "x > 0 ? 1 : negative_slope"

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = float(negative_slope)

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return graph.node("LeakyRelu", x, alpha=self.negative_slope)


class ELU(_Bent):
    """y = x where x > 0, else alpha (exp(x) - 1). Backward: dx = dy where x > 0, else dy alpha exp(x).

    Source: Clevert, Unterthiner and Hochreiter, Fast and accurate deep network learning by exponential linear units
    (2016), equation 15.
    """

    there, back = kernels.elu_forward, kernels.elu_backward
    argument = "alpha"
    formula = "x, or alpha (exp(x) - 1) where x < 0", ""
    below = ("alpha (exp(x) - 1) where x <= 0", "{n} x (exp({x}) - 1)"), ("alpha exp(x) where x <= 0", "{n} x exp({x})")
    code = "x > 0 ? x : alpha * (exp(x) - 1)", "x > 0 ? 1 : alpha * exp(x)"

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = float(alpha)

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return graph.node("Elu", x, alpha=self.alpha)


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)). Backward: dx = dy y (1 - y)."""

    there, back = kernels.sigmoid_forward, kernels.sigmoid_backward
    code = "1 / (1 + exp(-x))", "y * (1 - y)"
    onnx = "Sigmoid"
    output_range = 0.0, 1.0
    formula, derivative = ("1 / (1 + exp(-x))", "1 / (1 + exp(-({x})))"), ("y (1 - y)", "{y} x (1 - {y})")


class SiLU(Activation):
    """y = x s with the sigmoid s = 1 / (1 + exp(-x)); also called swish. Backward: dx = dy (y + s (1 - y)).

    Source: Elfwing, Uchibe and Doya, Sigmoid-weighted linear units for neural network function approximation in
    reinforcement learning (2018), equation 6.
    """

    there, back = kernels.silu_forward, kernels.silu_backward
    needs_input = True
    formula = "x / (1 + exp(-x))", "{x} / (1 + exp(-({x})))"
    derivative = "(y + (1 - y) / (1 + exp(-x)))", "({y} + (1 - ({y})) / (1 + exp(-({x}))))"
    code = "x / (1 + exp(-x))", "y + (1 - y) / (1 + exp(-x))"

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return graph.node("Mul", x, graph.node("Sigmoid", x))


class GELU(Activation):
    """y = x Phi(x), with the distribution function Phi(x) = (1 + erf(x / sqrt(2))) / 2 of the normal distribution.

    Backward: dx = dy (Phi(x) + x Phi'(x)), with Phi'(x) = exp(-x^2 / 2) / sqrt(2 pi). With approximate="tanh",
    (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 stands for Phi(x).

    Source: Hendrycks and Gimpel, Gaussian error linear units (2016), section 2. Raises ShapeError unless `approximate`
    is "none" or "tanh".
    """

    there, back = kernels.gelu_forward, kernels.gelu_backward
    needs_input = True
    formula, derivative = ("x Phi(x)", ""), ("(Phi(x) + x Phi'(x))", "")
    #: Phi(x) and Phi'(x) for each `approximate`, as in `code`; (1 + tanh(z / 2)) / 2 = 1 / (1 + exp(-z)).
    PHI: ClassVar = {
        "none": ("0.5 * erfc(-0.7071067812 * x)", "0.3989422804 * exp(-0.5 * x * x)"),
        "tanh": (
            "1 / (1 + exp(-1.5957691216 * x * (1 + 0.044715 * x * x)))",
            "(1.5957691216 + 0.2140644488 * x * x) / (2 + "
            + " + ".join(f"exp({sign}1.5957691216 * x * (1 + 0.044715 * x * x))" for sign in ("", "-"))
            + ")",
        ),
    }
    code = (
        f'x * (approximate == "tanh" ? {PHI["tanh"][0]} : {PHI["none"][0]})',
        f'approximate == "tanh" ? {" + x * ".join(PHI["tanh"])} : {" + x * ".join(PHI["none"])}',
    )

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in self.PHI:
            raise ShapeError(f'GELU: approximate: expected "none" or "tanh", received {approximate!r}')
        self.approximate = approximate
        if approximate == "tanh":
            self.there, self.back = kernels.gelu_tanh_forward, kernels.gelu_tanh_backward

    def value_code(self) -> str:
        return f"x * ({self.PHI[self.approximate][0]})"

    def explain(self, step: Step, at: Place) -> Explanation:
        x = float(step.x[at])
        if self.approximate == "none":
            share, density = math.erfc(-x / math.sqrt(2)) / 2, math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        else:
            t = math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
            share, density = (1 + t) / 2, (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x) / 2
        slope = f"({number(share, 7)} + {{x}} x {number(density, 7)})"
        return pointwise(step, at, (self.formula[0], f"{{x}} x {number(share, 7)}"), (self.derivative[0], slope))

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        def scaled(x: str, name: str, factor: float) -> str:
            return graph.node("Mul", x, graph.constant(name, np.array(factor)))

        one = graph.constant("one", np.array(1.0))
        if self.approximate == "none":
            z = graph.node("Erf", scaled(x, "root", math.sqrt(0.5)))
        else:
            cube = scaled(graph.node("Mul", x, graph.node("Mul", x, x)), "cubic", 0.044715)
            z = graph.node("Tanh", scaled(graph.node("Add", x, cube), "root", math.sqrt(2 / math.pi)))
        return graph.node("Mul", scaled(x, "half", 0.5), graph.node("Add", z, one))

    def __repr__(self) -> str:
        return f"GELU({', '.join(self.differing(approximate='none'))})"


class Tanh(Activation):
    """y = tanh(x). Backward: dx = dy (1 - y^2)."""

    there, back = kernels.tanh_forward, kernels.tanh_backward
    numbers = 1.0, 1.0
    code = "tanh(x)", "1 - y * y"
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
    code = f"{AMPLITUDE} * tanh({SLOPE} * x)", f"{SLOPE} * ({AMPLITUDE} - y * y / {AMPLITUDE})"
    output_range = -AMPLITUDE, AMPLITUDE
    formula = "1.7159 tanh(2 x / 3)", "1.7159 x tanh(2/3 x {x})"
    derivative = "(2/3) (1.7159 - y^2 / 1.7159)", "2/3 x (1.7159 - ({y})^2 / 1.7159)"

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        x = graph.node("Mul", x, graph.constant("slope", np.array(self.SLOPE)))
        return graph.node("Mul", graph.node("Tanh", x), graph.constant("amplitude", np.array(self.AMPLITUDE)))


class _AlongChannels(_SameShape):
    """A function of all channels of a place, by kernels there(x, y, channels, places) and back(y, dy, ...)."""

    there: Kernel
    back: Kernel
    onnx: str

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        y, channels = work.map(x.shape), x.shape[0]
        places = x.vectors // channels
        work.call(self.there, x, y, channels, places, tasks=places)

        def backward(dy: Map, need_dx: bool) -> Map:
            work.call(self.back, y, dy, channels, places, tasks=places)
            return dy

        return y, backward

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return graph.node(self.onnx, x, axis=1)


class Softmax(_AlongChannels):
    """y[n, c] = exp(x[n, c]) / sum over c' of exp(x[n, c']), along axis 1 (features or channels).

    Backward: dx[n, c] = y[n, c] (dy[n, c] - sum over c' of dy[n, c'] y[n, c']). A network that is trained with
    `SoftmaxCrossEntropy` needs no Softmax at its end: that loss takes logits.
    """

    there, back = kernels.softmax_forward, kernels.softmax_backward
    onnx = "Softmax"
    gives_probabilities = True
    output_range = 0.0, 1.0

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


class LogSoftmax(_AlongChannels):
    """y[n, c] = x[n, c] - log(sum over c' of exp(x[n, c'])), along axis 1: the logarithm of `Softmax`.

    Backward: dx[n, c] = dy[n, c] - exp(y[n, c]) (sum over c' of dy[n, c']).
    """

    there, back = kernels.log_softmax_forward, kernels.log_softmax_backward
    onnx = "LogSoftmax"
    output_range = -math.inf, 0.0

    def explain(self, step: Step, at: Place) -> Explanation:
        c = at[0]
        x, dy = (np.moveaxis(a, 0, -1)[at[1:]].astype(np.float64) for a in (step.x, step.dy))
        rest = float(np.log(np.exp(x - x.max()).sum()) + x.max())
        forward = [
            f"{index('y', at)} = x[{c}] - log of the sum of exp(x) = {number(x[c])} - {in_brackets(number(rest))} = "
            f"{number(step.y[at], PRODUCT)}"
        ]
        backward = [
            f"{index('dx', at)} = dy - exp(y) (sum of dy) = {number(dy[c])} - exp({number(step.y[at], 7)}) x "
            f"{in_brackets(number(dy.sum()))} = {number(step.dx[at], PRODUCT)}"
        ]
        return Explanation(at, forward, backward)
