"""Batch normalisation kernels on (blocks, channels, places, LANES). Lanes beyond the last sample count for nothing.

A channel is one thread's work from its first sum to its last output, so that what the first pass has read is still in
the cache for the next ones, and sums have the same order for any number of threads.

Letters: b block of LANES samples; c channel; k place in a map. Three arrays hold what a channel's values are
normalised by, xhat = (x - center[c] - offset[c]) inverse[c]: center + offset is the mean, whose part `center` has the
element type of x, so that x - center loses nothing where the mean is large and the deviation small.
"""

import math

from numba import prange

from .jit import inlined, parallel_kernel
from .simd import LANES, first_lanes, fma, load, select, splat, store, sum_lanes

#: Vectors that are added up in the element type before their sum joins the others in float64.
CHUNK = 256


@inlined
def _valid(samples, b):
    """The mask of the lanes of block b that hold samples."""
    return first_lanes(min(LANES, samples - b * LANES))


@inlined
def _difference(x, k, center, valid):
    """x - center for vector k, zero in lanes without a sample"""
    return select(valid, load(x, k * LANES) - center, 0.0)


@inlined
def _sums(x, samples, c, center):
    """sum of d and sum of d^2, with d = x - center, over all samples and places of channel c"""
    blocks, channels, places, _ = x.shape
    total, squares = 0.0, 0.0
    for b in range(blocks):
        valid = _valid(samples, b)
        start = (b * channels + c) * places
        for first in range(start, start + places, CHUNK):
            end = min(first + CHUNK, start + places)
            part, part_squares = splat(x, 0.0), splat(x, 0.0)
            for k in range(first, end):
                d = _difference(x, k, center, valid)
                part, part_squares = part + d, fma(d, d, part_squares)
            total += sum_lanes(part)
            squares += sum_lanes(part_squares)
    return total, squares


@inlined
def _gradient_sums(x, dy, samples, c, center):
    """sum of dy and sum of dy (x - center) over all samples and places of channel c"""
    blocks, channels, places, _ = x.shape
    total, product = 0.0, 0.0
    for b in range(blocks):
        valid = _valid(samples, b)
        start = (b * channels + c) * places
        for first in range(start, start + places, CHUNK):
            end = min(first + CHUNK, start + places)
            part, part_product = splat(x, 0.0), splat(x, 0.0)
            for k in range(first, end):
                gradient = _difference(dy, k, 0.0, valid)
                part = part + gradient
                part_product = fma(gradient, _difference(x, k, center, valid), part_product)
            total += sum_lanes(part)
            product += sum_lanes(part_product)
    return total, product


@inlined
def _normalize(x, y, samples, b, c, center, factor, shift):
    """y = (x - center) factor + shift for block b and channel c, zero in lanes without a sample"""
    _, channels, places, _ = x.shape
    valid = _valid(samples, b)
    start = (b * channels + c) * places
    for k in range(start, start + places):
        value = fma(load(x, k * LANES) - center, factor, splat(x, shift))
        store(y, k * LANES, select(valid, value, 0.0))


@parallel_kernel
def forward_training(x, samples, eps, weight, bias, center, offset, inverse, variance, y):
    """y = weight[c] xhat + bias[c], with the mean and the variance (divided by their number) of all x of channel c.

    Writes center, offset, inverse = 1 / sqrt(variance + eps) and variance. Two passes for the statistics: a first mean
    is the center, and the differences from it correct the mean and give the variance (Chan, Golub and LeVeque,
    Algorithms for computing the sample variance, 1983, equation 1.7).
    """
    blocks, channels, places, _ = x.shape
    number = samples * places
    for c in prange(channels):
        center[c] = _sums(x, samples, c, 0.0)[0] / number
        total, squares = _sums(x, samples, c, center[c])
        offset[c] = total / number
        spread = (squares - total * offset[c]) / number
        variance[c] = 0.0 if spread < 0.0 else spread  # a NaN stays one
        inverse[c] = 1.0 / math.sqrt(variance[c] + eps)
        factor = inverse[c] * weight[c] if weight.size else inverse[c]
        shift = (bias[c] if bias.size else 0.0) - offset[c] * factor
        for b in range(blocks):
            _normalize(x, y, samples, b, c, center[c], factor, shift)


@parallel_kernel
def forward(x, samples, weight, bias, center, inverse, y):
    """y = weight[c] (x - center[c]) inverse[c] + bias[c]"""
    blocks, channels, _, _ = x.shape
    for plane in prange(blocks * channels):
        b, c = plane // channels, plane % channels
        factor = inverse[c] * weight[c] if weight.size else inverse[c]
        shift = bias[c] if bias.size else 0.0
        _normalize(x, y, samples, b, c, center[c], factor, shift)


@parallel_kernel
def backward(
    x, dy, samples, weight, center, offset, inverse, dweight, dbias, own_statistics, need_dx
):
    """dweight[c] = sum of dy xhat, dbias[c] = sum of dy (where wanted), and dy becomes dx:

    dx = weight[c] inverse[c] (dy - mean of dy - xhat (mean of dy xhat)) if the statistics were those of x, else
    weight[c] inverse[c] dy. Zero in lanes without a sample.
    """
    blocks, channels, places, _ = x.shape
    number = samples * places
    for c in prange(channels):
        total, product = _gradient_sums(x, dy, samples, c, center[c])
        product = (product - offset[c] * total) * inverse[c]
        if dweight.size:
            dweight[c] = product
            dbias[c] = total
        if need_dx:
            factor = inverse[c] * weight[c] if weight.size else inverse[c]
            slope, shift = 0.0, 0.0
            if own_statistics:
                slope = -factor * inverse[c] * product / number
                shift = -factor * total / number - slope * offset[c]
            for b in range(blocks):
                valid = _valid(samples, b)
                start = (b * channels + c) * places
                for k in range(start, start + places):
                    difference = load(x, k * LANES) - center[c]
                    dx = fma(load(dy, k * LANES), factor, fma(difference, slope, splat(x, shift)))
                    store(dy, k * LANES, select(valid, dx, 0.0))
