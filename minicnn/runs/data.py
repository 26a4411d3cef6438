"""What a run that is over was trained with: its settings and its data set."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from minicnn import data
from minicnn.config.build import build_loss, load_data
from minicnn.config.settings import Settings, load_settings
from minicnn.console import label, warn
from minicnn.data import Dataset
from minicnn.data.image_list import Options
from minicnn.errors import ConfigError, DataError, MinicnnError
from minicnn.losses import LOSSES, Loss
from minicnn.model import Model


def settings_of(run: Path) -> Settings | None:
    """The settings of a run's folder, or of the run that has this checkpoint; None where there are none.

    Raises ConfigError for a file that has no settings.
    """
    path = (run.parent.parent if run.parent.name == "checkpoints" else run) / "config.yaml"
    if not path.is_file():
        return None
    try:
        return load_settings(path, of_run=True)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None


def settings_of_folder(run: Path) -> Settings:
    """The settings of a run's folder. Raises MinicnnError for one without."""
    settings = settings_of(run) if run.is_dir() else None
    if settings is None:
        raise MinicnnError(f"{run}: expected the folder of a run, with config.yaml in it")
    return settings


def load_data_for(
    model: Model, settings: Settings | None, name: str | None, path: Path | None, root: Path | None
) -> Dataset:
    """The data set that a model was trained on, or another one; `settings` are those of the model's run.

    name, path, root: what the options --data, --path and --root say. Raises MinicnnError for those that do not fit
    together, and for data that cannot be had.
    """
    given = settings.data.path if settings else None
    own_path = path is None or (given is not None and path.resolve() == given.resolve())
    own = own_path and (name is None or bool(given and settings and name == settings.data.name))
    if name is None:
        name = model.data_set if path is None or model.data_set in data.OWN else "folder"
    if name is None:
        raise ConfigError("--data: expected a data set, since the model does not name its own")
    if name in data.OWN and root is not None:
        raise ConfigError(f"--root: expected none with the data set {name}, received {root}")
    root = root or (settings.data.root if settings else Path("data"))
    if own and settings and settings.data.name == name:  # in the parts that the run had
        chosen = settings.data.model_copy(update={"root": root, "if_unavailable": "error"})
        return load_data(settings.model_copy(update={"data": chosen}), warn)
    options: dict[str, Any] = {"root": root}
    if name in data.OWN:
        if path is None:
            raise ConfigError(f"--path: expected the place of the data set {name}, received none")
        options["test_on_all"] = True
        chosen_own = settings.data.own if settings and settings.data.name == name else Options()
        if name != "arrays":
            height, width = model.input_shape[1:]
            grey = model.input_shape[0] == 1
            chosen_own = replace(chosen_own, resize=(height, width), grey=grey, background=model.background)
        options |= vars(replace(chosen_own, path=path))
    elif path is not None:
        raise ConfigError(f"--path: expected none with --data {name}, received {path}")
    return data.load_dataset(name, warn=warn, **options)


def loss_of(model: Model, settings: Settings | None, dataset: Callable[[], Dataset]) -> Loss:
    """The loss that a model was trained with, as far as that is known; where its class weights are to be balanced, by
    the training images of the data set, which is asked for only then."""
    loss = build_loss(settings) if settings else LOSSES[model.loss]()
    if loss.needs_labels:
        loss.balance(dataset().train_labels, len(dataset().classes))
    return loss


def check_fit(model: Model, dataset: Dataset) -> None:
    """Raises DataError unless the model takes the images of the data set, and has its classes."""
    shape = dataset.test_images.shape[1:]
    if model.input_shape != shape:
        raise DataError(
            f"data set {dataset.name}: expected images of {model.input_shape} like those that the "
            f"model was trained on, received {shape}"
        )
    if len(model.output_shape) != 1:
        raise DataError(
            f"data set {dataset.name}: expected a model with a score for each class, received one that gives maps, "
            f"{model.output_shape}"
        )
    if model.output_shape != (len(dataset.classes),):
        raise DataError(
            f"data set {dataset.name}: expected {model.output_shape[0]} classes like the model's, "
            f"received {len(dataset.classes)}"
        )
    if model.classes is not None and model.classes != dataset.classes:
        raise DataError(
            f"data set {dataset.name}: expected the model's classes {_listed(model.classes)}, "
            f"received {_listed(dataset.classes)}"
        )


def _listed(classes: tuple[str, ...]) -> str:
    return ", ".join(map(label, classes if len(classes) <= 10 else (*classes[:9], "...")))
