"""SHA-256 of the weights after some steps of training, for networks that together use every kernel in float32.

    python tests/engine/golden.py            all of them, as golden.json has them
    python tests/engine/golden.py NAME ...   those of some

All numbers come from integers, so that nothing depends on NumPy's version. After a change that is meant to change bits:

    python tests/engine/golden.py > tests/engine/golden.json
"""

import json
import sys

import numpy as np
from networks import integers, labels, lenet, numbers, sha, with_weights

from minicnn.data.augmentation import Augmentation
from minicnn.data.batches import Batches
from minicnn.data.mixup import Mixing
from minicnn.layers.activation import ELU, GELU, LeakyReLU, LogSoftmax, ReLU, ScaledTanh, Sigmoid, SiLU, Softmax, Tanh
from minicnn.layers.conv import Conv2d
from minicnn.layers.dense import Dense, Flatten
from minicnn.layers.dropout import Dropout, Dropout2d
from minicnn.layers.local import LocallyConnected2d
from minicnn.layers.normalization import BatchNorm1d, BatchNorm2d
from minicnn.layers.pooling import GlobalMeanPool, MaxPool, MeanPool
from minicnn.layers.residual import Residual
from minicnn.layers.sequential import Sequential
from minicnn.layers.subsample import Subsample
from minicnn.losses import BCEWithLogits, MaximumAPosteriori, MeanSquaredError, SoftmaxCrossEntropy
from minicnn.optimizers import SGD, Adam, AdamW, RMSprop
from minicnn.training.step import evaluate, train_step
from minicnn.zoo import lenet5_1998


class _Draws:
    """In the place of a layer's random generator."""

    def __init__(self):
        self.count = 0

    def integers(self, low, high):
        self.count += 1
        return int(integers(1, self.count)[0]) << 39


def _trained(network, batches, loss, kind=SGD, **options):
    """SHA-256 of weights, buffers and what was measured."""
    for layer in network:
        if isinstance(layer, Dropout):
            layer.rng = _Draws()
    optimizer, measured = kind(network.parameters(), **options), []
    for batch in batches:
        result = train_step(network, loss, optimizer, batch)
        measured.append((result.loss, result.correct))
    found = evaluate(network, loss, [batch])
    measured.append((found.loss, found.accuracy))
    return sha(network.values, *network.buffers().values(), found.scores, np.array(measured))


def _arrays(steps, count, shape, classes):
    for step in range(steps):
        yield numbers((count, *shape), step), labels(count, classes, step)


def _lenet(squash, pool):
    batches = _arrays(30, 64, (1, 28, 28), 10)
    return _trained(lenet(squash, pool), batches, SoftmaxCrossEntropy(), lr=0.05, momentum=0.9)


def _lenet_1998():
    batches = _arrays(3, 40, (1, 32, 32), 10)
    return _trained(with_weights(lenet5_1998()), batches, MaximumAPosteriori(), lr=0.01)


def _mixed():
    """Images, augmented in all ways, and layers of all kinds; clipped gradients, weight decay."""
    images = (integers(50 * 3 * 14 * 13, 1) % 256).astype(np.uint8).reshape(50, 3, 14, 13)
    augmentation = Augmentation(2, 15, 0.15, 8, 20.0, 3.0, 0.5, 2, 3)
    batches = Batches(images, labels(50, 6, 1), 37, [0.4, 0.5, 0.6], 0.25, None, augmentation, 1)
    network = with_weights(
        Sequential(
            [
                *(Conv2d(3, 12, 3, padding=1), BatchNorm2d(12), ReLU(), MaxPool(2)),
                *(Conv2d(12, 16, (3, 2), (2, 1), (1, 2), (1, 2), 4, bias=False), LeakyReLU()),
                *(LocallyConnected2d(16, 3, (4, 9), (2, 3), (1, 2), 1), Tanh()),
                *(Subsample(3, 2), ScaledTanh(), MeanPool(2, 1, 1), Dropout(0.25), Flatten()),
                *(Dense(27, 21), Sigmoid(), Dense(21, 6), Softmax()),
            ]
        )
    )
    for layer in network:
        if isinstance(layer, BatchNorm2d):
            layer.initialize()
    steps = [batch for epoch in range(6) for batch in batches.epoch(epoch)]
    rule = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "clip_norm": 0.05}
    return _trained(network, steps, MeanSquaredError(), lr=0.5, **rule)


def _small():
    """Soon done, even where each multiply-add is the call of a function."""
    network = with_weights(
        Sequential(
            [
                *(Conv2d(2, 3, 3, padding=1), BatchNorm2d(3), Tanh(), MeanPool(2)),
                *(Conv2d(3, 4, (1, 2), dilation=2), ReLU(), MaxPool(2, 1)),
                *(Flatten(), Dense(36, 9), Sigmoid(), Dropout(0.25), Dense(9, 3)),
            ]
        )
    )
    network[1].initialize()
    batches = _arrays(5, 35, (2, 8, 12), 3)
    return _trained(network, batches, SoftmaxCrossEntropy(0.1), lr=0.1, clip_norm=1.0)


