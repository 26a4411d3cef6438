"""Layers that hold layers: a Residual, and one that a user writes in NumPy, at any depth."""

import copy
import pickle

import numpy as np
import pytest
from against_torch import TorchResidual, compare_with_torch
from torch import nn

from minicnn import (
    SGD,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    Model,
    Parameter,
    ReLU,
    Residual,
    Sequential,
    ShapeError,
    SoftmaxCrossEntropy,
    Tanh,
    check_gradients,
    evaluate,
    load,
    summary,
    train_step,
)
from minicnn.errors import MinicnnError
from minicnn.inspect.summary import summarize
from minicnn.kernels import LANES
from minicnn.layers.registry import from_config, to_config
from minicnn.training.divergence import first_not_finite

X = np.random.default_rng(0).standard_normal((LANES + 5, 2, 6, 6)).astype(np.float32)
LABELS = np.arange(len(X)) % 3


class Skip(Layer):
    """y = body(x) + scale x, in NumPy, with a parameter, a buffer and a generator of its own."""

    def __init__(self, channels: int):
        self.channels = channels
        self.scale = Parameter("scale", np.ones(1, np.float32))
        self.calls = np.zeros((), np.int64)
        self.body = Sequential([Conv2d(channels, channels, 3, padding=1), BatchNorm2d(channels), Dropout(0.2)])

    def parameters(self):
        return [self.scale]

    def buffers(self):
        return {"calls": self.calls}

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False):
        self.x = x
        self.calls += 1
        return self.body.forward(x, training) + self.scale.value * x

    def backward(self, dy):
        self.scale.grad = (dy * self.x).sum()
        return self.body.backward(dy) + self.scale.value * dy


class Row(Layer):
    """Blocks one after the other, in NumPy: a list of layers, each of which may hold others."""

    def __init__(self, blocks):
        self.blocks = list(blocks)

    def paths(self):
        return [list(self.children())]

    def output_shape(self, input_shape):
        for block in self.blocks:
            input_shape = block.output_shape(input_shape)
        return input_shape

    def forward(self, x, training=False):
        for block in self.blocks:
            x = block.forward(x, training)
        return x

    def backward(self, dy):
        for block in reversed(self.blocks):
            dy = block.backward(dy)
        return dy


class Sum(Layer):
    def __init__(self, layers):
        self.layers = Sequential(layers)

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False):
        return self.layers.forward(x, training) + x

    def backward(self, dy):
        return self.layers.backward(dy) + dy


def deep():
    """Layers in a network in a user's layer in a network in a user's layer in a network."""
    inner = Sequential([Skip(2), Residual([Conv2d(2, 2, 1), BatchNorm2d(2)])])
    return Sequential([Row([Tanh(), inner]), Flatten(), Dense(72, 3)])


