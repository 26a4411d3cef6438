"""Models that are written as C, and images for them."""

import numpy as np

from minicnn import BatchNorm2d, Model, Sequential

IMAGE = (2, 7, 6)


def batch_norm(channels=2, **options):
    """Parameters, some of them negative, and running statistics that are not those of a new layer."""
    layer = BatchNorm2d(channels, **options)
    rng = np.random.default_rng(0)
    for parameter in layer.parameters():
        parameter.value[...] = rng.uniform(-1, 1, channels)
    layer.running_mean[...], layer.running_var[...] = rng.uniform(-1, 1, channels), rng.uniform(0.2, 2, channels)
    return layer


def images_of(shape, count=6, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
    images[0], images[1] = 0, 255
    return images


def in_range(layers, shape, **options):
    """A model whose pixels are from about -1 to 1, with weights of the seed 1."""
    return Model(Sequential(layers).initialize("lecun", 1), shape, **{"mean": 0.45, "std": 0.5} | options)
