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


def plan(sizes: list[int], in_place: list[bool], reads: list[list[int]] | None = None) -> tuple[list[int], int]:
    """The offset of each map in the working memory, and the size of the memory.

    sizes     of the maps; operation t writes map t + 1, the last one writes what is not planned here
    in_place  for operation t, whether it may write map t + 1 over a map that it reads and nobody needs any more
    reads     the maps that operation t reads; without it, map t alone

    Buffers are placed one after the other, each at the lowest offset at which it overlaps with none before it: the
    largest first, or from either end of the network, whichever takes the least.
    """
    reads = [[t] for t in range(len(sizes))] if reads is None else reads
    last = [max((t for t, maps in enumerate(reads) if k in maps), default=k) for k in range(len(sizes))]
    buffers: list[Buffer] = []
    of_map: list[Buffer] = []
    for k, size in enumerate(sizes):
        # A map is alive from the operation that writes it, k - 1, to the last that reads it. Operation -1 is the one
        # that fills the first map.
        over = [m for m in reads[k - 1] if last[m] == k - 1] if k and in_place[k - 1] else []
        if over:
            buffer = of_map[over[0]]
            buffer.sizes += [size] * (last[k] - k + 1)
        else:
            buffer = Buffer(k - 1, [size] * (last[k] - k + 2))
            buffers.append(buffer)
        of_map.append(buffer)
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
