"""Trainable arrays, and where they are in memory."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minicnn.errors import ShapeError

Array = NDArray[Any]


class Cell:
    """The arrays of one parameter, and where they are part of larger ones."""

    def __init__(self, value: Array) -> None:
        self.value = value
        self.grad = np.zeros_like(value)
        self.home: Home | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy lives on its own until a network takes it in."""
        return {"value": self.value.copy(), "grad": self.grad.copy(), "home": None}


class Home(NamedTuple):
    """The flat arrays in which the parameters of a network lie, one behind the other."""

    values: Array
    gradients: Array
    cells: list[Cell]


class Parameter:
    """A trainable array and its gradient.

    `value` and `grad` keep their identity while a network is trained: an assignment to them writes into the arrays, and
    must have their shape. Raises ShapeError for another one.
    """

    def __init__(self, name: str, value: Array, cell: Cell | None = None) -> None:
        self.name = name
        self.cell = cell or Cell(np.ascontiguousarray(value))

    @property
    def value(self) -> Array:
        return self.cell.value

    @value.setter
    def value(self, value: Array) -> None:
        self._write(self.cell.value, value)

    @property
    def grad(self) -> Array:
        return self.cell.grad

    @grad.setter
    def grad(self, grad: Array) -> None:
        self._write(self.cell.grad, grad)

    def _write(self, array: Array, value: Array) -> None:
        if np.shape(value) not in ((), array.shape):
            raise ShapeError(
                f"{self.name}: expected an array of shape {array.shape}, received {np.shape(value)}"
            )
        array[...] = value

    def renamed(self, name: str) -> "Parameter":
        """The same parameter under another name."""
        return Parameter(name, self.value, self.cell)

    def move(self, value: Array, grad: Array, home: Home | None = None) -> None:
        """Lets the parameter live in other arrays of the same shape, whose contents count from now on."""
        if value.shape != self.value.shape or grad.shape != value.shape:
            raise ShapeError(
                f"{self.name}: expected arrays of shape {self.value.shape}, "
                f"received {value.shape} and {grad.shape}"
            )
        self.cell.value, self.cell.grad, self.cell.home = value, grad, home

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {self.value.shape}, {self.value.dtype})"
