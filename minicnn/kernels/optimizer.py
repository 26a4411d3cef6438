"""The optimizer's kernels, on flat arrays of parameters. A task is CHUNK of them."""

import math

import numpy as np

from minicnn.kernels import CHUNK, LANES

from .compile import inlined
from .vectors import fma, load, pick, select, splat, square_root, store, sum_lanes

#: A memory of gradients below this is 0. Of a gradient that stays 0, as behind a ReLU that is never positive, it would
#: shrink to numbers below the normal range, with which processors are some ten times slower, and stay there.
NOTHING = 1e-35


@inlined
def forget(memory):
    """The memory without what is below NOTHING."""
    return select((memory < NOTHING) & (memory > 0.0 - NOTHING), 0.0, memory)


@inlined
def _update(weight, grad, velocity, lr, momentum, weight_decay, scale, nesterov):
    """New weight and velocity."""
    d = fma(weight, weight_decay, grad * scale)
    velocity = forget(fma(velocity, momentum, d))
    step = fma(velocity, momentum, d) if nesterov else velocity
    return fma(step, 0.0 - lr, weight), velocity


def sgd(task, value, grad, velocity, size, norm, lr, momentum, weight_decay, nesterov):
    """d = scale grad + weight_decay value; velocity = momentum velocity + d; value -= lr velocity.

    With Nesterov's momentum value -= lr (d + momentum velocity). `scale` brings norm[0], the norm of all gradients,
    down to norm[1], the largest one allowed. Nothing is done if norm[2] is not 0.
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


@inlined
def _adam_update(weight, grad, m, v, rate, root, beta1, beta2, eps, pull, keep):
    """New weight, m and v."""
    d = fma(weight, pull, grad)
    m = forget(fma(m, beta1, d * (1.0 - beta1)))
    v = forget(fma(v, beta2, d * d * (1.0 - beta2)))
    return fma(weight, keep, m * (0.0 - rate) / (square_root(v) / root + eps)), m, v


def adam(task, value, grad, m, v, size, norm, rate, root, beta1, beta2, eps, pull, keep):
    """d = scale grad + pull value; m = beta1 m + (1 - beta1) d; v = beta2 v + (1 - beta2) d^2;
    value = keep value - rate m / (sqrt(v) / root + eps). For scale and norm see `sgd`."""
    if norm[2] != 0.0:
        return
    scale = 1.0 if norm[0] <= norm[1] else norm[1] / (norm[0] + 1e-6)
    first, end = task * CHUNK, min((task + 1) * CHUNK, size)
    for k in range(first, end - LANES + 1, LANES):
        old = load(value, k), load(grad, k) * scale, load(m, k), load(v, k)
        a, b, c = _adam_update(*old, rate, root, beta1, beta2, eps, pull, keep)
        store(value, k, a)
        store(m, k, b)
        store(v, k, c)
    for k in range(end - (end - first) % LANES, end):
        old = splat(value, value[k]), splat(grad, grad[k]) * scale, splat(m, m[k]), splat(v, v[k])
        a, b, c = _adam_update(*old, rate, root, beta1, beta2, eps, pull, keep)
        value[k], m[k], v[k] = pick(a, 0), pick(b, 0), pick(c, 0)


@inlined
def _rmsprop_update(weight, grad, square, mean, buffer, lr, alpha, eps, weight_decay, momentum, centered):
    """New weight, mean square, mean and buffer."""
    d = fma(weight, weight_decay, grad)
    square = forget(fma(square, alpha, d * d * (1.0 - alpha)))
    mean = forget(fma(mean, alpha, d * (1.0 - alpha)))
    variance = fma(mean * (0.0 - centered), mean, square)
    variance = select(variance < 0.0, 0.0, variance)  # by rounding; a NaN stays one
    buffer = forget(fma(buffer, momentum, d / (square_root(variance) + eps)))
    return fma(buffer, 0.0 - lr, weight), square, mean, buffer


def rmsprop(task, value, grad, square, mean, buffer, size, norm, lr, alpha, eps, weight_decay, momentum, centered):
    """d = scale grad + weight_decay value; square = alpha square + (1 - alpha) d^2; mean = alpha mean + (1 - alpha) d;
    buffer = momentum buffer + d / (sqrt(square - centered mean^2) + eps); value -= lr buffer. For scale see `sgd`."""
    if norm[2] != 0.0:
        return
    scale = 1.0 if norm[0] <= norm[1] else norm[1] / (norm[0] + 1e-6)
    first, end = task * CHUNK, min((task + 1) * CHUNK, size)
    for k in range(first, end - LANES + 1, LANES):
        old = load(value, k), load(grad, k) * scale, load(square, k), load(mean, k), load(buffer, k)
        a, b, c, d = _rmsprop_update(*old, lr, alpha, eps, weight_decay, momentum, centered)
        store(value, k, a)
        store(square, k, b)
        store(mean, k, c)
        store(buffer, k, d)
    for k in range(end - (end - first) % LANES, end):
        w, g = splat(value, value[k]), splat(grad, grad[k]) * scale
        old = w, g, splat(square, square[k]), splat(mean, mean[k]), splat(buffer, buffer[k])
        a, b, c, d = _rmsprop_update(*old, lr, alpha, eps, weight_decay, momentum, centered)
        value[k], square[k], mean[k], buffer[k] = pick(a, 0), pick(b, 0), pick(c, 0), pick(d, 0)


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
