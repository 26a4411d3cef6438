"""The contract that every layer keeps: shapes, fresh arrays, and refusal of what does not fit."""

import copy
import math
import pickle

import numpy as np
import pytest
from against_torch import our_results
from layer_cases import FIRST

from minicnn import (
    SGD,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    LocallyConnected2d,
    MaxPool,
    MeanPool,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    train_step,
)
from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import LANES


@pytest.fixture(params=FIRST)
def named_layer(request):
    """(name, a new layer, the shape of one input)"""
    case = FIRST[request.param]
    return request.param, case.make(), case.shape


def images(n, shape, seed=0):
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


def test_output_shape_is_the_shape_of_the_output(named_layer):
    _, layer, shape = named_layer
    assert layer.forward(images(3, shape)).shape == (3, *layer.output_shape(shape))


def test_results_are_fresh_arrays(named_layer):
    _, layer, shape = named_layer
    x = images(3, shape)
    kept = x.copy()
    first = layer.forward(x)
    dy = images(3, first.shape[1:], seed=1)
    dx = layer.backward(dy)
    copies = first.copy(), dx.copy()
    second = layer.forward(x + 1)
    layer.backward(dy + 1)
    assert not np.shares_memory(first, x)
    assert not np.shares_memory(first, second)
    assert not np.shares_memory(dx, dy)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(first, copies[0])
    np.testing.assert_array_equal(dx, copies[1])


def test_backward_before_forward_is_refused(named_layer):
    _, layer, shape = named_layer
    dy = images(2, layer.output_shape(shape))
    with pytest.raises(MinicnnError, match="forward"):
        layer.backward(dy)


def test_a_copy_of_a_used_layer_gives_the_same(named_layer):
    _, layer, shape = named_layer
    x = images(3, shape)
    y = layer.forward(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin.forward(x), y)


def test_float64_stays_float64(named_layer):
    _, layer, shape = named_layer
    layer.astype(np.float64)
    x = images(3, shape).astype(np.float64)
    y = layer.forward(x)
    assert y.dtype == layer.backward(y).dtype == np.float64


def test_nan_in_the_input_is_refused_with_the_layer_named(named_layer):
    name, layer, shape = named_layer
    x = images(LANES + 2, shape)
    x[-1].flat[-1] = np.nan
    with pytest.raises(MinicnnError, match=f"{name}.*NaN"):
        layer.forward(x)


def test_an_integer_array_is_refused_with_the_layer_named(named_layer):
    name, layer, shape = named_layer
    with pytest.raises(ShapeError, match=f"{name}.*float32.*int64"):
        layer.forward(np.zeros((2, *shape), np.int64))


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_an_upstream_gradient_of_another_type_is_refused(named_layer, dtype):
    name, layer, shape = named_layer
    y = layer.forward(images(3, shape))
    with pytest.raises(ShapeError, match=f"{name}.*float32.*{dtype.__name__}"):
        layer.backward(y.astype(dtype))


def test_an_empty_batch_is_refused(named_layer):
    name, layer, shape = named_layer
    with pytest.raises(ShapeError, match=f"{name}.*sample"):
        layer.forward(np.zeros((0, *shape), np.float32))


def test_an_upstream_gradient_of_the_wrong_shape_is_refused(named_layer):
    name, layer, shape = named_layer
    y = layer.forward(images(3, shape))
    with pytest.raises(ShapeError, match=name):
        layer.backward(y[:2])


@pytest.mark.parametrize("layer", [Conv2d(2, 3, 3), LocallyConnected2d(2, 3, 6, 3), MaxPool(2), MeanPool(2)], ids=repr)
@pytest.mark.parametrize("shape", [(2, 6, 6), (1, 2, 2, 6, 6), (4,)])
def test_wrong_rank_is_refused(layer, shape):
    with pytest.raises(ShapeError, match=type(layer).__name__):
        layer.forward(np.zeros(shape, np.float32))


def test_wrong_channels_and_features_are_refused():
    with pytest.raises(ShapeError, match=r"Conv2d\(2, 3.*\(2, H, W\).*\(5, 6, 6\)"):
        Conv2d(2, 3, 3).forward(images(1, (5, 6, 6)))
    local = LocallyConnected2d(2, 3, 6, 3)
    with pytest.raises(ShapeError, match=r"LocallyConnected2d.*\(2, H, W\).*\(5, 6, 6\)"):
        local.forward(images(1, (5, 6, 6)))
    with pytest.raises(ShapeError, match=r"LocallyConnected2d.*\(2, 6, 6\).*\(2, 6, 7\)"):
        local.forward(images(1, (2, 6, 7)))
    with pytest.raises(ShapeError, match=r"Dense\(8, 4.*\(8,\).*\(7,\)"):
        Dense(8, 4).forward(images(1, (7,)))


def test_other_dtype_than_the_parameters_is_refused():
    with pytest.raises(ShapeError, match=r"Dense.*float32.*float64"):
        Dense(8, 4).forward(np.zeros((2, 8)))


