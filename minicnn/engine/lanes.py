"""Into the lane layout and out of it: the first and the last calls of a program."""

import math

import numpy as np

from minicnn.kernels import LANES

from .arrays import Shape
from .cache import Kernels
from .memory import Map
from .work import Input, Rows, Work

kernels = Kernels("lanes")


def array_input(work: Work, name: str, shape: Shape) -> Input:
    """An array (N, *shape) of the element type of `work`, whose address is set before each run."""
    letter = "f" if work.dtype == np.float32 else "d"
    return Input(name, letter, LANES * math.prod(shape) * work.dtype.itemsize)


def pack_input(work: Work, name: str, shape: Shape) -> Map:
    """The map of each block of such an array."""
    return pack(work, array_input(work, name, shape), shape)


def unpack_output(work: Work, packed: Map, name: str) -> None:
    """Writes the map of each block into such an array."""
    unpack(work, packed, array_input(work, name, packed.shape))


def pack(work: Work, array: Rows | Input, shape: Shape) -> Map:
    """A map of each block of images: lane l of a vector is the value in image l, zero beyond the last image."""
    packed = work.map(shape)
    work.call(kernels.pack, array, packed, packed.vectors, work.remaining)
    return packed


def unpack(work: Work, packed: Map, array: Rows | Input) -> None:
    """Writes the map of each block into the rows of its images."""
    work.call(kernels.unpack, packed, array, packed.vectors, packed.vectors, work.remaining)
