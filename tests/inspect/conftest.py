"""What tests of looking at networks share."""

from pathlib import Path

import pytest

from minicnn import Dense, Flatten, Model, ReLU, Sequential, load_dataset


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has learned a little of mnist-subset."""
    network = Sequential([Flatten(), Dense(784, 20), ReLU(), Dense(20, 10)]).initialize(rng=0)
    data = load_dataset("mnist-subset")
    model = Model(network, (1, 28, 28), classes=data.classes, data_set="mnist-subset")
    model.fit(data.train_images[:1000], data.train_labels[:1000], epochs=3, verbose=False)
    model.save(tmp_path / "model.safetensors")
    return tmp_path
