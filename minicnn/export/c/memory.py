"""The plan of the working memory: where each map lies, so that maps that live at the same time do not overlap."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Buffer:
    """What a map and those that are computed in its place take: a size for each operation, from `first` on."""

    first: int
    sizes: list[int]
    offset: int = 0

    def conflicts(self, other: "Buffer") -> bool:
        """Whether the two overlap during some operation."""
        for number in range(max(self.first, other.first), min(self.end, other.end)):
            mine, others = self.sizes[number - self.first], other.sizes[number - other.first]
            if self.offset < other.offset + others and other.offset < self.offset + mine:
                return True
        return False

    @property
    def end(self) -> int:
        return self.first + len(self.sizes)


def plan(sizes: list[int], in_place: list[bool]) -> tuple[list[int], int]:
    """The offset of each map in the working memory, and the size of the memory.

    sizes     of the maps; operation t reads map t and writes map t + 1, the last one writes what is not planned here
    in_place  for operation t, whether it may write map t + 1 over map t

    Buffers are placed one after the other, each at the lowest offset at which it overlaps with none before it: the
    largest first, or from either end of the network, whichever takes the least.
    """
    buffers: list[Buffer] = []
    of_map: list[Buffer] = []
    for t, size in enumerate(sizes):
        # Map t is alive in the operation that writes it, t - 1, and in the one that reads it, t. Operation -1 is the
        # one that fills the first map.
        if t and in_place[t - 1]:
            of_map[-1].sizes.append(size)
            of_map.append(of_map[-1])
        else:
            buffers.append(Buffer(t - 1, [size, size]))
            of_map.append(buffers[-1])
    orders: list[Callable[[Buffer], int]] = [lambda b: -max(b.sizes), lambda b: b.first, lambda b: -b.first]
    total = _place(buffers, min(orders, key=lambda order: _place(buffers, order)))
    return [buffer.offset for buffer in of_map], total


def _place(buffers: list[Buffer], order: Callable[[Buffer], int]) -> int:
    """Gives each buffer its offset; returns what all of them take."""
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=order):
        ends = {other.offset + size for other in placed for size in other.sizes}
        for offset in sorted({0} | ends):
            buffer.offset = offset
            if not any(map(buffer.conflicts, placed)):
                break
        placed.append(buffer)
    return max((b.offset + max(b.sizes) for b in buffers), default=0)
