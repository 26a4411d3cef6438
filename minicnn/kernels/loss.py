"""Loss kernels on the scores of a block. Lanes beyond the last image get no loss and no gradient.

A sum over images is one of float64, in their order; `losses` and `correct` have an element for each block.
"""

import math

import numpy as np

from minicnn.kernels import LANES

from .compile import inlined
from .functions import exp, larger, log
from .tiles import load_numbers
from .vectors import absolute, count_lanes, first_lanes, fma, load, pick, select, splat, store


@inlined
def _sum_of_images(loss, remaining):
    total = 0.0
    for lane in range(min(LANES, remaining)):
        total += np.float64(pick(loss, lane))
    return total


def label_targets(task, labels, class_weights, classes, smoothing, target):
    """target[k] = w[k] (smoothing / classes, and 1 - smoothing more for the label); behind them, what they add up to.

    The sum is that of the label's weight and of the mean weight, so that it is 1 exactly where all weights are.
    """
    share = smoothing / classes
    label = load_numbers(labels, target)
    own = splat(target, 0.0)
    whole = 0.0
    for k in range(classes):
        store(target, k * LANES, select(label == k, splat(target, 1.0 - smoothing + share), share) * class_weights[k])
        own = select(label == k, splat(target, class_weights[k]), own)
        whole += class_weights[k]
    store(target, classes * LANES, fma(whole / classes - own, smoothing, own))


def soft_targets(task, given, class_weights, classes, smoothing, target):
    """target[k] = w[k] ((1 - smoothing) given[k] + smoothing / classes); behind them, what they add up to."""
    share = smoothing / classes
    whole = splat(given, 0.0)
    for k in range(classes):
        one = fma(load(given, k * LANES), 1.0 - smoothing, share) * class_weights[k]
        store(target, k * LANES, one)
        whole = whole + one
    store(target, classes * LANES, whole)


def cross_entropy(task, scores, target, classes, weights, factor, dscores, losses, remaining):
    """losses = -weight sum over k of target[k] log softmax(scores)[k], and dscores = its gradient times `factor`.

    target[classes] is the sum of the others.
    """
    highest = load(scores, 0)
    for k in range(1, classes):
        highest = larger(load(scores, k * LANES), highest)
    exp_sum = splat(scores, 0.0)
    target_score = splat(scores, 0.0)  # sum over k of target[k] (scores[k] - highest)
    for k in range(classes):
        value = load(scores, k * LANES) - highest
        e = exp(value)
        store(dscores, k * LANES, e)
        exp_sum = exp_sum + e
        share = load(target, k * LANES)
        # A score of minus infinity with no share in the target counts for nothing, not 0 times infinity.
        target_score = select(share == 0.0, target_score, fma(value, share, target_score))
    weight, whole = load(weights, 0), load(target, classes * LANES)
    losses[0] = _sum_of_images((log(exp_sum) * whole - target_score) * weight, remaining)
    scale = weight * factor * whole / exp_sum
    valid = first_lanes(remaining)
    for k in range(classes):
        gradient = fma(load(dscores, k * LANES), scale, load(target, k * LANES) * (weight * (0.0 - factor)))
        store(dscores, k * LANES, select(valid, gradient, 0.0))


def map_criterion(task, scores, labels, classes, j, weights, factor, dscores, losses, remaining):
    """losses = weight (log(exp(-j) + sum over k of exp(scores[k])) - scores[label]), and dscores = its gradient times
    `factor`.

    It is the cross-entropy of classes of which one more has the score -j.
    """
    label = load_numbers(labels, scores)
    highest = splat(scores, -j)
    for k in range(classes):
        highest = larger(load(scores, k * LANES), highest)
    exp_sum = exp(splat(scores, -j) - highest)
    label_score = splat(scores, 0.0)  # scores[label] - highest
    for k in range(classes):
        value = load(scores, k * LANES) - highest
        e = exp(value)
        store(dscores, k * LANES, e)
        exp_sum = exp_sum + e
        label_score = select(label == k, value, label_score)
    weight = load(weights, 0)
    losses[0] = _sum_of_images((log(exp_sum) - label_score) * weight, remaining)
    share = weight * factor
    scale = share / exp_sum
    valid = first_lanes(remaining)
    for k in range(classes):
        gradient = load(dscores, k * LANES) * scale - select(label == k, share, 0.0)
        store(dscores, k * LANES, select(valid, gradient, 0.0))


