"""MNIST and the data sets in its format, IDX: torchvision downloads, unpacks and parses them.

torchvision, and with it torch, takes seconds to import, so each function imports it when called.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.data.download import fetch_archive, fetch_files
from minicnn.errors import DataError

RAW_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IMAGES, TEST_IMAGES = 60_000, 10_000


class Mnist:
    """MNIST, or a set that replaces it file by file; `title` is the name of torchvision's class and of its folder."""

    def __init__(self, title: str) -> None:
        self.title = title

    def raw_folder(self, root: Path) -> Path:
        """The folder of the raw files, which is also torchvision's."""
        return root / self.title / "raw"

    def raw_files(self, root: Path) -> list[Path]:
        return [self.raw_folder(root) / name for name in RAW_FILES]

    def fetch(self, root: Path) -> None:
        """Download the raw files that are missing, or unpack their `.gz` if it lies beside them.

        A machine without network gets its answer within `download.TIMEOUT` seconds. Each file
        arrives whole or not at all. Raises UnavailableError.
        """
        import torchvision.datasets

        known = getattr(torchvision.datasets, self.title)
        fetch_files(self.title, self.raw_folder(root), known.mirrors, dict(known.resources))

    def read(self, root: Path) -> dict[str, np.ndarray]:
        """Parse the raw files into uint8 arrays: images (N, 1, 28, 28) and labels (N,).

        Raises:
            DataError: A file is truncated or corrupt.
        """
        return _read_idx(self.title, self.raw_files(root), IMAGES, TEST_IMAGES)


class Emnist:
    """A split of EMNIST (Cohen et al., 2017) with as many images of each class: letters or balanced."""

    def __init__(self, part: str, images: int, test_images: int) -> None:
        self.part, self.images, self.test_images = part, images, test_images

    def raw_files(self, root: Path) -> list[Path]:
        return [
            root / "EMNIST" / "raw" / f"emnist-{self.part}-{split}-{kind}-ubyte"
            for split in ("train", "test")
            for kind in ("images-idx3", "labels-idx1")
        ]

    def fetch(self, root: Path) -> None:
        """Unpack the split's files of the one archive of all splits, downloading it if need be."""
        from torchvision.datasets import EMNIST

        members = {f"gzip/{path.name}.gz": path for path in self.raw_files(root)}
        archive = root / "EMNIST" / "raw" / "gzip.zip"
        fetch_archive("EMNIST", archive, EMNIST.url, EMNIST.md5, members)

    def read(self, root: Path) -> dict[str, np.ndarray]:
        """Like `Mnist.read`, with images that stand upright and letters counted from 0.

        The files hold each image mirrored at its diagonal, and letters with labels from 1 on.
        """
        arrays = _read_idx("EMNIST", self.raw_files(root), self.images, self.test_images)
        for split in ("train", "test"):
            upright = arrays[f"{split}_images"].swapaxes(2, 3)
            arrays[f"{split}_images"] = np.ascontiguousarray(upright)
            if self.part == "letters":
                arrays[f"{split}_labels"] -= 1  # a 0 becomes 255, which is no letter either
        return arrays


def _read_idx(title: str, paths: Sequence[Path], images: int, test_images: int) -> dict[str, np.ndarray]:
    """The four files as arrays; the numbers of images are for the text of errors."""
    from torchvision.datasets.mnist import read_image_file, read_label_file

    arrays = {}
    for split, number, (image_path, label_path) in (("train", images, paths[:2]), ("test", test_images, paths[2:])):
        pixels = _parse(read_image_file, image_path, title, 16 + number * 28 * 28)
        arrays[f"{split}_images"] = pixels[:, np.newaxis]
        labels = _parse(read_label_file, label_path, title, 8 + number)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    return arrays


def _parse(read: Callable[[str], Any], path: Path, title: str, size: int) -> np.ndarray:
    try:
        array: np.ndarray = read(os.fspath(path)).numpy()
    except OSError as error:
        raise DataError(f"{path}: expected a readable file, received {error}") from error
    except Exception as error:  # torchvision asserts, indexes and reshapes without looking first
        raise DataError(
            f"{path}: expected a whole IDX file ({title}'s has {size:,} bytes), "
            f"received {path.stat().st_size:,} bytes that cannot be parsed; replace the file, or "
            "delete it to have it downloaded again"
        ) from error
    return array
