"""Activation kernels, forward and backward side by side. A task is a vector of a map, or a place with all its channels.

Backward kernels write dx over dy, which nobody needs any more: two streams through memory instead of three.
"""

import numpy as np

from minicnn.kernels import LANES

from .bits import hashed, uniform
from .compile import inlined
from .functions import exp, exp_minus_1, larger, log, normal, reciprocal, tanh
from .vectors import absolute, fma, load, select, splat, store

#: 1 / sqrt(2 pi); and what is in the tanh of GELU.
DENSITY_AT_0 = 0.3989422804014327
ROOT, CUBIC = 0.7978845608028654, 0.044715


def relu_forward(task, x, y):
    """y = max(x, 0), NaN where x is NaN"""
    value = load(x, task * LANES)
    store(y, task * LANES, select(value <= 0.0, 0.0, value))


def relu_backward(task, y, dy):
    """dy becomes dx = dy where y > 0, else 0"""
    at = task * LANES
    store(dy, at, select(load(y, at) > 0.0, load(dy, at), 0.0))


def leaky_relu_forward(task, x, y, slope):
    """y = x where x > 0, else slope x"""
    value = load(x, task * LANES)
    store(y, task * LANES, select(value > 0.0, value, value * slope))


def leaky_relu_backward(task, x, dy, slope):
    """dy becomes dx = dy where x > 0, else slope dy"""
    at = task * LANES
    gradient = load(dy, at)
    store(dy, at, select(load(x, at) > 0.0, gradient, gradient * slope))


def elu_forward(task, x, y, alpha):
    """y = x where x > 0, else alpha (exp(x) - 1)"""
    value = load(x, task * LANES)
    store(y, task * LANES, select(value > 0.0, value, exp_minus_1(select(value > 0.0, 0.0, value)) * alpha))


def elu_backward(task, x, dy, alpha):
    """dy becomes dx = dy where x > 0, else dy alpha exp(x)"""
    at = task * LANES
    value, gradient = load(x, at), load(dy, at)
    store(dy, at, select(value > 0.0, gradient, gradient * exp(select(value > 0.0, 0.0, value)) * alpha))


@inlined
def sigmoids(x):
    """s = 1 / (1 + exp(-x)), for negative x as exp(x) / (1 + exp(x)), which cannot overflow; and 1 - s"""
    e = exp(0.0 - absolute(x))
    share = reciprocal(e + 1.0)
    return select(x < 0.0, e, 1.0) * share, select(x < 0.0, 1.0, e) * share


def sigmoid_forward(task, x, y):
    """y = 1 / (1 + exp(-x))"""
    s, _ = sigmoids(load(x, task * LANES))
    store(y, task * LANES, s)


def sigmoid_backward(task, y, dy):
    """dy becomes dx = dy y (1 - y)"""
    at = task * LANES
    value = load(y, at)
    store(dy, at, load(dy, at) * value * (1.0 - value))


def silu_forward(task, x, y):
    """y = x s with s = 1 / (1 + exp(-x))"""
    value = load(x, task * LANES)
    s, _ = sigmoids(value)
    store(y, task * LANES, value * s)


def silu_backward(task, x, dy):
    """dy becomes dx = dy s (1 + x (1 - s))"""
    at = task * LANES
    value = load(x, at)
    s, rest = sigmoids(value)
    store(dy, at, load(dy, at) * s * fma(value, rest, 1.0))


def gelu_forward(task, x, y):
    """y = x Phi(x)"""
    value = load(x, task * LANES)
    share, _ = normal(value)
    store(y, task * LANES, value * share)


def gelu_backward(task, x, dy):
    """dy becomes dx = dy (Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi))"""
    at = task * LANES
    value = load(x, at)
    share, density = normal(value)
    store(dy, at, load(dy, at) * fma(value, density * DENSITY_AT_0, share))


@inlined
def _gelu_tanh(x):
    """(s, 1 - s, z') with s = (1 + tanh(z / 2)) / 2 = 1 / (1 + exp(-z)) and z = 2 sqrt(2 / pi) (x + 0.044715 x^3)"""
    x = select(x > 30.0, 30.0, select(x < -30.0, -30.0, x))  # where s has its ends, and x^3 none
    square = x * x
    s, rest = sigmoids(x * fma(square, 2.0 * ROOT * CUBIC, 2.0 * ROOT))
    return s, rest, fma(square, 6.0 * ROOT * CUBIC, 2.0 * ROOT)


