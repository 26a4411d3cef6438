"""A network with what it takes to use it, in memory and as one file that needs no settings beside it."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.checks import checked, plain_array
from minicnn.config.formats import ModelFile, check_sizes, parsed
from minicnn.data.batches import pad_images
from minicnn.engine.arrays import Array, Shape
from minicnn.errors import MinicnnError, ShapeError
from minicnn.files import checksum, write_whole
from minicnn.layers import Dropout, Layer, Softmax
from minicnn.layers.registry import from_config, to_config
from minicnn.layers.sequential import Sequential
from minicnn.losses import LOGIT_LOSSES, LOSSES

FILE_NAME = "model.safetensors"
FORMAT = 1  # of the metadata; a file with a higher number is refused
BATCH = 256  # images that pass through the network at once
KEY = "minicnn"  # one key, since safetensors writes several in random order


class Model:
    """A trained network that takes images as they are: pixels 0 to 255, or 0 to 1, of shape `input_shape`.

    One whose output is a map (see `convert.fully_convolutional`) takes larger images, too.

    network      a Sequential, or another Layer, which becomes a Sequential of one
    input_shape  of one image, (C, H, W); a network that does not take images may have another, such as (features,)
    mean, std    a number or one a channel: the network sees (pixel - mean) / std, with pixels from 0 to 1
    classes      the names of the outputs, if they have names
    data_set     what it was trained on, if that has a name
    loss         what it was trained with, which decides what `predict_proba` makes of the scores
    padding      pixels of black that are put around each image, before it is normalised, so that the network takes
                 `network_shape`, (C, H + 2 padding, W + 2 padding)

    Raises MinicnnError (ShapeError) for arguments that do not fit together.
    """

    @checked(MinicnnError)
    def __init__(
        self,
        network: Layer,
        input_shape: Sequence[int],
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        classes: Sequence[str] | None = None,
        data_set: str | None = None,
        loss: str = "softmax-cross-entropy",
        padding: int = 0,
    ) -> None:
        self.network = network if type(network) is Sequential else Sequential([network])
        self.input_shape: Shape = tuple(map(int, input_shape))
        if padding < 0 or (padding and len(self.input_shape) != 3):
            raise MinicnnError(
                "padding: expected a whole number of pixels, 0 unless the model takes images (C, H, W), "
                f"received {padding!r}"
            )
        self.padding = padding
        self.output_shape = self.network.output_shape(self.network_shape)
        self.mean, self.std = (self._channel_values(name, value) for name, value in (("mean", mean), ("std", std)))
        if not all(np.ravel(self.std) > 0):
            raise MinicnnError(f"std: expected numbers > 0, received {std}")
        self.classes = None if classes is None else tuple(classes)
        if self.classes is not None and self.output_shape not in ((len(self.classes),), (len(self.classes), 1, 1)):
            raise ShapeError(
                f"classes: expected {self.output_shape}, a name for each output, received {len(self.classes)}"
            )
        self.data_set = data_set
        if loss not in LOSSES:
            raise MinicnnError(f"loss: expected one of {', '.join(LOSSES)}, received {loss!r}")
        self.loss = loss

    @property
    def network_shape(self) -> Shape:
        """The shape of one image as the network sees it, with the padding."""
        channels, *sides = self.input_shape
        return (channels, *(side + 2 * self.padding for side in sides))

    def predict(self, images: Any) -> np.ndarray:
        """The class of each image, int64 (N,): the place of its highest score. Images as for `scores`."""
        classes: np.ndarray = self._class_scores(images).argmax(axis=1)
        return classes

    def predict_proba(self, images: Any) -> np.ndarray:
        """The probability of each class, float32 (N, K), each row with the sum 1. Images as for `scores`."""
        return self.probabilities(self._class_scores(images))

    def probabilities(self, scores: Array) -> Array:
        """Scores (N, K) of the network as probabilities, float32 (N, K), each row with the sum 1.

        They are the softmax of the scores, unless the network ends in a Softmax itself. Trained with a squared
        error against 1 for the class and 0 for the others, scores estimate probabilities already: then they are
        cut off below 0 and divided by their sum (equal probabilities where none is positive).
        """
        scores = scores.astype(np.float64)
        if self.loss not in LOGIT_LOSSES:
            scores = scores.clip(0)
            scores[~scores.any(axis=1)] = 1
            scores /= scores.sum(axis=1, keepdims=True)
        elif not _ends_in_softmax(self.network):
            scores = softmax(scores)
        return scores.astype(np.float32)

    def scores(self, images: Any) -> Array:
        """The output of the network for each image, in the network's element type.

        images: uint8, or floats from 0 to 1, of shape (N, C, H, W); (N, H, W) where C = 1; or one image of either
        shape without N, which gives N = 1. H and W are those of `input_shape`, or at least those if the output is a
        map (K, rows, columns).
        Raises ShapeError for other shapes and types; MinicnnError for floats out of range, NaN, no images, and
        weights that give NaN.
        """
        batch = self.as_batch(images)
        parts = (batch[start : start + BATCH] for start in range(0, len(batch), BATCH))
        scores = np.concatenate([self.network.forward(self.normalized(part)) for part in parts])
        if not np.isfinite(scores).all():
            raise MinicnnError("the network gives NaN or infinity; are its weights damaged?")
        return scores

    def normalized(self, images: Any) -> Array:
        """What the network is given for `images`, (N, *network_shape), in its element type; images as for `scores`."""
        batch = self.as_batch(images)
        dtype = self.network.dtype or np.dtype(np.float32)
        mean, std = (
            np.reshape(np.asarray(v, dtype), (-1,) + (1,) * (len(self.input_shape) - 1)) for v in (self.mean, self.std)
        )
        pixels = batch.astype(dtype)
        if batch.dtype == np.uint8:
            pixels /= 255
        elif not ((batch >= 0) & (batch <= 1)).all():  # NaN is in no range
            raise MinicnnError(
                "images: expected floats from 0 to 1 or uint8 from 0 to 255, received "
                f"{batch.dtype} from {batch.min():g} to {batch.max():g}"
            )
        if self.padding:
            pixels = pad_images(pixels, self.padding)
        normalized: Array = (pixels - mean) / std
        return normalized

    def to_bytes(self) -> bytes:
        """The content of a model file: weights as safetensors, all else as JSON in its metadata.

        Raises MinicnnError for a layer of the user's that does not know its constructor's arguments.
        """
        from safetensors.numpy import save

        state = self.network.state_dict()
        description: dict[str, Any] = {
            "format": FORMAT,
            "layers": to_config(self.network),
            "input_shape": self.input_shape,
            "mean": self.mean,
            "std": self.std,
            "classes": self.classes,
            "data_set": self.data_set,
            "loss": self.loss,
            "padding": self.padding,
        }
        description["checksum"] = checksum(state, description)
        return save(state, {KEY: json.dumps(description)})

    def save(self, path: str | Path) -> None:
        """Writes the model file, whole or not at all; `minicnn.load` reads it. Raises MinicnnError."""
        write_whole(Path(path), self.to_bytes())

    def _channel_values(self, name: str, value: Any) -> float | tuple[float, ...]:
        shapes = ((), (1,), self.input_shape[:1])
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            array = np.array(np.nan)
        with np.errstate(over="ignore", under="ignore"):
            single = array.astype(np.float32)
        fits = np.isfinite(single).all() and ((single == 0) == (array == 0)).all()
        if array.shape not in shapes or not fits:
            raise MinicnnError(
                f"{name}: expected a number or one for each of {self.input_shape[0]} channels, received {value!r}"
            )
        return tuple(map(float, array)) if array.ndim else float(array)

    def as_batch(self, images: Any) -> np.ndarray:
        """`images`, as for `scores`, as an array (N, C, H, W), or (N, *input_shape), of uint8 or floats."""
        array: np.ndarray = plain_array(images, "images", ShapeError)
        if array.dtype != np.uint8 and array.dtype.kind != "f":
            raise ShapeError(f"images: expected uint8 from 0 to 255 or floats from 0 to 1, received {array.dtype}")
        # One image or several, each perhaps without its only channel.
        of_one = [array.shape, array.shape[1:]]
        if len(self.input_shape) == 3 and self.input_shape[0] == 1:
            of_one += [(1, *shape) for shape in of_one]
        shape = next(filter(self._takes, of_one), None)
        if shape is None:
            raise ShapeError(f"images: expected {self._wanted()}, or one image without N, received {array.shape}")
        if len(array) == 0:
            raise MinicnnError("images: expected at least one, received none")
        return array.reshape(-1, *shape)

    def _takes(self, shape: Shape) -> bool:
        """Whether an image may have this shape."""
        least = self.input_shape
        if len(least) != 3 or len(self.output_shape) != 3 or len(shape) != 3:
            return shape == least
        return shape[0] == least[0] and shape[1] >= least[1] and shape[2] >= least[2]

    def _wanted(self) -> str:
        shape = self.input_shape
        shapes = [shape, shape[1:]] if len(shape) == 3 and shape[0] == 1 else [shape]
        wanted = " or ".join(f"(N, {', '.join(map(str, s))})" for s in shapes)
        return wanted + (" at least" if len(shape) == len(self.output_shape) == 3 else "")

    def _class_scores(self, images: Any) -> Array:
        if len(self.output_shape) != 1:
            raise ShapeError(f"expected a network that gives one score a class, (K,), received {self.output_shape}")
        return self.scores(images)

    def __repr__(self) -> str:
        return f"Model({self.network!r}, input_shape={self.input_shape})"


def load(path: str | Path, layers: Mapping[str, type[Layer]] | None = None) -> Model:
    """The model in a run's folder (its model.safetensors) or in a file that `Model.save` wrote.

    layers: the classes of layers of your own by name, {"PReLU": PReLU}.
    Raises MinicnnError for a file that is missing, damaged, no model, of a newer format, or has a layer not known.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if os.path.isdir(path):
        path = path / FILE_NAME
        if not os.path.exists(path):
            best = path.parent / "checkpoints" / "best.safetensors"
            hint = f"; the best weights of this run so far are in {best}" if best.exists() else ""
            raise MinicnnError(f"{path.parent}: expected a run's folder, with {FILE_NAME} in it{hint}")
    if not os.path.isfile(path):
        raise MinicnnError(f"{path}: expected a model file or a run's folder, there is none")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise MinicnnError(f"{path}: expected a model file, received a damaged or foreign one: {error}") from None
    if KEY not in metadata:
        raise MinicnnError(
            f"{path}: expected a model of minicnn, received weights without its network; build that "
            "and pass safetensors.numpy.load_file(...) to its load_state_dict"
        )
    try:
        return _rebuild(json.loads(metadata[KEY]), state, layers)
    except MinicnnError as error:
        raise MinicnnError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise MinicnnError(
            f"{path}: damaged, its description of the network cannot be used: {type(error).__name__}: {error}"
        ) from None


