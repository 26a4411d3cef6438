"""Pooling of maps that are about as small as the window, against torch: also which of them are refused."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from minicnn import MaxPool, MeanPool, ShapeError

PAIRS = {
    "max": (MaxPool, nn.MaxPool2d, {}),
    "mean": (MeanPool, nn.AvgPool2d, {}),
    "mean without padding": (MeanPool, nn.AvgPool2d, {"count_include_pad": False}),
}


def windows():
    for kernel, stride, ceil_mode in itertools.product(range(1, 5), range(1, 6), (False, True)):
        for padding in range(kernel // 2 + 1):
            yield kernel, stride, padding, ceil_mode


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (3, 2), (5, 4)])
@pytest.mark.parametrize("pair", PAIRS)
def test_small_maps(pair, size):
    ours, theirs, more = PAIRS[pair]
    rng, refused = np.random.default_rng(0), 0
    x = rng.standard_normal((2, 3, *size)).astype(np.float32)
    for kernel, stride, padding, ceil_mode in windows():
        layer = ours(kernel, stride, padding, ceil_mode, **more)
        twin, their_x = (theirs(kernel, stride, padding, ceil_mode=ceil_mode, **more), torch.tensor(x))
        their_x.requires_grad = True
        try:
            expected = twin(their_x)
        except RuntimeError:
            refused += 1
            with pytest.raises(ShapeError, match="at least as large as the window"):
                layer.forward(x)
            continue
        y = layer.forward(x)
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
        dy = rng.standard_normal(y.shape).astype(np.float32)
        expected.backward(torch.tensor(dy))
        dx = layer.backward(dy)
        np.testing.assert_allclose(dx, their_x.grad.numpy(), rtol=1e-5, atol=1e-6)
    assert (refused > 0) == (min(size) < 4)


def test_one_window_that_hangs_over():
    x = np.array([[[[1, 4], [3, 2]]]], np.float32)
    assert MaxPool(3, 2, ceil_mode=True).forward(x).tolist() == [[[[4]]]]
    assert MeanPool(3, 2, ceil_mode=True).forward(x).tolist() == [[[[2.5]]]]
    with pytest.raises(ShapeError, match=r"at least as large as the window, 3, received 2 \+ 2 \* 0"):
        MaxPool(3, 2).forward(x)
