"""Every layer against torch and against its NumPy twin: forward pass and all gradients."""

from collections.abc import Callable
from dataclasses import dataclass

import naive
import numpy as np
import pytest
import torch
from against_torch import TorchLocallyConnected2d, assert_same, compare_with_torch
from torch import nn

from minicnn import (
    Conv2d,
    Dense,
    Flatten,
    LeakyReLU,
    LocallyConnected2d,
    MaxPool,
    MeanPool,
    ReLU,
    ScaledTanh,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
)
from minicnn.engine import memory, work
from minicnn.kernels import LANES
from minicnn.layers import sequential
from minicnn.layers.layer import Layer


@dataclass
class Case:
    name: str
    ours: Callable[[], Layer]
    theirs: Callable[[], nn.Module]
    shape: tuple[int, ...]  # of one input
    forward: Callable  # (x, *parameters) -> y
    backward: Callable  # (dy, x, *parameters) -> dx or (dx, *gradients)


class TorchScaledTanh(nn.Module):
    def forward(self, x):
        return 1.7159 * torch.tanh(2 / 3 * x)


def pair(value):
    return (value, value) if isinstance(value, int) else value


def conv_case(shape, out, kernel, stride=1, padding=0, dilation=1, groups=1, bias=True):
    arguments = (shape[0], out, kernel, stride, padding, dilation, groups, bias)
    options = (pair(stride), pair(padding), pair(dilation), groups)

    def backward(dy, x, weight, bias=None):
        gradients = naive.conv2d_backward(dy, x, weight, *options)
        return gradients[:2] if bias is None else gradients

    return Case(
        f"Conv2d{arguments}".replace(" ", ""),
        lambda: Conv2d(*arguments),
        lambda: nn.Conv2d(*arguments),
        shape,
        lambda x, weight, bias=None: naive.conv2d(x, weight, bias, *options),
        backward,
    )


def local_case(shape, out, kernel, stride=1, padding=0, dilation=1, bias=True):
    arguments = (shape[0], out, shape[1:], *map(pair, (kernel, stride, padding, dilation)), bias)
    options = arguments[4:-1]

    def backward(dy, x, weight, bias=None):
        gradients = naive.local2d_backward(dy, x, weight, *options)
        return gradients[:2] if bias is None else gradients

    return Case(
        f"LocallyConnected2d{arguments}".replace(" ", ""),
        lambda: LocallyConnected2d(*arguments),
        lambda: TorchLocallyConnected2d(*arguments),
        shape,
        lambda x, weight, bias=None: naive.local2d(x, weight, bias, *options),
        backward,
    )


def max_case(shape, kernel, stride=None, padding=0, ceil_mode=False):
    options = (pair(kernel), pair(stride or kernel), pair(padding), ceil_mode)
    return Case(
        f"MaxPool{kernel, stride, padding, ceil_mode}".replace(" ", ""),
        lambda: MaxPool(kernel, stride, padding, ceil_mode),
        lambda: nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode),
        shape,
        lambda x: naive.max_pool(x, *options),
        lambda dy, x: naive.max_pool_backward(dy, x, *options),
    )


def mean_case(shape, kernel, stride=None, padding=0, ceil_mode=False, include=True):
    options = (pair(kernel), pair(stride or kernel), pair(padding), ceil_mode, include)
    return Case(
        f"MeanPool{kernel, stride, padding, ceil_mode, include}".replace(" ", ""),
        lambda: MeanPool(kernel, stride, padding, ceil_mode, include),
        lambda: nn.AvgPool2d(kernel, stride, padding, ceil_mode, include),
        shape,
        lambda x: naive.mean_pool(x, *options),
        lambda dy, x: naive.mean_pool_backward(dy, x, *options),
    )


def dense_case(inputs, outputs, bias=True):
    def backward(dy, x, weight, bias=None):
        gradients = naive.dense_backward(dy, x, weight)
        return gradients[:2] if bias is None else gradients

    return Case(
        f"Dense({inputs},{outputs},{bias})",
        lambda: Dense(inputs, outputs, bias),
        lambda: nn.Linear(inputs, outputs, bias),
        (inputs,),
        lambda x, weight, bias=0: naive.dense(x, weight, bias),
        backward,
    )


