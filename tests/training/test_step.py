"""train_step and evaluate: pieces, threads, divergence, and the batches that feed them."""

import copy

import numpy as np
import pytest
from against_torch import assert_same

from minicnn import (
    SGD,
    Batches,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    MeanPool,
    MeanSquaredError,
    ReLU,
    Sequential,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
)
from minicnn.engine import driver
from minicnn.errors import DivergedError, MinicnnError
from minicnn.kernels import LANES
from minicnn.training.step import evaluate, train_step
from minicnn.zoo import lenet5


def images(n, shape=(1, 28, 28), seed=0):
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


def test_a_big_batch_in_pieces_has_the_gradients_of_the_whole():
    network = Sequential([Conv2d(1, 3, 3), ReLU(), MaxPool(2), Flatten(), Dense(27, 10)])
    whole = copy.deepcopy(network)
    x, labels = images(300, (1, 8, 8)), np.arange(300) % 10
    result = train_step(network, SoftmaxCrossEntropy(), SGD(network.parameters(), lr=0.0), (x, labels))
    loss = SoftmaxCrossEntropy()
    scores = whole.forward(x, training=True)
    value = loss.forward(scores, labels)
    whole.backward(loss.backward())
    np.testing.assert_allclose(result.loss, value, rtol=1e-5)
    assert (result.correct, result.count) == (np.sum(scores.argmax(axis=1) == labels), 300)
    assert_same([p.grad for p in network.parameters()], [p.grad for p in whole.parameters()], rtol=1e-5)


def test_a_step_with_mean_squared_error():
    network = Sequential([Dense(4, 3)])
    whole = copy.deepcopy(network)
    x, target = images(20, (4,)), images(20, (3,), seed=1)
    loss = MeanSquaredError()
    value = loss.forward(whole.forward(x), target)
    whole.backward(loss.backward())
    optimizer = SGD(network.parameters(), lr=0.1)
    result = train_step(network, MeanSquaredError(), optimizer, (x, target))
    np.testing.assert_allclose(result.loss, value, rtol=1e-5)
    for parameter, other in zip(network.parameters(), whole.parameters(), strict=True):
        expected = other.value - 0.1 * other.grad
        np.testing.assert_allclose(parameter.value, expected, rtol=1e-4, atol=1e-6)


def trained_weights(threads):
    """The weights after three steps on batches of several sizes, with dropout and every kernel."""
    before = driver.get_threads()
    driver.set_threads(threads)
    try:
        network = Sequential(
            [
                *(Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool(2)),
                *(Conv2d(6, 16, 5), Tanh(), MeanPool(2)),
                *(Flatten(), Dense(400, 30), Sigmoid(), Dropout(0.3), Dense(30, 10)),
            ]
        ).initialize("kaiming", rng=3)
        optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9, clip_norm=1.0)
        losses = []
        for n in (64, 150, 33):
            batch = images(n, seed=n), np.arange(n) % 10
            losses.append(train_step(network, SoftmaxCrossEntropy(), optimizer, batch).loss)
        return losses, [parameter.value.copy() for parameter in network.parameters()]
    finally:
        driver.set_threads(before)


def test_results_do_not_depend_on_the_number_of_threads():
    assert_identical(trained_weights(1), trained_weights(2))


def test_results_are_the_same_from_run_to_run():
    assert_identical(trained_weights(2), trained_weights(2))


