"""A loss that a user writes in NumPy, as a part of a compiled program."""

import ctypes
import math
from typing import Any, Protocol

import numpy as np

from minicnn.checks import told
from minicnn.engine.arrays import Array, Shape
from minicnn.engine.lanes import pack, unpack
from minicnn.engine.memory import Map
from minicnn.engine.program import Program
from minicnn.engine.work import Work
from minicnn.errors import MinicnnError, ShapeError
from minicnn.losses.targets import Kind


class NumpyLoss(Protocol):
    """What the user writes: the mean loss of a batch, and its derivative."""

    def forward(self, y: Array, target: Array) -> float: ...
    def backward(self) -> Array: ...
    def terms(self, outputs: Shape) -> int: ...


def declare_in_numpy(loss: NumpyLoss, work: Work, y: Map, kind: Kind) -> Map:
    """As `Loss.declare`: calls forward and, in training, backward between the steps of the engine."""
    if kind.weighted:
        raise MinicnnError(f"{loss!r}: expected no weights of samples, which a loss in NumPy does not know of")
    scores, gradients = work.rows(math.prod(y.shape)), work.rows(math.prod(y.shape))
    work.losses = work.numbers(1, np.float64)

    def step(program: Program) -> None:
        n = program.count
        shape = (n, *y.shape)
        known = ((n,), np.int64) if kind.by_label else (shape, work.dtype)
        target = _array_at(program.inputs["target"], *known)
        value = loss.forward(scores.array[:n].reshape(shape).copy(), target)
        if np.shape(value) != ():
            raise ShapeError(f"{loss!r}: expected forward to return one number, received {told(value)}")
        program.losses[...] = 0
        program.losses.flat[0] = float(value) * n * loss.terms(y.shape)
        if work.training:
            dy = np.asarray(loss.backward())
            if dy.shape != shape:
                raise ShapeError(f"{loss!r}: expected backward to return dy of shape {shape}, received {told(dy)}")
            gradients.array[:n] = (dy * (n * loss.terms(y.shape) * program.inputs["factor"])).reshape(n, -1)
            gradients.array[n:] = 0

    unpack(work, y, scores)
    work.python(step)
    return pack(work, gradients, y.shape)


def _array_at(address: float, shape: Shape, dtype: Any) -> Array:
    """A copy of the numbers at an address."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(int(address)), dtype).reshape(shape).copy()
