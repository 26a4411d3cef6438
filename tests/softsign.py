"""An activation as somebody would add it: a class and two kernels. In the package, the kernels are a file further."""

from minicnn.engine.cache import Kernels
from minicnn.kernels import LANES
from minicnn.kernels.vectors import absolute, load, store
from minicnn.layers.activation import Activation

kernels = Kernels(__name__, "")


class Softsign(Activation):
    """y = x / (1 + |x|). Backward: dx = dy (1 - |y|)^2."""

    there, back = kernels.softsign_forward, kernels.softsign_backward
    formula, derivative = ("x / (1 + abs(x))", "{x} / (1 + abs({x}))"), ("(1 - abs(y))^2", "(1 - abs({y}))^2")
    code = "x > 0 ? x / (1 + x) : x / (1 - x)", "x > 0 ? (1 - y) * (1 - y) : (1 + y) * (1 + y)"
    onnx = "Softsign"
    output_range = -1.0, 1.0


def softsign_forward(task, x, y):
    """y = x / (1 + |x|)"""
    value = load(x, task * LANES)
    store(y, task * LANES, value / (absolute(value) + 1.0))


def softsign_backward(task, y, dy):
    """dy becomes dx = dy (1 - |y|)^2"""
    at = task * LANES
    rest = 1.0 - absolute(load(y, at))
    store(dy, at, load(dy, at) * rest * rest)