def _squares():
    """Minimal filtering in both directions, with and without a frame, in groups."""
    network = with_weights(
        Sequential(
            [
                *(Conv2d(6, 18, 3, padding=1), ReLU(), Conv2d(18, 12, 3, groups=2, bias=False), MaxPool(2)),
                *(Flatten(), Dense(12 * 5 * 6, 4)),
            ]
        )
    )
    return _trained(network, _arrays(3, 35, (6, 12, 14), 4), SoftmaxCrossEntropy(), lr=0.05, momentum=0.9)


def _residual():
    """Residuals with and without a shortcut, one of them in another, behind a job's end and within it."""
    network = with_weights(
        Sequential(
            [
                Residual([Conv2d(2, 2, 3, padding=1), ReLU()]),
                Residual([Conv2d(2, 4, 3, 2, 1), BatchNorm2d(4), Residual([Tanh()])], [Conv2d(2, 4, 1, 2)]),
                *(ReLU(), Flatten(), Residual([Dense(96, 96)]), Dense(96, 3)),
            ]
        )
    )
    network[1].layers[1].initialize()
    batches = _arrays(5, 35, (2, 8, 12), 3)
    return _trained(network, batches, SoftmaxCrossEntropy(), lr=0.1, momentum=0.9)


def _weighted():
    """Class weights, soft targets, several labels, weights of samples."""
    images, rows = (integers(40 * 64, 1) % 256).astype(np.uint8).reshape(40, 1, 8, 8), abs(numbers((40, 3), 2))
    digests = []
    for target, loss in (
        (labels(40, 3, 1), SoftmaxCrossEntropy(0.1, [0.5, 2, 1.25])),
        (rows, SoftmaxCrossEntropy(0.1, [0.5, 2, 1.25])),
        (rows, BCEWithLogits([0.5, 2, 1], [3, 0.5, 1])),
    ):
        network = with_weights(Sequential([Flatten(), Dense(64, 9), Tanh(), Dense(9, 3)]))
        batches = Batches(images, target, 35, 0.5, 0.25, sample_weight=labels(40, 4, 3))
        digests.append(_trained(network, [*batches.epoch(0), *batches.epoch(1)], loss, lr=0.1))
    return sha(np.frombuffer("".join(digests).encode(), np.uint8))


def _optimizers():
    """One network, trained on by one optimizer after the other; a part of it is frozen."""
    network = with_weights(Sequential([Dense(70, 63), Tanh(), Dense(63, 9), ReLU(), Dense(9, 4)]))
    network[0].freeze()
    rules = {
        Adam: {"betas": (0.8, 0.95), "weight_decay": 0.01},
        AdamW: {"clip_norm": 0.05},
        RMSprop: {"momentum": 0.5, "centered": True},
    }
    batches = list(_arrays(3, 20, (70,), 4))
    for kind, rule in rules.items():
        found = _trained(network, batches, SoftmaxCrossEntropy(), kind, lr=0.01, **rule)
    return found


def _blended():
    """Images with other colours and covered parts, and mixup."""
    images = (integers(40 * 3 * 64, 1) % 256).astype(np.uint8).reshape(40, 3, 8, 8)
    colours = {"erasing": 0.5, "brightness": 0.5, "contrast": 0.5, "noise": 0.1, "fill": (9, 200, 60)}
    batches = Batches(images, labels(40, 3, 1), 35, 0.5, 0.25, None, Augmentation(shift=1, mixup=1, **colours))
    shares = (integers(40, 3) % 2048 + 2048) / 4096
    batches.mixing = lambda epoch: Mixing(labels(40, 40, 2 + epoch), shares.astype(np.float32))
    network = with_weights(Sequential([Flatten(), Dense(192, 9), Tanh(), Dense(9, 3)]))
    return _trained(network, [*batches.epoch(0), *batches.epoch(1)], SoftmaxCrossEntropy(0.1), lr=0.1)


def _features(dtype):
    """Layers without windows, in both element types."""
    network = with_weights(
        Sequential(
            [
                *(Dropout2d(0.25), ELU(0.5), GlobalMeanPool(), Dense(6, 9), BatchNorm1d(9), SiLU(), Dense(9, 8)),
                *(GELU(), GELU("tanh"), Dense(8, 7), Tanh(), Sigmoid(), Dense(7, 5), LogSoftmax()),
            ]
        )
    ).astype(dtype)
    network[4].initialize()
    batches = ((numbers((35, 6, 4, 3), step, dtype), labels(35, 5, step)) for step in range(5))
    return _trained(network, batches, SoftmaxCrossEntropy(0.1), lr=0.1, momentum=0.9)


GOLDEN = {
    "LeNet, ReLU and maximum": lambda: _lenet(ReLU, MaxPool),
    "LeNet, Tanh and mean": lambda: _lenet(Tanh, MeanPool),
    "LeNet of 1998": _lenet_1998,
    "mixed": _mixed,
    "small": _small,
    "squares": _squares,
    "residual": _residual,
    "weighted": _weighted,
    "optimizers": _optimizers,
    "blended": _blended,
    "features": lambda: _features(np.float32),
    "features in float64": lambda: _features(np.float64),
}

if __name__ == "__main__":
    names = sys.argv[1:] or list(GOLDEN)
    sys.executable = ""  # to start processes that compile takes longer, as it would be done anew for each network
    found = {name: GOLDEN[name]() for name in names}
    print(json.dumps(found, indent=2))
