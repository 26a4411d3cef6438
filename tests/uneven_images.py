"""A made-up folder of images in three classes of uneven sizes, which are not easy to tell apart."""

from pathlib import Path

import numpy as np
from PIL import Image

COUNTS = {"blue": 200, "green": 80, "red": 20}


def uneven_images(counts: dict[str, int] = COUNTS, side: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    """A square that is a little more blue, green or red than the noise around it: uint8 (N, side, side, 3) by class."""
    rng, found = np.random.default_rng(seed), {}
    for name, count in counts.items():
        images = rng.normal(110, 30, (count, side, side, 3))
        for image in images:
            row, column = rng.integers(0, side - 5, 2)
            image[row : row + 6, column : column + 6, ["red", "green", "blue"].index(name)] += rng.normal(28, 10)
        found[name] = images.clip(0, 255).astype(np.uint8)
    return found


def write_uneven_folder(folder: Path, counts: dict[str, int] = COUNTS, side: int = 12) -> None:
    """The same as PNG files: folder/blue/000.png, ..."""
    for name, images in uneven_images(counts, side).items():
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / name / f"{number:03}.png")
