"""Losses that a user writes in NumPy."""

import copy

import numpy as np
import pytest
from against_torch import TOLERANCE

from minicnn import SGD, Dense, Loss, MeanSquaredError, Sequential, SoftmaxCrossEntropy, Tanh, evaluate, train_step
from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import LANES


class OwnSquare(Loss):
    def forward(self, y, target):
        self.e = y - target
        return (self.e**2).mean()

    def backward(self):
        return 2 * self.e / self.e.size


class OwnCrossEntropy(Loss):
    takes_logits = True

    def forward(self, y, target):
        self.p, self.labels = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True), target
        return -np.log(self.p[np.arange(len(y)), target]).mean()

    def backward(self):
        return (self.p - np.eye(self.p.shape[1])[self.labels]) / len(self.p)


class TwiceAsMuch(MeanSquaredError):  # noqa: N818
    """Calls those of a loss of the package."""

    def forward(self, y, target):
        return 2 * super().forward(y, target)

    def backward(self):
        return 2 * super().backward()


@pytest.mark.parametrize("n", [1, LANES - 1, LANES, LANES + 1, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loss_in_numpy_in_a_step_and_an_evaluation(n, dtype, rng):
    x, target = rng.standard_normal((n, 6)).astype(dtype), rng.standard_normal((n, 3)).astype(dtype)
    labels = np.arange(n) % 3
    for own, twin, given, factor in (
        (OwnSquare(), MeanSquaredError(), target, 1),
        (OwnCrossEntropy(), SoftmaxCrossEntropy(), labels, 1),
        (TwiceAsMuch(), MeanSquaredError(), target, 2),
    ):
        first = Sequential([Dense(6, 5), Tanh(), Dense(5, 3)]).initialize(rng=1).astype(dtype)
        second = copy.deepcopy(first)
        results = [
            train_step(network, loss, SGD(network.parameters(), lr), (x, given))
            for network, loss, lr in ((first, own, 0.1), (second, twin, 0.1 * factor))
        ]
        rtol = 10 * TOLERANCE[np.dtype(dtype)]
        np.testing.assert_allclose(results[0].loss, factor * results[1].loss, rtol=rtol)
        assert results[0].correct == results[1].correct
        np.testing.assert_allclose(first.values, second.values, rtol=rtol, atol=rtol)
        pairs = [(x, given), (x[: n // 2 + 1], given[: n // 2 + 1])]
        found, expected = (evaluate(second, loss, pairs).loss for loss in (own, twin))
        np.testing.assert_allclose(found, factor * expected, rtol=rtol)


def test_mistakes_of_a_loss_in_numpy(rng):
    network, pair = Sequential([Dense(6, 3)]), (rng.random((4, 6), np.float32), np.arange(4) % 3)
    with pytest.raises(TypeError, match="Half: a loss must define both forward and backward"):
        type("Half", (Loss,), {"forward": lambda self, y, target: 0.0})
    for name, method, message in (
        ("forward", lambda self, y, target: y, r"forward to return one number, received an array of float32 \(4, 3\)"),
        ("backward", lambda self: np.zeros(3), r"backward to return dy of shape \(4, 3\), received an array .*\(3,\)"),
    ):
        methods = {"forward": OwnCrossEntropy.forward, "backward": OwnCrossEntropy.backward, name: method}
        with pytest.raises(ShapeError, match=message):
            train_step(network, type("Own", (Loss,), methods)(), SGD(network.parameters(), 0.1), pair)
    with pytest.raises(MinicnnError, match="expected no weights of samples"):
        train_step(network, OwnCrossEntropy(), SGD(network.parameters(), 0.1), (*pair, np.ones(4)))
