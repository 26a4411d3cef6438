"""Every task writes what is its own, and nobody reads what nobody has written: no order of jobs makes a difference."""

import numpy as np
import pytest
from isolation import conflicts, examine, examined, results
from layer_cases import each_case
from networks import labels, numbers, small, threads, with_weights

from minicnn.data.augmentation import Augmentation
from minicnn.data.batches import Batches
from minicnn.layers.activation import ReLU, ScaledTanh, Sigmoid, Softmax, Tanh
from minicnn.layers.conv import Conv2d
from minicnn.layers.dense import Dense, Flatten
from minicnn.layers.dropout import Dropout
from minicnn.layers.normalization import BatchNorm2d
from minicnn.layers.pooling import MaxPool
from minicnn.layers.sequential import Sequential
from minicnn.layers.subsample import Subsample
from minicnn.losses import BCEWithLogits, HalfSquaredError, MaximumAPosteriori, MeanSquaredError, SoftmaxCrossEntropy
from minicnn.optimizers import EMA, SGD, Adam, RMSprop
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


def inference(network, x):
    network.forward(x)
    assert network.backward(np.ones_like(network.forward(x))).shape == x.shape


def training(network, x):
    network.backward(network.forward(x, training=True))


def step(network, x):
    target = np.zeros((COUNT, *network.output_shape(x.shape[1:])), x.dtype)
    train_step(network, MeanSquaredError(), SGD(network.parameters(), 0.1), (x, target))


def passes(make, shape, dtype=np.float32):
    """All programs of a network, each in memory of its own; on one thread, so that a job has two blocks."""
    found = []
    for way in (inference, training, step):
        with threads(1), examined(look) as programs:
            network = with_weights(make().initialize(rng=0)).astype(dtype)
            if network.values.size or way is not step:
                way(network, numbers((COUNT, *shape), 1, dtype))
                assert programs
        found += programs
    return found


@each_case
def test_layers(case):
    passes(lambda: Sequential([case.make()]), case.shape)


NETWORKS = {
    "Winograd, 3 columns": (lambda: [Conv2d(12, 11, 3, padding=1), ReLU(), Conv2d(11, 12, (4, 3))], (12, 6, 8)),
    "Winograd, 5 columns": (lambda: [Conv2d(4, 3, 5, padding=(2, 1)), Conv2d(3, 4, 5)], (4, 6, 13)),
    "Winograd, groups": (lambda: [Conv2d(12, 14, 3, groups=2, padding=(1, 2))], (12, 4, 6)),
    "Winograd2d": (lambda: [Conv2d(12, 11, 3, padding=1), ReLU(), Conv2d(11, 12, 3)], (12, 12, 16)),
    "Winograd2d, groups": (lambda: [Conv2d(32, 34, 3, groups=2, padding=(1, 2))], (32, 8, 10)),
    "Winograd2d, table": (lambda: [Conv2d(17, 17, 3, connections=1 - np.eye(17, dtype=int))], (17, 10, 10)),
    "Winograd, table": (lambda: [Conv2d(5, 5, 5, connections=1 - np.eye(5, dtype=int))], (5, 9, 9)),
    "dense": (lambda: [Dense(100, 130), ReLU(), Dense(130, 3)], (100,)),
    "rectified maximum": (lambda: [ReLU(), MaxPool(2)], (3, 6, 8)),
    "in place": (lambda: [ReLU(), Sigmoid(), Softmax(), Dropout(0.3), Tanh()], (3, 2, 3)),
    "normalization": (lambda: [BatchNorm2d(3), Conv2d(3, 2, 2), BatchNorm2d(2, affine=False)], (3, 4, 5)),
    "frozen": (lambda: [Dense(9, 8), Tanh(), Dense(8, 7).freeze(), Sigmoid(), Dense(7, 3)], (9,)),
    "frozen normalization": (lambda: [Conv2d(2, 3, 2), BatchNorm2d(3).freeze(), ReLU(), Conv2d(3, 2, 2)], (2, 4, 5)),
    "subsampling": (lambda: [Subsample(3, 2), ScaledTanh(), Subsample(3, 3, 2)], (3, 9, 10)),
    "many kinds": (lambda: list(small(dropout=True)), (2, 9, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    make, shape = NETWORKS[name]
    programs = passes(lambda: Sequential(make()), shape)
    modules = {call.kernel.module.removeprefix("minicnn.kernels.") for program in programs for call in program.calls}
    way = name.partition(",")[0].lower()
    assert {module for module in modules if module.startswith("winograd")} == {way} & {"winograd", "winograd2d"}


def test_layers_in_float64():
    passes(small, (2, 9, 8), np.float64)


@pytest.mark.parametrize(
    "loss",
    [SoftmaxCrossEntropy(0.1), MaximumAPosteriori(), MeanSquaredError(), HalfSquaredError(), BCEWithLogits()],
    ids=lambda loss: type(loss).__name__,
)
def test_losses(loss):
    with threads(3), examined(look) as programs:
        network, x, target = sequential(Dense(6, 5)), numbers((COUNT, 6), 1), labels(COUNT, 5, 1)
        y = network.forward(x)
        soft = abs(numbers((COUNT, 5), 2))
        target = soft if loss.multi_label else target
        loss.forward(y, target)
        loss.backward()
        train_step(network, loss, SGD(network.parameters(), 0.1), (x, target), errors=True)
        evaluate(network, loss, [(x, target)])
        if not isinstance(loss, MaximumAPosteriori):
            loss.forward(y, soft, labels(COUNT, 3, 2))
            loss.backward()
        assert len(programs) >= 4


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
        for adaptive in (Adam(network.parameters(), clip_norm=0.5), RMSprop(network.parameters(), centered=True)):
            adaptive.step()
        assert len(programs) == 5


AUGMENTATIONS = {
    "none": None,
    "all": Augmentation(2, 20, 0.2, 10, 20.0, 3.0, 0.5, 1, 3),
    "elastic": Augmentation(elastic_alpha=30.0, elastic_sigma=1.5),
    "copies": Augmentation(flip=0.5, crop_padding=2, cutout=4),
    "blends": Augmentation(shift=1, brightness=0.5, contrast=0.5, noise=0.1, erasing=0.5, mixup=1.0),
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
