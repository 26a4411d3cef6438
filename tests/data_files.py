"""Made-up data sets in the files that the real ones come in, and what tests of data sets share."""

import hashlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minicnn.data import SPECS, Dataset, mnist
from minicnn.errors import DataError

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = mnist.RAW_FILES
CACHE = "mnist-cache-v2.npy"


def raw_folder(root: Path) -> Path:
    return root / "MNIST" / "raw"


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def raw_arrays(train: int = 20, test: int = 10, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        TRAIN_IMAGES: rng.integers(0, 256, (train, 28, 28), np.uint8),
        TRAIN_LABELS: np.arange(train, dtype=np.uint8) % 10,
        TEST_IMAGES: rng.integers(0, 256, (test, 28, 28), np.uint8),
        TEST_LABELS: np.arange(test, dtype=np.uint8) % 10,
    }


def write_raw(root: Path, arrays: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    arrays = raw_arrays() if arrays is None else arrays
    raw_folder(root).mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        (raw_folder(root) / name).write_bytes(idx(array))
    return arrays


def remove_raw(root: Path) -> None:
    for name in mnist.RAW_FILES:
        (raw_folder(root) / name).unlink()


def files_below(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def assert_holds(dataset: Dataset, arrays: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(dataset.train_images, arrays[TRAIN_IMAGES][:, np.newaxis])
    np.testing.assert_array_equal(dataset.train_labels, arrays[TRAIN_LABELS])
    np.testing.assert_array_equal(dataset.test_images, arrays[TEST_IMAGES][:, np.newaxis])
    np.testing.assert_array_equal(dataset.test_labels, arrays[TEST_LABELS])
    assert dataset.train_images.dtype == np.uint8
    assert dataset.train_labels.dtype == np.int64
    assert dataset.name == "mnist"


def error_of(action: Callable[[], object]) -> str:
    """The message of the DataError that `action` raises, which is a single line."""
    with pytest.raises(DataError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def made_up(shape: tuple[int, ...], classes: int, train: int = 100, test: int = 50) -> dict[str, np.ndarray]:
    """Images of noise, brighter from row to row, and labels that take turns."""
    rng = np.random.default_rng(1)
    arrays = {}
    for split, number in (("train", train), ("test", test)):
        noise = rng.integers(0, 128, (number, *shape), np.uint8)
        arrays[f"{split}_images"] = noise + np.arange(shape[1], dtype=np.uint8)[:, np.newaxis] * 3
        arrays[f"{split}_labels"] = np.arange(number, dtype=np.uint8) % classes
    return arrays


def write_idx_set(root: Path, title: str, arrays: dict[str, np.ndarray]) -> None:
    """MNIST's four files, in the folder of `title`."""
    folder = root / title / "raw"
    folder.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(arrays[f"{split}_images"][:, 0]))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(arrays[f"{split}_labels"]))


def emnist_files(part: str, arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """EMNIST's files: each image mirrored at its diagonal, letters counted from 1."""
    first = 1 if part == "letters" else 0
    files = {}
    for split in ("train", "test"):
        images = arrays[f"{split}_images"][:, 0].transpose(0, 2, 1)
        files[f"emnist-{part}-{split}-images-idx3-ubyte"] = idx(np.ascontiguousarray(images))
        files[f"emnist-{part}-{split}-labels-idx1-ubyte"] = idx(arrays[f"{split}_labels"] + first)
    return files


def cifar10_files(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """CIFAR-10's pickles, five of training images, as Python 2 and NumPy 1 wrote them."""

    def pickled(content: dict[str, object]) -> bytes:
        return pickle.dumps(content, 2).replace(b"\x89\x88\x87", b"K\x00K\x01\x87")

    def batch(images: np.ndarray, labels: np.ndarray, name: str) -> bytes:
        rows = images.reshape(len(images), -1)
        names = [f"{name}_{number}.png" for number in range(len(images))]
        return pickled({"batch_label": name, "labels": labels.tolist(), "data": rows, "filenames": names})

    images, labels = arrays["train_images"], arrays["train_labels"]
    size = len(images) // 5
    files = {
        f"data_batch_{number + 1}": batch(
            images[number * size : (number + 1) * size],
            labels[number * size : (number + 1) * size],
            f"training batch {number + 1} of 5",
        )
        for number in range(5)
    }
    files["test_batch"] = batch(arrays["test_images"], arrays["test_labels"], "testing batch")
    files["batches.meta"] = pickled({"label_names": list(SPECS["cifar10"].classes)})
    return files


def trust_cifar10(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    """torchvision takes the checksums of `files` for CIFAR-10's own."""
    from torchvision.datasets import CIFAR10

    sums = [[name, hashlib.md5(content).hexdigest()] for name, content in files.items()]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:6])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums[6][1]})
