"""Data sets and batches."""

from minicnn.data.batches import Batch, Batches
from minicnn.data.datasets import SPECS, Dataset, Spec, find_spec, load_dataset

__all__ = ["SPECS", "Batch", "Batches", "Dataset", "Spec", "find_spec", "load_dataset"]
