"""A network with what it takes to train and to use it, in memory and as one file."""

from minicnn.model.file import FILE_NAME, weights_hash
from minicnn.model.model import Model, load
from minicnn.model.predictor import softmax

__all__ = ["FILE_NAME", "Model", "load", "softmax", "weights_hash"]