def gelu_tanh_forward(task, x, y):
    """y = x s = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2"""
    value = load(x, task * LANES)
    s, _, _ = _gelu_tanh(value)
    store(y, task * LANES, value * s)


def gelu_tanh_backward(task, x, dy):
    """dy becomes dx = dy s (1 + x (1 - s) z')"""
    at = task * LANES
    value = load(x, at)
    s, rest, slope = _gelu_tanh(value)
    store(dy, at, load(dy, at) * s * fma(value * rest, slope, 1.0))


def tanh_forward(task, x, y, amplitude, slope):
    """y = amplitude tanh(slope x)"""
    at = task * LANES
    store(y, at, tanh(load(x, at) * slope) * amplitude)


def tanh_backward(task, y, dy, amplitude, slope):
    """dy becomes dx = dy amplitude slope (1 - tanh^2) with tanh = y / amplitude"""
    at = task * LANES
    value = load(y, at)
    derivative = fma(value * value, -slope / amplitude, splat(y, amplitude * slope))
    store(dy, at, load(dy, at) * derivative)


def softmax_forward(task, x, y, channels, places):
    """y[c, k] = exp(x[c, k]) / sum over c of exp(x[c, k]), for place k = task"""
    start, step = task * LANES, places * LANES
    highest = load(x, start)
    for c in range(1, channels):
        highest = larger(load(x, start + c * step), highest)
    total = splat(x, 0.0)
    for c in range(channels):
        e = exp(load(x, start + c * step) - highest)
        store(y, start + c * step, e)
        total = total + e
    for c in range(channels):
        store(y, start + c * step, load(y, start + c * step) / total)


def softmax_backward(task, y, dy, channels, places):
    """dy becomes dx[c] = y[c] (dy[c] - sum over c' of dy[c'] y[c']), for place k = task"""
    start, step = task * LANES, places * LANES
    dot = splat(y, 0.0)
    for c in range(channels):
        dot = fma(load(y, start + c * step), load(dy, start + c * step), dot)
    for c in range(channels):
        at = start + c * step
        store(dy, at, load(y, at) * (load(dy, at) - dot))


def log_softmax_forward(task, x, y, channels, places):
    """y[c, k] = x[c, k] - log(sum over c of exp(x[c, k])), for place k = task"""
    start, step = task * LANES, places * LANES
    highest = load(x, start)
    for c in range(1, channels):
        highest = larger(load(x, start + c * step), highest)
    total = splat(x, 0.0)
    for c in range(channels):
        total = total + exp(load(x, start + c * step) - highest)
    rest = log(total)
    for c in range(channels):
        at = start + c * step
        store(y, at, load(x, at) - highest - rest)


def log_softmax_backward(task, y, dy, channels, places):
    """dy becomes dx[c] = dy[c] - exp(y[c]) (sum over c' of dy[c']), for place k = task"""
    start, step = task * LANES, places * LANES
    total = splat(y, 0.0)
    for c in range(channels):
        total = total + load(dy, start + c * step)
    for c in range(channels):
        at = start + c * step
        store(dy, at, load(dy, at) - exp(load(y, at)) * total)


def scale(task, x, factor, y):
    """y = x factor, element by element"""
    at = task * LANES
    store(y, at, load(x, at) * load(factor, at))


def dropout(task, x, y, mask, draws, places, first, key, p, factor):
    """mask = 0 where a random number is below p, else `factor`; y = x mask.

    A random number, of which there are `draws` per image, counts for `places` vectors. `first`: number of the first
    image.
    """
    numbers = uniform(hashed(first * draws + task, draws, np.uint64(key)), x)
    dropped = select(numbers < p, 0.0, splat(x, factor))
    for k in range(task * places, (task + 1) * places):
        store(mask, k * LANES, dropped)
        store(y, k * LANES, load(x, k * LANES) * dropped)
