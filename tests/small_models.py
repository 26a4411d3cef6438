"""Small models, and images for them."""

import numpy as np

from minicnn import Conv2d, Dense, Flatten, MaxPool, Model, ReLU, Sequential, Tanh

SHAPE = (1, 9, 8)
CLASSES = tuple("abcde")


def grey_model(**options):
    layers = [Conv2d(1, 6, 5, padding=2), Tanh(), MaxPool(2), Flatten(), Dense(96, 5)]
    network = Sequential(layers).initialize(rng=1)
    return Model(network, SHAPE, 0.13, (0.3,), CLASSES, "toys", **options)


def colour_model():
    network = Sequential([Conv2d(2, 3, 3), ReLU(), Flatten(), Dense(60, 5)]).initialize(rng=1)
    return Model(network, (2, 7, 6), (0.3, 0.5), (0.2, 0.25))


def bytes_of(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
