"""Models that are written as C, and images for them."""

from pathlib import Path

import numpy as np

from minicnn import BatchNorm2d, Model, Sequential
from minicnn.config.experiment import Experiment
from minicnn.config.settings import load_settings

IMAGE = (2, 7, 6)


def images_of(shape, count=6, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
    images[0], images[1] = 0, 255
    return images


def in_range(layers, shape, **options):
    """A model whose pixels are from about -1 to 1, with weights of the seed 1."""
    network = Sequential(layers).initialize("lecun", 1)
    for _, layer in network.places():
        if isinstance(layer, BatchNorm2d):
            randomize(layer)
    return Model(network, shape, **{"mean": 0.45, "std": 0.5} | options)


def randomize(norm):
    """Gives it parameters, some of them negative, and running statistics that are not those of a new layer."""
    rng = np.random.default_rng(norm.num_features)
    for parameter in norm.parameters():
        parameter.value[...] = rng.uniform(-1, 1, norm.num_features)
    norm.running_mean[...] = rng.uniform(-1, 1, norm.num_features)
    norm.running_var[...] = rng.uniform(0.2, 2, norm.num_features)


def micro():
    """The network of configs/micro.yaml, not trained."""
    experiment = Experiment(load_settings(Path(__file__).parents[2] / "configs" / "micro.yaml"))
    return Model(experiment.network, (1, 28, 28), 0.1307, 0.3081, padding=experiment.settings.data.padding)
