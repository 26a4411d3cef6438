"""What a teller is told and what it tells; see `minicnn.inspect.trace.tellers`."""

from dataclasses import dataclass
from typing import Any

from minicnn.engine.arrays import Array

Place = tuple[int, ...]


@dataclass
class Step:
    """A layer and what passed through it, for one sample, without the batch axis."""

    name: str
    layer: Any
    x: Array
    y: Array
    dy: Array
    dx: Array
    gradients: dict[str, Array]


@dataclass
class Told:
    source: Place
    """The input that mattered most for the output."""
    forward: list[str]
    backward: list[str]
    weight: Place | None = None
    """The place in the parameter "weight" of the weight in between, if there is one."""
