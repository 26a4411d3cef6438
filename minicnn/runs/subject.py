"""What is to be looked at: a trained network, or the one that a training begins with; with images for it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minicnn.config.build import build_optimizer
from minicnn.config.experiment import Experiment
from minicnn.config.settings import Settings, load_settings
from minicnn.data import Dataset
from minicnn.errors import ConfigError, MinicnnError
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss
from minicnn.model import Model, load
from minicnn.optimizers import SGD, Optimizer
from minicnn.runs.data import check_fit, load_data_for, loss_of, settings_of


@dataclass(frozen=True, eq=False)
class Sample:
    """An image to look at, as the model takes it."""

    pixels: NDArray[np.uint8]
    """(C, H, W)"""
    words: str
    """What it is called in a sentence."""
    stem: str
    """What it is called in the name of a file."""
    label: int | None
    """Its class; None for an image of the user's."""


def is_config(name: str) -> bool:
    """Whether `name` is that of a configuration, not of a run's folder or a model file."""
    path = Path(name)
    return path.suffix in (".yaml", ".yml") or (path.is_file() and path.suffix != ".safetensors")


class Subject:
    """The network of a run's folder or a model file, with its weights; or that of a configuration, with start weights.

    name       the folder or file, as it was given
    overrides  settings that replace those of a configuration
    data       the data set (name, path and folder of the data sets, see `load_data_for`), if it is not the run's own

    What is asked for is made when it is first asked for. Raises MinicnnError for what cannot be had, ConfigError for
    what does not go together.
    """

    def __init__(
        self,
        name: str,
        overrides: Sequence[str] = (),
        data: tuple[str | None, Path | None, Path | None] = (None, None, None),
    ) -> None:
        self.name, self._chosen = name, data
        self.trained = not is_config(name)
        self.settings: Settings | None
        if self.trained:
            if overrides:
                raise ConfigError(f"{name}: expected no settings with a network that is built, received {overrides[0]}")
            self._model, self.settings = load(name), settings_of(Path(name))
            return
        for option, value in zip(("--data", "--path", "--root"), data, strict=True):
            if value is not None:
                raise ConfigError(f"{option}: expected none with {name}, which has settings data.*, received {value}")
        self.settings = load_settings(name, overrides)
        self._experiment = Experiment(self.settings)

    @property
    def folder(self) -> Path:
        """Where pictures go: into the run, or into a folder called as the configuration."""
        path = Path(self.name)
        if not self.trained:
            return Path(path.stem)
        return path if path.is_dir() else path.parent

    @property
    def network(self) -> Sequential:
        return self._model.network if self.trained else self._experiment.network

    @cached_property
    def model(self) -> Model:
        return self._model if self.trained else self._experiment.model

    @cached_property
    def data(self) -> Dataset:
        if not self.trained:
            return self._experiment.data
        found = load_data_for(self.model, self.settings, *self._chosen)
        check_fit(self.model, found)
        return found

    @property
    def loss(self) -> Loss:
        if not self.trained:
            if self._experiment.loss.needs_labels:
                self._experiment.train_batches  # noqa: B018 # by whose labels classes are balanced
            return self._experiment.loss
        return loss_of(self.model, self.settings, lambda: self.data)

    def optimizer(self) -> Optimizer:
        """A new one, with the learning rate with which the training begins; of a run, with its highest rate."""
        if self.settings is None:
            return SGD(self.network.parameters(), lr=0.05, momentum=0.9)  # that of `Model.fit`
        optimizer = build_optimizer(self.settings, self.network)
        if not self.trained:
            optimizer.lr = self._experiment.schedule(0)
        return optimizer

    def sample(self, image: str, raw: bool = False) -> Sample:
        """An image file, or the image of that number: a test image of a run, a training image of a configuration.

        raw: see `Model.look_at`.
        """
        if len(self.model.input_shape) != 3:
            raise MinicnnError(
                f"{self.name}: expected a model of images (C, H, W), received one of {self.model.input_shape}"
            )
        if not re.fullmatch(r"[+-]?\d+", image):
            path = Path(image)
            if any(self._chosen):
                raise ConfigError(f"--data, --path, --root: expected none with an image file, received {image}")
            try:
                return Sample(self.model.look_at(path, raw), path.name, path.stem, None)
            except MinicnnError as error:
                raise MinicnnError(str(error) if image in str(error) else f"{image}: {error}") from None
        if raw:
            raise ConfigError(f"--raw: expected an image file, received the number {image}")
        data, number = self.data, int(image)
        held_out, kind = (data.held_out, data.held_out) if self.trained else ("train", "training")
        images, labels = (
            (data.test_images, data.test_labels) if self.trained else (data.train_images, data.train_labels)
        )
        if not 0 <= number < len(images):
            raise ConfigError(
                f"--image: expected the number of a {kind} image of {data.name}, 0 to {len(images) - 1}, or an image "
                f"file, received {image}"
            )
        words = f"{kind} image {number} of {data.name}"
        return Sample(images[number], words, f"{held_out}-{number}", int(labels[number]))
