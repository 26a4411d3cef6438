"""How everything is computed: one function for each task of a kernel, on pointers and numbers.

The modules here are imported where kernels are compiled, and nowhere else: they need Numba, whose import takes longer
than loading kernels that were compiled before.
"""

#: Images in a block: the elements of a vector. The same on every machine, so that results are.
LANES = 16
