"""How everything is computed: one function for each task of a kernel, on pointers and numbers.

The modules here are imported where kernels are compiled, and nowhere else: they need Numba, whose import takes longer
than loading kernels that were compiled before.
"""

#: Images in a block: the elements of a vector. The same on every machine, so that results are.
LANES = 16
#: Parameters of a task of the optimizer's kernels.
CHUNK = 4096
#: Vectors that augmentation smooths at a time, and may write beyond the end.
SMOOTHED = 8


def blocks_of(images: int) -> int:
    """How many blocks they fill, the last one perhaps not wholly."""
    return -(-images // LANES)
