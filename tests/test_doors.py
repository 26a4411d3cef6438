"""What the API takes for arrays, labels and parameters, and what it refuses."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from minicnn import (
    SGD,
    ConfigError,
    Dense,
    MeanSquaredError,
    MinicnnError,
    Model,
    Sequential,
    ShapeError,
    SoftmaxCrossEntropy,
    evaluate,
    train_step,
)

X = np.random.default_rng(0).random((4, 3), np.float32)
LABELS = np.array([0, 1, 1, 0])


@pytest.fixture
def network() -> Sequential:
    return Sequential([Dense(3, 2)]).initialize("kaiming", rng=0)


def test_an_evaluation_of_nothing(network: Sequential) -> None:
    for batches in ([], iter(())):
        with pytest.raises(MinicnnError, match="evaluate: expected at least one batch, received"):
            evaluate(network, SoftmaxCrossEntropy(), batches)


@pytest.mark.parametrize("labels", [None, 3, 0.5, "x", np.int64(1), [0, 1], [[0, 1], [1]]])
@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy, MeanSquaredError])
def test_labels_of_another_kind(network: Sequential, labels: object, loss: Callable[[], object]) -> None:
    optimizer = SGD(network.parameters(), 0.1)
    for use in (
        lambda: train_step(network, loss(), optimizer, (X, labels)),
        lambda: evaluate(network, loss(), [(X, labels)]),
        lambda: loss().forward(network.forward(X), labels),
    ):
        with pytest.raises(ShapeError, match="expected"):
            use()


def test_a_tensor_that_requires_a_gradient_stands_for_its_numbers(network: Sequential) -> None:
    tensor = torch.from_numpy(X.copy()).requires_grad_()
    np.testing.assert_array_equal(network.forward(tensor), network.forward(X))
    model = Model(network, (3,))
    np.testing.assert_array_equal(model.scores(tensor), model.scores(X))
    loss, target = MeanSquaredError(), torch.zeros(4, 2, requires_grad=True)
    expected = loss.forward(network.forward(X), np.zeros((4, 2), np.float32))
    assert loss.forward(network.forward(tensor), target) == expected
    assert evaluate(network, loss, [(tensor, target)]).loss == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["dicts", "arrays", "numbers", "network"])
def test_parameters_of_an_optimizer(network: Sequential, kind: str) -> None:
    parameters = {
        "dicts": [{"parameters": network.parameters()}],
        "arrays": [np.zeros(3)],
        "numbers": [1, 2],
        "network": network,
    }[kind]
    with pytest.raises(ConfigError, match=r"SGD: parameters(\[0\])?: expected .*(parameters|params)"):
        SGD(parameters, 0.1)  # type: ignore[arg-type]
