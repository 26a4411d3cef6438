"""What a page is told of a network: its layers and weights, how images are brought to it, and some of them."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.config.settings import Settings
from minicnn.console import label
from minicnn.data import CHARACTERS, Batches, Dataset
from minicnn.engine.progress import compiling
from minicnn.errors import MinicnnError
from minicnn.layers import Layer
from minicnn.layers.registry import KNOWN, to_config
from minicnn.losses import Loss
from minicnn.metrics import confusion_matrix
from minicnn.model import Model
from minicnn.runs.data import loss_of
from minicnn.training.step import Evaluation, evaluate

TRAIN_IMAGES = 1000  # to train with in the page
RIGHT, WRONG = 20, 20  # test images to choose from
MOST_PIXELS = 4_000_000  # of all training images together
BATCH, LR, MOMENTUM = 10, 0.02, 0.5  # of the page's own training
MOST_EPOCHS = 30  # that a page can go through


def collect(model: Model, dataset: Dataset, settings: Settings | None, epochs: Path | None = None) -> dict[str, Any]:
    """The facts of a trained model, as JSON can hold them.

    dataset: whose test images and training images the page gets. settings: those of the run, if it is one's: its loss,
    its start weights, its learning rate. epochs: a folder of weights NNN.safetensors, state dicts after epoch NNN.

    Raises MinicnnError for a network that the page cannot show: of a layer of the user's, or whose input is no image or
    whose output no scores; and for weights of epochs that do not fit.
    """
    facts = collect_untrained(model, dataset, settings)
    loss = loss_of(model, settings, lambda: dataset)
    batches = model.evaluation_batches(dataset.test_images, dataset.test_labels)
    with compiling():
        found = evaluate(model.network, loss, batches)
    return facts | {
        "test": _telling_images(model, dataset, found),
        "accuracy": found.accuracy,
        "confusion": _confusion(dataset, found),
        "epochs": [] if epochs is None else _epochs(model, epochs, dataset, loss, batches),
    }


def collect_untrained(model: Model, dataset: Dataset, settings: Settings | None) -> dict[str, Any]:
    """The same of a model that has still to learn: without figures, and with test images of all classes."""
    check(model)
    labels = dataset.test_labels
    return describe_model(model, settings) | {
        "data_set": dataset.name,
        "held_out": dataset.held_out,
        "test": _test_images(dataset, _of_each_class(labels, model.output_shape[0], np.arange(len(labels)))),
        "train": _train_images(dataset),
        "test_count": len(labels),
        "epochs": [],
    }


def check(model: Model) -> None:
    """Raises MinicnnError for a network that the page cannot show."""
    if len(model.input_shape) != 3 or len(model.output_shape) != 1:
        raise MinicnnError(
            "page: expected a network of images (C, H, W) that gives a score for each class, received "
            f"{model.input_shape} -> {model.output_shape}"
        )
    for place, layer in model.network.places():
        if type(layer) is not KNOWN.get(type(layer).__name__):
            raise MinicnnError(
                f"page: expected layers of minicnn, which it can compute in a browser, received {type(layer).__name__} "
                f"as layer {place}"
            )


def describe_model(model: Model, settings: Settings | None) -> dict[str, Any]:
    """The network and what it takes to use and to train it."""
    network, count = model.network, model.output_shape[0]
    loss = settings.loss.model_dump(exclude_none=True) if settings else {"name": model.loss}
    trained = {parameter.name for parameter in network.parameters()}
    return {
        "layers": _without_arrays(to_config(network)),
        "manifest": [
            {"name": name, "shape": array.shape, "trained": name in trained}
            for name, array in network.state_dict().items()
        ],
        "weights": packed_floats(network),
        "input_shape": model.input_shape,
        "network_shape": model.network_shape,
        "padding": model.padding,
        "mean": model.mean,
        "std": model.std,
        "classes": [label(name, 30) for name in model.classes or map(str, range(count))],
        "characters": model.data_set in CHARACTERS and model.input_shape == (1, 28, 28),
        "loss": loss,
        "training": _training(settings),
    }


def _training(settings: Settings | None) -> dict[str, Any]:
    """How the page begins to train: an image moves the weights half as far as in the run, as there are few, and with
    little momentum. Where the run's optimizer is another one than the page's, its rate says nothing."""
    facts = {"batch": BATCH, "lr": LR, "momentum": MOMENTUM, "init": settings.network.init if settings else "kaiming"}
    if settings is not None and settings.optimizer.name == "sgd":
        options = settings.optimizer.model_dump()
        momentum = min(MOMENTUM, options["momentum"])
        size = settings.training.batch_size * settings.training.accumulate
        length = options["lr"] / (1 - options["momentum"]) * min(1, BATCH / size) / 2
        facts |= {"lr": length * (1 - momentum), "momentum": momentum}
    return facts


def packed_floats(network: Layer, dtype: type[np.floating[Any]] = np.float32) -> str:
    """All parameters and buffers in the order of the state dict, in base64."""
    state = network.state_dict()
    flat = np.concatenate([np.ravel(array) for array in state.values()]).astype(np.float64)
    most = float(np.finfo(dtype).max)
    return _text(flat.clip(-most, most).astype(np.dtype(dtype).newbyteorder("<")).tobytes())


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _images(images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    return {"pixels": _text(zlib.compress(images.tobytes(), 9)), "labels": labels.tolist()}


def _without_arrays(value: Any) -> Any:
    """Layers with their options, but those that are among the weights."""
    if isinstance(value, Mapping):
        return {key: _without_arrays(option) for key, option in value.items() if key != "prototypes"}
    return [_without_arrays(item) for item in value] if isinstance(value, list) else value


def _of_each_class(labels: np.ndarray, classes: int, numbers: np.ndarray) -> list[int]:
    """The first of these images of each class."""
    each = max(1, RIGHT // classes)
    found = [number for k in range(classes) for number in numbers[labels[numbers] == k][:each].tolist()]
    return found[: 2 * RIGHT]


def _test_images(dataset: Dataset, numbers: Sequence[int]) -> dict[str, Any]:
    chosen = np.array(numbers, np.int64)
    return _images(dataset.test_images[chosen], dataset.test_labels[chosen]) | {"numbers": list(numbers)}


def _telling_images(model: Model, dataset: Dataset, found: Evaluation) -> dict[str, Any]:
    """Images of all classes that were read right, and the worst errors, the most confident first."""
    labels, predictions = dataset.test_labels, found.scores.argmax(axis=1)
    confidence = model.probabilities(found.scores).max(axis=1)
    right = _of_each_class(labels, model.output_shape[0], np.flatnonzero(predictions == labels))
    wrong = np.flatnonzero(predictions != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:WRONG]
    numbers = [*right, *worst.tolist()]
    return _test_images(dataset, numbers) | {"predictions": predictions[numbers].tolist()}


def _train_images(dataset: Dataset) -> dict[str, Any]:
    """Training images, drawn at random, always the same."""
    images = dataset.train_images
    count = min(TRAIN_IMAGES, len(images), max(1, MOST_PIXELS // images[0].size))
    numbers = np.sort(np.random.default_rng(0).permutation(len(images))[:count])
    return _images(images[numbers], dataset.train_labels[numbers])


def _confusion(dataset: Dataset, found: Evaluation) -> list[list[int]]:
    matrix = confusion_matrix(dataset.test_labels, found.scores.argmax(axis=1), len(dataset.classes))
    counts: list[list[int]] = matrix.tolist()
    return counts


def _epochs(model: Model, folder: Path, dataset: Dataset, loss: Loss, batches: Batches) -> list[dict[str, Any]]:
    """Weights, in 16 bits, and figures of the epochs that a run has kept, of at most MOST_EPOCHS of them."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    files = sorted(path for path in folder.glob("*.safetensors") if path.stem.isdigit())
    if len(files) > MOST_EPOCHS:
        files = [files[round(k)] for k in np.linspace(0, len(files) - 1, MOST_EPOCHS)]
    own = model.network.state_dict()
    found = []
    try:
        for path in files:
            try:
                model.network.load_state_dict(load_file(path))
            except (SafetensorError, OSError, MinicnnError) as error:
                raise MinicnnError(f"{path}: expected the weights of this run's network: {error}") from None
            result = evaluate(model.network, loss, batches)
            found.append(
                {
                    "epoch": int(path.stem),
                    "weights": packed_floats(model.network, np.float16),
                    "accuracy": result.accuracy,
                    "confusion": _confusion(dataset, result),
                }
            )
    finally:
        model.network.load_state_dict(own)
    return found