def _rebuild(
    description: dict[str, Any], state: Mapping[str, np.ndarray], layers: Mapping[str, type[Layer]] | None
) -> Model:
    kind = description.get("kind", "model")
    if kind != "model":
        raise MinicnnError(f"expected a model, received a {kind}; {FILE_NAME} in a run's folder is one")
    if isinstance(description["format"], int) and description["format"] > FORMAT:
        raise MinicnnError(
            f"expected format {FORMAT} at most, received {description['format']}, of a newer minicnn; "
            "upgrade minicnn to read it"
        )
    found = description.pop("checksum", None)  # not in files of early versions
    if found and found != checksum(state, description):
        raise MinicnnError("expected a whole model file, received a damaged one: wrong checksum")
    described = parsed(ModelFile, description, "damaged, its description")
    check_sizes(described.layers, state)
    network = from_config(described.layers, layers)
    if any(array.dtype == np.float64 for array in state.values()):
        network.astype(np.float64)
    network.load_state_dict(state)
    return Model(network, **described.model_dump(exclude={"format", "layers"}))


def softmax(scores: Array) -> Array:
    """Rows of scores (N, K) as probabilities, in the same element type."""
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def _ends_in_softmax(network: Sequential) -> bool:
    """Whether the last layer that changes anything is a Softmax."""
    for layer in reversed(network.layers):
        if isinstance(layer, Sequential) and layer.layers:
            return _ends_in_softmax(layer)
        if not isinstance(layer, Dropout | Sequential):
            return isinstance(layer, Softmax)
    return False
