"""Settings of the whole test run."""

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # Numba's kernels have the cores; torch is only asked for small results

# No deadline, because the first call of a kernel compiles it; the same examples on every run.
settings.register_profile("minicnn", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("minicnn")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