def binary_cross_entropy(
    task, scores, target, outputs, label_weights, positive_weights, weights, factor, dscores, losses, remaining
):
    """losses = weight sum over k of label_weights[k] (positive_weights[k] t log(1 + e^-y) + (1 - t) log(1 + e^y)), for
    y = scores[k] and t = target[k], and dscores = its gradient times `factor`.
    """
    weight = load(weights, 0)
    share = weight * factor
    valid = first_lanes(remaining)
    total = splat(scores, 0.0)
    for k in range(outputs):
        y, t = load(scores, k * LANES), load(target, k * LANES)
        e = exp(0.0 - absolute(y))
        above = 1.0 + e
        step = above - 1.0
        # log(1 + e), without what the rounding of 1 + e costs.
        low = select(step == 0.0, e, log(above) * (e / select(step == 0.0, 1.0 + e, step)))
        positive, negative = t * positive_weights[k], 1.0 - t
        # An infinite score on the right side costs nothing, not 0 times infinity.
        missed = select(positive == 0.0, 0.0, positive * (select(y < 0.0, 0.0 - y, 0.0) + low))
        wrong = select(negative == 0.0, 0.0, negative * (select(y > 0.0, y, 0.0) + low))
        total = total + (missed + wrong) * label_weights[k]
        p, q = select(y < 0.0, e, 1.0) / above, select(y < 0.0, splat(scores, 1.0), e) / above
        gradient = (negative * p - positive * q) * label_weights[k] * share
        store(dscores, k * LANES, select(valid, gradient, 0.0))
    losses[0] = _sum_of_images(total * weight, remaining)


def squared_error(task, y, target, outputs, weights, factor, dy, losses, remaining):
    """losses = weight times the sum over outputs of (y - target)^2, and dy = its gradient times `factor`."""
    total = 0.0
    valid = first_lanes(remaining)
    weight = load(weights, 0)
    for k in range(outputs):
        at = k * LANES
        difference = load(y, at) - load(target, at)
        store(dy, at, select(valid, difference * (2.0 * factor) * weight, 0.0))
        for lane in range(min(LANES, remaining)):
            total += np.float64(weights[lane]) * (np.float64(y[at + lane]) - np.float64(target[at + lane])) ** 2
    losses[0] = total


def lengths(task, dy, outputs, factor, out, remaining):
    """out[n] = factor sqrt(sum over k of dy[k, n]^2)"""
    for lane in range(min(LANES, remaining)):
        squares = 0.0
        for k in range(outputs):
            squares += np.float64(dy[k * LANES + lane]) ** 2
        out[lane] = factor * math.sqrt(squares)


def count_correct(task, scores, labels, classes, correct, remaining):
    """correct = how many images have their highest score (the first one, where several are equal) at their label."""
    best = load(scores, 0)
    argmax = splat(scores, 0.0)
    for k in range(1, classes):
        value = load(scores, k * LANES)
        better = value > best
        best = select(better, value, best)
        argmax = select(better, splat(scores, k), argmax)
    hit = (argmax == load_numbers(labels, scores)) & first_lanes(remaining)
    correct[0] = count_lanes(hit)


def count_labels(task, scores, target, outputs, correct, remaining):
    """correct = how many scores are above 0 where their target is above 1/2, and only there."""
    total = 0
    for k in range(outputs):
        y, t = load(scores, k * LANES), load(target, k * LANES)
        hit = ((y > 0.0) & (t > 0.5)) | ((y <= 0.0) & (t <= 0.5))
        total += count_lanes(hit & first_lanes(remaining))
    correct[0] = total
