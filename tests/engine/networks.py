"""Networks, numbers and runs that the tests of the engine share.

All numbers come from integers, so that they have the same bits with any NumPy.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from minicnn.engine import driver
from minicnn.layers.activation import LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from minicnn.layers.conv import Conv2d
from minicnn.layers.dense import Dense, Flatten
from minicnn.layers.dropout import Dropout
from minicnn.layers.pooling import MaxPool, MeanPool
from minicnn.layers.sequential import Sequential
from minicnn.losses import SoftmaxCrossEntropy
from minicnn.optimizers import SGD
from minicnn.training.step import train_step


def integers(count, seed):
    """`count` whole numbers from 0 to 2^24 - 1: hashes of seed and place (SplitMix64)."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed) * np.uint64(1 << 32)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.int64)


def numbers(shape, seed, dtype=np.float32):
    """Numbers from -1 to below 1, each exact in float32."""
    count = int(np.prod(shape))
    return ((integers(count, seed) - (1 << 23)) / (1 << 23)).reshape(shape).astype(dtype)


def labels(count, classes, seed):
    return integers(count, seed) % classes


def with_weights(network, seed=1):
    """The network with weights of the seed: times a power of two near one over the root of fan-in."""
    for number, parameter in enumerate(network.parameters()):
        fan_in = parameter.value[0].size
        scale = 2.0 ** -round(np.log2(max(1, fan_in)) / 2)
        parameter.value[...] = scale * numbers(parameter.value.shape, seed * 1000 + number)
    return network


def lenet(squash=ReLU, pool=MaxPool):
    """LeNet for (1, 28, 28)."""
    return with_weights(
        Sequential(
            [
                *(Conv2d(1, 6, 5, padding=2), squash(), pool(2)),
                *(Conv2d(6, 16, 5), squash(), pool(2)),
                *(Flatten(), Dense(400, 120), squash(), Dense(120, 84), squash(), Dense(84, 10)),
            ]
        )
    )


def small(dropout=False):
    """A network of many kinds of layers for (2, 9, 8), five classes."""
    layers = [
        *(Conv2d(2, 6, 3, padding=1), ReLU(), MaxPool(2)),
        *(Conv2d(6, 4, (2, 3), stride=(1, 2), padding=1, groups=2), Tanh()),
        *(MeanPool(2, stride=1, padding=1), LeakyReLU(), Flatten(), Dense(72, 19), Sigmoid()),
        *(Dense(19, 5), Softmax(), Dense(5, 5, bias=False)),
    ]
    if dropout:
        layers.insert(8, Dropout(0.25))
    return with_weights(Sequential(layers).initialize(rng=0))


def tiny():
    """The smallest network with all three phases."""
    return with_weights(Sequential([Dense(3, 2), ReLU(), Dense(2, 2)]))


def train(network, shape, classes, steps=3, count=50, seed=7, rate=0.05):
    """Trains a network; returns its losses and its weights."""
    loss, optimizer = SoftmaxCrossEntropy(), SGD(network.parameters(), lr=rate, momentum=0.9)
    losses = []
    for step in range(steps):
        batch = numbers((count, *shape), seed + step), labels(count, classes, seed + step)
        losses.append(train_step(network, loss, optimizer, batch).loss)
    return losses, network.values.copy()


def sha(*arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@contextmanager
def threads(count) -> Iterator[None]:
    before = driver.get_threads()
    driver.set_threads(count)
    try:
        yield
    finally:
        driver.set_threads(before)
