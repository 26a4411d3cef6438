"""Memory that kernels work on."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]


def aligned_zeros(size: int, dtype: DTypeLike) -> Array:
    """A flat array that starts on a cache line, as a vector that crosses none is loaded twice as fast."""
    dtype = np.dtype(dtype)
    raw = np.zeros(size * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size * dtype.itemsize].view(dtype)
