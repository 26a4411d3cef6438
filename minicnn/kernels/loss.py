"""Loss kernels on the scores of a block. Lanes beyond the last image get no loss and no gradient.

A sum over images is one of float64, in their order; `losses` and `correct` have an element for each block.
"""

import math

import numpy as np

from minicnn.engine.compile import inlined
from minicnn.kernels import LANES

from .functions import exp, larger, log
from .tiles import load_numbers
from .vectors import count_lanes, first_lanes, fma, load, pick, select, splat, store


@inlined
def _sum_of_images(loss, remaining):
    total = 0.0
    for lane in range(min(LANES, remaining)):
        total += np.float64(pick(loss, lane))
    return total


def cross_entropy(task, scores, labels, classes, smoothing, factor, dscores, losses, remaining):
    """-sum over k of t[k] log softmax(scores)[k], and its gradient times `factor`.

    t[k] = smoothing / classes, and 1 - smoothing more for the label.
    """
    share = smoothing / classes
    label = load_numbers(labels, scores)
    highest = load(scores, 0)
    for k in range(1, classes):
        highest = larger(load(scores, k * LANES), highest)
    exp_sum = splat(scores, 0.0)
    target_score = splat(scores, 0.0)  # sum over k of t[k] (scores[k] - highest)
    for k in range(classes):
        value = load(scores, k * LANES) - highest
        e = exp(value)
        store(dscores, k * LANES, e)
        exp_sum = exp_sum + e
        target = select(label == k, splat(scores, 1.0 - smoothing + share), share)
        # A score of minus infinity with no share in the target counts for nothing, not 0 times infinity.
        target_score = select(target == 0.0, target_score, fma(value, target, target_score))
    losses[0] = _sum_of_images(log(exp_sum) - target_score, remaining)
    scale = splat(scores, factor) / exp_sum
    valid = first_lanes(remaining)
    for k in range(classes):
        target = select(label == k, splat(scores, 1.0 - smoothing + share), share)
        gradient = fma(load(dscores, k * LANES), scale, target * (0.0 - factor))
        store(dscores, k * LANES, select(valid, gradient, 0.0))


def map_criterion(task, scores, labels, classes, j, factor, dscores, losses, remaining):
    """log(exp(-j) + sum over k of exp(scores[k])) - scores[label], and its gradient times `factor`.

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
    losses[0] = _sum_of_images(log(exp_sum) - label_score, remaining)
    scale = splat(scores, factor) / exp_sum
    valid = first_lanes(remaining)
    for k in range(classes):
        target = select(label == k, splat(scores, factor), 0.0)
        gradient = load(dscores, k * LANES) * scale - target
        store(dscores, k * LANES, select(valid, gradient, 0.0))


def one_hot(task, labels, target):
    """target[k] = 1 for the label k = task, else 0"""
    at = task * LANES
    store(target, at, select(load_numbers(labels, target) == task, splat(target, 1.0), 0.0))


def squared_error(task, y, target, outputs, factor, dy, losses, remaining):
    """The sum over outputs of (y - target)^2, and its gradient times `factor`."""
    total = 0.0
    valid = first_lanes(remaining)
    for k in range(outputs):
        at = k * LANES
        difference = load(y, at) - load(target, at)
        store(dy, at, select(valid, difference * (2.0 * factor), 0.0))
        for lane in range(min(LANES, remaining)):
            total += (np.float64(y[at + lane]) - np.float64(target[at + lane])) ** 2
    losses[0] = total


def lengths(task, dy, outputs, factor, out, remaining):
    """out[n] = factor sqrt(sum over k of dy[k, n]^2)"""
    for lane in range(min(LANES, remaining)):
        squares = 0.0
        for k in range(outputs):
            squares += np.float64(dy[k * LANES + lane]) ** 2
        out[lane] = factor * math.sqrt(squares)


def count_correct(task, scores, labels, classes, correct, remaining):
    """How many images have their highest score (the first one, where several are equal) at their label."""
    best = load(scores, 0)
    argmax = splat(scores, 0.0)
    for k in range(1, classes):
        value = load(scores, k * LANES)
        better = value > best
        best = select(better, value, best)
        argmax = select(better, splat(scores, k), argmax)
    hit = (argmax == load_numbers(labels, scores)) & first_lanes(remaining)
    correct[0] = count_lanes(hit)
