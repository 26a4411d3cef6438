"""Conv2d and the pools against torch over random shapes and settings."""

import numpy as np
import torch
from against_torch import compare_with_torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from minicnn import Conv2d, MaxPool, MeanPool
from minicnn.kernels import LANES

BATCHES = st.sampled_from([1, LANES - 1, LANES, LANES + 1])
SEEDS = st.integers(0, 2**32 - 1)

# Each tile shape and each window of a pool compiles for a second, and tiles follow from channels, widths,
# the columns of the kernel and, where Winograd's way pays, heights: those come from short lists. Groups cost nothing.
CHANNELS = st.sampled_from([1, 3])
SIZES, OUT_SIZES = (4, 6), (1, 4, 6)


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


def sizes_that_fit(reach, stride):
    """Sizes of an input, and paddings, for a kernel that reaches over `reach` places."""
    fitting = [
        (size, padding)
        for size in SIZES
        for padding in range(reach + 1)
        if (size + 2 * padding - reach) // stride + 1 in OUT_SIZES
    ]
    return st.sampled_from([*fitting, (reach, 0)])


@st.composite
def convolutions(draw, plain):
    """Arguments of Conv2d and an input shape that they fit; plain: the fast path."""
    kernel = draw(st.integers(1, 4)), draw(st.sampled_from([1, 3, 5] if plain else [3]))
    stride = (1, 1) if plain else (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    dilation = (1, 1) if plain else (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    groups = 1 if plain else draw(st.integers(1, 3))
    rows, columns = (d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    height, row_padding = draw(sizes_that_fit(rows, stride[0]))
    width, column_padding = draw(sizes_that_fit(columns, stride[1]))
    shape = (groups * draw(CHANNELS), height, width)
    out, bias = groups * (draw(CHANNELS) if plain else 3), draw(st.booleans())
    padding = (row_padding, column_padding)
    return (shape[0], out, kernel, stride, padding, dilation, groups, bias), shape


def check_convolution(convolution, batch, seed):
    arguments, shape = convolution
    x = np.random.default_rng(seed).standard_normal((batch, *shape)).astype(np.float32)
    torch.manual_seed(seed)
    compare_with_torch(Conv2d(*arguments), nn.Conv2d(*arguments), x, seed)


@given(convolutions(plain=True), BATCHES, SEEDS)
def test_convolution(convolution, batch, seed):
    check_convolution(convolution, batch, seed)


@given(convolutions(plain=False), BATCHES, SEEDS)
def test_convolution_with_stride_dilation_and_groups(convolution, batch, seed):
    check_convolution(convolution, batch, seed)


@st.composite
def pools(draw):
    """(kernel, stride, padding, ceil_mode) and an input shape that it fits."""
    kernel = draw(st.sampled_from([(2, 2), (3, 2)]))
    stride = draw(st.none() | pairs(1, 4))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(max(1, k - 2 * p) + draw(st.integers(0, 7)) for k, p in zip(kernel, padding, strict=True))
    return (kernel, stride, padding, draw(st.booleans())), (draw(st.integers(1, 3)), *size)


@settings(max_examples=100)
@given(pools(), st.booleans(), BATCHES, SEEDS)
def test_pools(pool, count_include_pad, batch, seed):
    (kernel, stride, padding, ceil_mode), shape = pool
    x = np.random.default_rng(seed).standard_normal((batch, *shape)).astype(np.float32)
    theirs = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)
    compare_with_torch(MaxPool(kernel, stride, padding, ceil_mode), theirs, x, seed)
    options = (kernel, stride, padding, ceil_mode, count_include_pad)
    compare_with_torch(MeanPool(*options), nn.AvgPool2d(*options), x, seed)
