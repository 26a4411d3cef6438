"""Test-time augmentation: the network looks at several views of each image, and the mean of its probabilities counts.

Source: Krizhevsky, Sutskever and Hinton, ImageNet classification with deep convolutional neural networks (2012),
section 4.1.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from minicnn.data.augmentation import Augmentation, Augmenter
from minicnn.data.batches import Batches
from minicnn.engine.arrays import Array
from minicnn.layers import Flatten
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss
from minicnn.training.step import Evaluation, evaluate

#: For a model that was trained without one: moves by whole pixels, which blur nothing.
DEFAULT = Augmentation(crop_padding=1)
SEED = 0


def scores_of_view(network: Sequential, batches: Batches, augmentation: Augmentation | None, number: int) -> Array:
    """The network's output for view number 1, 2, ... of uint8 images, all of which are changed alike.

    What hides a part of an image is left out. With a `flip`, every other view is a mirror image, the first one too.
    """
    chosen = replace(augmentation or DEFAULT, cutout=0, erasing=0.0, noise=0.0, mixup=0.0)
    chosen = chosen if chosen else DEFAULT
    if chosen.flip:
        chosen = replace(chosen, flip=float(number % 2))
    batches = copy(batches)
    images = batches.images.reshape(-1, *batches.sample_shape)
    batches.augmenter = Augmenter(chosen, images, SEED, alike=True)
    dtype = network.dtype or np.dtype(np.float32)
    return np.concatenate([network.forward(batch.arrays()[0].astype(dtype)) for batch in batches.epoch(number)])


def mean_scores(scores: Sequence[Array], kind: type[Loss], probabilities: bool) -> Array:
    """The scores (N, K) that stand for the mean of the probabilities of several views.

    If the loss takes logits, the softmax of the result is the mean of the softmaxes, and the logarithm of its sum of
    e^score that of the views on average. If it takes each output by itself, its sigmoid is the mean of the sigmoids.
    Else, or if the scores are probabilities already, it is their mean.
    """
    y = np.stack(scores).astype(np.float64)
    if kind.multi_label:
        mean = np.logaddexp.reduce(-np.logaddexp(0, -y)) - np.logaddexp.reduce(-np.logaddexp(0, y))
    elif kind.takes_logits and not probabilities:
        sums = np.logaddexp.reduce(y, axis=2, keepdims=True)
        mean = np.logaddexp.reduce(y - sums) - np.log(len(y)) + sums.mean(axis=0)
    else:
        mean = y.mean(axis=0)
    found: Array = mean.astype(scores[0].dtype)
    return found


def evaluate_scores(scores: Array, loss: Loss, targets: Array) -> Evaluation:
    """Loss and accuracy of scores (N, K) by themselves."""
    return evaluate(Sequential([Flatten()]), loss, [(scores, targets)])
