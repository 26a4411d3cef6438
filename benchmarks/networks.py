"""The networks that are measured, as plain data, so that each framework builds the same ones."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

IMAGES, FEW_IMAGES = 5120, 128


class Conv(NamedTuple):
    inputs: int
    outputs: int
    kernel: int
    padding: int = 0


class Dense(NamedTuple):
    inputs: int
    outputs: int


class Network(NamedTuple):
    """Its layers are Conv, Dense, and the words relu, tanh, sigmoid, max, mean (pooling by 2 x 2) and flatten.

    It is trained with softmax and cross-entropy, or with half the squared error to one-hot targets.
    """

    name: str
    input_shape: tuple[int, int, int]
    layers: tuple[Conv | Dense | str, ...]
    squared_error: bool = False
    learning_rate: float = 0.01
    momentum: float = 0.9


class Case(NamedTuple):
    """`images`: about how many of 28 x 28 there are; of larger ones fewer, so that they take as much memory."""

    network: Network
    batch_size: int
    images: int = IMAGES


def lenet(activation: str = "relu", pool: str = "max", width: int = 1, side: int = 28) -> Network:
    """LeNet-5 with `width` times as many channels (and features), for images of side x side."""
    c1, c3, c5, f6 = 6 * width, 16 * width, 120 * width, 84 * width
    features = c3 * ((side // 2 - 4) // 2) ** 2
    name = "LeNet-5" + (f" x{width}" if width > 1 else "") + (f", {side}x{side}" if side > 28 else "")
    title = {"relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid"}[activation]
    return Network(
        f"{name}, {title}, {pool}",
        (1, side, side),
        (
            *(Conv(1, c1, 5, 2), activation, pool),
            *(Conv(c1, c3, 5), activation, pool, "flatten"),
            *(Dense(features, c5), activation, Dense(c5, f6), activation, Dense(f6, 10)),
        ),
    )


def vgg() -> Network:
    """Six convolutions of 3 x 3 in three pairs, for colour images of 32 x 32."""
    layers: list[Conv | Dense | str] = []
    channels = 3
    for outputs in (32, 64, 128):
        layers += [Conv(channels, outputs, 3, 1), "relu", Conv(outputs, outputs, 3, 1), "relu", "max"]
        channels = outputs
    return Network("small VGG", (3, 32, 32), (*layers, "flatten", Dense(128 * 16, 10)))


def textbook() -> Network:
    """That of configs/textbook.yaml."""
    like = lenet("sigmoid", "mean")
    name = "LeNet-5, sigmoid, mean, squared error"
    return Network(name, like.input_shape, (*like.layers, "sigmoid"), True, 0.5, 0.0)


def batches(case: Case) -> list[tuple[Array, Array]]:
    """Whole batches of normalised images and their labels: MNIST where it fits, else noise."""
    shape, size = case.network.input_shape, case.batch_size
    count = max(2, case.images * 28 * 28 // int(np.prod(shape)) // size) * size
    if shape == (1, 28, 28):
        from minicnn.data import load_dataset

        data = load_dataset("mnist-subset")
        pixels = data.train_images[:count].astype(np.float32) / 255
        images = (pixels - np.float32(data.mean[0])) / np.float32(data.std[0])
        labels = data.train_labels[:count]
    else:
        rng = np.random.default_rng(0)
        images = rng.standard_normal((count, *shape), np.float32)
        labels = rng.integers(0, 10, count)
    return [(images[i : i + size].copy(), labels[i : i + size].copy()) for i in range(0, count, size)]