NAMES = [
    *("0.blocks.1.0.scale", "0.blocks.1.0.calls", "0.blocks.1.0.body.0.weight", "0.blocks.1.0.body.0.bias"),
    *(f"0.blocks.1.0.body.1.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    *("0.blocks.1.1.layers.0.weight", "0.blocks.1.1.layers.0.bias"),
    *(f"0.blocks.1.1.layers.1.{k}" for k in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    *("2.weight", "2.bias"),
]


def trained(network, steps=3):
    optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        train_step(network, SoftmaxCrossEntropy(), optimizer, (X, LABELS))
    return network


def test_all_that_layers_within_layers_hold_belongs_to_the_network(tmp_path):
    network = deep().initialize("kaiming", rng=0)
    assert list(network.state_dict()) == NAMES
    assert {p.name for p in network.parameters()} == {n for n in NAMES if n.rpartition(".")[2] in "weight bias scale"}
    assert network.parameter_count == sum(p.value.size for p in network.parameters()) == 1 + 38 + 4 + 6 + 4 + 219
    assert all(np.shares_memory(p.value, network.values) for p in network.parameters())
    assert len(network.generators()) == 1
    conv = network[0].blocks[1][0].body[0]
    assert np.abs(conv.weight.value).max() > 0 and not conv.bias.value.any()  # as kaiming draws them
    before = network.values.copy()
    trained(network)
    assert (network.values != before).mean() > 0.9
    model = Model(network, (2, 6, 6))
    images = X.clip(0, 1)
    for array in network.buffers().values():
        assert array.any()
    scores = model.scores(images)
    model.save(tmp_path / "model.safetensors")
    other = load(tmp_path / "model.safetensors", layers={"Skip": Skip, "Row": Row})
    np.testing.assert_array_equal(other.scores(images), scores)
    assert repr(other.network) == repr(network)
    assert network.astype(np.float64).values.dtype == np.float64
    assert {p.value.dtype for p in network.parameters()} == {np.dtype(np.float64)}
    assert network.forward(X.astype(np.float64)).dtype == np.float64


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_copies_are_trained_alike_and_apart(way):
    network = trained(deep().initialize(rng=0))
    other, before = way(network), network.state_dict()
    trained(other)
    assert all(np.array_equal(array, before[name]) for name, array in network.state_dict().items())
    trained(network)
    for name, array in network.state_dict().items():
        np.testing.assert_array_equal(array, other.state_dict()[name])


def test_a_layer_that_two_attributes_lead_to_has_one_place():
    class Kept(Sum):  # its argument, for options(), and the network of it
        def __init__(self, layers):
            self.layers = list(layers)
            self.body = Sequential(self.layers)

        def forward(self, x, training=False):
            return self.body.forward(x, training)

        def backward(self, dy):
            return self.body.backward(dy)

    layer = Kept([Dense(3, 3)])
    assert list(layer.state_dict()) == ["body.0.weight", "body.0.bias"]
    assert [place for place, _ in Sequential([layer]).places()] == ["0", "0.body", "0.body.0"]
    twin = from_config(to_config(layer), {"Kept": Kept})[0]
    assert list(twin.state_dict()) == list(layer.state_dict()) and twin.body[0] is not layer.body[0]


def test_layers_of_two_networks_are_trained_in_both():
    block = Skip(2).initialize(rng=0)
    one, other = (Sequential([block, Flatten(), Dense(72, 3)]) for _ in range(2))
    for network in (one, other, one):
        before = block.body[0].weight.value.copy()
        trained(network, 1)
        assert (block.body[0].weight.value != before).any()


def test_gradients_are_right():
    assert max(check_gradients(deep().initialize(rng=0), (2, 6, 6), training=False, directions=2).values()) < 1e-6


def residual(make):
    first = [Conv2d(2, 4, 3, padding=1)]
    block = make([Conv2d(4, 4, 3, padding=1), BatchNorm2d(4), ReLU(), Conv2d(4, 4, 3, padding=1)])
    return Sequential([*first, block, ReLU(), MaxPool(2), Flatten(), Dense(36, 3)]).initialize("kaiming", rng=1)


def test_a_residual_is_that_of_a_user_in_numpy_to_the_bit():
    ours, theirs = residual(Residual), residual(Sum)
    for network in (ours, theirs):
        trained(network)
    for (name, one), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_array_equal(one, other, name)
    results = [evaluate(network, SoftmaxCrossEntropy(), [(X, LABELS)]) for network in (ours, theirs)]
    np.testing.assert_array_equal(results[0].scores, results[1].scores)


def test_a_layer_in_numpy_that_needs_no_other_image_is_waited_for_all_the_same():
    """Its neighbours' maps have to outlive the jobs before it, also within a Residual."""

    class Alone(Sum):
        per_sample = True

    x = np.concatenate([X] * 4)
    networks = [
        Sequential([Conv2d(2, 2, 3), Residual([Tanh(), kind([Tanh()])]), Conv2d(2, 2, 3), Flatten(), Dense(8, 3)])
        for kind in (Residual, Alone)
    ]
    for network in networks:
        network.initialize(rng=0)
        train_step(network, SoftmaxCrossEntropy(), SGD(network.parameters(), 0.1), (x, np.arange(len(x)) % 3))
    np.testing.assert_array_equal(networks[0].values, networks[1].values)
    scores = [evaluate(n, SoftmaxCrossEntropy(), [(x, np.arange(len(x)) % 3)]).scores for n in networks]
    np.testing.assert_array_equal(scores[0], scores[1])


@pytest.mark.parametrize("count", [1, LANES, 2 * LANES + 1])
def test_a_network_of_residuals_equals_torch(count):
    ours = [
        Residual([Conv2d(2, 2, 3, padding=1), Tanh()]),
        Residual([Conv2d(2, 3, 3, 2, 1), Residual([Tanh()])], [Conv2d(2, 3, 1, 2)]),
        *(Flatten(), Residual([Dense(27, 27), Tanh()])),
    ]
    theirs = [
        TorchResidual([nn.Conv2d(2, 2, 3, padding=1), nn.Tanh()]),
        TorchResidual([nn.Conv2d(2, 3, 3, 2, 1), TorchResidual([nn.Tanh()])], [nn.Conv2d(2, 3, 1, 2)]),
        *(nn.Flatten(), TorchResidual([nn.Linear(27, 27), nn.Tanh()])),
    ]
    network, twin = Sequential(ours), nn.Sequential(*theirs)
    x = np.random.default_rng(count).standard_normal((count, 2, 6, 6)).astype(np.float32)
    compare_with_torch(network, twin, x)
    assert list(network.state_dict()) == list(twin.state_dict())


def test_what_does_not_fit_is_named():
    with pytest.raises(
        ShapeError,
        match=r"\(4, 3, 3\) from layers and \(2, 6, 6\) from the input itself; set shortcut="
        r"\[Conv2d\(2, 4, kernel_size=1, stride=2\)\]",
    ):
        Residual([Conv2d(2, 4, 3, stride=2, padding=1)]).output_shape((2, 6, 6))
    with pytest.raises(ShapeError, match=r"layer 1 Residual.*\(2, 4, 4\) from layers.*padding"):
        Sequential([Tanh(), Residual([Conv2d(2, 2, 3)])]).output_shape((2, 6, 6))
    with pytest.raises(ShapeError, match=r"\(5,\) from layers and \(72,\) from shortcut; let both give the same"):
        Residual([Flatten(), Dense(72, 5)], [Flatten()]).output_shape((2, 6, 6))
    with pytest.raises(ShapeError, match=r"Residual: shortcut: layer 0 Dense.*7.*6"):
        Residual([Dense(6, 6)], [Dense(7, 6)]).output_shape((6,))
    with pytest.raises(ShapeError, match="Residual: layers: layer 0: expected a Layer, received the class ReLU"):
        Residual([ReLU])
    one = Tanh()
    with pytest.raises(ShapeError, match=r"layer shortcut\.0 Tanh.*that of layer layers\.0 again"):
        Residual([one], [one])
    with pytest.raises(ShapeError, match=r"layer 1\.blocks\.0 Tanh.*that of layer 0\.layers\.0 again"):
        Sequential([Residual([one]), Row([one])])
    with pytest.raises(ShapeError, match=r"body: expected the layer that it was built with, received Tanh"):
        Skip(2).body = Tanh()
    with pytest.raises(MinicnnError, match="layer 0, layer 1: Skip is no layer of minicnn"):
        from_config(to_config(Sequential([Row([Tanh(), Skip(2)])])), {"Row": Row})


def test_a_layer_that_is_no_number_any_more_is_named_within_layers():
    network = residual(Residual)
    network[1].layers[3].bias.value = np.inf
    assert first_not_finite(network, (X, LABELS)).startswith("layer 1.layers.3 Conv2d(4, 4")


def test_the_table_sees_into_layers():
    network = Sequential([Conv2d(2, 2, 3), Row([Residual([Conv2d(2, 2, 3, padding=1), ReLU()])]), Skip(2), Flatten()])
    rows = {row.name: row for row in summarize(network, (2, 6, 6))}
    assert list(rows) == ["0", "1.blocks.0", "1.blocks.0.layers.0", "1.blocks.0.layers.1", "2", "3"]
    assert [row.depth for row in rows.values()] == [0, 0, 1, 1, 0, 0]
    assert [row.receptive_field for row in rows.values()] == [(3, 3), (5, 5), (5, 5), (5, 5), (7, 7), (10, 10)]
    assert [row.parameters for row in rows.values()] == [38, 0, 38, 0, 43, 0]
    assert rows["2"].multiply_adds is None  # nobody knows how often it calls its body
    assert sum(row.weight_bytes for row in rows.values()) == sum(a.nbytes for a in network.state_arrays().values())
    assert "\n1.blocks.0.layers.0    Conv2d" in summary(network, (2, 6, 6))
    block = Residual([Conv2d(2, 2, 5, 2, 2), Conv2d(2, 2, 1)], [Conv2d(2, 2, 1, 2)])
    assert block.multiply_adds((2, 6, 6)) == 9 * (2 * 2 * 25 + 2 * 2 + 2 * 2)
    wider = Residual([Conv2d(2, 2, (1, 3), padding=(0, 1))], [Conv2d(2, 2, 5, padding=2)])
    assert summarize(wider, (2, 6, 6))[0].receptive_field == (5, 5)
    two = Sequential([Row([Tanh()])])[0]  # two children of which nothing is said
    two.paths, two.blocks = lambda: None, [Conv2d(2, 2, 3, padding=1), Conv2d(2, 2, 3, padding=1)]
    assert summarize(two, (2, 6, 6))[0].receptive_field is None
