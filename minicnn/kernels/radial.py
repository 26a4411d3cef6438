"""Kernels of radial-basis units on maps of features."""

from minicnn.kernels import LANES

from .vectors import fma, load, splat, store


def forward(task, x, prototypes, y, features):
    """y[k] = -sum over i of (x[i] - prototypes[k, i])^2 for unit k = task"""
    total = splat(x, 0.0)
    for i in range(features):
        difference = load(x, i * LANES) - prototypes[task * features + i]
        total = fma(difference, difference, total)
    store(y, task * LANES, 0.0 - total)


def backward(task, x, prototypes, dy, dx, features, units):
    """dx[i] = -2 sum over k of dy[k] (x[i] - prototypes[k, i]) for feature i = task"""
    value = load(x, task * LANES)
    total = splat(x, 0.0)
    for k in range(units):
        total = fma(load(dy, k * LANES), prototypes[k * features + task] - value, total)
    store(dx, task * LANES, total + total)
