"""What a network is composed of."""

from .activation import Dropout, LeakyReLU, ReLU, ScaledTanh, Sigmoid, Softmax, Tanh
from .base import Layer, Parameter
from .conv import Conv2d
from .dense import Dense, Flatten
from .local import LocallyConnected2d
from .normalization import BatchNorm2d
from .pool import MaxPool, MeanPool
from .radial import RadialBasis
from .subsample import Subsample

__all__ = [
    "BatchNorm2d",
    "Conv2d",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "LocallyConnected2d",
    "MaxPool",
    "MeanPool",
    "Parameter",
    "RadialBasis",
    "ReLU",
    "ScaledTanh",
    "Sigmoid",
    "Softmax",
    "Subsample",
    "Tanh",
]
