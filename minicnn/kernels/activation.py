"""Activation kernels, forward and backward side by side. A task is a vector of a map, or a place with all its channels.

Backward kernels write dx over dy, which nobody needs any more: two streams through memory instead of three.
"""

import numpy as np

from minicnn.kernels import LANES

from .bits import hashed, uniform
from .functions import exp, larger, reciprocal, tanh
from .vectors import absolute, fma, load, select, splat, store


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


def sigmoid_forward(task, x, y):
    """y = 1 / (1 + exp(-x)), for negative x as exp(x) / (1 + exp(x)), which cannot overflow"""
    value = load(x, task * LANES)
    e = exp(0.0 - absolute(value))
    store(y, task * LANES, select(value < 0.0, e, 1.0) * reciprocal(e + 1.0))


def sigmoid_backward(task, y, dy):
    """dy becomes dx = dy y (1 - y)"""
    at = task * LANES
    value = load(y, at)
    store(dy, at, load(dy, at) * value * (1.0 - value))


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


def scale(task, x, factor, y):
    """y = x factor, element by element"""
    at = task * LANES
    store(y, at, load(x, at) * load(factor, at))


def dropout(task, x, y, mask, vectors, first, key, p, factor):
    """mask = 0 where a random number is below p, else `factor`; y = x mask. `first`: number of the first image."""
    at = task * LANES
    numbers = uniform(hashed(first * vectors + task, vectors, np.uint64(key)), x)
    dropped = select(numbers < p, 0.0, splat(x, factor))
    store(mask, at, dropped)
    store(y, at, load(x, at) * dropped)
