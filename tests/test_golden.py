"""Ten training steps of LeNet from fixed weights: each loss equals torch's."""

import numpy as np
import pytest
import torch
from against_torch import copy_weights
from torch import nn

from minicnn import SGD, SoftmaxCrossEntropy
from minicnn.training.step import train_step
from minicnn.zoo import lenet5

# So low that a number which rounding puts on the other side of a ReLU's kink changes a loss by less than is allowed.
RULES = [
    {"lr": 0.15},
    {"lr": 0.05, "momentum": 0.9},
    {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-2},
    {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
]


def torch_lenet(activation, pooling):
    act = {"relu": nn.ReLU, "tanh": nn.Tanh}[activation]
    pool = {"max": nn.MaxPool2d, "mean": nn.AvgPool2d}[pooling]
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), act(), pool(2)),
        *(nn.Conv2d(6, 16, 5), act(), pool(2)),
        *(nn.Flatten(), nn.Linear(400, 120), act()),
        *(nn.Linear(120, 84), act(), nn.Linear(84, 10)),
    )


def batches(dtype):
    """Ten batches of 70 noisy copies of ten fixed patterns, so that the loss can fall."""
    rng = np.random.default_rng(0)
    patterns = np.kron(rng.standard_normal((10, 1, 7, 7)), np.ones((4, 4)))
    for _ in range(10):
        labels = rng.integers(0, 10, 70)
        noise = rng.standard_normal((70, 1, 28, 28))
        yield (patterns[labels] + 0.5 * noise).astype(dtype), labels


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-3), (np.float64, 1e-9)])
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("options", [("relu", "max"), ("tanh", "mean")], ids=str)
def test_ten_losses_equal_torch(options, rule, dtype, rtol):
    module = torch_lenet(*options).to(torch.float64 if dtype == np.float64 else torch.float32)
    network, loss = lenet5(*options), SoftmaxCrossEntropy()
    copy_weights(network, module)
    ours, theirs = SGD(network.parameters(), **rule), torch.optim.SGD(module.parameters(), **rule)
    losses, expected = [], []
    for x, labels in batches(dtype):
        losses.append(train_step(network, loss, ours, (x, labels)).loss)
        theirs.zero_grad()
        value = nn.functional.cross_entropy(module(torch.tensor(x)), torch.tensor(labels))
        value.backward()
        theirs.step()
        expected.append(value.item())
    np.testing.assert_allclose(losses, expected, rtol=rtol)
    assert min(losses) < 0.95 * losses[0]
