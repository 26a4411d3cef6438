"""What tests of the engine share."""

import pytest
from processes import in_process

from minicnn.engine import driver


@pytest.fixture
def awake(monkeypatch):
    """Helpers look for work for much longer than they do, so that they take part in programs of a microsecond."""
    monkeypatch.setattr(driver, "PATIENCE", 50_000)


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    """A folder with all files that the script needs."""
    place = tmp_path_factory.mktemp("warm") / "cache"
    assert in_process(MINICNN_CACHE_DIR=place) == (4, f"{place}/kernels")
    assert in_process(MINICNN_CACHE_DIR=place) == (0, f"{place}/kernels")
    return place
