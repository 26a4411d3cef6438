"""Convolution and dense layers as each other, exactly; and networks that take images of any size."""

import numpy as np
import pytest
from against_torch import assert_same, our_results

from minicnn import (
    ELU,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalMeanPool,
    Layer,
    LeakyReLU,
    LocallyConnected2d,
    MaxPool,
    MeanPool,
    MinicnnError,
    Model,
    ReLU,
    Residual,
    ScaledTanh,
    Sequential,
    ShapeError,
    Sigmoid,
    Softmax,
    Tanh,
    lenet5,
    load,
)
from minicnn.conversion import conv_to_dense, conv_to_local, dense_to_conv, fully_convolutional

TYPES = [(np.float64, 1e-12), (np.float32, 1e-5)]


def numbers(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_same_function(layer, twin, input_shape, twin_shape, dtype, tolerance):
    """Both give the same output and the same input gradient for the same numbers, whatever shapes they have."""
    x = numbers(5, *input_shape, dtype=dtype)
    dy = numbers(5, *layer.output_shape(input_shape), dtype=dtype, seed=1)
    expected = our_results(layer, x, dy)[:2]
    twin_dy = dy.reshape(5, *twin.output_shape(twin_shape))
    y, dx = our_results(twin, x.reshape(5, *twin_shape), twin_dy)[:2]
    assert_same([y.reshape(dy.shape), dx.reshape(x.shape)], expected, tolerance)


CONVOLUTIONS = [
    (Conv2d(2, 3, 3), (2, 5, 6)),
    (Conv2d(2, 3, (2, 3), padding=(1, 2), bias=False), (2, 5, 6)),
    (Conv2d(2, 6, 3, stride=2, padding=1, groups=2), (2, 5, 6)),
    (Conv2d(2, 3, 3, stride=(2, 1), padding=2, dilation=(1, 2)), (2, 5, 6)),
    (Conv2d(2, 3, (2, 4), padding="same"), (2, 5, 6)),
    (
        Conv2d(
            *(3, 4, (3, 2)),
            stride=(2, 1),
            padding=(1, 2),
            dilation=(1, 2),
            connections=[[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1]],
        ),
        (3, 5, 6),
    ),
]


@pytest.mark.parametrize(
    ("conv", "shape", "dtype", "tolerance"),
    [(*case, *kind) for case in CONVOLUTIONS for kind in TYPES[: 2 if case is CONVOLUTIONS[0] else 1]],
    ids=repr,
)
def test_conv_to_dense(conv, shape, dtype, tolerance):
    conv.astype(dtype)
    dense = conv_to_dense(conv, shape)
    features = int(np.prod(shape))
    assert dense.in_features == features
    assert dense.output_shape((features,)) == (int(np.prod(conv.output_shape(shape))),)
    assert (dense.bias is None) == (conv.bias is None)
    assert_same_function(conv, dense, shape, (features,), dtype, tolerance)


# One size of tiles for all, as each compiles.
TO_LOCAL = [
    (Conv2d(2, 3, 3), (2, 5, 6)),
    (Conv2d(2, 3, (2, 3), padding=(1, 2), bias=False), (2, 5, 6)),
    (Conv2d(3, 3, 3, padding=1, groups=3), (3, 6, 6)),
    (Conv2d(2, 3, 3, padding=(0, 2, 1, 0)), (2, 5, 6)),
    (Conv2d(2, 3, 3, stride=(2, 1), padding=2, dilation=(1, 2)), (2, 5, 6)),
    (Conv2d(2, 3, 3, connections=[[1, 0], [0, 1], [1, 1]]), (2, 5, 6)),
]


@pytest.mark.parametrize(
    ("conv", "shape", "dtype", "tolerance"),
    [(*case, *TYPES[0]) for case in TO_LOCAL] + [(*TO_LOCAL[0], *TYPES[1])],
    ids=repr,
)
def test_conv_to_local(conv, shape, dtype, tolerance):
    conv.astype(dtype)
    local = conv_to_local(conv, shape)
    assert local.input_size == shape[1:]
    assert (local.bias is None) == (conv.bias is None)
    assert_same_function(conv, local, shape, shape, dtype, tolerance)


@pytest.mark.parametrize(
    ("shape", "bias", "dtype", "tolerance"),
    [((2, 3, 4), True, *TYPES[0]), ((24, 1, 1), False, *TYPES[0]), ((24,), True, *TYPES[0]), ((24,), True, *TYPES[1])],
)
def test_dense_to_conv(shape, bias, dtype, tolerance):
    dense = Dense(24, 5, bias=bias).astype(dtype)
    conv = dense_to_conv(dense, shape)
    assert (conv.bias is None) != bias
    image = shape if len(shape) == 3 else (*shape, 1, 1)
    assert conv.kernel_size == image[1:]
    assert_same_function(dense, conv, (24,), image, dtype, tolerance)


def test_there_and_back_are_the_same_weights():
    dense = Dense(24, 5)
    again = conv_to_dense(dense_to_conv(dense, (2, 3, 4)), (2, 3, 4))
    for mine, theirs in zip(again.parameters(), dense.parameters(), strict=True):
        np.testing.assert_array_equal(mine.value, theirs.value)
    conv = Conv2d(2, 3, (4, 5))
    again = dense_to_conv(conv_to_dense(conv, (2, 4, 5)), (2, 4, 5))
    for mine, theirs in zip(again.parameters(), conv.parameters(), strict=True):
        np.testing.assert_array_equal(mine.value, theirs.value)


def test_a_copy_has_weights_of_its_own():
    conv, dense = Conv2d(2, 3, 3), Dense(18, 4)
    network = Sequential([conv, Flatten(), dense])
    copies = [conv_to_dense(conv, (2, 3, 3)), conv_to_local(conv, (2, 3, 3))]
    copies.append(dense_to_conv(dense, (2, 3, 3)))
    copies.append(fully_convolutional(Sequential([Flatten(), dense]), (2, 3, 3)))
    before = network.values.copy()
    for copy in copies:
        for parameter in copy.parameters():
            parameter.value[...] = 9
    np.testing.assert_array_equal(network.values, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv_to_dense(Conv2d(2, 3, 3), (1, 5, 5)), r"expected an input of \(2, H, W\)"),
        (lambda: conv_to_dense(Conv2d(2, 3, 3), (2, 2, 5)), "at least as large as the kernel"),
        (lambda: conv_to_dense(Conv2d(2, 3, 3), 5), "expected whole numbers"),
        (lambda: conv_to_dense(Conv2d(2, 3, 3), (2, 7.5, 8)), "expected whole numbers"),
        (lambda: conv_to_local(Conv2d(2, 3, 3), (1, 5, 5)), r"expected an input of \(2, H, W\)"),
        (lambda: conv_to_local(Conv2d(2, 3, 3), (2, 2, 5)), "at least as large as the kernel"),
        (lambda: conv_to_local(Conv2d(2, 3, 3), "abc"), "expected whole numbers"),
        (lambda: dense_to_conv(Dense(7, 5), (2, 3, 4)), r"of 7 elements, received \(2, 3, 4\)"),
        (lambda: dense_to_conv(Dense(6, 5), (2, 3)), r"\(C, H, W\) or \(features,\)"),
    ],
)
def test_shapes_that_do_not_fit(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


def network_without_padding(pool=MaxPool):
    """For (1, 14, 14), with a stride of 2 from window to window."""
    layers = [Conv2d(1, 6, 5), ReLU(), pool(2), Dropout(0.3), Flatten(), Dense(150, 8)]
    return Sequential([*layers, Tanh(), Flatten(), Dense(8, 4)])


NETWORKS = [
    (lenet5(), (1, 28, 28), 4),
    (lenet5("tanh", "mean"), (1, 28, 28), 4),
    (network_without_padding(), (1, 14, 14), 2),
    (Sequential([network_without_padding(), Sequential([Sigmoid(), Softmax()])]), (1, 14, 14), 2),
    (Sequential([Flatten(), Dropout(), LeakyReLU(), Dense(18, 4)]), (2, 3, 3), 1),
    (Sequential([Conv2d(2, 3, 3), ScaledTanh(), MaxPool(3, 1, 1), Flatten(), Dense(27, 4)]), (2, 5, 5), 1),
    (Sequential([Conv2d(2, 3, 3, 2), MeanPool((3, 2), (1, 2)), Flatten(), Dense(12, 4)]), (2, 9, 9), 0),
    (Sequential([Conv2d(2, 3, 3), Softmax(), Flatten()]), (2, 3, 3), 1),
    (Sequential([Conv2d(2, 3, 3), MaxPool(2), GlobalMeanPool(), Tanh(), Flatten(), Dense(3, 4)]), (2, 8, 10), 2),
    (Sequential([Conv2d(2, 3, 3), Flatten(), Dense(27, 6), BatchNorm1d(6), ELU(), Dense(6, 4)]), (2, 5, 5), 1),
    (
        Sequential(
            [
                *(Residual([Conv2d(1, 2, 3, 2, 1), Residual([ReLU()])], [Conv2d(1, 2, 1, 2)]), Flatten(), Dense(32, 6)),
                *(Residual([Dense(6, 9), Tanh(), Sequential([Dense(9, 6)])]), Dense(6, 4)),
            ]
        ),
        (1, 7, 7),
        2,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("network", "shape", "stride"), NETWORKS)
def test_at_the_size_of_its_input_it_is_the_original(network, shape, stride):
    twin = fully_convolutional(network, shape)
    assert not any(isinstance(layer, Dense | Flatten) for layer in twin)
    assert twin.output_shape(shape) == (*network.output_shape(shape), 1, 1)
    x = numbers(5, *shape, dtype=np.float32)
    assert_same([twin.forward(x)[:, :, 0, 0]], [network.forward(x)])
    if stride:
        larger = (shape[0], shape[1] + stride, shape[2] + 3 * stride)
        assert twin.output_shape(larger) == (*network.output_shape(shape), 2, 4)


def windows(images, height, width, stride):
    """The windows of one image that begin at multiples of the stride, as (rows, columns, C, height, width)."""
    view = np.lib.stride_tricks.sliding_window_view(images, (height, width), axis=(1, 2))
    return view[:, ::stride, ::stride].transpose(1, 2, 0, 3, 4)


@pytest.mark.parametrize(
    ("pool", "height", "width", "dtype", "tolerance"),
    [
        (MaxPool, 14, 40, *TYPES[0]),
        (MeanPool, 19, 43, *TYPES[1]),  # 43 - 14 and 19 - 14 are no multiples of the stride
    ],
)
def test_each_position_of_the_map_has_the_scores_of_its_window(pool, height, width, dtype, tolerance):
    network = network_without_padding(pool).astype(dtype)
    twin = fully_convolutional(network, (1, 14, 14))
    image = numbers(1, height, width, dtype=dtype)
    cut = windows(image, 14, 14, 2)
    [scores] = twin.forward(image[None])
    assert scores.shape == (4, *cut.shape[:2])
    expected = network.forward(cut.reshape(-1, 1, 14, 14)).reshape(*cut.shape[:2], 4)
    assert_same([scores.transpose(1, 2, 0)], [expected], tolerance)


def test_batch_normalisation_by_running_statistics():
    layers = [Conv2d(1, 6, 5), BatchNorm2d(6), ReLU(), MaxPool(2), Flatten(), Dense(150, 4)]
    network = Sequential(layers)
    x = numbers(20, 1, 14, 14, dtype=np.float32)
    network.forward(x + 3, training=True)
    twin = fully_convolutional(network, (1, 14, 14))
    assert layers[1].num_batches_tracked == 1
    assert_same([twin.forward(x)[:, :, 0, 0]], [network.forward(x)])


def test_lenet_pads_so_windows_of_a_line_differ_by_what_is_at_their_edges():
    """C1 sees the neighbours where a cut-out window has zeros: equal scores where the neighbours are zeros."""
    network = lenet5()
    twin = fully_convolutional(network, (1, 28, 28))
    line = numbers(1, 28, 60, dtype=np.float32)
    cut = windows(line, 28, 28, 4)[0]
    [scores] = twin.forward(line[None])
    assert not np.allclose(scores[:, 0].T, network.forward(cut), atol=1e-3)
    line[:, :, :18] = line[:, :, 42:] = line[:, :4] = line[:, 24:] = 0  # now two zeros on each side
    [scores] = twin.forward(line[None])
    expected = network.forward(cut[4:5])
    np.testing.assert_allclose(scores[:, 0, 4], expected[0], atol=1e-5)


class Position(Layer):
    """Adds its place to each pixel: a function that a window cannot have anywhere."""

    def __init__(self, height, width):
        self.height, self.width = height, width

    def output_shape(self, input_shape):
        if input_shape[1:] != (self.height, self.width):
            raise ShapeError("another size")
        return input_shape

    def forward(self, x, training=False):
        return x + np.arange(x[0].size, dtype=x.dtype).reshape(x.shape[1:])

    def backward(self, dy):
        return dy


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ([Conv2d(2, 3, 3), Flatten(), Softmax(), Dense(27, 4)], (2, 5, 5), r"layer 2 Softmax\(\)"),
        ([Conv2d(2, 3, 3), Flatten()], (2, 5, 5), "expected a Dense behind the Flatten"),
        ([BatchNorm2d(2, track_running_stats=False)], (2, 5, 5), "layer 0 BatchNorm2d.* running"),
        ([ReLU(), Sequential([Position(5, 5)]), Flatten(), Dense(50, 4)], (2, 5, 5), "layer 1.0 P"),
        ([LocallyConnected2d(2, 3, (5, 5), 3), Flatten(), Dense(27, 4)], (2, 5, 5), "layer 0 Locally"),
        ([Residual([Flatten(), Dense(50, 3)], [Flatten(), Position(5, 5), Dense(50, 3)])], (2, 5, 5), "layer 0.*short"),
        ([Flatten(), Residual([Dense(50, 50)])], (2, 5, 5), "layer 1 Residual.*: expected a Dense, or an elem"),
        ([Residual([LocallyConnected2d(2, 2, 5, 3, padding=1)])], (2, 5, 5), r"layer 0\.layers\.0 Locally"),
        ([Dense(7, 5)], (7,), r"for images \(C, H, W\), received \(7,\)"),
        ([Flatten(), Dense(7, 5)], (2, 5, 5), "layer 1 Dense"),
        ([Flatten(), Dense(50, 5)], None, r"expected \(C, H, W\), which"),
    ],
)  # fmt: skip
def test_where_it_is_impossible(layers, shape, message):
    with pytest.raises(MinicnnError, match=message):
        fully_convolutional(Sequential(layers), shape)


