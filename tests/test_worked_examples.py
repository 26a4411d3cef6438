"""Small examples that can be checked by hand, through the public layers."""

import numpy as np
import pytest

from minicnn import SGD, Conv2d, Dense, HalfSquaredError, MaxPool, MeanPool, Sequential, Sigmoid
from minicnn.conversion import conv_to_dense, conv_to_local, dense_to_conv
from minicnn.zoo import lenet5

DETECTED = "1 0 0 0 0 1/0 1 0 0 1 0/0 0 1 1 0 0/1 0 0 0 1 0/0 1 0 0 1 0/0 0 1 0 1 0"
DETECTOR = "1 -1 -1/-1 1 -1/-1 -1 1"


def matrix(text):
    """'1 2/3 4' as an array of two rows."""
    return np.array([[float(x) for x in row.split()] for row in text.split("/")], np.float32)


def image(pixels):
    """A matrix as a batch of one image with one channel."""
    return np.asarray(pixels, np.float32)[None, None]


def convolution(kernel, **options):
    """A Conv2d with one channel in and out and the given kernel, without bias."""
    layer = Conv2d(1, 1, kernel.shape, bias=False, **options)
    layer.parameters()[0].value[...] = kernel
    return layer


def convolve(pixels, kernel, **options):
    return convolution(kernel, **options).forward(image(pixels))[0, 0]


def count_parameters(layer):
    return sum(parameter.value.size for parameter in layer.parameters())


def test_1_cross_correlation_and_its_rotated_kernel():
    pixels = matrix("1 2 3 0 1 2/2 3 1 4 2 3/3 1 2 1 0 1/0 1 3 2 3 0/1 4 2 1 2 1/3 2 1 0 1 3")
    kernel = matrix("1 0 -1/1 0 -1/1 0 -1")
    expected = matrix("0 1 3 -1/-1 -2 1 3/-3 2 2 2/-2 4 0 -1")
    np.testing.assert_array_equal(convolve(pixels, kernel), expected)
    np.testing.assert_array_equal(convolve(pixels, np.rot90(kernel, 2)), -expected)


def test_2_three_by_three():
    pixels, kernel = np.arange(1, 10).reshape(3, 3), matrix("0 1/2 3")
    np.testing.assert_array_equal(convolve(pixels, kernel), matrix("25 31/43 49"))


def test_3_padding_and_stride():
    pixels, kernel = np.arange(9).reshape(3, 3), matrix("0 1/2 3")
    np.testing.assert_array_equal(convolve(pixels, kernel), matrix("19 25/37 43"))
    strided = convolve(pixels, kernel, padding=1, stride=(3, 2))
    np.testing.assert_array_equal(strided, matrix("0 8/6 8"))


def test_4_five_by_five():
    pixels = matrix("1 1 1 0 0/0 1 1 1 0/0 0 1 1 1/0 0 1 1 0/0 1 1 0 0")
    kernel = matrix("1 0 1/0 1 0/1 0 1")
    np.testing.assert_array_equal(convolve(pixels, kernel), matrix("4 3 4/2 4 3/2 3 4"))


def test_5_pattern_detector_and_the_pixels_it_sees():
    pixels, layer = matrix(DETECTED), convolution(matrix(DETECTOR))
    y = layer.forward(image(pixels))
    np.testing.assert_array_equal(y[0, 0, 0], [3, -1, -3, -1])
    seen = []
    for pixel in range(36):
        changed = pixels.copy()
        changed.flat[pixel] += 1
        if layer.forward(image(changed))[0, 0, 0, 0] != y[0, 0, 0, 0]:
            seen.append(pixel + 1)
    assert seen == [1, 2, 3, 7, 8, 9, 13, 14, 15]


def test_6_a_convolution_is_a_dense_layer_with_shared_and_missing_weights():
    layer, pixels = convolution(matrix(DETECTOR)), image(matrix(DETECTED))
    dense = conv_to_dense(layer, (1, 6, 6))
    assert dense.weight.value.shape == (16, 36)
    np.testing.assert_array_equal(dense.forward(pixels.reshape(1, 36)), layer.forward(pixels).reshape(1, 16))
    layer.weight.value[...] = np.arange(1, 10).reshape(3, 3)  # nine different weights
    values, counts = np.unique(conv_to_dense(layer, (1, 6, 6)).weight.value, return_counts=True)
    np.testing.assert_array_equal(values, range(10))
    np.testing.assert_array_equal(counts, [576 - 144] + 9 * [16])
    assert count_parameters(layer) == 9
    assert count_parameters(conv_to_local(layer, (1, 6, 6))) == 144
    assert count_parameters(dense) == 576


