"""Batch normalisation kernels. A task is a channel: of a block, or of all blocks where a batch gives its statistics.

Letters: b block; c channel; k place in a map, of `places`. Three arrays hold what a channel's values are normalised by,
xhat = (x - center[c] - offset[c]) / sqrt(variance[c] + eps): center + offset is the mean, whose part `center` has the
element type of x, so that x - center loses nothing where the mean is large and the deviation small.

Lanes beyond the last sample count for nothing, whatever is in them, and become zero. `step` is how many elements lie
between the same places of two blocks.
"""

import math

from minicnn.kernels import LANES

from .compile import inlined
from .vectors import first_lanes, fma, load, select, splat, store, sum_lanes

#: Vectors that are added up in the element type before their sum joins the others in float64.
CHUNK = 256


@inlined
def _valid(remaining):
    """The mask of the lanes that hold samples, of a block from which on that many remain."""
    return first_lanes(min(LANES, remaining))


@inlined
def _difference(x, at, center, valid):
    """x - center for the vector at `at`, zero in lanes without a sample"""
    return select(valid, load(x, at) - center, 0.0)


@inlined
def _sums(x, y, step, samples, places, c, x_center, y_center):
    """sum of d and sum of d e, with d = x - x_center and e = y - y_center, over all samples and places of channel c"""
    total, product = 0.0, 0.0
    for b in range((samples + LANES - 1) // LANES):
        valid = _valid(samples - b * LANES)
        start = b * step + c * places * LANES
        for chunk in range(0, places, CHUNK):
            part, part_product = splat(x, 0.0), splat(x, 0.0)
            for k in range(chunk, min(chunk + CHUNK, places)):
                d = _difference(x, start + k * LANES, x_center, valid)
                e = _difference(y, start + k * LANES, y_center, valid)
                part, part_product = part + d, fma(d, e, part_product)
            total += sum_lanes(part)
            product += sum_lanes(part_product)
    return total, product


def statistics(task, x, step, samples, places, center, offset, variance, running_mean, running_var, share):
    """Of all x of channel c = task: center[c] = a first mean, offset[c] = the mean of the differences from it, and
    variance[c] = their variance, divided by their number, in two passes.

    running_mean[c] += share (mean - running_mean[c]), and running_var[c] += share (unbiased variance - running_var[c]).

    Source: Chan, Golub and LeVeque, Algorithms for computing the sample variance (1983), equation 1.7.
    """
    c, number = task, samples * places
    center[c] = _sums(x, x, step, samples, places, c, 0.0, 0.0)[0] / number
    total, squares = _sums(x, x, step, samples, places, c, center[c], center[c])
    offset[c] = total / number
    spread = (squares - total * offset[c]) / number
    variance[c] = 0.0 if spread < 0.0 else spread  # a NaN stays one
    unbiased = variance[c] * (number / (number - 1))
    running_mean[c] = (1.0 - share) * running_mean[c] + share * (center[c] + offset[c])
    running_var[c] = (1.0 - share) * running_var[c] + share * unbiased


def forward(task, x, y, remaining, places, center, offset, variance, eps, weight, bias):
    """y = weight[c] xhat + bias[c] for channel c = task"""
    c, middle, valid = task, center[task], _valid(remaining)
    factor = weight[c] / math.sqrt(variance[c] + eps)
    shift = splat(x, bias[c] - offset[c] * factor)
    for k in range(c * places, (c + 1) * places):
        value = fma(load(x, k * LANES) - middle, factor, shift)
        store(y, k * LANES, select(valid, value, 0.0))


def gradients(
    task,
    x,
    dy,
    step,
    samples,
    places,
    center,
    offset,
    variance,
    eps,
    weight,
    own_statistics,
    dweight,
    dbias,
    slope,
    shift,
):
    """dweight[c] = sum of dy xhat and dbias[c] = sum of dy over all m samples and places of channel c = task.

    Where the statistics were its own, x adds -weight[c] / sqrt(variance[c] + eps) (dbias[c] + xhat dweight[c]) / m to
    dx. That is slope[c] (x - center[c]) + shift[c], with slope[c] = -weight[c] dweight[c] / (variance[c] + eps) / m and
    shift[c] = -weight[c] dbias[c] / sqrt(variance[c] + eps) / m - slope[c] offset[c]; else both are 0.
    """
    c, number = task, samples * places
    total, product = _sums(dy, x, step, samples, places, c, 0.0, center[c])
    inverse = 1.0 / math.sqrt(variance[c] + eps)
    product = (product - offset[c] * total) * inverse
    dweight[c], dbias[c] = product, total
    slope[c], shift[c] = 0.0, 0.0
    if own_statistics:
        factor = weight[c] * inverse
        slope[c] = -factor * inverse * product / number
        shift[c] = -factor * total / number - slope[c] * offset[c]


def backward(task, x, dy, remaining, places, center, variance, eps, weight, slope, shift):
    """dy becomes dx = weight[c] / sqrt(variance[c] + eps) dy + slope[c] (x - center[c]) + shift[c], c = task"""
    c, middle, valid = task, center[task], _valid(remaining)
    factor = weight[c] / math.sqrt(variance[c] + eps)
    inclined, shifted = splat(x, slope[c]), splat(x, shift[c])
    for k in range(c * places, (c + 1) * places):
        rest = fma(load(x, k * LANES) - middle, inclined, shifted)
        dx = fma(load(dy, k * LANES), factor, rest)
        store(dy, k * LANES, select(valid, dx, 0.0))
