"""Convolution: the layer and its formulas in conv2d.py, two ways to compute them beside it."""

from .conv2d import Conv2d

__all__ = ["Conv2d"]
