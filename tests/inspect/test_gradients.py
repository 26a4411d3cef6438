"""Every layer, every loss and LeNet against central differences; and that the check can fail."""

import math
import re

import numpy as np
import pytest
from layer_cases import each_case

from minicnn import (
    BCEWithLogits,
    Dense,
    Dropout,
    HalfSquaredError,
    LeakyReLU,
    MaxPool,
    MeanSquaredError,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    Tanh,
    check_gradients,
)
from minicnn.errors import MinicnnError
from minicnn.inspect.gradient_check import GradientError, check_loss_gradient
from minicnn.layers.layer import Layer
from minicnn.layers.parameter import Parameter
from minicnn.zoo import lenet5


@each_case
def test_layer(case):
    layer, _ = case.twins()
    large = math.prod(case.shape) + sum(parameter.value.size for parameter in layer.parameters()) > 1000
    worst = check_gradients(layer, case.shape, directions=3 if large else None)
    assert list(worst) == ["input", *(p.name for p in layer.parameters())]
    assert all(error <= 1e-6 for error in worst.values())


def test_dropout_while_training():
    assert check_gradients(Dropout(0.4), (50,), training=True)["input"] <= 1e-6


@pytest.mark.parametrize("options", [("relu", "max"), ("tanh", "mean")])
def test_lenet_in_random_directions(options):
    worst = check_gradients(lenet5(*options), (1, 28, 28), directions=3)
    assert len(worst) == 1 + 10
    assert max(worst.values()) <= 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(rng, smoothing):
    loss = SoftmaxCrossEntropy(label_smoothing=smoothing)
    logits, labels = 3 * rng.standard_normal((5, 4)), np.array([0, 3, 1, 1, 2])
    assert check_loss_gradient(loss, logits, labels) <= 1e-6


def test_weighted_and_soft_cross_entropies(rng):
    y, soft = 3 * rng.standard_normal((5, 4)), rng.dirichlet(np.ones(4), 5)
    for loss in (SoftmaxCrossEntropy(0.1, [1, 0.5, 2, 0]), SoftmaxCrossEntropy()):
        for target in (np.array([0, 3, 1, 1, 2]), soft):
            assert check_loss_gradient(loss, y, target) <= 1e-6
    assert check_loss_gradient(BCEWithLogits([1, 0.5, 2, 0], [3, 0, 1, 0.2]), y, soft) <= 1e-6


@pytest.mark.parametrize("loss", [MeanSquaredError(), HalfSquaredError()], ids=["mean", "half"])
def test_squared_errors(rng, loss):
    y, target = rng.standard_normal((2, 4, 3))
    assert check_loss_gradient(loss, y, target) <= 1e-6


# Ties and kinks, which the check avoids: what the derivative is taken to be there.


@pytest.mark.parametrize(("layer", "slope"), [(ReLU(), 0.0), (LeakyReLU(0.1), 0.1)], ids=["ReLU", "LeakyReLU"])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_slope_at_zero_is_that_of_the_negative_side(layer, slope, zero):
    layer.forward(np.full((1, 3), zero, np.float32))
    dx = layer.backward(np.ones((1, 3), np.float32))
    np.testing.assert_array_equal(dx, np.full((1, 3), slope, np.float32))


def test_ties_in_overlapping_windows_go_to_the_first_of_each():
    layer = MaxPool(2, stride=1)
    layer.forward(np.ones((1, 1, 3, 3), np.float32))
    dx = layer.backward(np.array([[[[1, 2], [3, 4]]]], np.float32))
    np.testing.assert_array_equal(dx[0, 0], [[1, 2, 0], [3, 4, 0], [0, 0, 0]])


# The check itself.


class Scale(Layer):
    """y = factor * x with one factor per feature; `wrong` multiplies one element of a gradient."""

    def __init__(self, features, wrong=None):
        self.factor = Parameter("factor", np.linspace(0.5, 2.0, features, dtype=np.float32))
        self.wrong = wrong

    def parameters(self):
        return [self.factor]

    def output_shape(self, input_shape):
        return tuple(input_shape)

    def forward(self, x, training=False):
        self.x = x
        return self.factor.value * x

    def backward(self, dy):
        gradients = {"input": self.factor.value * dy, "factor": np.sum(dy * self.x, axis=0)}
        if self.wrong:
            array, index, error = self.wrong
            gradients[array][index] *= 1 + error
        self.factor.grad[...] = gradients["factor"]
        return gradients["input"]


def test_a_correct_layer_in_numpy_passes_and_is_not_changed():
    layer = Scale(3)
    assert max(check_gradients(layer, (3,)).values()) < 1e-9
    assert layer.factor.value.dtype == np.float32
    assert not hasattr(layer, "x")


@pytest.mark.parametrize("error", [-2.0, 1e-3, 1e-5])
@pytest.mark.parametrize(("array", "index"), [("input", (1, 2)), ("factor", (1,))])
def test_a_wrong_gradient_is_found_and_named(array, index, error):
    with pytest.raises(GradientError) as caught:
        check_gradients(Scale(3, (array, index, error)), (3,))
    found = caught.value
    assert (found.layer, found.array, found.index) == ("Scale", array, index)
    np.testing.assert_allclose(found.analytic, (1 + error) * found.numeric, rtol=1e-7)
    for part in ("Scale", array, str(index), f"{found.analytic:.9g}", f"{found.numeric:.9g}"):
        assert part in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize("array", ["input", "factor"])
def test_a_random_direction_finds_a_single_wrong_element(array):
    index = (1, 7) if array == "input" else (7,)
    with pytest.raises(GradientError, match=f"gradient of {array} in a random direction") as caught:
        check_gradients(Scale(20, (array, index, 1e-2)), (20,), directions=1)
    assert caught.value.index is None


def test_a_gradient_that_is_not_a_number_fails():
    with pytest.raises(GradientError, match="nan"):
        check_gradients(Scale(3, ("input", (0, 0), np.nan)), (3,))


def test_an_error_inside_a_network_is_named_by_the_parameter():
    network = Sequential([Dense(4, 3), Scale(3, ("factor", (1,), 0.5)), Tanh()])
    with pytest.raises(GradientError) as caught:
        check_gradients(network, (4,))
    assert (caught.value.layer, caught.value.array) == ("Sequential", "1.factor")


def test_a_gradient_of_the_wrong_shape_is_refused():
    class Summed(Scale):
        def backward(self, dy):
            return super().backward(dy).sum(axis=1, keepdims=True)

    expected = re.escape("expected a gradient of shape (2, 3), received (2, 1)")
    with pytest.raises(MinicnnError, match=expected):
        check_gradients(Summed(3), (3,))


def test_a_wrong_loss_gradient_is_found():
    class HalvedSquaredError(MeanSquaredError):
        def backward(self):
            return super().backward() / 2

    with pytest.raises(GradientError, match=r"HalvedSquaredError: gradient of input at index \(0, 0\)"):
        check_loss_gradient(HalvedSquaredError(), np.ones((2, 2)), np.zeros((2, 2)))


def test_a_step_across_a_kink_is_taken_again_smaller():
    class Bend(Layer):
        """y = |x - bend|, bent 1e-5 beside one of the inputs of the check."""

        def output_shape(self, input_shape):
            return tuple(input_shape)

        def forward(self, x, training=False):
            if not hasattr(self, "bend"):
                self.bend = x.flat[0] + 1e-5
            self.sign = np.sign(x - self.bend)
            return np.abs(x - self.bend)

        def backward(self, dy):
            return dy * self.sign

    assert check_gradients(Bend(), (3,))["input"] < 1e-6
