"""Gradient accumulation: a batch in parts is one step, that of the whole."""

import copy
import math

import numpy as np
import pytest
from against_torch import assert_same

from minicnn import (
    SGD,
    Augmentation,
    Batches,
    BatchNorm2d,
    Conv2d,
    Dense,
    DivergedError,
    Flatten,
    MaxPool,
    Model,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    train_step,
)
from minicnn.training.accumulation import accumulated_step

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 150)
IMAGES = RNG.integers(0, 256, (150, 1, 8, 8), np.uint8)
RULE = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "clip_norm": 1.0}


def network():
    return Sequential([Conv2d(1, 3, 3), ReLU(), MaxPool(2), Flatten(), Dense(27, 3)]).initialize(rng=0)


def batches(size):
    return Batches(IMAGES, LABELS, size, 0.5, 0.3, seed=2, augmentation=Augmentation(shift=1))


@pytest.mark.parametrize("at_once", [16, 17, 50, 64, 100])
def test_a_step_in_parts_is_that_of_the_whole(at_once):
    whole, parts, loss = network(), network(), SoftmaxCrossEntropy(0.1)
    one, other = SGD(whole.parameters(), **RULE), SGD(parts.parameters(), **RULE)
    for batch in batches(100).epoch():  # the last one has 50 images
        expected = train_step(whole, loss, one, batch, errors=True)
        found = accumulated_step(parts, loss, other, batch, at_once, errors=True)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-6)
        assert (found.correct, found.count) == (expected.correct, expected.count)
        assert_same([found.errors, parts.gradients], [expected.errors, whole.gradients], rtol=1e-5)
        assert_same([parts.values], [whole.values], rtol=1e-5)
    assert other.steps == 2


def test_without_an_update_there_are_gradients_only():
    net, pair = network(), (RNG.standard_normal((5, 1, 8, 8)).astype(np.float32), LABELS[:5])
    optimizer, before = SGD(net.parameters(), 0.1), net.values.copy()
    train_step(net, SoftmaxCrossEntropy(), optimizer, pair, update=False)
    assert optimizer.steps == 0 and net.gradients.any()
    np.testing.assert_array_equal(net.values, before)


def test_several_processes_add_up_what_each_has_added_up():
    alone, together, loss = network(), network(), SoftmaxCrossEntropy()
    batch = next(batches(100).epoch())
    expected = train_step(alone, loss, SGD(alone.parameters(), **RULE), batch)
    first = {}

    def hold(gradients, numbers):
        first.setdefault("gradients", gradients.copy())
        first.setdefault("numbers", list(numbers))
        return list(numbers)

    def add(gradients, numbers):
        gradients += first["gradients"]
        return [a + b for a, b in zip(first["numbers"], numbers, strict=True)]

    rank = copy.deepcopy(together)
    accumulated_step(rank, loss, SGD(rank.parameters(), **RULE), batch.shard(0, 2), 13, hold)
    result = accumulated_step(together, loss, SGD(together.parameters(), **RULE), batch.shard(1, 2), 13, add)
    np.testing.assert_allclose(result.loss, expected.loss, rtol=1e-6)
    assert (result.correct, result.count) == (expected.correct, 100)
    assert_same([together.values], [alone.values], rtol=1e-5)


@pytest.mark.parametrize("bad", [3, 40])
def test_a_loss_that_is_not_finite_is_found_in_any_part(bad):
    images = np.zeros((50, 1, 8, 8), np.float32)
    images[bad] = 1
    net = network()
    net[0].weight.value = 3e38
    optimizer, before = SGD(net.parameters(), 0.1), net.values.copy()
    batch = next(Batches(images, LABELS[:50], 50).epoch())
    with pytest.raises(DivergedError, match="first layer whose output is not finite is layer 0 Conv2d"):
        accumulated_step(net, SoftmaxCrossEntropy(), optimizer, batch, 20)
    np.testing.assert_array_equal(net.values, before)


def test_fit_with_accumulation_is_fit_with_batches_as_large():
    def fitted(layers=(), **sizes):
        model = Model(Sequential([*layers, *copy.deepcopy(network())]).initialize(rng=0))
        rule = SGD(lr=0.1, momentum=0.9)
        history = model.fit(
            IMAGES, LABELS, 3, optimizer=rule, schedule="cosine", validation=0.2, verbose=False, seed=1, **sizes
        )
        return model, history

    (whole, expected), (parts, found) = fitted(batch_size=60), fitted(batch_size=20, accumulate=3)
    assert [row["step"] for row in found] == [row["step"] for row in expected] == [2, 4, 6]
    assert found["lr"] == expected["lr"]
    np.testing.assert_allclose(found["train_loss"], expected["train_loss"], rtol=1e-5)
    assert_same([parts.network.values], [whole.network.values], rtol=1e-4)
    # Statistics follow each part.
    normalized, _ = fitted([BatchNorm2d(1)], batch_size=20, accumulate=3)
    assert normalized.network[0].num_batches_tracked == 3 * math.ceil(120 / 20)
