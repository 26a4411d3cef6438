"""What a run learns: its model, and the weights of each epoch."""

from typing import Any

from minicnn.config.experiment import Experiment, build_augmentation
from minicnn.engine.arrays import Array
from minicnn.model import Model
from minicnn.training.run_folder import RunFolder
from minicnn.training.trainer import Callback, Trainer


def model_of(experiment: Experiment) -> Model:
    """The network of a run with what it takes to use it."""
    data, settings = experiment.data, experiment.settings
    arguments: dict[str, Any] = {"classes": data.classes, "data_set": data.name, "padding": settings.data.padding}
    arguments["augmentation"] = build_augmentation(settings)
    shape = data.train_images.shape[1:]
    return Model(experiment.network, shape, *experiment.normalization, loss=settings.loss.name, **arguments)


class EpochWeights(Callback):
    """Writes the weights after each epoch as a state dict: epochs/001.safetensors, 002, ... in the run's folder."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        with trainer.result():
            weights = trainer.network.state_dict()
        self._folder.attempt("the weights of each epoch", self._write, f"epochs/{row['epoch']:03}.safetensors", weights)

    def _write(self, name: str, weights: dict[str, Array]) -> None:
        from safetensors.numpy import save

        (self._folder.path / name).parent.mkdir(exist_ok=True)
        self._folder.write(name, save(weights))
