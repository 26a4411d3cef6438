"""Sequential: nesting, one flat buffer for all parameters, copies."""

import copy
import pickle

import numpy as np
import pytest
from against_torch import compare_with_torch
from torch import nn

from minicnn import (
    SGD,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    MeanPool,
    ReLU,
    Sequential,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
)
from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import LANES
from minicnn.training.step import train_step
from minicnn.zoo import lenet5


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


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [ReLU(), MaxPool(2)],
        lambda: [ReLU(), MaxPool(3, stride=2, padding=1, ceil_mode=True)],
        lambda: [ReLU(), ReLU(), MaxPool(2), ReLU(), MaxPool(2, stride=1), Tanh()],
        lambda: [Sequential([ReLU()]), MaxPool(2), MeanPool(2)],
    ],
)
def test_a_network_is_its_layers_one_after_the_other_to_the_bit(layers):
    """Whatever order Sequential works in; small whole numbers make ties, most of them at 0."""
    network, alone = Sequential(layers()), layers()
    x = np.random.default_rng(0).integers(-2, 3, (LANES + 1, 2, 9, 8)).astype(np.float32)
    y = network.forward(x)
    expected = x
    for layer in alone:
        expected = layer.forward(expected)
    np.testing.assert_array_equal(y, expected)
    dy = images(len(y), y.shape[1:])
    dx = dy
    for layer in reversed(alone):
        dx = layer.backward(dx)
    np.testing.assert_array_equal(network.backward(dy), dx)


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
    train_step(network, SoftmaxCrossEntropy(), SGD(network.parameters(), lr=0.1), (images(5), np.arange(5)))
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
    for features, hint in ((3456, "$"), (99, r", and make it Dense\(3456, 10\)$")):
        with pytest.raises(ShapeError, match=rf"received \(6, 24, 24\); put a Flatten before it{hint}"):
            Sequential([Conv2d(1, 6, 5), Dense(features, 10)]).output_shape((1, 28, 28))


def test_evaluating_after_training_leaves_dropout_out():
    network = Sequential([Flatten(), Dense(16, 8), Dropout(0.9), Dense(8, 3)])
    x = images(LANES + 1, (1, 4, 4))
    network.forward(x, training=True)
    expected = Sequential([network[0], network[1], network[3]]).forward(x)
    np.testing.assert_array_equal(network.forward(x), expected)


def test_a_copied_network_is_trained_like_its_original():
    network = small_network()
    x, labels = images(100, (1, 8, 8)), np.arange(100) % 10
    twin = copy.deepcopy(network)
    for net in (network, twin):
        optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
        for _ in range(2):
            train_step(net, SoftmaxCrossEntropy(), optimizer, (x, labels))
    np.testing.assert_array_equal(network.forward(x), twin.forward(x))


def test_layers_that_another_network_took_over_are_trained_all_the_same():
    """Sequential(network[:3]), say, moves the parameters of those layers into arrays of its own."""
    network, whole = small_network(), small_network()
    optimizer = SGD(network.parameters(), lr=0.1)
    Sequential([Sequential(network[:2]), network[4]])
    x, labels = images(300, (1, 8, 8)), np.arange(300) % 10
    train_step(network, SoftmaxCrossEntropy(), optimizer, (x, labels))
    loss = SoftmaxCrossEntropy()
    loss.forward(whole.forward(x), labels)
    whole.backward(loss.backward())
    for parameter, other in zip(network.parameters(), whole.parameters(), strict=True):
        np.testing.assert_allclose(parameter.grad, other.grad, rtol=1e-4, atol=1e-6)
        expected = other.value - 0.1 * other.grad
        np.testing.assert_allclose(parameter.value, expected, rtol=1e-4, atol=1e-6)


def test_a_network_without_layers_is_the_identity():
    x = images(3, (4,))
    np.testing.assert_array_equal(Sequential([]).forward(x), x)


def test_the_same_layer_twice_and_what_is_no_layer_are_refused():
    layer = Dense(3, 3)
    with pytest.raises(ShapeError, match=r"layer 1 Dense\(3, 3\).*once"):
        Sequential([layer, layer])
    with pytest.raises(ShapeError, match="layer 0: expected a Layer, received <function"):
        Sequential([lambda x: x])


def test_a_pass_whose_arrays_are_others_is_not_the_last_one_again(rng):
    """Layers keep lists of kernel calls; another batch size, type or home of the parameters makes new ones."""
    layers = [Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool(2), Flatten(), Dense(1176, 5)]
    net = Sequential(layers).initialize(rng=0)

    def results(net, x):
        y = net.forward(x)
        return [y, net.backward(np.ones_like(y)), net.gradients.copy()]

    small, large = (rng.standard_normal((n, 1, 28, 28)).astype(np.float32) for n in (3, 40))
    expected = {len(x): results(net, x) for x in (small, large)}
    for x in (small, large, small):
        for actual, wanted in zip(results(net, x), expected[len(x)], strict=True):
            np.testing.assert_array_equal(actual, wanted)
    other = Sequential(layers)  # the parameters move
    net.values[:] = 0
    for actual, wanted in zip(results(other, small), expected[3], strict=True):
        np.testing.assert_array_equal(actual, wanted)
    twin = results(other.astype(np.float64), small.astype(np.float64))
    np.testing.assert_allclose(twin[2], expected[3][2], rtol=1e-3, atol=1e-3)


def test_a_copy_of_a_layer_that_has_been_used_goes_backward_alike(rng):
    layer = Conv2d(2, 3, 3, padding=1)
    x = images(5, (2, 6, 6))
    y = layer.forward(x, training=True)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    copies = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    dx = layer.backward(dy)
    for other in copies:
        with pytest.raises(MinicnnError, match="backward before forward"):
            other.backward(dy)  # it has not been used itself
        other.forward(x, training=True)
        np.testing.assert_array_equal(other.backward(dy), dx)
        np.testing.assert_array_equal(other.weight.grad, layer.weight.grad)


def test_a_larger_batch_of_another_network_with_the_same_layer_leaves_no_trace(rng):
    layer = Conv2d(2, 3, 3, padding=1)
    ours, others = (Sequential([layer, Tanh()]) for _ in range(2))
    alone = Sequential([copy.deepcopy(layer), Tanh()])
    for seed in range(2):
        x = images(5, (2, 6, 6), seed)
        for network in (ours, alone):
            y = network.forward(x, training=True)
            dx = network.backward(y)
            if network is ours:
                others.forward(images(50, (2, 6, 6)))
                ours_dx = dx
        np.testing.assert_array_equal(ours_dx, dx)
        np.testing.assert_array_equal(layer.weight.grad, alone.layers[0].weight.grad)


def test_a_class_derived_from_relu_or_maxpool_stays_itself():
    class Capped(ReLU):
        def forward(self, x, training=False):
            return np.minimum(super().forward(x, training), np.float32(0.5))

    class Doubled(MaxPool):
        def forward(self, x, training=False):
            return 2 * super().forward(x, training)

    x = images(2, (1, 4, 4))
    plain = Sequential([ReLU(), MaxPool(2)]).forward(x)
    capped = Sequential([Capped(), MaxPool(2)]).forward(x)
    doubled = Sequential([ReLU(), Doubled(2)]).forward(x)
    np.testing.assert_array_equal(capped, np.minimum(plain, np.float32(0.5)))
    np.testing.assert_array_equal(doubled, 2 * plain)
