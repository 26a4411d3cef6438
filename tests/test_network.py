"""Sequential, a user's own layer in it, and training steps."""

import copy

import numba
import numpy as np
import pytest
import torch
from against_torch import assert_same, compare_with_torch
from torch import nn

from minicnn import (
    SGD,
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
from minicnn.errors import ShapeError
from minicnn.kernels.simd import LANES
from minicnn.layers.base import Layer, Parameter
from minicnn.models import lenet5
from minicnn.training import train_step


def images(n, shape=(1, 28, 28), seed=0):
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


def small_network(seed=0):
    layers = [Conv2d(1, 3, 3), ReLU(), MaxPool(2), Flatten(), Dense(27, 10)]
    return Sequential(layers).initialize("uniform", rng=seed)


def test_nested_networks_equal_torch():
    ours = Sequential(
        [
            Sequential([Conv2d(1, 3, 3), Tanh()]),
            MeanPool(2),
            Sequential([Flatten(), Sequential([Dense(27, 7), Sigmoid()]), Dense(7, 3)]),
        ]
    )
    theirs = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh()),
        nn.AvgPool2d(2),
        nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(27, 7), nn.Sigmoid()), nn.Linear(7, 3)),
    )
    compare_with_torch(ours, theirs, images(LANES + 3, (1, 8, 8)))
    assert [p.name for p in ours.parameters()] == list(theirs.state_dict())


def test_a_network_is_a_sequence_of_its_layers():
    layers = [Conv2d(1, 3, 3), ReLU(), Flatten()]
    network = Sequential(layers)
    assert len(network) == 3
    assert list(network) == layers
    assert network[0] is layers[0]
    assert network[-1] is layers[2]
    assert network.output_shape((1, 5, 5)) == (27,)


def test_parameters_are_views_of_two_flat_buffers_and_keep_their_identity():
    network = lenet5()
    before = [(p.value, p.grad) for p in network.parameters()]
    train_step(
        network,
        SoftmaxCrossEntropy(),
        SGD(network.parameters(), lr=0.1),
        (images(5), np.arange(5)),
    )
    parameters = network.parameters()
    for (value, grad), parameter in zip(before, parameters, strict=True):
        assert parameter.value is value
        assert parameter.grad is grad
    for arrays in ([p.value for p in parameters], [p.grad for p in parameters]):
        start = arrays[0].__array_interface__["data"][0]
        for array in arrays:
            assert array.__array_interface__["data"][0] == start
            assert array.flags.c_contiguous
            start += array.nbytes


def test_a_copied_network_is_independent_and_still_flat():
    network = small_network()
    twin = copy.deepcopy(network)
    x, labels = images(4, (1, 8, 8)), np.arange(4)
    before = network.forward(x)
    optimizer = SGD(twin.parameters(), lr=0.5)
    train_step(twin, SoftmaxCrossEntropy(), optimizer, (x, labels))
    np.testing.assert_array_equal(network.forward(x), before)
    assert np.abs(twin.forward(x) - before).max() > 1e-3


def test_a_misfit_is_named_with_its_layer():
    network = Sequential([Conv2d(1, 6, 5), Flatten(), Dense(99, 10)])
    with pytest.raises(ShapeError, match=r"Dense\(99, 10.*99.*3456"):
        network.output_shape((1, 28, 28))
    with pytest.raises(ShapeError, match=r"Dense\(99, 10.*99.*3456"):
        network.forward(images(2))


def test_evaluating_after_training_leaves_dropout_out():
    network = Sequential([Flatten(), Dense(16, 8), Dropout(0.9), Dense(8, 3)])
    x = images(LANES + 1, (1, 4, 4))
    network.forward(x, training=True)
    expected = Sequential([network[0], network[1], network[3]]).forward(x)
    np.testing.assert_array_equal(network.forward(x), expected)


# A user's own layer.


class Swish(Layer):
    """y = x / (1 + exp(-slope x)) with one trained slope per channel, in NumPy."""

    def __init__(self, channels):
        self.slope = Parameter("slope", np.ones(channels, np.float32))

    def parameters(self):
        return [self.slope]

    def output_shape(self, input_shape):
        return tuple(input_shape)

    def forward(self, x, training=False):
        self.x = x
        self.s = 1 / (1 + np.exp(-self.slope.value[:, None, None] * x))
        return x * self.s

    def backward(self, dy):
        d = dy * self.s * (1 - self.s)
        self.slope.grad[...] = np.sum(d * self.x**2, axis=(0, 2, 3))
        return dy * self.s + d * self.x * self.slope.value[:, None, None]


class TorchSwish(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.slope = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return x * torch.sigmoid(self.slope[:, None, None] * x)


def swish_networks():
    ours = [Conv2d(1, 3, 3), Swish(3), MaxPool(2), Flatten(), Dense(27, 10)]
    theirs = [nn.Conv2d(1, 3, 3), TorchSwish(3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 10)]
    return Sequential(ours), nn.Sequential(*theirs)


@pytest.mark.parametrize("n", [1, LANES, LANES + 1])
def test_a_layer_in_numpy_works_in_a_network(n):
    ours, theirs = swish_networks()
    compare_with_torch(ours, theirs, images(n, (1, 8, 8)))
    assert [p.name for p in ours.parameters()][2] == "1.slope"


def test_a_layer_in_numpy_is_trained():
    network, _ = swish_networks()
    x, labels = images(200, (1, 8, 8)), np.arange(200) % 10
    optimizer = SGD(network.parameters(), lr=0.1)
    losses = [
        train_step(network, SoftmaxCrossEntropy(), optimizer, (x, labels)).loss for _ in range(5)
    ]
    assert losses == sorted(losses, reverse=True)
    assert not np.array_equal(network[1].slope.value, np.ones(3))


# Training steps.


def test_a_big_batch_in_pieces_has_the_gradients_of_the_whole():
    network = lenet5().initialize("uniform", rng=1)
    whole = copy.deepcopy(network)
    x, labels = images(300), np.arange(300) % 10
    result = train_step(
        network, SoftmaxCrossEntropy(), SGD(network.parameters(), lr=0.0), (x, labels)
    )
    loss = SoftmaxCrossEntropy()
    scores = whole.forward(x, training=True)
    value = loss.forward(scores, labels)
    whole.backward(loss.backward())
    np.testing.assert_allclose(result.loss, value, rtol=1e-5)
    assert (result.correct, result.count) == (np.sum(scores.argmax(axis=1) == labels), 300)
    assert_same(
        [p.grad for p in network.parameters()], [p.grad for p in whole.parameters()], rtol=1e-5
    )


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
        np.testing.assert_allclose(parameter.value, other.value - 0.1 * other.grad, rtol=1e-4)


def trained_weights(threads):
    """The weights after three steps on batches of several sizes, with dropout and every kernel."""
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        network = Sequential(
            [
                *(Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool(2)),
                *(Conv2d(6, 8, 3, stride=2, groups=2), Tanh(), MeanPool(2)),
                *(Flatten(), Dense(72, 30), Sigmoid(), Dropout(0.3), Dense(30, 10)),
            ]
        ).initialize("kaiming", rng=3)
        optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9, max_norm=1.0)
        losses = []
        for n in (64, 150, 33):
            batch = images(n, seed=n), np.arange(n) % 10
            losses.append(train_step(network, SoftmaxCrossEntropy(), optimizer, batch).loss)
        return losses, [parameter.value.copy() for parameter in network.parameters()]
    finally:
        numba.set_num_threads(before)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
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
