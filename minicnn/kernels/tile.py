"""The size of a register tile, chosen for the shape at hand."""

from functools import cache

from .simd import TILE


@cache
def choose_tile(rows: int, columns: int, most_rows: int = TILE) -> tuple[int, int]:
    """The best (rows, columns) of a tile to cover a plane of rows x columns.

    Counted are cycles per useful multiply-add on a machine that does two multiply-adds and two loads a cycle,
    with a latency of four; a tile that does not divide the plane computes some of it twice.
    """

    def cost(tile: tuple[int, int]) -> tuple[float, float]:
        r, c = tile
        tiles = -(-rows // r) * -(-columns // c)
        return tiles * max(r * c / 2, (r + c) / 2, 4), (r + c) / (r * c)

    candidates = [
        (r, c)
        for r in range(1, min(rows, most_rows) + 1)
        for c in range(1, min(columns, TILE // r) + 1)
    ]
    return min(candidates, key=cost)