# In float32 and float64. Every tile shape, kernel size and element type compiles for a second or two,
# so the sizes below meet again and again.
CASES = [
    conv_case((1, 8, 8), 6, 5, padding=2),  # LeNet's C1 on a small image
    conv_case((6, 8, 8), 16, 5),  # C3
    conv_case((2, 6, 6), 3, 3),
    conv_case((3, 8, 4), 3, 1, bias=False),
    conv_case((4, 6, 6), 6, 3, groups=2, padding=1),
    local_case((2, 6, 6), 3, 3),
    local_case((2, 9, 7), 3, (2, 3), (2, 1), (1, 2), (1, 2), bias=False),
    max_case((3, 8, 6), 2),
    max_case((2, 7, 7), 2),  # the last row and column are left out
    mean_case((3, 8, 6), 2),
    mean_case((2, 7, 7), 2),
    dense_case(20, 23),
    Case("Flatten", Flatten, nn.Flatten, (3, 4, 5), lambda x: x.reshape(len(x), -1), lambda dy, x: dy.reshape(x.shape)),
    Case("ReLU", ReLU, nn.ReLU, (2, 5, 7), naive.relu, naive.relu_backward),
    Case(
        "LeakyReLU",
        lambda: LeakyReLU(0.2),
        lambda: nn.LeakyReLU(0.2),
        (2, 5, 7),
        lambda x: naive.leaky_relu(x, 0.2),
        lambda dy, x: naive.leaky_relu_backward(dy, x, 0.2),
    ),
    Case("Sigmoid", Sigmoid, nn.Sigmoid, (2, 5, 7), naive.sigmoid, naive.sigmoid_backward),
    Case("Tanh", Tanh, nn.Tanh, (11,), np.tanh, naive.tanh_backward),
    Case("ScaledTanh", ScaledTanh, TorchScaledTanh, (2, 5, 7), naive.scaled_tanh, naive.scaled_tanh_backward),
    Case("Softmax", Softmax, lambda: nn.Softmax(1), (10,), naive.softmax, naive.softmax_backward),
    Case("Softmax over channels", Softmax, lambda: nn.Softmax(1), (3, 4, 5), naive.softmax, naive.softmax_backward),
]