@pytest.mark.parametrize(
    ("layer", "shape"), [(Conv2d(1, 1, 7), (1, 6, 9)), (MaxPool(7), (1, 9, 6)), (MeanPool((1, 8)), (1, 6, 7))], ids=repr
)
def test_a_kernel_larger_than_its_input_is_refused(layer, shape):
    with pytest.raises(ShapeError, match=type(layer).__name__):
        layer.output_shape(shape)
    with pytest.raises(ShapeError, match=type(layer).__name__):
        layer.forward(images(2, shape))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv2d(0, 1, 3),
        lambda: Conv2d(1, 0, 3),
        lambda: Conv2d(1, 1, 0),
        lambda: Conv2d(1, 1, 3, stride=0),
        lambda: Conv2d(1, 1, 3, padding=-1),
        lambda: Conv2d(1, 1, 3, dilation=0),
        lambda: Conv2d(3, 4, 3, groups=2),
        lambda: Conv2d(4, 3, 3, groups=2),
        lambda: Conv2d(1, 1, (3, 3, 3)),
        lambda: LocallyConnected2d(0, 1, 5, 3),
        lambda: LocallyConnected2d(1, 1, 0, 3),
        lambda: LocallyConnected2d(1, 1, 5, 3, stride=0),
        lambda: LocallyConnected2d(1, 1, (5, 2), 3),  # no window fits
        lambda: MaxPool(0),
        lambda: MaxPool(2, stride=0),
        lambda: MaxPool(2, padding=2),  # more than half the kernel, as in torch
        lambda: MeanPool(3, padding=2),
        lambda: MeanPool(2, padding=-1),
        lambda: Dense(0, 3),
        lambda: Dense(3, -1),
        lambda: Dropout(1.5),
        lambda: Dropout(-0.1),
    ],
)
def test_impossible_layers_are_refused(make):
    with pytest.raises(MinicnnError, match=r"Conv2d|LocallyConnected2d|MaxPool|MeanPool|Dense|Dropout"):
        make()


def test_backward_assigns_and_does_not_accumulate():
    layer = Dense(5, 3)
    x, dy = images(4, (5,)), images(4, (3,), seed=1)
    first = [a.copy() for a in our_results(layer, x, dy)]
    for a, b in zip(our_results(layer, x, dy), first, strict=True):
        np.testing.assert_array_equal(a, b)


def test_inputs_need_not_be_contiguous():
    x = images(5, (2, 12, 12))[::-1, :, ::2, ::2]
    layer = Conv2d(2, 3, 3)
    dy = images(5, (4, 4, 3)).transpose(0, 3, 1, 2)
    expected = our_results(layer, np.ascontiguousarray(x), np.ascontiguousarray(dy))
    for a, b in zip(our_results(layer, x, dy), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_batch_sizes_may_change_between_calls():
    used = Sequential([Conv2d(1, 3, 3), ReLU(), MaxPool(2), Flatten(), Dense(27, 4)])
    unused = copy.deepcopy(used)
    for n in (LANES + 1, 1, 3 * LANES, LANES - 1, LANES + 1):
        x, dy = images(n, (1, 8, 8), seed=n), images(n, (4,), seed=n)
        fresh = copy.deepcopy(unused)
        for a, b in zip(our_results(used, x, dy), our_results(fresh, x, dy), strict=True):
            np.testing.assert_array_equal(a, b)


def test_image_sizes_may_change_between_calls():
    used = Conv2d(2, 3, 3)
    unused = copy.deepcopy(used)
    for size in (6, 8, 6):
        x = images(3, (2, size, size), seed=size)
        dy = images(3, used.output_shape(x.shape[1:]), seed=size + 1)
        fresh = copy.deepcopy(unused)
        for a, b in zip(our_results(used, x, dy), our_results(fresh, x, dy), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_step_of_training_takes_the_gradients_of_forward_and_backward(named_layer):
    """To the bit, though its maps may lie where those of the next block will."""
    _, layer, shape = named_layer
    before = Conv2d(shape[0], shape[0], 1) if len(shape) == 3 else Dense(*shape, *shape)
    after = Dense(math.prod(layer.output_shape(shape)), 4)
    network = Sequential([before, layer, Flatten(), after])
    twin, loss = copy.deepcopy(network), SoftmaxCrossEntropy()
    x, labels = images(3 * LANES + 1, shape), np.arange(3 * LANES + 1) % 4
    loss.forward(twin.forward(x, training=True), labels)
    twin.backward(loss.backward())
    train_step(network, loss, SGD(network.parameters(), lr=0.1), (x, labels))
    np.testing.assert_array_equal(network.gradients, twin.gradients)
    assert np.all(np.isfinite(network.gradients)) and np.any(network.gradients != 0)
    for name, buffer in network.buffers().items():
        np.testing.assert_array_equal(buffer, twin.buffers()[name])