def test_7_output_sizes():
    assert Conv2d(1, 1, 3).output_shape((1, 5, 5)) == (1, 3, 3)
    assert Conv2d(1, 1, 3, stride=2).output_shape((1, 5, 5)) == (1, 2, 2)
    assert Conv2d(3, 4, 3, padding=2).output_shape((3, 100, 100)) == (4, 102, 102)
    assert Conv2d(100, 20, 1).output_shape((100, 448, 448)) == (20, 448, 448)
    for k in range(4):
        assert Conv2d(1, 1, 2 * k + 1, padding=k).output_shape((1, 9, 11)) == (1, 9, 11)


def test_8_rectangular_kernel(rng):
    layer = Conv2d(2, 3, (3, 5), stride=1, padding=(1, 2))
    y = layer.forward(rng.standard_normal((4, 2, 3, 5)).astype(np.float32))
    assert y.shape == (4, 3, 3, 5)
    assert [p.value.shape for p in layer.parameters()] == [(3, 2, 3, 5), (3,)]
    assert count_parameters(layer) == 93


def test_9_parameter_counts():
    one_unit = Dense(3 * 256 * 256, 1)  # a thousand of them would fill 800 MB
    assert 1000 * count_parameters(one_unit) == 196_609_000
    assert count_parameters(Conv2d(3, 10, 3)) == 280
    small = Conv2d(3, 3, 3)
    assert small.output_shape((3, 3, 3)) == (3, 1, 1)
    assert count_parameters(small) == 84
    assert small.parameters()[0].value.size == 81
    assert count_parameters(Conv2d(100, 20, 1)) == 2_020


def test_10_one_by_one_convolution_is_a_dense_layer_on_each_pixel(rng):
    dense = Dense(5, 3)
    conv = dense_to_conv(dense, (5, 1, 1))
    assert conv.kernel_size == (1, 1)
    x = rng.standard_normal((2, 5, 7, 6)).astype(np.float32)
    pixels = x.transpose(0, 2, 3, 1).reshape(-1, 5)
    expected = dense.forward(pixels).reshape(2, 7, 6, 3).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(conv.forward(x), expected, rtol=0, atol=1e-6)


def test_11_convolution_as_large_as_its_input_is_a_dense_layer(rng):
    conv = Conv2d(3, 24, (4, 5))
    dense = conv_to_dense(conv, (3, 4, 5))
    assert (dense.in_features, dense.out_features) == (60, 24)
    x = rng.standard_normal((3, 3, 4, 5)).astype(np.float32)
    expected = dense.forward(x.reshape(3, 60))
    np.testing.assert_allclose(conv.forward(x).reshape(3, 24), expected, rtol=0, atol=1e-6)
    back = dense_to_conv(dense, (3, 4, 5))
    for ours, theirs in zip(back.parameters(), conv.parameters(), strict=True):
        np.testing.assert_array_equal(ours.value, theirs.value)
    np.testing.assert_array_equal(back.forward(x), conv.forward(x))


def test_12_overlapping_max_pooling_accumulates_its_gradient():
    layer = MaxPool(3, padding=1, stride=(2, 1))
    y = layer.forward(np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4))
    np.testing.assert_array_equal(y[0, 0], matrix("5 6 7 7/13 14 15 15"))
    np.testing.assert_array_equal(y[0, 1], matrix("21 22 23 23/29 30 31 31"))
    dx = layer.backward(np.ones_like(y))
    np.testing.assert_array_equal(dx[0, 0], matrix("0 0 0 0/0 1 1 2/0 0 0 0/0 1 1 2"))


def test_13_max_pooling_pads_with_minus_infinity():
    x = -np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4) - 1
    y = MaxPool(3, padding=1, stride=(2, 1)).forward(x)
    np.testing.assert_array_equal(y[0, 0], matrix("-1 -1 -2 -3/-5 -5 -6 -7"))


@pytest.mark.parametrize("value", [0.0, 1.5, -2.0])
def test_14_the_first_of_equal_maxima_takes_the_gradient(value):
    layer = MaxPool(2)
    layer.forward(np.full((1, 1, 4, 4), value, np.float32))
    dx = layer.backward(image(matrix("1 2/3 4")))
    np.testing.assert_array_equal(dx[0, 0], matrix("1 0 2 0/0 0 0 0/3 0 4 0/0 0 0 0"))


