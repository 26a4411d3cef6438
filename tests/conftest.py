"""Settings of the whole test run."""

import itertools
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from data_files import write_raw
from hypothesis import settings

from minicnn.engine import cache

# No deadline, because the first call of a kernel compiles it; the same examples on every run.
settings.register_profile("minicnn", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("minicnn")

#: Files of long tests. They come first: whatever comes last, one process waits for the others.
LONG = ("test_same_bits", "test_ranks", "test_killed_sweeps", "test_kills", "test_backends")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


_seeds = itertools.count()


def pytest_runtest_setup() -> None:
    """No test depends on those before it, which are others in each run of several processes."""
    global _seeds
    _seeds = itertools.count()


@pytest.fixture(autouse=True, scope="session")
def same_numbers_in_every_run():
    """Generators that nobody seeds, such as those of new layers, get seeds 0, 1, 2, ... in each test."""
    real = np.random.default_rng
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "default_rng", lambda seed=None: real(next(_seeds) if seed is None else seed))
        yield


@pytest.fixture(autouse=True, scope="session")
def torch_on_one_thread():
    """Kernels have the cores; torch is only asked for small results."""
    import torch  # late, as the process that starts the others does without

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def kernels_are_compiled_here():
    """Where as many processes test as there are cores, none has others to compile for it, which take time to start."""
    with pytest.MonkeyPatch.context() as patch:
        if "PYTEST_XDIST_WORKER" in os.environ:
            import minicnn.kernels.compile  # noqa: F401 # late, like torch

            patch.setattr(cache, "FEW", 1000)
        yield


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user cache folder for each test, and servers of data sets that refuse every connection."""
    place = tmp_path / "user-cache" / "minicnn"
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **options: place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place.parent))  # for processes that a test starts, except on Windows
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        server = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        monkeypatch.setattr(f"torchvision.datasets.{name}.mirrors", [server])
    for name in ("EMNIST", "CIFAR10"):
        monkeypatch.setattr(f"torchvision.datasets.{name}.url", server)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a small MNIST."""
    write_raw(tmp_path / "data")
    return tmp_path / "data"
