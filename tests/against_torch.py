"""Runs a layer of ours and its torch counterpart on the same weights and numbers."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-10}


class TorchLocallyConnected2d(nn.Module):
    """The windows of the input, each with the weights of its position."""

    def __init__(self, channels, out, size, kernel, stride=1, padding=0, dilation=1, bias=True):
        super().__init__()
        self.window = kernel, dilation, padding, stride
        self.size = nn.Conv2d(1, 1, kernel, stride, padding, dilation)(torch.zeros(1, *size)).shape[1:]
        weight = torch.randn(*self.size, out, channels, *kernel)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.randn(out, *self.size)) if bias else None

    def forward(self, x):
        windows = functional.unfold(x, *self.window)  # (N, pixels of a window, positions)
        y = torch.einsum("nkp,pok->nop", windows, self.weight.flatten(0, 1).flatten(2))
        y = y.unflatten(2, self.size)
        return y if self.bias is None else y + self.bias


def copy_weights(ours, theirs):
    """torch's weights into our layer, whose dtype is made torch's; torch's order is ours."""
    sources = [parameter.detach().numpy() for parameter in theirs.parameters()]
    if sources:
        ours.astype(sources[0].dtype)
    for parameter, source in zip(ours.parameters(), sources, strict=True):
        parameter.value[...] = source


def our_results(layer, x, dy, training=False):
    """[y, dx, gradient of each parameter]."""
    y = layer.forward(x, training=training)
    dx = layer.backward(dy)
    return [y, dx, *(parameter.grad.copy() for parameter in layer.parameters())]


def torch_results(module, x, dy):
    """[y, dx, gradient of each parameter]."""
    x = torch.tensor(x, requires_grad=True)
    module.zero_grad()
    y = module(x)
    y.backward(torch.tensor(dy))
    tensors = [y.detach(), x.grad, *(parameter.grad for parameter in module.parameters())]
    return [tensor.numpy() for tensor in tensors]


def assert_same(actual, expected, rtol=None):
    """Same shapes and dtypes; differences at most rtol of the array's largest value."""
    rtol = rtol or TOLERANCE[expected[0].dtype]
    for number, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert a.dtype == b.dtype
        scale = np.max(np.abs(b), initial=0)
        np.testing.assert_allclose(a, b, rtol, rtol * scale, err_msg=f"array number {number}")


def compare_with_torch(ours, theirs, x, seed=0):
    """Forward pass and all gradients, for a random upstream gradient; returns what torch got."""
    theirs = theirs.to(torch.float64 if x.dtype == np.float64 else torch.float32)
    copy_weights(ours, theirs)
    with torch.no_grad():
        shape = theirs(torch.tensor(x)).shape
    dy = np.random.default_rng(seed).standard_normal(shape).astype(x.dtype)
    expected = torch_results(theirs, x, dy)
    assert_same(our_results(ours, x, dy), expected)
    return expected