def test_15_mean_pooling_conserves_the_sum_of_the_gradient(rng):
    layer = MeanPool(2)
    layer.forward(np.zeros((1, 1, 8, 8), np.float32))
    dy = rng.standard_normal((1, 1, 4, 4)).astype(np.float32)
    dx = layer.backward(dy)
    assert dx.size == 64
    np.testing.assert_array_equal(dx[0, 0], np.kron(dy[0, 0] / 4, np.ones((2, 2))))
    np.testing.assert_allclose(dx.sum(), dy.sum(), rtol=1e-5)


def test_16_pooling_sizes():
    assert MaxPool(10).output_shape((1, 20, 20)) == (1, 2, 2)
    assert MeanPool(10).output_shape((1, 20, 20)) == (1, 2, 2)


def receptive_field(layers, size):
    """Height and width of the part of the image that the first output position depends on."""
    network = Sequential(layers)
    for parameter in network.parameters():
        parameter.value[...] = 1.0
    # One image for each pixel, which is 1 in it while all others are 0.
    single_pixels = np.eye(size * size, dtype=np.float32).reshape(-1, 1, size, size)
    nothing = network.forward(np.zeros((1, 1, size, size), np.float32))
    change = network.forward(single_pixels)[:, 0, 0, 0] - nothing[0, 0, 0, 0]
    rows, columns = np.nonzero(change.reshape(size, size))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def test_17_receptive_fields():
    assert receptive_field([Conv2d(1, 1, 3), Conv2d(1, 1, 3)], 8) == (5, 5)
    assert receptive_field([Conv2d(1, 1, 2), Conv2d(1, 1, 2)], 8) == (3, 3)
    channels = 4
    two = [Conv2d(channels, channels, 3, bias=False) for _ in range(2)]
    assert sum(count_parameters(layer) for layer in two) == 18 * channels**2
    assert count_parameters(Conv2d(channels, channels, 5, bias=False)) == 25 * channels**2


def test_17_receptive_field_of_c5():
    """One position of C5 depends on all of a 32x32 image; the next one begins 4 pixels further on."""
    layers = [Conv2d(1, 6, 5), MeanPool(2), Conv2d(6, 16, 5), MeanPool(2), Conv2d(16, 120, 5)]
    network = Sequential(layers)
    assert network.output_shape((1, 32, 32)) == network.output_shape((1, 35, 35)) == (120, 1, 1)
    assert network.output_shape((1, 36, 36)) == (120, 2, 2)
    assert receptive_field(layers, 32) == (32, 32)


def test_18_shift_equivariance(rng):
    layer = Conv2d(2, 3, 3)
    x = rng.standard_normal((1, 2, 12, 12)).astype(np.float32)
    shifted = np.roll(x, (2, 1), axis=(2, 3))
    np.testing.assert_array_equal(layer.forward(shifted)[:, :, 2:, 1:], layer.forward(x)[:, :, :-2, :-1])


def test_19_one_step_of_backprop_by_hand():
    net = Sequential([Dense(3, 2), Sigmoid(), Dense(2, 1), Sigmoid()])
    weights, biases, last_weights, last_bias = net.parameters()
    weights.value[...] = matrix("0.2 0.4 -0.5/-0.3 0.1 0.2")  # rows: units 4 and 5
    biases.value[...] = [-0.4, 0.2]
    last_weights.value[...] = [[-0.3, -0.2]]
    last_bias.value[...] = [0.1]
    x = np.array([[1, 0, 1]], np.float32)

    units = net[1].forward(net[0].forward(x))
    np.testing.assert_allclose(units, [[0.3318, 0.5250]], atol=5e-5)
    loss = HalfSquaredError()
    y = net.forward(x)
    np.testing.assert_allclose(y, [[0.4739]], atol=5e-5)
    np.testing.assert_allclose(loss.forward(y, np.ones((1, 1), np.float32)), 0.1384, atol=5e-5)
    net.backward(loss.backward())
    # The example's Err is minus the gradient of the unit's bias.
    np.testing.assert_allclose(last_bias.grad, [-0.1312], atol=5e-5)
    np.testing.assert_allclose(biases.grad, [0.0087, 0.0065], atol=5e-5)

    SGD(net.parameters(), lr=0.9).step()
    expected = matrix("0.1921 0.4 -0.5079/-0.3059 0.1 0.1941")
    np.testing.assert_allclose(weights.value, expected, atol=5e-5)
    np.testing.assert_allclose(last_weights.value, [[-0.2608, -0.1380]], atol=5e-5)
    np.testing.assert_allclose(biases.value, [-0.4079, 0.1941], atol=5e-5)
    np.testing.assert_allclose(last_bias.value, [0.2181], atol=5e-5)


def test_21_lenet_as_usually_taught():
    assert count_parameters(lenet5()) == 61_706
