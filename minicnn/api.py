"""What `import minicnn` offers. The package imports this module when one of its names is first asked for."""

from minicnn.data import Augmentation, Batches, load_dataset
from minicnn.errors import ConfigError, DataError, DivergedError, MinicnnError, ShapeError
from minicnn.handwriting.digit import to_mnist
from minicnn.inspect.gradient_check import check_gradients
from minicnn.inspect.summary import summary
from minicnn.layers import (
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    LaneLayer,
    Layer,
    LeakyReLU,
    LocallyConnected2d,
    MaxPool,
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
from minicnn.layers.sequential import Sequential
from minicnn.lenet import lenet5, lenet5_1998
from minicnn.losses import HalfSquaredError, MaximumAPosteriori, MeanSquaredError, SoftmaxCrossEntropy
from minicnn.model import Model, load
from minicnn.optimizers import EMA, SGD
from minicnn.schedules import make_schedule
from minicnn.training.step import evaluate, train_step

__all__ = [
    "EMA",
    "SGD",
    "Augmentation",
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
    "LocallyConnected2d",
    "MaxPool",
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
