"""Frozen layers: as torch's with requires_grad_(False) and eval()."""

import copy

import numpy as np
import pytest
import torch
from against_torch import assert_same
from torch import nn

from minicnn import (
    SGD,
    Adam,
    BatchNorm2d,
    ConfigError,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    Tanh,
    check_gradients,
    summary,
    train_step,
)
from minicnn.layers.lane_layer import in_one_job
from minicnn.training.step import step_work

SHAPE = (2, 8, 8)


def network():
    """A Sequential is in it; Dropout is at 7."""
    head = Sequential([Dense(16, 8), ReLU(), Dense(8, 3)])
    first = [Conv2d(2, 3, 3, padding=1), BatchNorm2d(3), ReLU(), MaxPool(2)]
    second = [Conv2d(3, 4, 3), BatchNorm2d(4), Tanh(), Dropout(0.5), Flatten()]
    return Sequential([*first, *second, head]).initialize(rng=0).astype(np.float64)


def torch_network():
    head = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    first = [nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.5), nn.Flatten()]
    return nn.Sequential(*first, *second, head).double()


def batch(count=17):
    rng = np.random.default_rng(1)
    return rng.standard_normal((count, *SHAPE)), np.arange(count) % 3


def layer_at(net, place):
    for number in place.split("."):
        net = net[int(number)]
    return net


# Dropout always, as torch's draws other masks.
@pytest.mark.parametrize("places", ["7", "0 1 7", "0 1 4 5 7", "4 5 7", "1 7 9.0", "7 9", "1 5 7"])
def test_training_equals_torch(places):
    ours, twin, (x, labels), places = network(), torch_network(), batch(), places.split()
    twin.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    for place in places:
        layer_at(ours, place).freeze()
        layer_at(twin, place).eval().requires_grad_(False)
    before = ours.state_dict()
    optimizer = SGD(ours.parameters(), lr=0.1, momentum=0.9, clip_norm=0.5)
    theirs = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        result = train_step(ours, SoftmaxCrossEntropy(), optimizer, (x, labels))
        theirs.zero_grad()
        loss = nn.functional.cross_entropy(twin(torch.tensor(x)), torch.tensor(labels))
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        theirs.step()
        np.testing.assert_allclose(result.loss, loss.item(), rtol=1e-10)
    after = ours.state_dict()
    for name, array in twin.state_dict().items():
        np.testing.assert_allclose(after[name], array.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)
        frozen = any(name.startswith(f"{place}.") for place in places)
        if frozen or name.endswith("weight"):  # a bias before BatchNorm2d has a gradient of 0
            assert np.array_equal(before[name], after[name]) == frozen, name


def test_nothing_is_computed_on_the_way_back_to_frozen_layers():
    net, pair = network(), batch()
    whole = [call for call in step_work(net, SoftmaxCrossEntropy(), pair).finish().calls if "back" in call.label]
    for layer in net[:2]:
        layer.freeze()
    calls = step_work(net, SoftmaxCrossEntropy(), pair).finish().calls
    backwards = [call.label for call in calls if "back" in call.label]
    assert backwards and len(backwards) < len(whole)
    assert not [label for label in backwards if label.startswith(("0 ", "1 ", "2 ", "3 "))]
    net.unfreeze()[4].freeze()  # in the middle, the gradient goes through
    train_step(net, SoftmaxCrossEntropy(), SGD(net.parameters(), 0.1), pair)
    assert not net[4].weight.grad.any() and net[0].weight.grad.any()
    for layer in (net[1], net[5]):
        layer.freeze()
    assert in_one_job(net, True)  # so that an image goes all the way on one core


def test_layers_within_a_frozen_one_learn_once_they_are_unfrozen():
    one, other, pair = network(), network(), batch()
    one.freeze()[9][2].unfreeze()
    one[5].unfreeze()
    for layer in (*other[:5], *other[6:9], *other[9][:2]):
        layer.freeze()
    for net in (one, other):
        train_step(net, SoftmaxCrossEntropy(), SGD(net.parameters(), 0.1), pair)
    assert not one.frozen and not one[9].frozen and one[9][1].frozen
    assert one[5].num_batches_tracked == 1 and one[9][2].bias.grad.any()
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(one.state_dict()[name], array, err_msg=name)


def test_freezing_counts_from_the_next_step_on_until_it_is_undone():
    """Programs that were made before are not used, copies are frozen, too, and the optimizer's memory stays."""
    net, pair = network(), batch()
    optimizer = Adam(net.parameters(), lr=0.01)

    def moved():
        before = net.values.copy()
        train_step(net, SoftmaxCrossEntropy(), optimizer, pair)
        pairs = zip(net.parameters(), split(net, before), strict=True)
        return {p.name.rpartition(".")[0] for p, old in pairs if (p.value != old).any()}

    every = {"0", "1", "4", "5", "9.0", "9.2"}
    assert moved() == every
    memory = optimizer.state()["exp_avg"]
    assert net[9].freeze() is net[9] and net[9].frozen and net[9][0].frozen and not net.frozen
    assert moved() == every - {"9.0", "9.2"}
    assert net[9][0].weight.frozen and not net[0].weight.frozen and (net[9][0].weight.grad == 0).all()
    assert copy.deepcopy(net)[9][2].weight.frozen and copy.deepcopy(net)[9].frozen
    net[9][2].unfreeze()
    assert moved() == every - {"9.0"}
    net.unfreeze()
    assert moved() == every and optimizer.state()["exp_avg"] is memory
    net.freeze()
    with pytest.raises(ConfigError, match=r"^Adam: expected a parameter that is not frozen, received none"):
        moved()
    assert_same([net.forward(pair[0], training=True)], [net.forward(pair[0])], rtol=1e-12)


def split(net, values):
    ends = np.cumsum([p.value.size for p in net.parameters()])
    return [part.reshape(p.value.shape) for part, p in zip(np.split(values, ends[:-1]), net.parameters(), strict=True)]


def test_gradients_and_the_table():
    net = network()
    for place in ("0", "1", "5", "7", "9.2"):
        layer_at(net, place).freeze()
    checked = check_gradients(net, SHAPE, training=True, directions=1)
    assert list(checked) == ["input", "4.weight", "4.bias", "9.0.weight", "9.0.bias"]
    assert summary(net, SHAPE).endswith("\ntrainable parameters: 248; frozen: 98, in layers 0, 1, 5, 7, 9.2")
    assert "frozen" not in summary(net.unfreeze(), SHAPE)
    own = Doubling()  # a single line, as nobody sees into it
    own.first, own.second = Dense(4, 3).freeze(), Dense(3, 2)
    assert summary(Sequential([own]), (4,)).endswith("\ntrainable parameters: 8; frozen: 15, in layers 0")


class Doubling(Layer):
    """A layer of a user's, which says how it was called."""

    def __init__(self):
        self.seen = []

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False):
        self.seen.append(training)
        return 2 * x

    def backward(self, dy):
        return 2 * dy


def test_a_layer_of_ones_own():
    own, pair = Doubling(), (np.ones((3, 4), np.float32), np.array([0, 1, 2]))
    net = Sequential([Dense(4, 4), own, Dense(4, 3)])
    optimizer = SGD(net.parameters(), 0.1)
    for frozen in (False, True):
        train_step(net, SoftmaxCrossEntropy(), optimizer, pair)
        own.freeze()
        assert own.seen[-1] is not frozen
