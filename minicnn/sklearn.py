"""A classifier for scikit-learn: its grid searches, cross-validation and pipelines, over `Model.fit`."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from minicnn.data.augmentation import Augmentation
from minicnn.engine.arrays import Array, Shape
from minicnn.errors import ShapeError
from minicnn.layers import Conv2d, Dense, Flatten, Layer, MaxPool, ReLU
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss
from minicnn.model import Model
from minicnn.optimizers import SGD, Optimizer
from minicnn.schedules import Schedule
from minicnn.training.trainer import Callback

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("minicnn.sklearn needs scikit-learn 1.6 or newer: python -m pip install scikit-learn") from error

Network = Layer | Callable[[Shape, int], Layer]


def small_network(image_shape: Shape, classes: int) -> Sequential:
    """Two convolutions of 3x3, each pooled where its maps are 8x8 or larger, and a dense layer."""
    channels, height, width = image_shape
    layers: list[Layer] = []
    for outputs in (16, 32):
        layers += [Conv2d(channels, outputs, 3, padding=1), ReLU()]
        channels = outputs
        if min(height, width) >= 8:
            layers.append(MaxPool(2))
            height, width = height // 2, width // 2
    return Sequential([*layers, Flatten(), Dense(channels * height * width, classes)])


class CNNClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """A network that is trained by `Model.fit`, as an estimator of scikit-learn.

    X has images (N, H, W) or (N, C, H, W), or rows (N, features), which become images of `image_shape`. uint8 is taken
    as it is; other numbers are brought to 0..1 by the least and the greatest number of the training data, and those
    beyond them, in later data, count as these two.

    network       a network, of which each fit trains a copy, or a function (image_shape, number of classes) that makes
                  one [`small_network`]
    image_shape   of one row: (C, H, W) or (H, W) [(1, 1, features)]
    init          how the weights begin (see `Layer.initialize`); None: with those that the network has
    optimizer     without parameters, as for `Model.fit`; each fit uses a copy [SGD(lr=0.02, momentum=0.9)]
    lr            replaces the learning rate of the optimizer [its own]
    random_state  an int, a RandomState or None: the seed of weights, order, split and augmentation

    epochs, batch_size, loss, schedule, augmentation, callbacks, validation and verbose are those of `Model.fit`.

    After fit: classes_, n_features_in_, image_shape_, model_ (a `Model`, which can be saved) and history_.
    Raises ValueError (MinicnnError is one) for arguments and data that do not fit together.
    """

    def __init__(
        self,
        network: Network | None = None,
        *,
        image_shape: Sequence[int] | None = None,
        init: Any = "kaiming",
        epochs: int = 10,
        batch_size: int = 32,
        optimizer: Optimizer | None = None,
        lr: float | None = None,
        loss: Loss | None = None,
        schedule: str | Schedule | None = None,
        augmentation: Augmentation | None = None,
        callbacks: Sequence[Callback] = (),
        validation: float | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.network = network
        self.image_shape = image_shape
        self.init = init
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.loss = loss
        self.schedule = schedule
        self.augmentation = augmentation
        self.callbacks = callbacks
        self.validation = validation
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> "CNNClassifier":  # noqa: N803 # as scikit-learn has it
        """Trains a network anew on X, with the classes y (N,), which are numbers or names."""
        X, row = _rows(X)  # noqa: N806
        X, y = validate_data(self, X, y)  # noqa: N806
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        count = len(self.classes_)
        if count < 2:
            raise ValueError(f"CNNClassifier: expected two classes or more, received 1 class: {self.classes_[0]!r}")
        self.image_shape_ = self._shape(row or X.shape[1:])
        whole = X.dtype == np.uint8
        self._low, self._high = (0.0, 255.0) if whole else (float(X.min()), float(X.max()))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        network = small_network if self.network is None else self.network
        network = deepcopy(network) if isinstance(network, Layer) else network(self.image_shape_, count)
        try:
            outputs = network.output_shape(self.image_shape_)
        except ShapeError as error:
            hint = "" if self.image_shape else f"; image_shape says of which shape an image is, now {self.image_shape_}"
            raise ShapeError(f"CNNClassifier: network: {error}{hint}") from None
        if outputs != (count,):
            raise ShapeError(
                f"CNNClassifier: network: expected an output for each of {count} classes, received {outputs}"
            )
        if self.init is not None:
            network.initialize(self.init, seed)
        optimizer = SGD(lr=0.02, momentum=0.9) if self.optimizer is None else deepcopy(self.optimizer)
        if self.lr is not None and isinstance(optimizer, Optimizer):  # Model.fit refuses what is none
            optimizer.lr = self.lr
        images = self._images(X)
        self.model_ = Model(network, std=1.0 if images.min() == images.max() else None)
        self.history_ = self.model_.fit(
            images,
            numbers,
            self.epochs,
            self.batch_size,
            validation=self.validation,
            optimizer=optimizer,
            loss=self.loss,
            schedule=self.schedule,
            augmentation=self.augmentation,
            callbacks=deepcopy(list(self.callbacks)),
            seed=seed,
            verbose=bool(self.verbose),
        )
        return self

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """The probability of each of `classes_`, float32 (N, classes)."""
        check_is_fitted(self)
        X, row = _rows(X)  # noqa: N806
        if row and self._shape(row) != self.image_shape_:
            raise ShapeError(f"CNNClassifier: expected images of {self.image_shape_} as in fit, received {row} a row")
        X = validate_data(self, X, reset=False)  # noqa: N806
        return self.model_.predict_proba(self._images(X))

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The most probable of `classes_` for each row (N,)."""
        probabilities = self.predict_proba(X)
        found: np.ndarray = self.classes_[probabilities.argmax(axis=1)]
        return found

    def _shape(self, row: Shape) -> Shape:
        """(C, H, W) of the image that a row of X of this shape stands for."""
        if len(row) > 1:
            if len(row) > 3:
                raise ShapeError(f"X: expected rows, (N, H, W) or (N, C, H, W), received (N, {str(row)[1:]}")
            return row if len(row) == 3 else (1, *row)
        shape = tuple(self.image_shape or (1, 1, row[0]))
        shape = shape if len(shape) == 3 else (1, *shape)
        if np.prod(shape) != row[0]:
            raise ShapeError(
                f"image_shape: expected (C, H, W) with {row[0]} numbers, as each row has, received {shape}"
            )
        return shape

    def _images(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Rows as `Model` takes them."""
        X = X.reshape(-1, *self.image_shape_)  # noqa: N806
        if X.dtype == np.uint8 and (self._low, self._high) == (0, 255):
            return X
        span = (self._high - self._low) or 1.0
        return ((X - self._low) / span).clip(0, 1).astype(np.float32)


def _rows(X: Any) -> tuple[Any, Shape]:  # noqa: N803
    """Images as rows, and the shape of one; rows as they are, and no shape."""
    if isinstance(X, np.ndarray) and X.ndim > 2:
        return X.reshape(len(X), -1), X.shape[1:]
    return X, ()