def assert_identical(first, second):
    assert first[0] == second[0]
    for a, b in zip(first[1], second[1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_lenet_learns_64_images_by_heart():
    network = lenet5().initialize("kaiming", rng=0)
    x, labels = images(64), np.random.default_rng(1).integers(0, 10, 64)
    optimizer = SGD(network.parameters(), lr=0.02, momentum=0.9)
    for _ in range(60):
        train_step(network, SoftmaxCrossEntropy(), optimizer, (x, labels))
    assert np.mean(network.forward(x).argmax(axis=1) == labels) == 1.0


# Divergence.


def test_a_loss_that_is_too_large_changes_nothing_even_if_all_gradients_are_finite():
    network = Sequential([Dense(2, 3)]).astype(np.float64)
    before, target = network.values.copy(), np.full((20, 3), 1e200)
    with pytest.raises(DivergedError):
        train_step(network, MeanSquaredError(), SGD(network.parameters(), lr=0.1), (np.ones((20, 2)), target))
    assert np.isfinite(network.gradients).all() and network.gradients.any()
    np.testing.assert_array_equal(network.values, before)


@pytest.mark.parametrize("sample", [0, 199])
def test_a_loss_that_is_not_finite_names_step_and_layer_and_changes_nothing(sample):
    """Also if it arises in the first of several pieces of a batch."""
    network = Sequential([Dense(2, 3), ReLU(), Dense(3, 3)])
    network[2].parameters()[0].value[...] = 3e38
    network[0].parameters()[0].value[...] = 1.0
    network[0].parameters()[1].value[...] = 0.0
    before = [parameter.value.copy() for parameter in network.parameters()]
    x = np.full((200, 2), -1, np.float32)
    x[sample] = 5
    optimizer = SGD(network.parameters(), lr=0.1)
    with pytest.raises(DivergedError, match=r"layer 2 Dense\(3, 3\)") as caught:
        train_step(network, SoftmaxCrossEntropy(), optimizer, (x, np.zeros(200, np.int64)))
    assert caught.value.step == 1
    for parameter, value in zip(network.parameters(), before, strict=True):
        np.testing.assert_array_equal(parameter.value, value)


def test_targets_that_do_not_fit_are_refused():
    network = Sequential([Dense(4, 3)])
    optimizer = SGD(network.parameters(), lr=0.1)
    with pytest.raises(MinicnnError, match=r"expected 5.*received 4"):
        train_step(network, SoftmaxCrossEntropy(), optimizer, (images(5, (4,)), np.arange(4) % 3))
    with pytest.raises(MinicnnError, match="0 to 2, received 3 at index 99"):
        labels = np.zeros(100, np.int64)
        labels[99] = 3
        train_step(network, SoftmaxCrossEntropy(), optimizer, (images(100, (4,)), labels))


# Batches of bytes.


def pixels(n, channels=2):
    shape = (n, channels, 5, 7)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def normalised(images, mean, std):
    mean, std = (np.broadcast_to(v, images.shape[1])[:, None, None] for v in (mean, std))
    return (images / 255 - mean) / std


@pytest.mark.parametrize("batch_size", [1, LANES - 1, LANES, LANES + 1, 100, 1000])
@pytest.mark.parametrize(("mean", "std"), [(0.1307, 0.3081), ((0.2, 0.5), (0.3, 0.1))])
def test_batches_hold_each_image_once_normalised(batch_size, mean, std):
    """Read through a network that hands its input on: evaluation shows what it was fed."""
    images, labels = pixels(150), np.arange(150) % 7
    batches = Batches(images, labels, batch_size, mean, std)
    assert len(batches) == -(-150 // batch_size)
    assert [len(batch) for batch in batches.epoch()][-1] == 150 - (len(batches) - 1) * batch_size
    scores = evaluate(Sequential([Flatten()]), SoftmaxCrossEntropy(), batches).scores
    expected = normalised(images, mean, std).reshape(150, -1)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        batches = Batches(pixels(50), np.arange(50), 8, seed=seed)
        return [int(label) for batch in batches.epoch(epoch) for label in batch.labels]

    assert order(None, 0) == order(None, 5) == list(range(50))
    assert order(3, 0) == order(3, 0) != list(range(50))
    assert sorted(order(3, 0)) == list(range(50))
    assert len({tuple(order(seed, epoch)) for seed in (3, 4) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("batch_size", [20, 100])
def test_training_on_batches_is_training_on_their_arrays(batch_size):
    images, labels = pixels(150), np.arange(150) % 7
    network = Sequential([Flatten(), Dense(70, 7)])
    twin = copy.deepcopy(network)
    optimizers = [SGD(net.parameters(), lr=0.1) for net in (network, twin)]
    batches = Batches(images, labels, batch_size, 0.5, 0.25, seed=1)
    order, start = batches.order(2), 0
    for batch in batches.epoch(2):
        part = order[start : start + len(batch)]
        start += len(batch)
        np.testing.assert_array_equal(batch.labels, labels[part])
        x = normalised(images[part], 0.5, 0.25).astype(np.float32)
        results = [
            train_step(net, SoftmaxCrossEntropy(), optimizer, data)
            for net, optimizer, data in zip((network, twin), optimizers, (batch, (x, labels[part])), strict=True)
        ]
        np.testing.assert_allclose(results[0].loss, results[1].loss, rtol=1e-5)
        assert results[0].correct == results[1].correct
    for parameter, other in zip(network.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(parameter.value, other.value, rtol=1e-4, atol=1e-6)


def test_evaluation_is_the_mean_over_all_images_with_dropout_off():
    images, labels = pixels(150), np.arange(150) % 7
    network = Sequential([Flatten(), Dropout(0.5), Dense(70, 7)])
    result = evaluate(network, SoftmaxCrossEntropy(), Batches(images, labels, 64))
    scores = network.forward((images / 255).reshape(150, -1).astype(np.float32))
    np.testing.assert_allclose(result.scores, scores, rtol=1e-4, atol=1e-5)
    expected = SoftmaxCrossEntropy().forward(scores, labels)
    np.testing.assert_allclose(result.loss, expected, rtol=1e-5)
    assert result.accuracy == np.mean(scores.argmax(axis=1) == labels)


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        (pixels(0), np.arange(0), {}, "N > 0"),
        (pixels(4)[0, 0], np.arange(5), {}, r"\(N, C, H, W\)"),
        (np.zeros((4, 9, 9, 3)), np.arange(4), {}, r"channels last; .*moveaxis\(images, -1, -3\)"),
        (pixels(4) * 1.0, np.arange(4), {}, "from 0 to 1 .*; divide them by 255"),
        (pixels(4), np.eye(4, dtype=int), {}, r"one-hot rows .*labels.argmax\(axis=1\)"),
        (pixels(4), np.arange(3), {}, "expected 4 integers"),
        (pixels(4), np.arange(4) / 2, {}, "expected 4 integers.*float64"),
        (pixels(4), np.arange(4), {"batch_size": 0}, "batch_size"),
        (pixels(4), np.arange(4), {"std": 0.0}, "std"),
        (pixels(4), np.arange(4), {"mean": (0.1, 0.2, 0.3)}, "mean"),
    ],
)
def test_batches_refuse_what_does_not_fit(images, labels, options, message):
    with pytest.raises(MinicnnError, match=message):
        Batches(images, labels, **{"batch_size": 2} | options)
