"""Activation kernels, forward and backward side by side, on maps seen as one long row of vectors.

Backward kernels write dx over dy, which nobody needs any more: two streams through memory instead of three.

In float32, exp and tanh are polynomials after range reduction: x = n ln 2 + r with whole n and |r| <= ln 2 / 2, so
exp(x) = 2^n exp(r), and the Taylor series of exp(r) - 1 up to r^7 is exact to 0.05 ulp there. In float64 the C
library is called, one lane after the other.
"""

from numba import prange, types
from numba.extending import overload

from .jit import inlined, parallel_kernel
from .simd import (
    LANES,
    ROUND,
    VectorType,
    absolute,
    copysign,
    fma,
    libm_exp,
    libm_tanh,
    load,
    power_of_two,
    select,
    splat,
    store,
    times_power_of_two,
    whole_number,
)

LOG2_E = 1.4426950408889634
# ln 2 in two parts: n times the first is exact in float32 for every n that occurs.
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440054690583e-4


@inlined
def _reduced(x):
    """n + ROUND and exp(r) - 1 for float32 x = n ln 2 + r."""
    shifted = fma(x, LOG2_E, ROUND)
    n = whole_number(shifted)
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    p = fma(r, 1 / 5040, 1 / 720)
    p = fma(p, r, 1 / 120)
    p = fma(p, r, 1 / 24)
    p = fma(p, r, 1 / 6)
    p = fma(p, r, 1 / 2)
    return shifted, fma(p, r * r, r)


@inlined
def _exp_float32(x):
    shifted, p = _reduced(select(x < -104.0, -104.0, x))
    return times_power_of_two(p + 1.0, shifted)


@inlined
def _tanh_float32(x):
    """tanh(x) = m / (m + 2) with m = exp(2 |x|) - 1, which loses nothing near zero."""
    a = absolute(x)
    a = select(a > 10.0, 10.0, a)
    shifted, p = _reduced(a + a)
    power = power_of_two(shifted)
    m = fma(power, p, power - 1.0)
    return copysign(m / (m + 2.0), x)


def exp(x):
    """exp(x) for a vector of x <= 0."""


def tanh(x):
    """tanh(x) for a vector."""


@overload(exp)
def _exp(x):
    if x == VectorType(types.float32):
        return lambda x: _exp_float32(x)
    return lambda x: libm_exp(x)


@overload(tanh)
def _tanh(x):
    if x == VectorType(types.float32):
        return lambda x: _tanh_float32(x)
    return lambda x: libm_tanh(x)


@parallel_kernel
def relu_forward(x, y):
    """y = max(x, 0), NaN where x is NaN"""
    for k in prange(x.size // LANES):
        value = load(x, k * LANES)
        store(y, k * LANES, select(value <= 0.0, 0.0, value))


@parallel_kernel
def relu_backward(y, dy):
    """dy becomes dx = dy where y > 0, else 0"""
    for k in prange(y.size // LANES):
        store(dy, k * LANES, select(load(y, k * LANES) > 0.0, load(dy, k * LANES), 0.0))


@parallel_kernel
def leaky_relu_forward(x, y, slope):
    """y = x where x > 0, else slope x"""
    for k in prange(x.size // LANES):
        value = load(x, k * LANES)
        store(y, k * LANES, select(value > 0.0, value, value * slope))


@parallel_kernel
def leaky_relu_backward(x, dy, slope):
    """dy becomes dx = dy where x > 0, else slope dy"""
    for k in prange(x.size // LANES):
        gradient = load(dy, k * LANES)
        store(dy, k * LANES, select(load(x, k * LANES) > 0.0, gradient, gradient * slope))


@parallel_kernel
def sigmoid_forward(x, y):
    """y = 1 / (1 + exp(-x)), for negative x as exp(x) / (1 + exp(x)), which cannot overflow"""
    for k in prange(x.size // LANES):
        value = load(x, k * LANES)
        e = exp(0.0 - absolute(value))
        store(y, k * LANES, select(value < 0.0, e, 1.0) / (e + 1.0))


@parallel_kernel
def sigmoid_backward(y, dy):
    """dy becomes dx = dy y (1 - y)"""
    for k in prange(y.size // LANES):
        value = load(y, k * LANES)
        store(dy, k * LANES, load(dy, k * LANES) * value * (1.0 - value))


@parallel_kernel
def tanh_forward(x, y, amplitude, slope):
    """y = amplitude tanh(slope x)"""
    for k in prange(x.size // LANES):
        store(y, k * LANES, tanh(load(x, k * LANES) * slope) * amplitude)


@parallel_kernel
def tanh_backward(y, dy, amplitude, slope):
    """dy becomes dx = dy amplitude slope (1 - tanh^2) with tanh = y / amplitude"""
    for k in prange(y.size // LANES):
        value = load(y, k * LANES)
        derivative = fma(value * value, -slope / amplitude, amplitude * slope)
        store(dy, k * LANES, load(dy, k * LANES) * derivative)


@parallel_kernel
def softmax_forward(x, y):
    """y[b, c, k] = exp(x[b, c, k]) / sum over c of exp(x[b, c, k]); both arrays (blocks, c, k, LANES)"""
    blocks, channels, places, _ = x.shape
    for task in prange(blocks * places):
        start = (task // places * channels * places + task % places) * LANES
        step = places * LANES
        highest = load(x, start)
        for c in range(1, channels):
            value = load(x, start + c * step)
            highest = select((value > highest) | (value != value), value, highest)
        total = splat(x, 0.0)
        for c in range(channels):
            e = exp(load(x, start + c * step) - highest)
            store(y, start + c * step, e)
            total = total + e
        for c in range(channels):
            store(y, start + c * step, load(y, start + c * step) / total)


@parallel_kernel
def softmax_backward(y, dy):
    """dy becomes dx[c] = y[c] (dy[c] - sum over c' of dy[c'] y[c'])"""
    blocks, channels, places, _ = y.shape
    for task in prange(blocks * places):
        start = (task // places * channels * places + task % places) * LANES
        step = places * LANES
        dot = splat(y, 0.0)
        for c in range(channels):
            dot = fma(load(y, start + c * step), load(dy, start + c * step), dot)
        for c in range(channels):
            at = start + c * step
            store(dy, at, load(y, at) * (load(dy, at) - dot))


@parallel_kernel
def scale(x, factor, y):
    """y = x factor, element by element"""
    for k in prange(x.size // LANES):
        store(y, k * LANES, load(x, k * LANES) * load(factor, k * LANES))
