"""Memory that kernels work on."""

import ctypes
import itertools
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]


class Replacements:
    """Counts how often an attribute has been replaced that programs rely on, such as the array of a parameter.

    A program compares `number` with what it was, instead of all those attributes. Each number is given once, and
    after the attribute has its new value; so with several threads, too, whoever finds an old number has missed nothing.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.number = 0

    def add(self) -> None:
        self.number = next(self._numbers)


#: Of this process.
replacements = Replacements()


def address(array: Array) -> int:
    """Where its elements lie: array.ctypes.data in a quarter of the time, as each step asks for some."""
    if array.flags.writeable and array.size:
        return ctypes.addressof(_byte(array))  # type: ignore[arg-type] # whose stubs know no arrays
    return int(array.ctypes.data)


_byte = ctypes.c_char.from_buffer


def aligned_zeros(size: int, dtype: DTypeLike) -> Array:
    """A flat array that starts on a cache line, as a vector that crosses none is loaded twice as fast."""
    dtype = np.dtype(dtype)
    raw = np.zeros(size * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size * dtype.itemsize].view(dtype)
