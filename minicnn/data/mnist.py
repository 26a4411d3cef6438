"""MNIST and the data sets in its format, IDX: torchvision downloads, unpacks and parses them.

torchvision, and with it torch, takes seconds to import, so each function imports it when called.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.data.download import fetch_archive, fetch_files
from minicnn.errors import DataError

RAW_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class Mnist:
    """MNIST, or a set that replaces it file by file.

    title: the name of torchvision's class and of its folder. images, test_images: how many there are, for errors.
    """

    names: tuple[str, ...] = RAW_FILES

    def __init__(self, title: str, images: int = 60_000, test_images: int = 10_000) -> None:
        self.title, self.images, self.test_images = title, images, test_images

    def raw_files(self, root: Path) -> list[Path]:
        return [root / self.title / "raw" / name for name in self.names]

    def fetch(self, root: Path) -> None:
        """Downloads the raw files that are missing, or unpacks their `.gz` if it lies beside them.

        A machine without network gets its answer within `download.TIMEOUT` seconds. Each file arrives whole or not at
        all. Raises UnavailableError.
        """
        import torchvision.datasets

        known = getattr(torchvision.datasets, self.title)
        fetch_files(self.title, root / self.title / "raw", known.mirrors, dict(known.resources))

    def read(self, root: Path) -> dict[str, np.ndarray]:
        """The raw files as uint8 arrays: images (N, 1, 28, 28) and labels (N,).

        Raises DataError for a file that is truncated or corrupt.
        """
        from torchvision.datasets.mnist import read_image_file, read_label_file

        arrays, paths = {}, self.raw_files(root)
        for split, number, files in (("train", self.images, paths[:2]), ("test", self.test_images, paths[2:])):
            pixels = self._parsed(read_image_file, files[0], 16 + number * 28 * 28)
            arrays[f"{split}_images"] = pixels[:, np.newaxis]
            arrays[f"{split}_labels"] = self._parsed(read_label_file, files[1], 8 + number).astype(np.uint8)
        return arrays

    def _parsed(self, read: Callable[[str], Any], path: Path, size: int) -> np.ndarray:
        try:
            array: np.ndarray = read(os.fspath(path)).numpy()
        except OSError as error:
            raise DataError(f"{path}: expected a readable file, received {error}") from error
        except Exception as error:  # torchvision asserts, indexes and reshapes without looking first
            raise DataError(
                f"{path}: expected a whole IDX file ({self.title}'s has {size:,} bytes), "
                f"received {path.stat().st_size:,} bytes that cannot be parsed; replace the file, or "
                "delete it to have it downloaded again"
            ) from error
        return array


class Emnist(Mnist):
    """A split of EMNIST (Cohen et al., 2017) with as many images of each class: letters or balanced."""

    def __init__(self, part: str, images: int, test_images: int) -> None:
        super().__init__("EMNIST", images, test_images)
        self.part = part
        kinds = ("images-idx3", "labels-idx1")
        self.names = tuple(f"emnist-{part}-{split}-{kind}-ubyte" for split in ("train", "test") for kind in kinds)

    def fetch(self, root: Path) -> None:
        """Unpacks the split's files of the one archive of all splits, downloading it if need be."""
        from torchvision.datasets import EMNIST

        members = {f"gzip/{path.name}.gz": path for path in self.raw_files(root)}
        fetch_archive("EMNIST", root / "EMNIST" / "raw" / "gzip.zip", EMNIST.url, EMNIST.md5, members)

    def read(self, root: Path) -> dict[str, np.ndarray]:
        """Like `Mnist.read`, with images that stand upright and letters counted from 0.

        The files hold each image mirrored at its diagonal, and letters with labels from 1 on.
        """
        arrays = super().read(root)
        for split in ("train", "test"):
            arrays[f"{split}_images"] = np.ascontiguousarray(arrays[f"{split}_images"].swapaxes(2, 3))
            if self.part == "letters":
                arrays[f"{split}_labels"] -= 1  # a 0 becomes 255, which is no letter either
        return arrays
