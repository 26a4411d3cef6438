"""Copies are independent twins that work, and hold nothing of the passes that the original has seen."""

import copy
import pickle

import numpy as np
import pytest
from layer_cases import each_layer

from minicnn import (
    EMA,
    SGD,
    Augmentation,
    Batches,
    Conv2d,
    Dense,
    DivergedError,
    Flatten,
    HalfSquaredError,
    MaximumAPosteriori,
    MaxPool,
    MeanSquaredError,
    Model,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    evaluate,
    lenet5,
    train_step,
)

WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda thing, protocol=protocol: pickle.loads(pickle.dumps(thing, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.fixture(params=WAYS)
def twin(request):
    return WAYS[request.param]


def numbers(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def one_step(layer, shape, optimizer=None):
    """Forward, backward and a step; the layer's state then."""
    optimizer = optimizer or SGD(layer.parameters(), lr=0.1, momentum=0.9)
    y = layer.forward(numbers((5, *shape), 1), training=True)
    layer.backward(numbers(y.shape, 2))
    optimizer.step()
    return layer.state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def with_weights(case):
    """The layer, behind one with weights if it has none."""
    layer = case.make()
    if layer.parameters():
        return layer
    first = Conv2d(case.shape[0], case.shape[0], 1) if len(case.shape) == 3 else Dense(*case.shape, *case.shape)
    return Sequential([first, layer])


@pytest.mark.parametrize("inside", [False, True])
@each_layer
def test_a_layer_and_its_twin_are_trained_apart(case, inside, twin):
    """Also one that is part of a network, whose parameters lie in an array of that."""
    layer, shape = with_weights(case).initialize(rng=0), case.shape
    if inside:
        layer = Sequential([layer])[0]
    layer.forward(numbers((5, *shape)))
    other = twin(layer)
    assert type(other) is type(layer) and repr(other) == repr(layer)
    before = layer.state_dict()
    assert same(other.state_dict(), before)
    after = one_step(other, shape)
    assert not same(after, before) and same(layer.state_dict(), before)
    assert same(one_step(layer, shape), after)  # the same step, with the same random numbers
    wrapped = Sequential([other])  # and can be used for another network
    assert not same(one_step(wrapped, shape), after)


@pytest.mark.parametrize("trained", [False, True])
def test_an_optimizer_copied_with_its_network_steps_that_one(trained, twin):
    network = Sequential([Dense(3, 3), ReLU(), Sequential([Dense(3, 2)])])
    optimizer = SGD(network.parameters(), 0.1, 0.9, clip_norm=1.0)
    average = EMA(network.parameters(), 0.5)
    if trained:
        one_step(network, (3,), optimizer)
        average.update()
    if twin is copy.copy:
        twin = copy.deepcopy  # of a pair, that copies nothing
    others = twin((optimizer, network, average))
    result = []
    for o, n, a in (others, (optimizer, network, average)):
        for _ in range(2):
            one_step(n, (3,), o)
            a.update()
        result.append((n.values.copy(), a.average.copy(), o.state()["velocity"].copy(), o.steps))
    for one, other in zip(*result, strict=True):
        np.testing.assert_array_equal(one, other)
    others[1].initialize(rng=5)
    assert (others[1].values != network.values).any()
    loss, batch = SoftmaxCrossEntropy(), (numbers((5, 3)), np.arange(5) % 2)
    train_step(others[1], loss, others[0], batch)
    assert others[0].steps == optimizer.steps + 1


def test_a_copied_optimizer_has_a_velocity_of_its_own():
    network = Sequential([Dense(3, 2)])
    optimizer = SGD(network.parameters(), 0.1, 0.9)
    one_step(network, (3,), optimizer)
    other = copy.copy(optimizer)  # of the same parameters
    velocity = other.state()["velocity"].copy()
    one_step(network, (3,), optimizer)
    np.testing.assert_array_equal(other.state()["velocity"], velocity)
    before = network.values.copy()
    other.step()
    assert (network.values != before).any()


LOSSES = [SoftmaxCrossEntropy(0.1), MaximumAPosteriori(3.0), MeanSquaredError(), HalfSquaredError()]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_loss_and_its_twin(loss, twin):
    y, labels = numbers((5, 3)), np.arange(5) % 3
    value = loss.forward(y, labels)
    other = twin(loss)
    with pytest.raises(ValueError, match="backward before forward"):
        other.backward()
    assert other.forward(2 * y, labels) != value
    other.backward()
    np.testing.assert_array_equal(loss.backward(), type(loss).backward(loss))
    assert other.forward(y, labels) == value


def test_a_model_and_its_twin(twin):
    model = Model(lenet5(), (1, 28, 28), classes=list("abcdefghij"))
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    scores = model.scores(images)
    other = twin(model)
    np.testing.assert_array_equal(other.scores(images), scores)
    assert other.classes == model.classes
    if twin is not copy.copy:  # which shares the network, as Python's copy does
        other.network.initialize(rng=3)
        assert (other.scores(images) != scores).any()
    np.testing.assert_array_equal(model.scores(images), scores)


def test_batches_and_their_twin(twin):
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), np.uint8)
    for augmentation in (None, Augmentation(shift=2, rotation=10)):
        batches = Batches(images, np.arange(40) % 3, 16, 0.3, 0.2, seed=1, augmentation=augmentation)
        other = twin(batches)
        for one, two in zip(batches.epoch(2), other.epoch(2), strict=True):
            for a, b in zip(one.arrays(), two.arrays(), strict=True):
                np.testing.assert_array_equal(a, b)


def test_errors_come_whole_out_of_another_process(twin):
    for error in (DivergedError(3, "layer 1 ReLU()", "; and so on"), DivergedError(3, "", gradient="0.weight")):
        other = twin(error)
        assert str(other) == str(error)
        assert (other.step, other.layer, other.gradient) == (error.step, error.layer, error.gradient)


def test_a_copy_holds_nothing_of_a_pass():
    network, loss = lenet5().initialize(rng=0), SoftmaxCrossEntropy()
    optimizer = SGD(network.parameters(), 0.1)
    things = (network, loss, optimizer, Model(network, (1, 28, 28)))
    fresh = [len(pickle.dumps(thing)) for thing in things]
    assert fresh[0] < 2.1 * network.values.nbytes  # values and gradients
    x, labels = numbers((1000, 1, 28, 28)), np.arange(1000) % 10
    network.forward(x)
    network.backward(numbers((1000, 10)))
    network.forward(x, training=True)
    loss.forward(network.forward(x), labels)
    train_step(network, loss, optimizer, (x, labels))
    evaluate(network, loss, [(x, labels)])
    things[3].predict(x.clip(0, 1))
    velocity = optimizer.state()["velocity"].nbytes
    after = [len(pickle.dumps(thing)) for thing in things]
    for before, now in zip(fresh, after, strict=True):
        assert now < before + velocity + 2000
    for layer in network:
        assert len(pickle.dumps(layer)) < 2.2 * 4 * sum(p.value.size for p in layer.parameters()) + 3000


def test_flat_networks_are_flat_again(twin):
    network = twin(Sequential([Conv2d(1, 2, 3), Flatten(), Dense(8, 2), MaxPool(1)][:3]))
    for parameter in network.parameters():
        assert np.shares_memory(parameter.value, network.values)
        assert np.shares_memory(parameter.grad, network.gradients)