def test_model_takes_larger_images_and_keeps_all_else(tmp_path):
    names = tuple("abcd")
    loss = "mean-squared-error"
    model = Model(network_without_padding(), (1, 14, 14), 0.2, 0.5, names, "mnist", loss)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 14, 40), dtype=np.uint8)
    twin = fully_convolutional(model)
    twin.save(tmp_path / "twin.safetensors")
    for whole in (twin, load(tmp_path / "twin.safetensors")):
        kept = (whole.input_shape, whole.mean, whole.std, whole.classes, whole.data_set, whole.loss)
        assert kept == ((1, 14, 14), 0.2, 0.5, names, "mnist", loss)
        scores = whole.scores(pixels)
        assert scores.shape == (3, 4, 1, 14)
        np.testing.assert_allclose(scores[..., 0, 3], model.scores(pixels[..., 6:20]), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(whole.scores(pixels[:, 0]), scores)
        np.testing.assert_array_equal(whole.scores(pixels[1, 0]), scores[1:2])
    for wrong in (pixels[..., :13], pixels[:, :, :13], pixels.reshape(3, 2, 7, 40)):
        with pytest.raises(ShapeError, match=r"expected \(N, 1, 14, 14\) or \(N, 14, 14\) at least"):
            twin.scores(wrong)
    with pytest.raises(ShapeError, match="one score a class"):
        twin.predict(pixels)
    padded = Model(network_without_padding(), (1, 10, 10), padding=2)
    twin = fully_convolutional(padded)
    assert twin.scores(pixels[:, :, :10]).shape == (3, 4, 1, 16)
    np.testing.assert_allclose(
        twin.scores(pixels[:, :, :10, :10])[:, :, 0, 0], padded.scores(pixels[:, :, :10, :10]), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ShapeError, match="expected none beside a Model"):
        fully_convolutional(model, (1, 14, 14))
