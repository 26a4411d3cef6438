"""The public names; each is imported when it is first used."""

from .data import Augmentation, Batches, load_dataset
from .errors import ConfigError, DataError, DivergedError, MinicnnError, ShapeError
from .handwriting.digit import to_mnist
from .inspect.gradient_check import check_gradients
from .inspect.summary import summary
from .layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    LaneLayer,
    Layer,
    LeakyReLU,
    Linear,
    LocallyConnected2d,
    MaxPool,
    MaxPool2d,
    MeanPool,
    Parameter,
    RadialBasis,
    ReLU,
    ScaledTanh,
    Sigmoid,
    Softmax,
    Subsample,
    Tanh,
)
from .layers.sequential import Sequential
from .lenet import lenet5, lenet5_1998
from .losses import HalfSquaredError, MaximumAPosteriori, MeanSquaredError, SoftmaxCrossEntropy
from .model import Model, load
from .optimizers import EMA, SGD
from .schedules import make_schedule
from .training.step import evaluate, train_step

__version__: str

__all__ = [
    "EMA",
    "SGD",
    "Augmentation",
    "AvgPool2d",
    "BatchNorm2d",
    "Batches",
    "ConfigError",
    "Conv2d",
    "DataError",
    "Dense",
    "DivergedError",
    "Dropout",
    "Flatten",
    "HalfSquaredError",
    "LaneLayer",
    "Layer",
    "LeakyReLU",
    "Linear",
    "LocallyConnected2d",
    "MaxPool",
    "MaxPool2d",
    "MaximumAPosteriori",
    "MeanPool",
    "MeanSquaredError",
    "MinicnnError",
    "Model",
    "Parameter",
    "RadialBasis",
    "ReLU",
    "ScaledTanh",
    "Sequential",
    "ShapeError",
    "Sigmoid",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Subsample",
    "Tanh",
    "check_gradients",
    "evaluate",
    "lenet5",
    "lenet5_1998",
    "load",
    "load_dataset",
    "make_schedule",
    "summary",
    "to_mnist",
    "train_step",
]
