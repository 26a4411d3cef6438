"""Optimizers, one per file, and the average of the weights that they go through."""

from .adam import Adam, AdamW
from .ema import EMA
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .rule import Share as Share
from .sgd import SGD

__all__ = ["EMA", "SGD", "Adam", "AdamW", "Optimizer", "RMSprop"]

#: The optimizers by their names in settings; the first is that of settings without a name.
OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}
