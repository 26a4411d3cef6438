"""Kernels of radial-basis units, forward and backward, on (blocks, features, LANES)."""

from numba import prange

from .jit import parallel_kernel
from .simd import LANES, fma, load, splat, store


@parallel_kernel
def forward(x, prototypes, y):
    """y[b, k] = -sum over i of (x[b, i] - prototypes[k, i])^2"""
    blocks, features, _ = x.shape
    units = len(prototypes)
    for task in prange(blocks * units):
        start, k = task // units * features * LANES, task % units
        total = splat(x, 0.0)
        for i in range(features):
            difference = load(x, start + i * LANES) - prototypes[k, i]
            total = fma(difference, difference, total)
        store(y, task * LANES, 0.0 - total)


@parallel_kernel
def backward(x, prototypes, dy, dx):
    """dx[b, i] = -2 sum over k of dy[b, k] (x[b, i] - prototypes[k, i])"""
    blocks, features, _ = x.shape
    units = len(prototypes)
    for task in prange(blocks * features):
        start, i = task // features * units * LANES, task % features
        value = load(x, task * LANES)
        total = splat(x, 0.0)
        for k in range(units):
            total = fma(load(dy, start + k * LANES), prototypes[k, i] - value, total)
        store(dx, task * LANES, total + total)