# In float64 only; test_random_shapes.py has more of them in float32.
UNUSUAL_CASES = [
    # Numbers of channels, of columns, and of kernel columns that no tile divides.
    conv_case((2, 5, 5), 11, 3),
    conv_case((2, 3, 7), 5, (2, 7), padding=(0, 3)),
    conv_case((3, 5, 5), 4, 5),  # kernel as large as its input
    conv_case((2, 4, 4), 3, (2, 5), padding=(1, 4)),  # windows that see nothing but padding
    conv_case((4, 4, 4), 6, 3, groups=2, padding=3, bias=False),  # more of them
    conv_case((3, 9, 6), 3, 3, stride=2, padding=1),
    conv_case((2, 9, 6), 3, (2, 3), stride=(3, 2), padding=(0, 1)),  # rows that no window sees
    conv_case((2, 6, 6), 3, 3, dilation=2, padding=2),
    conv_case((2, 10, 4), 3, (2, 3), stride=(2, 1), padding=(0, 2), dilation=(3, 2)),
    conv_case((3, 6, 6), 9, 3, groups=3, stride=2, padding=1),
    conv_case((3, 6, 6), 3, 3, groups=3, padding=1),  # depthwise
    local_case((1, 4, 5), 3, 3, padding=3),  # windows that see nothing but padding
    local_case((2, 7, 8), 3, 3, stride=3),  # rows and columns that no window sees
    local_case((2, 2, LANES + 2), 2, (1, LANES + 1)),  # more kernel columns than lanes
    max_case((2, 7, 9), (3, 2), (2, 1), (1, 1)),
    max_case((2, 6, 7), (3, 2), 2, (1, 0), True),
    max_case((1, 5, 5), 2, 3),  # gaps between the windows
    mean_case((2, 7, 9), (3, 2), (2, 1), (1, 1)),
    mean_case((2, 6, 7), (3, 2), 2, (1, 0), True),
    mean_case((2, 6, 7), (3, 2), 2, (1, 1), True, False),
    mean_case((2, 6, 7), (3, 2), 1, 1, False, False),
    dense_case(7, 23, bias=False),
    dense_case(1, 1),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_layer_in_float32_equals_torch(case, rng):
    x = 2 * rng.standard_normal((LANES + 1, *case.shape)).astype(np.float32)
    compare_with_torch(case.ours(), case.theirs(), x)


@pytest.mark.parametrize("case", CASES + UNUSUAL_CASES, ids=lambda case: case.name)
def test_layer_in_float64_equals_torch_and_its_twin(case, rng):
    module = case.theirs()
    x = 2 * rng.standard_normal((LANES + 1, *case.shape))
    expected = compare_with_torch(case.ours(), module, x)
    parameters = [p.detach().numpy() for p in module.parameters()]
    y = case.forward(x, *parameters)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    gradients = case.backward(dy, x, *parameters)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    assert_same([y, *gradients], expected)


@pytest.mark.parametrize("n", [4 * LANES, 6 * LANES + 1])
def test_locally_connected_layer_on_many_blocks(n, rng):
    """Enough for a tile of several blocks, and more outputs than such a tile has."""
    case = local_case((2, 6, 6), 7, 3)
    x = rng.standard_normal((n, *case.shape)).astype(np.float32)
    compare_with_torch(case.ours(), case.theirs(), x)


@pytest.mark.parametrize("n", [4 * LANES, 7 * LANES + 1])
def test_dense_layer_on_many_blocks(n, rng):
    """Enough for a tile of several blocks, and then some."""
    x = rng.standard_normal((n, 20)).astype(np.float32)
    compare_with_torch(Dense(20, 23), nn.Linear(20, 23), x)


GUARD = 4096


@pytest.fixture
def guards(monkeypatch):
    """Arrays of programs and networks, and maps within them, lie between guards of NaN; returns the list of guards.

    No two maps share memory then.
    """
    found = []
    finish = work.Work.finish

    def guarded_zeros(size, dtype):
        whole = np.full(size + 2 * GUARD, np.nan if np.dtype(dtype).kind == "f" else 0, dtype)
        whole[GUARD:-GUARD] = 0
        if whole.dtype.kind == "f":
            found.extend([whole[:GUARD], whole[-GUARD:]])
        return whole[GUARD:-GUARD]

    def guarded_plan(arena):
        for buffer in arena.buffers:
            buffer.offset = arena.size
            arena.size += buffer.size + GUARD

    def guarded_finish(work):
        finished = finish(work)
        for arena in (work._threads, work._blocks):
            for buffer in arena.buffers:
                end = buffer.offset + buffer.size
                guard = arena.array.reshape(-1, arena.size)[:, end : end + GUARD]
                guard[...] = np.nan
                found.append(guard)
        return finished

    monkeypatch.setattr(memory.Arena, "plan", guarded_plan)
    monkeypatch.setattr(work.Work, "finish", guarded_finish)
    monkeypatch.setattr(work, "aligned_zeros", guarded_zeros)
    monkeypatch.setattr(sequential, "aligned_zeros", guarded_zeros)
    return found


@pytest.mark.parametrize("case", CASES + UNUSUAL_CASES, ids=lambda case: case.name)
def test_layer_stays_inside_its_memory(case, rng, guards):
    """A NaN that is read shows in the results, one that is written to is missed afterwards."""
    x = rng.standard_normal((LANES + 1, *case.shape))
    compare_with_torch(Sequential([case.ours()]), case.theirs(), x)
    assert guards
    assert all(np.isnan(guard).all() for guard in guards)
