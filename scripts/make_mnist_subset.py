"""Draw the subset of MNIST that the package ships: balanced, with a fixed seed, byte for byte.

Usage: python scripts/make_mnist_subset.py --root DATAROOT
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np

from minicnn.data import load_dataset
from minicnn.data.datasets import SUBSET_FILE

TRAIN_PER_CLASS, TEST_PER_CLASS = 1000, 200
SEED = 1998


def draw(labels: np.ndarray, per_class: int, rng: np.random.RandomState) -> np.ndarray:
    """Indices of `per_class` images of every class, in random order."""
    picked = [rng.choice(np.flatnonzero(labels == label), per_class, replace=False) for label in np.unique(labels)]
    return rng.permutation(np.concatenate(picked))


def main() -> None:
    """Write the subset and print its digest."""
    parser = argparse.ArgumentParser(description="Draw the MNIST subset that minicnn ships.")
    parser.add_argument("--root", required=True, help="data root that holds, or will hold, MNIST")
    parser.add_argument("--out", type=Path, default=SUBSET_FILE, help="file to write")
    options = parser.parse_args()

    full = load_dataset("mnist", options.root)
    # NumPy promises the numbers of RandomState for all versions, those of default_rng it does not.
    rng = np.random.RandomState(SEED)
    train = draw(full.train_labels, TRAIN_PER_CLASS, rng)
    test = draw(full.test_labels, TEST_PER_CLASS, rng)
    np.savez_compressed(
        options.out,
        train_images=full.train_images[train],
        train_labels=full.train_labels[train].astype(np.uint8),
        test_images=full.test_images[test],
        test_labels=full.test_labels[test].astype(np.uint8),
    )
    content = options.out.read_bytes()
    print(f"{options.out}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
