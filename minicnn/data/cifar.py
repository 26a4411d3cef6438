"""CIFAR-10 (Krizhevsky, 2009): torchvision downloads, unpacks and parses it.

Its files are pickles, and to open a pickle is to run what is in it: torchvision and `read` do so only after a file has
shown CIFAR-10's own checksum.
"""

import warnings
from pathlib import Path

import numpy as np

from minicnn.data.download import fetch_archive
from minicnn.errors import DataError

FOLDER = "cifar-10-batches-py"
RAW_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")


class Cifar10:
    """CIFAR-10: 50,000 training and 10,000 test images of 3 x 32 x 32 pixels in 10 classes."""

    def raw_files(self, root: Path) -> list[Path]:
        return [root / FOLDER / name for name in RAW_FILES]

    def fetch(self, root: Path) -> None:
        """Unpacks CIFAR-10's archive, downloading it if need be. Raises UnavailableError."""
        from torchvision.datasets import CIFAR10

        members = {f"{FOLDER}/{path.name}": path for path in self.raw_files(root)}
        fetch_archive("CIFAR-10", root / CIFAR10.filename, CIFAR10.url, CIFAR10.tgz_md5, members)

    def read(self, root: Path) -> dict[str, np.ndarray]:
        """The raw files as uint8 arrays: images (N, 3, 32, 32) and labels (N,).

        Raises DataError for a file that is not CIFAR-10's own.
        """
        from torchvision.datasets import CIFAR10
        from torchvision.datasets.utils import check_integrity

        meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
        for name, md5 in (*CIFAR10.train_list, *CIFAR10.test_list, meta):
            path = root / FOLDER / name
            try:
                own = check_integrity(path, md5)
            except OSError as error:
                raise DataError(f"{path}: expected a readable file, received {error}") from error
            if not own:
                raise DataError(
                    f"{path}: expected the file with MD5 {md5}, received another of "
                    f"{path.stat().st_size:,} bytes; delete it to have it unpacked again"
                )
        arrays = {}
        with warnings.catch_warnings():  # pickles of NumPy 1 say 0 where NumPy 2 wants False
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            for split in ("train", "test"):
                raw = CIFAR10(root, train=split == "train")
                arrays[f"{split}_images"] = np.ascontiguousarray(raw.data.transpose(0, 3, 1, 2))
                arrays[f"{split}_labels"] = np.array(raw.targets, np.uint8)
        return arrays
