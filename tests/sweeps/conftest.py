"""A folder with small.yaml and images in it, to sweep in."""

from pathlib import Path

import numpy as np
import pytest
from small_sweep import CONFIG

from minicnn.engine import driver


def write_files(folder: Path) -> None:
    """small.yaml, and 300 images of noise, brighter in the rows of their class."""
    (folder / "small.yaml").write_text(CONFIG)
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 10
    images = rng.integers(0, 120, (300, 20, 20), np.uint8)
    images[np.arange(300), 2 * labels] += 60
    (folder / "images").mkdir()
    for part, chosen in (("train", slice(0, 200)), ("test", slice(200, 300))):
        np.save(folder / f"images/{part}_images.npy", images[chosen])
        np.save(folder / f"images/{part}_labels.npy", labels[chosen])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def same_threads() -> object:
    """A training that runs in the test's own process sets them."""
    before = driver.get_threads()
    yield
    driver.set_threads(before)
