"""The optimizer's kernels, on flat arrays of parameters. A task is CHUNK of them."""

import math

import numpy as np

from minicnn.engine.compile import inlined
from minicnn.kernels import CHUNK, LANES

from .vectors import absolute, fma, load, pick, select, splat, store, sum_lanes

#: A memory of gradients below this is 0. Of a gradient that stays 0, as behind a ReLU that is never positive, it would
#: shrink to numbers below the normal range, with which processors are some ten times slower, and stay there.
NOTHING = 1e-35


@inlined
def forget(memory):
    """The memory without what is below NOTHING."""
    return select(absolute(memory) < NOTHING, 0.0, memory)


@inlined
def _update(weight, grad, velocity, lr, momentum, weight_decay, scale, nesterov):
    """New weight and velocity."""
    d = fma(weight, weight_decay, grad * scale)
    velocity = forget(fma(velocity, momentum, d))
    step = fma(velocity, momentum, d) if nesterov else velocity
    return fma(step, 0.0 - lr, weight), velocity


def sgd(task, value, grad, velocity, size, norm, lr, momentum, weight_decay, nesterov):
    """d = scale grad + weight_decay value; velocity = momentum velocity + d; value -= lr velocity.

    With Nesterov's momentum value -= lr (d + momentum velocity). norm[0] = the norm of all gradients, norm[1] = the
    largest one allowed, scale = what brings the former down to the latter. Nothing is done if norm[2] is not 0.
    """
    if norm[2] != 0.0:
        return
    scale = 1.0 if norm[0] <= norm[1] else norm[1] / (norm[0] + 1e-6)
    first, end = task * CHUNK, min((task + 1) * CHUNK, size)
    for k in range(first, end - LANES + 1, LANES):
        w, v = _update(load(value, k), load(grad, k), load(velocity, k), lr, momentum, weight_decay, scale, nesterov)
        store(value, k, w)
        store(velocity, k, v)
    for k in range(end - (end - first) % LANES, end):
        # One number, as a vector of equal ones: the same operations.
        w, v = _update(
            splat(value, value[k]),
            splat(grad, grad[k]),
            splat(velocity, velocity[k]),
            lr,
            momentum,
            weight_decay,
            scale,
            nesterov,
        )
        value[k], velocity[k] = pick(w, 0), pick(v, 0)


def find_not_finite(task, grad, norm, size):
    """norm[2] = 1 if one of CHUNK elements is NaN or infinite."""
    first, end = task * CHUNK, min((task + 1) * CHUNK, size)
    # Sums of 0 times an element, which do not wait for each other.
    a = b = c = d = splat(grad, 0.0)
    for k in range(first, end - 4 * LANES + 1, 4 * LANES):
        a = fma(load(grad, k), 0.0, a)
        b = fma(load(grad, k + LANES), 0.0, b)
        c = fma(load(grad, k + 2 * LANES), 0.0, c)
        d = fma(load(grad, k + 3 * LANES), 0.0, d)
    total = np.float64(sum_lanes((a + b) + (c + d)))
    for k in range(end - (end - first) % (4 * LANES), end):
        total += 0.0 * np.float64(grad[k])
    if total != 0.0:
        norm[2] = 1.0


def squares(task, grad, sums, size):
    """sums[task] = the sum of the squares of CHUNK elements."""
    first, end = task * CHUNK, min((task + 1) * CHUNK, size)
    total = splat(grad, 0.0)
    for k in range(first, end - LANES + 1, LANES):
        total = fma(load(grad, k), load(grad, k), total)
    result = np.float64(sum_lanes(total))
    for k in range(end - (end - first) % LANES, end):
        result += np.float64(grad[k]) * np.float64(grad[k])
    sums[task] = result


def root(task, sums, count, norm):
    """norm[0] = the root of the sum of `count` sums."""
    total = 0.0
    for k in range(count):
        total += sums[k]
    norm[0] = math.sqrt(total)


def move_towards(task, average, value, share, size):
    """average += share (value - average)"""
    first, end = task * CHUNK, min((task + 1) * CHUNK, size)
    for k in range(first, end - LANES + 1, LANES):
        a = load(average, k)
        store(average, k, fma(load(value, k) - a, share, a))
    for k in range(end - (end - first) % LANES, end):
        a = splat(average, average[k])
        average[k] = pick(fma(splat(value, value[k]) - a, share, a), 0)
