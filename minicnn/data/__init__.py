"""Data sets and batches."""

from minicnn.data.augmentation import Augmentation
from minicnn.data.batches import Batch, Batches
from minicnn.data.datasets import SPECS, Dataset, Spec, find_spec, load_dataset

__all__ = [
    "SPECS",
    "Augmentation",
    "Batch",
    "Batches",
    "Dataset",
    "Spec",
    "find_spec",
    "load_dataset",
]
