"""What the tests of pages share: pages in a browser, models and images to make them of."""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minicnn import Model, load_dataset
from minicnn.data import Dataset
from minicnn.page.bundle import page
from minicnn.page.facts import collect


@dataclass
class Opened:
    """A page in the browser, with all that it has complained of and asked for."""

    page: Any
    complaints: list[str]
    requests: list[str]

    def js(self, code: str, argument: Any = None) -> Any:
        return self.page.evaluate(code, argument)

    def until(self, condition: str, seconds: float = 30) -> None:
        """Waits for what the page, which lets nobody evaluate text, cannot wait for itself."""
        end = time.monotonic() + seconds
        while not self.js(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.05)


Open = Callable[..., Opened]


def few_images(train: int = 40, test: int = 40) -> Dataset:
    """The first images of a small MNIST."""
    data = load_dataset("mnist-subset")
    return replace(
        data,
        train_images=data.train_images[:train],
        train_labels=data.train_labels[:train],
        test_images=data.test_images[:test],
        test_labels=data.test_labels[:test],
    )


def made_up(shape: tuple[int, int, int], classes: int, images: int = 20) -> Dataset:
    """Random images of that shape."""
    rng = np.random.default_rng(3)
    pixels, labels = rng.integers(0, 256, (images, *shape), np.uint8), np.arange(images) % classes
    names = tuple(f"kind {k}" for k in range(classes))
    mean, std = (0.5,) * shape[0], (0.25,) * shape[0]
    return Dataset("made-up", pixels, labels, pixels, labels, names, mean, std)


def write_page(path: Path, model: Model, data: Dataset, **more: Any) -> Path:
    path.write_text(page("A <test> & its page", {"title": "A test", **collect(model, data, None), **more}), "utf-8")
    return path


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def text_of(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()
