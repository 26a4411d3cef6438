"""Random networks: one program, layer by layer in NumPy's layout, and torch have the same gradients."""

import copy

import numpy as np
import torch
from against_torch import TorchLocallyConnected2d, assert_same, copy_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import FIRST
from networks import labels, numbers, threads
from torch import nn

from minicnn import (
    SGD,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    LocallyConnected2d,
    MaxPool,
    MeanPool,
    Sequential,
    SoftmaxCrossEntropy,
)
from minicnn.errors import ShapeError
from minicnn.training.step import train_step

COUNTS = st.sampled_from([2, 3, 15, 16, 17, 31, 33, 48, 70])
#: Layers without weights and draws whose output has the shape of their input.
ELEMENTWISE = [
    (case.make, case.torch)
    for case in FIRST.values()
    if not (case.make().parameters() or case.make().generators()) and case.make().output_shape(case.shape) == case.shape
]


def small(low, high):
    return st.integers(low, high) | st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def convolution(draw, channels):
    groups = draw(st.sampled_from([g for g in (1, 1, 2, 3) if channels % g == 0]))
    outs = groups * draw(st.integers(1, 9))
    rest = draw(small(1, 5)), draw(small(1, 3)), draw(small(0, 2)), draw(small(1, 2))
    arguments = (channels, outs, *rest, groups, draw(st.booleans()))
    return lambda: Conv2d(*arguments), lambda: nn.Conv2d(*arguments)


@st.composite
def pool(draw):
    kernel, ceil_mode = draw(small(1, 3)), draw(st.booleans())
    least = min(kernel) if isinstance(kernel, tuple) else kernel
    arguments = (kernel, draw(st.none() | small(1, 3)), draw(st.integers(0, least // 2)))
    if draw(st.booleans()):
        return (lambda: MaxPool(*arguments, ceil_mode), lambda: nn.MaxPool2d(*arguments, ceil_mode=ceil_mode))
    count = draw(st.booleans())
    return (lambda: MeanPool(*arguments, ceil_mode, count), lambda: nn.AvgPool2d(*arguments, ceil_mode, count))


@st.composite
def local(draw, shape):
    outs, kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(small(1, 2))
    padding, bias = draw(st.integers(0, 1)), draw(st.booleans())
    rest = (shape[1:], (kernel, kernel), stride, padding, 1, bias)
    return (lambda: LocallyConnected2d(shape[0], outs, *rest), lambda: TorchLocallyConnected2d(shape[0], outs, *rest))


def normalization(shape):
    return st.just((lambda: BatchNorm2d(shape[0]), lambda: nn.BatchNorm2d(shape[0])))


#: Strategies for (layer, module of torch), each to be called, for an input of some shape.
KINDS = st.sampled_from(
    [
        *[lambda shape: convolution(shape[0])] * 3,
        lambda shape: pool(),
        lambda shape: st.sampled_from(ELEMENTWISE),
        normalization,
        local,
    ]
)


@st.composite
def networks(draw):
    """(layers, modules of torch, shape of the input, classes)"""
    shape = tuple(draw(st.integers(low, high)) for low, high in ((1, 6), (1, 10), (1, 10)))
    first, layers, modules = shape, [], []
    for _ in range(draw(st.integers(0, 5))):
        make, twin = draw(draw(KINDS)(shape))
        try:
            layer = make()
            shape = layer.output_shape(shape)
        except ShapeError:
            continue  # it does not fit here
        layers.append(layer)
        modules.append(twin())
    layers.append(Flatten())
    modules.append(nn.Flatten())
    features = int(np.prod(shape))
    classes = draw(st.integers(2, 12))
    for outs in [*draw(st.lists(st.integers(1, 40), max_size=2)), classes]:
        bias = draw(st.booleans())
        layers.append(Dense(features, outs, bias))
        modules.append(nn.Linear(features, outs, bias))
        if draw(st.booleans()):
            make, twin = draw(st.sampled_from(ELEMENTWISE))
            layers.append(make())
            modules.append(twin())
        features = outs
    return layers, modules, first, classes


def fused(network, x, target):
    """Gradients, loss and buffers after one step in one program."""
    network = copy.deepcopy(network)
    result = train_step(network, SoftmaxCrossEntropy(), SGD(network.parameters(), lr=0.0), (x, target))
    return network.gradients, result.loss, network.buffers()


def by_layers(network, x, target):
    """The same, a layer after the other, each a program of its own."""
    network, loss = copy.deepcopy(network), SoftmaxCrossEntropy()
    for layer in network:
        x = layer.forward(x, training=True)
    value, dy = loss.forward(x, target), loss.backward()
    for layer in reversed(network.layers):
        dy = layer.backward(dy)
    return network.gradients, value, network.buffers()


@settings(max_examples=30)
@given(networks(), COUNTS, st.integers(0, 1000), st.integers(1, 3))
def test_one_program_has_the_bits_of_all_layers(drawn, count, seed, number):
    layers, _, shape, classes = drawn
    network = Sequential(layers).initialize(rng=seed)
    x, target = numbers((count, *shape), seed), labels(count, classes, seed)
    with threads(number):
        found = fused(network, x, target)
    gradients, loss, buffers = by_layers(network, x, target)
    np.testing.assert_array_equal(found[0], gradients)
    assert found[1] == loss
    for name, array in buffers.items():
        np.testing.assert_array_equal(found[2][name], array, err_msg=name)


@settings(max_examples=30)
@given(networks(), COUNTS, st.integers(0, 1000))
def test_torch_has_the_same_gradients(drawn, count, seed):
    layers, modules, shape, classes = drawn
    torch.manual_seed(seed)
    module = nn.Sequential(*modules).to(torch.float64)
    network = Sequential(layers)
    copy_weights(network, module)
    x, target = numbers((count, *shape), seed, np.float64), labels(count, classes, seed)
    gradients, loss, _ = fused(network, x, target)
    value = nn.functional.cross_entropy(module(torch.tensor(x)), torch.tensor(target))
    value.backward()
    expected = np.concatenate([p.grad.numpy().ravel() for p in module.parameters()])
    assert_same([gradients], [expected], rtol=1e-9)
    np.testing.assert_allclose(loss, value.item(), rtol=1e-9)
