"""The model that a training leaves behind."""

from collections.abc import Callable

from minicnn.console import warn
from minicnn.errors import MinicnnError
from minicnn.training.run_folder import RunFolder
from minicnn.training.step import Evaluation
from minicnn.training.trainer import Callback, Trainer


class ModelFile(Callback):
    """Writes the model into a folder when the training ends, however it ends.

    name     of the file
    content  that of the file, with the weights that the network has when it is called
    """

    def __init__(self, folder: RunFolder, name: str, content: Callable[[], bytes]) -> None:
        self._folder, self._name, self.content = folder, name, content
        self._has_failed = False

    def on_train_end(self, trainer: Trainer, test: Evaluation | None) -> None:
        self._has_failed = True
        self._write(trainer)
        self._has_failed = False

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        if self._has_failed:  # and `error` says so
            return
        try:  # whatever has happened, what has been learned is not lost
            self._write(trainer)
        except MinicnnError as another:  # and what has happened is not hidden
            warn(str(another))

    def _write(self, trainer: Trainer) -> None:
        with trainer.result():
            content = self.content()
        self._folder.write(self._name, content)
