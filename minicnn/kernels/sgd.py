"""The optimizer's kernels, on flat arrays of parameters."""

from numba import prange

from .jit import inlined, parallel_kernel, serial_kernel
from .simd import LANES, load, store

#: Parameters that one turn of the parallel loop updates.
CHUNK = 4096


@inlined
def _update(weight, grad, velocity, lr, momentum, weight_decay, scale, nesterov):
    """New weight and velocity, of vectors or of numbers."""
    d = grad * scale + weight * weight_decay
    velocity = velocity * momentum + d
    if nesterov:
        return weight - (d + velocity * momentum) * lr, velocity
    return weight - velocity * lr, velocity


@parallel_kernel
def step(value, grad, velocity, lr, momentum, weight_decay, scale, nesterov):
    """d = scale grad + weight_decay value; velocity = momentum velocity + d; value -= lr velocity.

    With Nesterov's momentum value -= lr (d + momentum velocity).
    """
    for chunk in prange((value.size + CHUNK - 1) // CHUNK):
        end = min((chunk + 1) * CHUNK, value.size)
        whole = end - end % LANES
        for k in range(chunk * CHUNK, whole, LANES):
            w, v = _update(
                load(value, k),
                load(grad, k),
                load(velocity, k),
                lr,
                momentum,
                weight_decay,
                scale,
                nesterov,
            )
            store(value, k, w)
            store(velocity, k, v)
        for k in range(whole, end):
            value[k], velocity[k] = _update(
                value[k], grad[k], velocity[k], lr, momentum, weight_decay, scale, nesterov
            )


@serial_kernel
def move_towards(average, value, share):
    """average += share (value - average)."""
    for k in range(average.size):
        average[k] += share * (value[k] - average[k])


@serial_kernel
def squared_norm(grad):
    """The sum of the squares."""
    total = 0.0
    for k in range(grad.size):
        total += float(grad[k]) * float(grad[k])
    return total
