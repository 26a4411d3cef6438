"""What is done to parameters, step by step: by an optimizer, or by an average of them."""

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_type_hints

import numpy as np
from annotated_types import Interval

from minicnn.checks import fits, told, words
from minicnn.engine.arrays import Array, replacements
from minicnn.engine.cache import Kernels
from minicnn.engine.program import Program
from minicnn.engine.work import Work
from minicnn.errors import ConfigError
from minicnn.layers.parameter import Cell, Parameter

kernels = Kernels("optimizer")

Share = Annotated[float, Interval(ge=0, lt=1)]


class Rule(ABC):
    """Something that is done to parameters, which stay, with numbers that may change."""

    parameters: tuple[Parameter, ...] = ()
    _program: Program | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises ConfigError for a number out of its range, and for other parameters than the first ones."""
        place, hint = type(self).__name__, hints_of(type(self)).get(name, Any)
        if not fits(value, hint):
            raise ConfigError(f"{place}: {name}: expected {words(hint)}, received {told(value)}")
        if name == "parameters":
            if self.parameters:
                raise ConfigError(
                    f"{place}: parameters: expected those that it was made with, received others; make a new {place}"
                )
            value = listed(value, place)
        before = self.__dict__.get(name)
        object.__setattr__(self, name, value)
        if isinstance(value, np.ndarray | dict) and value is not before:
            replacements.add()

    @abstractmethod
    def work(self) -> Work:
        """The work of an update."""

    def _run(self, **inputs: float) -> None:
        if self._program is None or self._program.is_stale:
            self._program = self.work().finish()
        for name, value in inputs.items():
            self._program.set(name, value)
        self._program.run(1)

    def _new_work(self) -> Work:
        work = Work(1, self.parameters[0].value.dtype, True, True)
        for parameter in self.parameters:
            work.array(parameter.cell, "value")
        return work


@cache
def hints_of(rule: type[Rule]) -> dict[str, Any]:
    """The annotations of the arguments of its constructor, and of those that it derives from."""
    hints: dict[str, Any] = {}
    for base in rule.__mro__[:-1]:
        if "__init__" in base.__dict__:
            hints |= get_type_hints(base.__dict__["__init__"], include_extras=True)
    return hints


def listed(parameters: Any, place: str) -> tuple[Parameter, ...]:
    """The parameters, as a tuple. Raises ConfigError for what are none, and for one twice."""
    check_no_network(parameters, place)
    found = tuple(parameters)
    if not found:
        raise ConfigError(f"{place}: parameters: expected at least one, received none")
    cells = set()
    for one in found:
        if not isinstance(one, Parameter):
            raise ConfigError(
                f"{place}: parameters: expected parameters, such as network.parameters(), received {told(one)}"
            )
        if one.cell in cells:
            raise ConfigError(f"{place}: parameters: expected each once, received {one.name} twice")
        cells.add(one.cell)
    return found


def check_no_network(parameters: Any, place: str) -> None:
    """Raises ConfigError, with the remedy, for something that has parameters."""
    if isinstance(parameters, type) or hasattr(parameters, "parameters"):
        raise ConfigError(
            f"{place}: parameters: expected those of a network, received {told(parameters)}; pass its .parameters()"
        )


@dataclass
class _Run:
    """Cells that lie side by side: from element `at` of their home, and at `first` to `end` among all parameters."""

    cell: Cell
    at: int
    first: int
    end: int

    def goes_on(self, cell: Cell, at: int, first: int) -> bool:
        return cell.home is not None and cell.home is self.cell.home and (at, first) == (self.last, self.end)

    @property
    def last(self) -> int:
        return self.at + self.end - self.first


def pieces(parameters: Sequence[Parameter], chosen: Container[Cell] | None = None) -> list[tuple[Array, Array, slice]]:
    """(values, gradients, their place among all), flat: one piece for all that lie side by side in a network.

    chosen: the cells of those that matter; all others are left out [all].
    Raises ConfigError for parameters of several types.
    """
    dtypes = {parameter.value.dtype.name for parameter in parameters}
    if len(dtypes) > 1:
        raise ConfigError(f"parameters: expected one element type, received {' and '.join(sorted(dtypes))}")
    runs: list[_Run] = []
    end = 0
    for cell in (parameter.cell for parameter in parameters):
        first, end = end, end + cell.value.size
        if chosen is not None and cell not in chosen:
            continue
        base = cell.value if cell.home is None else cell.home.values
        at = (cell.value.ctypes.data - base.ctypes.data) // base.itemsize
        if runs and runs[-1].goes_on(cell, at, first):
            runs[-1].end = end
        else:
            runs.append(_Run(cell, at, first, end))
    found = []
    for run in runs:
        home, part = run.cell.home, slice(run.first, run.end)
        arrays = (home.values, home.gradients) if home else (run.cell.value.reshape(-1), run.cell.grad.reshape(-1))
        found.append((arrays[0][run.at : run.last], arrays[1][run.at : run.last], part))
    return found
