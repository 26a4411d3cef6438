"""The public names; each is imported when it is first used."""

from . import layers, optimizers
from .data import Augmentation, Batches, load_dataset
from .errors import ConfigError, DataError, DivergedError, MinicnnError, ShapeError
from .export.c import QuantizedModel, export_c, quantize
from .handwriting.digit import to_mnist
from .inspect.gradient_check import check_gradients
from .inspect.summary import summary
from .layers import *  # noqa: F403
from .layers.activation import *  # noqa: F403
from .layers.sequential import Sequential
from .losses import BCEWithLogits, HalfSquaredError, Loss, MaximumAPosteriori, MeanSquaredError, SoftmaxCrossEntropy
from .model import Model, load
from .optimizers import *  # noqa: F403
from .schedules import make_schedule
from .sweeps.sweep import sweep
from .training.callbacks.stopping import EarlyStopping
from .training.step import evaluate, train_step
from .training.trainer import Callback, Trainer
from .zoo import lenet5, lenet5_1998, resnet8, vgg_small

__version__: str

__all__ = [
    "Augmentation",
    "BCEWithLogits",
    "Batches",
    "Callback",
    "ConfigError",
    "DataError",
    "DivergedError",
    "EarlyStopping",
    "HalfSquaredError",
    "Loss",
    "MaximumAPosteriori",
    "MeanSquaredError",
    "MinicnnError",
    "Model",
    "QuantizedModel",
    "Sequential",
    "ShapeError",
    "SoftmaxCrossEntropy",
    "Trainer",
    "check_gradients",
    "evaluate",
    "export_c",
    "lenet5",
    "lenet5_1998",
    "load",
    "load_dataset",
    "make_schedule",
    "quantize",
    "resnet8",
    "summary",
    "sweep",
    "to_mnist",
    "train_step",
    "vgg_small",
]
__all__ += layers.__all__
__all__ += optimizers.__all__
