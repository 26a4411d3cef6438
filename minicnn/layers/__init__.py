"""What a network is composed of."""

from . import activation
from .activation import *  # noqa: F403
from .conv import Conv2d
from .dense import Dense, Flatten, Linear
from .dropout import Dropout, Dropout2d
from .lane_layer import LaneLayer
from .layer import Layer
from .local import LocallyConnected2d
from .normalization import BatchNorm1d, BatchNorm2d
from .parameter import Parameter
from .pooling import AvgPool2d, GlobalAvgPool2d, GlobalMeanPool, MaxPool, MaxPool2d, MeanPool
from .rbf import RadialBasis
from .residual import Residual
from .subsample import Subsample

__all__ = [
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "Dense",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GlobalAvgPool2d",
    "GlobalMeanPool",
    "LaneLayer",
    "Layer",
    "Linear",
    "LocallyConnected2d",
    "MaxPool",
    "MaxPool2d",
    "MeanPool",
    "Parameter",
    "RadialBasis",
    "Residual",
    "Subsample",
]
__all__ += activation.__all__
