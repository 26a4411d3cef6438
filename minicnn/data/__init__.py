"""Data sets and batches."""

from minicnn.data.augmentation import Augmentation
from minicnn.data.base import Dataset, Spec
from minicnn.data.batches import Batch, Batches
from minicnn.data.datasets import CHARACTERS, NAMES, OWN, SPECS, find_spec, load_dataset

__all__ = [
    "CHARACTERS",
    "NAMES",
    "OWN",
    "SPECS",
    "Augmentation",
    "Batch",
    "Batches",
    "Dataset",
    "Spec",
    "find_spec",
    "load_dataset",
]
