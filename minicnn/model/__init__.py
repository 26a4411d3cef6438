"""A network with what it takes to train and to use it, in memory and as one file."""

from minicnn.model.file import FILE_NAME
from minicnn.model.model import Model, load, softmax

__all__ = ["FILE_NAME", "Model", "load", "softmax"]
