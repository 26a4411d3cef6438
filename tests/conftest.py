"""Settings of the whole test run."""

import itertools

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


@pytest.fixture(autouse=True, scope="session")
def same_numbers_in_every_run():
    """Generators that nobody seeds, such as those of new layers, get seeds 0, 1, 2, ..."""
    seeds = itertools.count()
    real = np.random.default_rng
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            np.random, "default_rng", lambda seed=None: real(next(seeds) if seed is None else seed)
        )
        yield
