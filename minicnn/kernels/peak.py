"""The most multiply-adds that a core can do: what the speed of the other kernels is to be compared with."""

from numba import prange

from .jit import parallel_kernel
from .tile import fill_tile, load_tile, outer, store_tile

#: Accumulators that do not wait for each other: more than the latency of a multiply-add (4 or 5 cycles) times those
#: that begin in a cycle (2), and few enough for 16 registers.
CHAINS = 12


@parallel_kernel
def multiply_adds(start, factor, steps, result):
    """result[t, k] = start[k] + steps factor^2, added up one by one: `steps` x CHAINS vector multiply-adds a task t."""
    for task in prange(result.shape[0]):
        tile = load_tile(start, 0, result.shape[2], CHAINS)
        row = fill_tile(start, factor, 1)
        column = fill_tile(start, factor, CHAINS)
        for _ in range(steps):
            tile = outer(tile, row, column)
        store_tile(result, task * CHAINS * result.shape[2], 0, result.shape[2], tile, 1)
