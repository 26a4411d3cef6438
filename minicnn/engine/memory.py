"""Where the maps of a program lie: one memory for maps that are not needed at the same time."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicnn.kernels import LANES

from .arrays import Array, Shape


@dataclass(eq=False)
class Arena:
    """Memory of which every thread, or every block, has a copy of its own."""

    size: int = 0  # elements of a copy, once it is planned
    array: Array = field(default_factory=lambda: np.empty(0))
    buffers: "list[Buffer]" = field(default_factory=list)

    def plan(self) -> None:
        """Gives each buffer the lowest place that is free from its first use to its last."""
        placed: list[Buffer] = []
        for buffer in sorted(self.buffers, key=lambda buffer: buffer.first):
            taken = sorted(
                (other.offset, other.size)
                for other in placed
                if buffer.first <= other.last and other.first <= buffer.last
            )
            buffer.offset = 0
            for offset, size in taken:
                if buffer.offset + buffer.size <= offset:
                    break
                buffer.offset = max(buffer.offset, offset + size)
            placed.append(buffer)
        self.size = max((b.offset + b.size for b in self.buffers), default=0)


@dataclass(eq=False)
class Buffer:
    """The memory of a map, from its first use to its last, in numbers of calls."""

    arena: Arena
    size: int  # elements of the arena
    first: float = math.inf
    last: float = -1
    offset: int = 0

    def use(self, time: float) -> None:
        self.first, self.last = min(self.first, time), max(self.last, time)


@dataclass(frozen=True, eq=False)
class Map:
    """A feature map of a block as a job sees it: `shape` (C, H, W) or (features,), and lanes innermost."""

    shape: Shape
    dtype: np.dtype[Any]
    buffer: Buffer

    @property
    def vectors(self) -> int:
        return math.prod(self.shape)

    def reshape(self, *shape: int) -> "Map":
        """The same memory as a map of another shape."""
        return Map(shape, self.dtype, self.buffer)


def new_map(arena: Arena, shape: Shape, dtype: np.dtype[Any], unit: int, always: bool) -> Map:
    """A map in an arena whose elements have `unit` bytes. `always`: nothing else ever lies there, so zeros stay."""
    size = LANES * -(-math.prod(shape) * dtype.itemsize // unit)
    buffer = Buffer(arena, size)
    if always:
        buffer.use(0)
        buffer.use(math.inf)
    arena.buffers.append(buffer)
    return Map(shape, dtype, buffer)
