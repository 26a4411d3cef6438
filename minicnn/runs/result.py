"""model.safetensors: the result of a run, with what it takes to use it without the settings."""

from typing import Any

from minicnn.config.experiment import Experiment
from minicnn.console import warn
from minicnn.engine.arrays import Array
from minicnn.errors import MinicnnError
from minicnn.model import FILE_NAME, Model
from minicnn.training.run_folder import RunFolder
from minicnn.training.step import Evaluation
from minicnn.training.trainer import Callback, Trainer


def model_of(experiment: Experiment) -> Model:
    """The network of a run with what it takes to use it."""
    data, settings = experiment.data, experiment.settings
    arguments: dict[str, Any] = {"classes": data.classes, "data_set": data.name, "padding": settings.data.padding}
    shape = data.train_images.shape[1:]
    return Model(experiment.network, shape, *experiment.normalization, loss=settings.loss.name, **arguments)


class ModelFile(Callback):
    """Writes the model into the run's folder when the training ends, however it ends."""

    def __init__(self, experiment: Experiment, folder: RunFolder) -> None:
        self._experiment, self._folder = experiment, folder

    def content(self) -> bytes:
        """That of a model file with the weights that the network has now."""
        return model_of(self._experiment).to_bytes()

    def _write(self, trainer: Trainer) -> None:
        with trainer.result():
            content = self.content()
        self._folder.write(FILE_NAME, content)

    def on_train_end(self, trainer: Trainer, test: Evaluation | None) -> None:
        self._write(trainer)

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        try:  # whatever has happened, what has been learned is not lost
            self._write(trainer)
        except MinicnnError as another:  # and what has happened is not hidden
            warn(str(another))


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
