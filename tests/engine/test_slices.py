"""Every task writes what is its own, and nobody reads what nobody has written: no order of jobs makes a difference."""

import numpy as np
import pytest
from isolation import conflicts, examine, examined, results
from networks import labels, numbers, small, threads, with_weights

from minicnn.data.augmentation import Augmentation
from minicnn.data.batches import Batches
from minicnn.layers.activation import Dropout, LeakyReLU, ReLU, ScaledTanh, Sigmoid, Softmax, Tanh
from minicnn.layers.conv import Conv2d
from minicnn.layers.dense import Dense, Flatten
from minicnn.layers.local import LocallyConnected2d
from minicnn.layers.normalization import BatchNorm2d
from minicnn.layers.pooling import MaxPool, MeanPool
from minicnn.layers.rbf import RadialBasis
from minicnn.layers.sequential import Sequential
from minicnn.layers.subsample import Subsample
from minicnn.losses import HalfSquaredError, MaximumAPosteriori, MeanSquaredError, SoftmaxCrossEntropy
from minicnn.optimizers import EMA, SGD
from minicnn.training.step import evaluate, train_step

COUNT = 37  # three blocks, the last one not whole


def look(program, count, memory):
    phases, rounds = examine(program, count, memory)
    for parallel, tasks in phases:
        if parallel:
            assert conflicts(tasks, rounds) == []
    expected = results(program, count, memory, 0.0, False)
    for filler, backwards in ((np.nan, False), (np.nan, True), (1e10, True)):
        found = results(program, count, memory, filler, backwards)
        for number, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert a.tobytes() == b.tobytes(), (number, len(a), filler, backwards)


def sequential(*layers):
    return with_weights(Sequential(layers).initialize(rng=0))


def passes(layers, shape, dtype=np.float32):
    """Forward in training and out of it, backward, and a step; on one thread, so that a job has two blocks."""
    with threads(1), examined(look) as programs:
        network = sequential(*layers).astype(dtype)
        x = numbers((COUNT, *shape), 1, dtype)
        network.forward(x)
        dx = network.backward(np.ones((COUNT, *network.output_shape(shape)), dtype))
        assert dx.shape == x.shape
        y = network.forward(x, training=True)
        network.backward(y)
        optimizer = SGD(network.parameters(), 0.1) if network.values.size else None
        if optimizer is not None:
            train_step(network, MeanSquaredError(), optimizer, (x, np.zeros_like(y)))
        assert len(programs) >= 2
    return programs


