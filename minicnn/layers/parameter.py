"""Trainable arrays, and where they are in memory."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from minicnn.checks import plain_array
from minicnn.engine.arrays import Array, replacements
from minicnn.errors import ShapeError


class Cell:
    """The arrays of one parameter, and where they are part of larger ones."""

    def __init__(self, value: Array) -> None:
        self.value = value
        self.grad = np.zeros_like(value)
        self.home: Home | None = None
        self.frozen = False

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        replacements.add()

    def __getstate__(self) -> dict[str, Any]:
        """A copy lives on its own until a network takes it in."""
        return {"value": self.value.copy(), "grad": self.grad.copy(), "home": None, "frozen": self.frozen}


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
        if cell is None:
            value = np.ascontiguousarray(plain_array(value, name, ShapeError))
            check_float(value.dtype, name)
            cell = Cell(value)
        self.cell = cell

    @property
    def value(self) -> Array:
        return self.cell.value

    @value.setter
    def value(self, value: ArrayLike) -> None:
        write(self.name, self.cell.value, value)

    @property
    def grad(self) -> Array:
        return self.cell.grad

    @grad.setter
    def grad(self, grad: ArrayLike) -> None:
        write(self.name, self.cell.grad, grad)

    @property
    def frozen(self) -> bool:
        """Whether it belongs to a layer that is frozen (see `Layer.freeze`), and optimizers leave it alone."""
        return self.cell.frozen

    def renamed(self, name: str) -> "Parameter":
        """The same parameter under another name."""
        return Parameter(name, self.value, self.cell)

    def move(self, value: Array, grad: Array, home: Home | None = None) -> None:
        """Lets the parameter live in other arrays of the same shape, whose contents count from now on."""
        if value.shape != self.value.shape or grad.shape != value.shape:
            raise ShapeError(
                f"{self.name}: expected arrays of shape {self.value.shape}, received {value.shape} and {grad.shape}"
            )
        check_float(value.dtype, self.name)
        if grad.dtype != value.dtype or not (value.flags.c_contiguous and grad.flags.c_contiguous):
            raise ShapeError(
                f"{self.name}: expected arrays of one type, whose elements lie side by side, "
                f"received {value.dtype} and {grad.dtype}, strides {value.strides} and {grad.strides}"
            )
        self.cell.value, self.cell.grad, self.cell.home = value, grad, home

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {self.value.shape}, {self.value.dtype})"


def check_float(dtype: DTypeLike, name: str = "dtype") -> None:
    """Raises ShapeError for an element type that layers cannot have."""
    try:
        found: Any = np.dtype(dtype)
    except TypeError:
        found = dtype
    if found not in (np.float32, np.float64):
        raise ShapeError(f"{name}: expected float32 or float64, received {found}")


def write(name: str, array: Array, value: Any) -> None:
    """array[...] = value, for a number or numbers of the same shape. Raises ShapeError for others."""
    if value is array:  # after array -= ...
        return
    value = plain_array(value, name, ShapeError)
    if value.shape not in ((), array.shape):
        raise ShapeError(f"{name}: expected an array of shape {array.shape}, received {value.shape}")
    if value.dtype.kind not in "fiu":
        raise ShapeError(f"{name}: expected numbers, received {value.dtype}")
    array[...] = value
