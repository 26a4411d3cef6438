"""A network with all that using it takes: it is shown images as they are, and answers."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import NDArray

from minicnn.checks import checked
from minicnn.data import CHARACTERS
from minicnn.data.augmentation import Augmentation
from minicnn.data.batches import EVALUATION_BATCH, Batches, pad_images
from minicnn.data.inputs import CHANNELS_LAST, channel_values, check_unit_range, pixel_array
from minicnn.data.picture import WHITE, Source, is_picture, is_pillow_image
from minicnn.engine.arrays import Array, Shape
from minicnn.errors import MinicnnError, ShapeError
from minicnn.files import write_whole
from minicnn.layers import Layer
from minicnn.layers.registry import to_config
from minicnn.layers.sequential import Sequential
from minicnn.losses import LOGIT_LOSSES, LOSSES
from minicnn.model.file import file_content
from minicnn.model.transfer import Transfer, take_weights
from minicnn.model.tta import mean_scores, scores_of_view

Level = Annotated[int, Interval(ge=0, le=255)]


class Predictor:
    """The half of `Model` that uses a network; see there for the arguments."""

    @checked(MinicnnError, "Model")
    def __init__(
        self,
        network: Layer,
        input_shape: Sequence[int] | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        classes: Sequence[str] | None = None,
        data_set: str | None = None,
        loss: str = "softmax-cross-entropy",
        padding: Annotated[int, Ge(0)] = 0,
        background: Level | tuple[Level, Level, Level] = WHITE,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.network = network if type(network) is Sequential else Sequential([network])
        if padding and input_shape is not None and len(input_shape) != 3:
            raise MinicnnError(f"padding: expected 0 unless the model takes images (C, H, W), received {padding}")
        self.padding = padding
        self.background = background
        self.augmentation = augmentation or None
        self.classes = None if classes is None else tuple(classes)
        self.data_set = data_set
        if loss not in LOSSES:
            raise MinicnnError(f"loss: expected one of {', '.join(LOSSES)}, received {loss!r}")
        self.loss = loss
        self._given_mean, self._given_std = mean, std
        self._input_shape: Shape | None = None
        if input_shape is not None:
            self.complete(tuple(map(int, input_shape)), 0.0, 1.0)

    def complete(self, input_shape: Shape, mean: Any, std: Any) -> None:
        """Sets the shape of the images, and mean and std unless they were given."""
        self._input_shape = input_shape
        self.output_shape = self.network.output_shape(self.network_shape)
        channels = input_shape[0]
        self.mean = channel_values("mean", mean if self._given_mean is None else self._given_mean, channels)
        self.std = channel_values("std", std if self._given_std is None else self._given_std, channels)
        self.check_classes()

    def start_from(self, source: "Predictor | Layer | Mapping[str, Any] | str | Path") -> Transfer:
        """Takes the weights of another model that fit by name and shape; the others stay as they are.

        It is what load_state_dict(strict=False) of PyTorch and fastai, and load_weights(skip_mismatch=True) of Keras,
        are for: a network that was trained on other classes differs in its last layer only. A layer is taken as a whole
        or not at all. The result says what was taken and what was not.

        source: a model, a network, a state dict, a model file, or a run's folder. Mean, std and classes are not taken.
        Raises MinicnnError for other things, if there is no such file, or if nothing fits.
        """
        return take_weights(self.network, source.network if isinstance(source, Predictor) else source)

    def with_network(self, network: Sequential) -> Self:
        """A model like it, with another network for the same images and classes."""
        about = self.mean, self.std, self.classes, self.data_set, self.loss, self.padding
        return type(self)(network, self.input_shape, *about, self.background, self.augmentation)

    @property
    def input_shape(self) -> Shape:
        """The shape of one image, without the padding. Raises MinicnnError while it is not known."""
        if self._input_shape is None:
            raise MinicnnError(
                "Model: expected an input_shape, which is not known before the first fit; pass it, or fit"
            )
        return self._input_shape

    @property
    def network_shape(self) -> Shape:
        """The shape of one image as the network sees it, with the padding."""
        channels, *sides = self.input_shape
        return (channels, *(side + 2 * self.padding for side in sides))

    @checked(MinicnnError, "Model.predict")
    def predict(
        self, images: Any, top: Annotated[int, Ge(1)] | None = None, names: bool = False, tta: Annotated[int, Ge(1)] = 1
    ) -> np.ndarray:
        """The class of each image, int64 (N,): the index of its highest score.

        images  as for `scores`
        top     so many classes of each image, (N, top), the most probable first [one, (N,)]
        names   gives the names of the classes instead of their indices
        tta     as for `scores`

        Of a model with several labels per image, trained with BCEWithLogits: int64 (N, K), 1 for each label with a
        probability above 1/2, else 0; there is no `top` then, and there are no names.

        Raises MinicnnError like `scores`, for more classes than there are, and for names of a model that has none.
        """
        scores = self._class_scores(images, tta)
        if LOSSES[self.loss].multi_label:
            if top is not None or names:
                raise MinicnnError("predict: top, names: expected a model with one class per image, received several")
            labels: np.ndarray = (scores > 0).astype(np.int64)
            return labels
        if (top or 1) > scores.shape[1]:
            raise MinicnnError(f"predict: top: expected at most the {scores.shape[1]} classes, received {top}")
        classes: np.ndarray = scores.argmax(axis=1)
        if top is not None:
            classes = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        if not names:
            return classes
        if self.classes is None:
            raise MinicnnError("predict: names: expected a model with names of its classes, received one without")
        named: np.ndarray = np.array(self.classes)[classes]
        return named

    def predict_proba(self, images: Any, tta: int = 1) -> np.ndarray:
        """The probability of each class, float32 (N, K). Arguments are as for `scores`.

        Each row adds up to 1, unless an image may have several labels.
        """
        return self.probabilities(self._class_scores(images, tta))

    def probabilities(self, scores: Array) -> Array:
        """Turns scores (N, K) of the network into probabilities, float32 (N, K). Each row adds up to 1.

        They are the softmax of the scores, unless the network itself ends in a Softmax. If it was trained with a
        squared error against 1 for the class and 0 for the others, the scores already estimate probabilities. Then
        negative scores become 0, and the row is divided by its sum (all are equal if no score is positive). Where an
        image may have several labels, they are the sigmoid of each score.
        """
        scores = scores.astype(np.float64)
        if LOSSES[self.loss].multi_label:
            scores = 1 / (1 + np.exp(-scores.clip(-700)))
        elif self.loss not in LOGIT_LOSSES:
            scores = scores.clip(0)
            scores[~scores.any(axis=1)] = 1
            scores /= scores.sum(axis=1, keepdims=True)
        elif not _ends_in_softmax(self.network):
            scores = softmax(scores)
        return scores.astype(np.float32)

    @checked(MinicnnError, "Model.scores")
    def scores(self, images: Any, tta: Annotated[int, Ge(1)] = 1) -> Array:
        """The output of the network for each image, in the network's element type.

        images: uint8, or floats from 0 to 1, of shape (N, C, H, W), or (N, H, W) if C = 1; or a single image without
        N, which counts as N = 1. H and W are those of `input_shape`; if the output is a map (K, rows, columns), they
        may be larger. Or pictures of any size, one or a list: paths of image files, Pillow images, or uint8 (H, W),
        (H, W, 3), (H, W, 4) as Pillow and OpenCV have them (see `look_at`).
        tta: test-time augmentation. The network looks at so many views of each image, the image itself and variants of
        it, the same for equal arguments. The scores then stand for the mean of the probabilities. Variants are those of
        `augmentation`, without what hides parts of an image; if there is none, moves by a pixel.
        Raises ShapeError for other shapes and types, and for a tta above 1 with what is no image. Raises MinicnnError
        for floats out of range, NaN, no images, weights that give NaN, and files that cannot be read (DataError).
        """
        batch = self.as_batch(images)
        parts = (batch[start : start + EVALUATION_BATCH] for start in range(0, len(batch), EVALUATION_BATCH))
        scores = np.concatenate([self.network.forward(self.transform(part)) for part in parts])
        if not np.isfinite(scores).all():
            raise MinicnnError("the network gives NaN or infinity; are its weights damaged?")
        if tta == 1:
            return scores
        if len(self.input_shape) != 3 or scores.ndim != 2:
            raise ShapeError(
                f"tta: expected 1 with other inputs than (C, H, W) and other outputs than (K,), received {tta}"
            )
        pixels = batch if batch.dtype == np.uint8 else np.round(batch * 255).astype(np.uint8)
        batches = self.evaluation_batches(pixels, np.zeros(len(pixels), np.int64))
        views = (scores_of_view(self.network, batches, self.augmentation, number) for number in range(1, tta))
        return mean_scores([scores, *views], LOSSES[self.loss], _ends_in_softmax(self.network))

    def transform(self, images: Any) -> Array:
        """The network's input for `images`, (N, *network_shape), in its element type: resized, padded, normalised.

        Images are as for `scores`: `network.forward(model.transform("photo.jpg"))` is `model.scores("photo.jpg")`.
        """
        batch = self.as_batch(images)
        dtype = self.network.dtype or np.dtype(np.float32)
        mean, std = (
            np.reshape(np.asarray(v, dtype), (-1,) + (1,) * (len(self.input_shape) - 1)) for v in (self.mean, self.std)
        )
        pixels = batch.astype(dtype)
        if batch.dtype == np.uint8:
            pixels /= 255
        else:
            check_unit_range(batch)
        if self.padding:
            pixels = pad_images(pixels, self.padding)
        normalized: Array = (pixels - mean) / std
        return normalized

    def to_bytes(self) -> bytes:
        """The content of a model file: the weights as safetensors, everything else as JSON in its metadata.

        Raises MinicnnError for a layer of your own that does not keep its constructor's arguments as attributes.
        """
        description = {
            "layers": to_config(self.network),
            "input_shape": self.input_shape,
            "mean": self.mean,
            "std": self.std,
            "classes": self.classes,
            "data_set": self.data_set,
            "loss": self.loss,
            "padding": self.padding,
            "background": self.background,
            "augmentation": None if self.augmentation is None else asdict(self.augmentation),
        }
        return file_content(description, self.network.state_dict())

    def save(self, path: str | Path) -> None:
        """Writes the model file, which `minicnn.load` reads: whole, or not at all. Raises MinicnnError."""
        write_whole(Path(path), self.to_bytes())

    def evaluation_batches(self, images: Array, labels: Array) -> Batches:
        """Images (N, C, H, W) in their order, normalised as the network takes them; labels are numbers or rows."""
        return Batches(images, labels, EVALUATION_BATCH, self.mean, self.std, padding=self.padding)

    def check_classes(self) -> None:
        """Raises ShapeError unless each output has a name, or none has."""
        if self.classes is not None and self.output_shape not in ((len(self.classes),), (len(self.classes), 1, 1)):
            raise ShapeError(
                f"classes: expected {self.output_shape}, a name for each output, received {len(self.classes)}"
            )

    def look_at(self, picture: Source, raw: bool = False) -> NDArray[np.uint8]:
        """A picture of any size as the model takes it, uint8 of `input_shape`; training on a folder does the same.

        For a model that was trained on MNIST, KMNIST or EMNIST, it is brought into their form, unless it is `raw`: see
        `to_mnist`. Raises DataError for a file that cannot be read, and where `to_mnist` finds no ink.
        """
        if len(self.input_shape) != 3:
            raise ShapeError(f"expected a model of images (C, H, W), received one of {self.input_shape}")
        if not raw and self.reads_characters:
            from minicnn.handwriting.digit import to_mnist  # needs SciPy, which takes its time

            return to_mnist(picture)[np.newaxis]
        from minicnn.data.image_file import fit_image

        return fit_image(picture, self.input_shape, self.background)

    @property
    def reads_characters(self) -> bool:
        """Whether it was trained on single characters in MNIST's form."""
        return self.data_set in CHARACTERS and self.input_shape == (1, 28, 28)

    def as_batch(self, images: Any) -> np.ndarray:
        """`images`, as for `scores`, as an array (N, C, H, W), or (N, *input_shape), of uint8 or floats."""
        if isinstance(images, np.ndarray) and images.dtype.kind in "OU" and images.ndim == 1:
            images = images.tolist()
        if self._is_picture(images):
            images = [images]
        if isinstance(images, list | tuple) and any(map(self._is_picture, images)):
            images = [self.look_at(one)[np.newaxis] if self._is_picture(one) else self.as_batch(one) for one in images]
            return np.concatenate(images)
        array = pixel_array(images)
        of_one = self._shapes_of_one(array.shape)
        shape = next(filter(self._takes, of_one), None)
        if shape is None:
            last = any(self._takes((*one[-1:], *one[:-1])) for one in of_one)
            hint = CHANNELS_LAST if last else ""
            raise ShapeError(f"images: expected {self._wanted()}, or one image without N, received {array.shape}{hint}")
        if len(array) == 0:
            raise MinicnnError("images: expected at least one, received none")
        return array.reshape(-1, *shape)

    def _shapes_of_one(self, shape: Shape) -> list[Shape]:
        """What the shape of one image may be: of one or several, each perhaps without its only channel."""
        of_one = [shape, shape[1:]]
        if len(self.input_shape) == 3 and self.input_shape[0] == 1:
            of_one += [(1, *one) for one in of_one]
        return of_one

    def _is_picture(self, value: Any) -> bool:
        """Whether it is to be resized: the path of a file, a Pillow image, or an array of another size."""
        if isinstance(value, str | os.PathLike) or is_pillow_image(value):
            return True
        return (
            len(self.input_shape) == 3
            and is_picture(value)
            and not any(map(self._takes, self._shapes_of_one(value.shape)))
        )

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

    def _class_scores(self, images: Any, tta: int) -> Array:
        self.input_shape  # noqa: B018 # an error if it is not known
        if len(self.output_shape) != 1:
            raise ShapeError(f"expected a network that gives one score a class, (K,), received {self.output_shape}")
        return self.scores(images, tta)

    def __repr__(self) -> str:
        return f"Model({self.network!r}, input_shape={self._input_shape})"


def softmax(scores: Array) -> Array:
    """The softmax of each row of scores (N, K), in the same element type."""
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def _ends_in_softmax(network: Sequential) -> bool:
    """Whether the last layer that changes anything is a Softmax."""
    for layer in reversed(network.layers):
        if isinstance(layer, Sequential) and layer.layers:
            return _ends_in_softmax(layer)
        if not isinstance(layer, Sequential) and not (layer.identity and layer.elementwise):
            return layer.gives_probabilities
    return False
