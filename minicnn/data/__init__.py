"""Data sets and batches."""

from minicnn.data.datasets import SPECS, Dataset, Spec, find_spec, load_dataset

__all__ = ["SPECS", "Dataset", "Spec", "find_spec", "load_dataset"]
