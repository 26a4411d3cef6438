"""Loss kernels on (blocks, outputs, LANES). Lanes beyond the last sample get no loss and no gradient."""

import math

import numpy as np

from .activation import exp
from .jit import serial_kernel
from .simd import LANES, count_lanes, first_lanes, fma, load, select, splat, store


@serial_kernel
def pack_labels(labels, classes, lanes):
    """lanes = labels; returns the place of the first one that is no class, or -1."""
    wrong = -1
    for n in range(labels.size):
        if not 0 <= labels[n] < classes and wrong < 0:
            wrong = n
        lanes[n] = labels[n]
    for n in range(labels.size, lanes.size):
        lanes[n] = 0
    return wrong


@serial_kernel
def cross_entropy(logits, labels, samples, total, smoothing, dlogits, room):
    """The sum over samples of -sum over k of t[k] log softmax(logits)[k], and its gradient / total.

    t[k] = smoothing / classes, and 1 - smoothing more for the label. labels (blocks, LANES) has the element type
    of the logits; `room` is a workspace of two vectors.
    """
    blocks, classes, _ = logits.shape
    share = smoothing / classes
    loss = 0.0
    for b in range(blocks):
        start = b * classes * LANES
        label = load(labels, b * LANES)
        count = min(LANES, samples - b * LANES)
        highest = load(logits, start)
        for k in range(1, classes):
            value = load(logits, start + k * LANES)
            highest = select((value > highest) | (value != value), value, highest)
        exp_sum = splat(logits, 0.0)
        target_logit = splat(logits, 0.0)  # sum over k of t[k] (logits[k] - highest)
        for k in range(classes):
            value = load(logits, start + k * LANES) - highest
            e = exp(value)
            store(dlogits, start + k * LANES, e)
            exp_sum = exp_sum + e
            target = select(label == k, splat(logits, 1.0 - smoothing + share), share)
            target_logit = fma(value, target, target_logit)
        store(room, 0, exp_sum)
        store(room, LANES, target_logit)
        for lane in range(count):
            loss += math.log(room[lane]) - room[LANES + lane]
        factor = splat(logits, 1.0 / total)
        for k in range(classes):
            at = start + k * LANES
            target = select(label == k, splat(logits, 1.0 - smoothing + share), share)
            gradient = (load(dlogits, at) / exp_sum - target) * factor
            store(dlogits, at, select(first_lanes(count), gradient, 0.0))
    return loss


@serial_kernel
def map_criterion(scores, labels, samples, total, j, dscores, room):
    """The sum over samples of log(exp(-j) + sum over k of exp(scores[k])) - scores[label], and its gradient / total.

    It is the cross-entropy of classes of which one more has the score -j. labels and `room` as for `cross_entropy`.
    """
    blocks, classes, _ = scores.shape
    loss = 0.0
    for b in range(blocks):
        start = b * classes * LANES
        label = load(labels, b * LANES)
        count = min(LANES, samples - b * LANES)
        highest = splat(scores, -j)
        for k in range(classes):
            value = load(scores, start + k * LANES)
            highest = select((value > highest) | (value != value), value, highest)
        exp_sum = exp(splat(scores, -j) - highest)
        label_score = splat(scores, 0.0)  # scores[label] - highest
        for k in range(classes):
            value = load(scores, start + k * LANES) - highest
            e = exp(value)
            store(dscores, start + k * LANES, e)
            exp_sum = exp_sum + e
            label_score = select(label == k, value, label_score)
        store(room, 0, exp_sum)
        store(room, LANES, label_score)
        for lane in range(count):
            loss += math.log(room[lane]) - room[LANES + lane]
        factor = splat(scores, 1.0 / total)
        for k in range(classes):
            at = start + k * LANES
            target = select(label == k, splat(scores, 1.0), 0.0)
            gradient = (load(dscores, at) / exp_sum - target) * factor
            store(dscores, at, select(first_lanes(count), gradient, 0.0))
    return loss


@serial_kernel
def squared_error(y, target, samples, total, dy):
    """The sum over samples and outputs of (y - target)^2, and its gradient / total."""
    blocks, outputs, _ = y.shape
    loss = 0.0
    for b in range(blocks):
        count = min(LANES, samples - b * LANES)
        for k in range(outputs):
            at = (b * outputs + k) * LANES
            difference = load(y, at) - load(target, at)
            store(dy, at, select(first_lanes(count), difference * (2.0 / total), 0.0))
            for lane in range(count):
                loss += (np.float64(y[b, k, lane]) - np.float64(target[b, k, lane])) ** 2
    return loss


@serial_kernel
def lengths(dy, factor, out):
    """out[n] = factor * sqrt(sum over k of dy[n, k]^2), for as many samples as `out` has room for."""
    outputs = dy.shape[1]
    for n in range(out.size):
        squares = 0.0
        for k in range(outputs):
            squares += np.float64(dy[n // LANES, k, n % LANES]) ** 2
        out[n] = factor * math.sqrt(squares)


@serial_kernel
def count_correct(scores, labels, samples):
    """How many samples have their highest score (the first one, where several are equal) at their label."""
    blocks, classes, _ = scores.shape
    correct = 0
    for b in range(blocks):
        best = load(scores, b * classes * LANES)
        winner = splat(scores, 0.0)
        for k in range(1, classes):
            value = load(scores, (b * classes + k) * LANES)
            better = value > best
            best = select(better, value, best)
            winner = select(better, splat(scores, k), winner)
        hit = (winner == load(labels, b * LANES)) & first_lanes(min(LANES, samples - b * LANES))
        correct += count_lanes(hit)
    return correct