LAYERS = {
    "convolution": ([Conv2d(3, 5, 3)], (3, 7, 9)),
    "convolution without bias": ([Conv2d(1, 1, (1, 2), bias=False)], (1, 2, 3)),
    "padding": ([Conv2d(2, 7, (2, 4), padding=(2, 1))], (2, 5, 4)),
    "stride": ([Conv2d(2, 6, 3, stride=(2, 3), padding=1)], (2, 8, 10)),
    "stride beyond the kernel": ([Conv2d(2, 2, 2, stride=3)], (2, 9, 8)),
    "dilation": ([Conv2d(2, 4, (3, 2), dilation=(2, 3), padding=2)], (2, 6, 7)),
    "groups": ([Conv2d(6, 9, 3, groups=3, padding=1)], (6, 5, 5)),
    "depthwise": ([Conv2d(5, 5, 3, groups=5, stride=2)], (5, 7, 7)),
    "all at once": ([Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2)], (4, 7, 8)),
    "table of connections": ([Conv2d(3, 4, 3, connections=[[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]])], (3, 6, 6)),
    "Winograd, 3 columns": ([Conv2d(12, 11, 3, padding=1), ReLU(), Conv2d(11, 12, 3)], (12, 6, 8)),
    "Winograd, 5 columns": ([Conv2d(4, 3, 5, padding=(2, 1)), Conv2d(3, 4, 5)], (4, 6, 13)),
    "Winograd, groups": ([Conv2d(12, 14, 3, groups=2, padding=(1, 2))], (12, 4, 6)),
    "Winograd, table": ([Conv2d(5, 5, 5, connections=1 - np.eye(5, dtype=int))], (5, 9, 9)),
    "dense 7 5": ([Dense(7, 5)], (7,)),
    "dense 17 33": ([Dense(17, 33)], (17,)),
    "dense 41 1": ([Dense(41, 1, bias=False)], (41,)),
    "dense 1 16": ([Dense(1, 16)], (1,)),
    "dense 100 130": ([Dense(100, 130), ReLU(), Dense(130, 3)], (100,)),
    "maximum": ([ReLU(), MaxPool(2)], (3, 6, 8)),
    "maximum of odd maps": ([MaxPool(2)], (3, 7, 5)),
    "maximum, overlapping": ([MaxPool(3, 2, 1)], (2, 7, 8)),
    "maximum, ceil_mode": ([MaxPool((2, 3), (3, 2), (1, 1), ceil_mode=True)], (2, 8, 8)),
    "mean": ([MeanPool(2)], (3, 6, 8)),
    "mean, overlapping": ([MeanPool(3, 2, 1)], (2, 7, 8)),
    "mean, ceil_mode": ([MeanPool((3, 2), (2, 3), (1, 0), ceil_mode=True, count_include_pad=False)], (2, 8, 8)),
    "activations": ([ReLU(), LeakyReLU(0.2), Sigmoid(), Tanh(), ScaledTanh(), Softmax(), Dropout(0.3)], (3, 2, 3)),
    "normalization": ([BatchNorm2d(3), Conv2d(3, 2, 2), BatchNorm2d(2, affine=False)], (3, 4, 5)),
    "own statistics": ([BatchNorm2d(2, track_running_stats=False), ReLU()], (2, 3, 3)),
    "local": ([LocallyConnected2d(3, 5, (6, 5), (2, 3), 1, (1, 0)), ReLU()], (3, 6, 5)),
    "local, one output": ([LocallyConnected2d(2, 1, 7, 3, 2, 1, 2, bias=False)], (2, 7, 7)),
    "subsampling": ([Subsample(3, 2), ScaledTanh(), Subsample(3, 3, 2)], (3, 9, 10)),
    "radial": ([RadialBasis(7, numbers((5, 7), 9))], (7,)),
    "network": (list(small(dropout=True)), (2, 9, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    programs = passes(*LAYERS[name])
    kernels = {call.kernel.module for program in programs for call in program.calls}
    assert ("minicnn.kernels.winograd" in kernels) == name.startswith("Winograd")


def test_layers_in_float64():
    passes(list(small()), (2, 9, 8), np.float64)


@pytest.mark.parametrize(
    "loss",
    [SoftmaxCrossEntropy(0.1), MaximumAPosteriori(), MeanSquaredError(), HalfSquaredError()],
    ids=lambda loss: type(loss).__name__,
)
def test_losses(loss):
    with threads(3), examined(look) as programs:
        network, x, target = sequential(Dense(6, 5)), numbers((COUNT, 6), 1), labels(COUNT, 5, 1)
        y = network.forward(x)
        loss.forward(y, target)
        loss.backward()
        train_step(network, loss, SGD(network.parameters(), 0.1), (x, target), errors=True)
        evaluate(network, loss, [(x, target)])
        if not loss.takes_logits:
            loss.forward(y, y * 2)
            loss.backward()
        assert len(programs) >= 5


def test_optimizer_and_averages():
    with examined(look) as programs:
        network = sequential(Flatten(), Dense(130, 70), ReLU(), Dense(70, 3))  # three chunks
        optimizer = SGD(network.parameters(), 0.1, 0.9, True, 0.01, clip_norm=1.0)
        network.gradients[...] = numbers(network.gradients.shape, 3)
        optimizer.step()
        average = EMA(network.parameters(), 0.9)
        average.update()
        average.update()
        apart = SGD([network[1].weight, network[3].bias], 0.1, clip_norm=0.5)
        apart.step()
        assert len(programs) == 3


AUGMENTATIONS = {
    "none": None,
    "all": Augmentation(2, 20, 0.2, 10, 20.0, 3.0, 0.5, 1, 3),
    "elastic": Augmentation(elastic_alpha=30.0, elastic_sigma=1.5),
    "copies": Augmentation(flip=0.5, crop_padding=2, cutout=4),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_images(name):
    with threads(2), examined(look) as programs:
        images = (numbers((40, 2, 9, 7), 1) * 100 + 100).astype(np.uint8)
        batches = Batches(images, labels(40, 3, 1), COUNT, 0.4, [0.5, 0.6], 1, AUGMENTATIONS[name], 1)
        network = sequential(Conv2d(2, 3, 3), ReLU(), MaxPool(2), Flatten(), Dense(36, 3))
        loss, optimizer = SoftmaxCrossEntropy(), SGD(network.parameters(), 0.1)
        batch = next(iter(batches.epoch(1)))
        train_step(network, loss, optimizer, batch)
        evaluate(network, loss, [batch])
        batch.arrays()
        batches.variants(np.arange(20), 2)
        assert len(programs) >= 3
