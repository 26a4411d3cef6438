"""Layers that PyTorch has not, written with it; and a layer of ours and its twin on the same weights and numbers."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from minicnn.layers.rbf import digit_bitmaps

TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-10}


class TorchScaledTanh(nn.Module):
    def forward(self, x):
        return 1.7159 * torch.tanh(2 / 3 * x)


class TorchConnected(nn.Conv2d):
    """A full convolution with zeros in the place of the kernels that are not in the table of connections."""

    def __init__(self, *arguments, connections, **more):
        super().__init__(*arguments, **more)
        table = lenet5_table() if connections == "lenet5" else torch.tensor(connections)
        self.places = torch.nonzero(table, as_tuple=True)
        self.full = self.weight.shape
        self.weight = nn.Parameter(self.weight.detach()[self.places])

    def forward(self, x):
        weight = torch.zeros(self.full, dtype=x.dtype).index_put(self.places, self.weight)
        return self._conv_forward(x, weight, self.bias)


class TorchPadded(nn.Conv2d):
    """A convolution of an image with (top, bottom, left, right) zeros around it."""

    def __init__(self, *arguments, padding, **more):
        super().__init__(*arguments, **more)
        top, bottom, left, right = padding
        self.around = (left, right, top, bottom)

    def forward(self, x):
        return super().forward(functional.pad(x, self.around))


def lenet5_table():
    """Table I of LeCun et al. (1998): output by input."""
    three = [{k % 6 for k in range(first, first + 3)} for first in range(6)]
    four = [{k % 6 for k in range(first, first + 4)} for first in range(6)]
    rows = [*three, *four, {0, 1, 3, 4}, {1, 2, 4, 5}, {0, 2, 3, 5}, set(range(6))]
    return torch.tensor([[k in row for k in range(6)] for row in rows])


class TorchSubsample(nn.Module):
    """A convolution of each channel with a kernel of equal weights."""

    def __init__(self, channels, kernel, stride=None):
        super().__init__()
        self.kernel, self.stride = pair(kernel), pair(kernel if stride is None else stride)
        self.weight, self.bias = (nn.Parameter(torch.randn(channels)) for _ in range(2))

    def forward(self, x):
        kernels = self.weight[:, None, None, None].expand(-1, 1, *self.kernel)
        return functional.conv2d(x, kernels, self.bias, self.stride, groups=len(self.weight))


class TorchRadialBasis(nn.Module):
    """Minus the squared distances to the prototypes."""

    def __init__(self, features, prototypes="digits"):
        super().__init__()
        if prototypes == "digits":
            prototypes = digit_bitmaps().reshape(10, features)
        self.register_buffer("prototypes", torch.tensor(prototypes, dtype=torch.float32))

    def forward(self, x):
        return -((x[:, None] - self.prototypes) ** 2).sum(dim=2)


def trained_batch_norm(*arguments, kind=nn.BatchNorm2d, **more):
    """With weights and statistics that are not those of a new layer."""
    layer = kind(*arguments, **more)
    for tensor in layer.state_dict().values():
        tensor.fill_(4) if tensor.dtype == torch.int64 else tensor.uniform_(0.2, 2)
    return layer


class TorchResidual(nn.Module):
    """The sum of `layers` one after the other and of the input, or of `shortcut` one after the other."""

    def __init__(self, layers, shortcut=None):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.shortcut = nn.Identity() if shortcut is None else nn.Sequential(*shortcut)

    def forward(self, x):
        return self.layers(x) + self.shortcut(x)


def pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


class TorchLocallyConnected2d(nn.Module):
    """The windows of the input, each with the weights of its position."""

    def __init__(self, channels, out, size, kernel, stride=1, padding=0, dilation=1, bias=True):
        super().__init__()
        size, kernel = pair(size), pair(kernel)
        top, bottom, left, right = padding if isinstance(padding, tuple) and len(padding) == 4 else (0, 0, 0, 0)
        self.around = (left, right, top, bottom)
        padding = 0 if any(self.around) else padding
        self.window = kernel, dilation, padding, stride
        image = functional.pad(torch.zeros(1, *size), self.around)
        self.size = nn.Conv2d(1, 1, kernel, stride, padding, dilation)(image).shape[1:]
        weight = torch.randn(*self.size, out, channels, *kernel)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.randn(out, *self.size)) if bias else None

    def forward(self, x):
        windows = functional.unfold(functional.pad(x, self.around), *self.window)  # (N, pixels of a window, positions)
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
    """Forward pass and all gradients with torch's weights; returns what torch got."""
    theirs = theirs.to(torch.float64 if x.dtype == np.float64 else torch.float32)
    copy_weights(ours, theirs)
    return compare_passes(ours, theirs, x, seed)


def compare_passes(ours, theirs, x, seed=0):
    """Forward pass and all gradients, for a random upstream gradient; returns what torch got."""
    with torch.no_grad():
        shape = theirs(torch.tensor(x)).shape
    dy = np.random.default_rng(seed).standard_normal(shape).astype(x.dtype)
    expected = torch_results(theirs, x, dy)
    assert_same(our_results(ours, x, dy), expected)
    return expected
