"""The most multiply-adds that a core can do: what the speed of the other kernels is to be compared with."""

from typing import Any

from minicnn.kernels import LANES

from .tiles import fill_tile, load_tile, outer, store_tile


def multiply_adds(chains: int) -> Any:
    """The kernel for that many sums, which do not wait for each other."""

    def kernel(task, start, factor, steps, result):
        """result[task, k] = start[k] + steps factor^2, added up one by one: `steps` x `chains` vector multiply-adds."""
        tile = load_tile(start, 0, LANES, chains)
        row = fill_tile(start, factor, 1)
        column = fill_tile(start, factor, chains)
        for _ in range(steps):
            tile = outer(tile, row, column)
        store_tile(result, task * chains * LANES, 0, LANES, tile, 1)

    return kernel
