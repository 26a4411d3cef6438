"""A layer that a user writes in NumPy, in a Sequential."""

import numpy as np
import pytest
import torch
from against_torch import compare_with_torch
from torch import nn

from minicnn import SGD, Conv2d, Dense, Dropout, Flatten, MaxPool, ReLU, Sequential, SoftmaxCrossEntropy
from minicnn.errors import DivergedError, ShapeError
from minicnn.kernels import LANES
from minicnn.layers.lane_layer import LaneLayer
from minicnn.layers.layer import Layer
from minicnn.layers.parameter import Parameter
from minicnn.training.step import train_step


def images(n, shape=(1, 8, 8), seed=0):
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


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
    losses = [train_step(network, SoftmaxCrossEntropy(), optimizer, (x, labels)).loss for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert not np.array_equal(network[1].slope.value, np.ones(3))


# Its mistakes are named instead of being computed with.


class Faulty(Layer):
    """The identity, but for a `mistake` (array -> array) in forward or backward."""

    def __init__(self, forward=lambda x: x, backward=lambda dy: dy):
        self.mistake, self.backward_mistake = forward, backward

    def output_shape(self, input_shape):
        return tuple(input_shape)

    def forward(self, x, training=False):
        return self.mistake(x)

    def backward(self, dy):
        return self.backward_mistake(dy)


MISTAKES = [lambda a: a.astype(np.float64), lambda a: a[:, :2], lambda a: a[:1], lambda a: np.concatenate([a, a])]
each_mistake = pytest.mark.parametrize(
    "mistake", MISTAKES, ids=["float64", "features", "fewer samples", "more samples"]
)


@each_mistake
def test_an_output_of_the_wrong_shape_or_type_is_refused(mistake):
    network = Sequential([Dense(3, 3), Faulty(forward=mistake), Dense(3, 3)])
    with pytest.raises(ShapeError, match="Faulty"):
        network.forward(images(2, (3,)))


@each_mistake
def test_a_gradient_of_the_wrong_shape_or_type_is_refused(mistake):
    network = Sequential([Dense(3, 3), Faulty(backward=mistake), Dense(3, 3)])
    y = network.forward(images(2, (3,)))
    with pytest.raises(ShapeError, match="Faulty"):
        network.backward(y)


def test_nan_that_arises_in_it_counts_as_divergence():
    layer = Faulty(forward=lambda x: x * np.float32(np.nan))
    network = Sequential([Dense(3, 3), layer, Dense(3, 3)])
    optimizer = SGD(network.parameters(), lr=0.1)
    with pytest.raises(DivergedError, match=r"step 1:.*layer 1 Faulty"):
        train_step(network, SoftmaxCrossEntropy(), optimizer, (images(2, (3,)), np.array([0, 1])))


def test_assignments_to_a_parameter_write_into_its_arrays():
    network = Sequential([Dense(3, 2)])
    [weight, _] = network.parameters()
    weight.grad = np.ones((2, 3))
    weight.grad *= 2
    weight.value -= 0.5 * weight.grad
    assert np.shares_memory(weight.value, network.values)
    assert np.shares_memory(weight.grad, network.gradients)
    np.testing.assert_array_equal(network.gradients, [2] * 6 + [0] * 2)
    with pytest.raises(ValueError, match=r"0.weight: expected an array of shape \(2, 3\), received \(4, 3\)"):
        weight.value = np.ones((4, 3))


class Switch(LaneLayer):
    """x, or 0 below 0 while it is on."""

    per_sample = True

    def __init__(self):
        self.relu = ReLU()
        self.on = True

    def output_shape(self, input_shape):
        return input_shape

    def declare(self, work, x):
        return (self.relu if work.watched(self, "on") else Dropout(0)).declare(work, x)


def test_a_layer_on_the_engine_can_be_switched():
    network, x = Sequential([Switch()]), images(3)
    for on in (True, False, True):
        network[0].on = on
        np.testing.assert_array_equal(network.forward(x), np.maximum(x, 0) if on else x)
