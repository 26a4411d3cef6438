"""Folders of small images of noise, one sub-folder a class."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from minicnn.data import Dataset, load_dataset

COLOUR, GREY = (8, 6, 3), (8, 6)  # height, width, channels


def write(path: Path, seed: int = 0, shape: tuple[int, ...] = COLOUR) -> np.ndarray:
    """An image of noise, at a path that names its format."""
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def write_all(folder: Path, counts: Mapping[str, int], shape: tuple[int, ...] = COLOUR) -> None:
    for name, count in counts.items():
        for number in range(count):
            write(folder / name / f"{number}.png", number, shape)


def load(path: Path, **options: object) -> Dataset:
    return load_dataset("folder", path=path, **{"validation": 0.25, **options})  # type: ignore[arg-type]
