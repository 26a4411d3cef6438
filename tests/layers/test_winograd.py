"""The convolution with fewer multiplications: the same numbers as the plain one, to rounding."""

import numpy as np
import pytest
import torch
from against_torch import compare_with_torch
from torch import nn

from minicnn import Conv2d
from minicnn.kernels import LANES
from minicnn.kernels.points import OUTPUTS, matrices, points
from minicnn.layers.arguments import ends
from minicnn.layers.conv import conv2d
from minicnn.layers.conv.direct import Direct, Geometry
from minicnn.layers.conv.winograd import Winograd
from minicnn.layers.conv.winograd2d import Winograd2d

# in_channels, out_channels, kernel_size, padding, groups; then the shape of the input
CASES = {
    "C3 of LeNet": ((6, 16, 5, 0, 1), (17, 6, 14, 14)),
    "same padding, groups": ((4, 8, 3, 1, 2), (3, 4, 9, 11)),
    "five rows, three columns": ((3, 4, (5, 3), (2, 0), 1), (1, 3, 8, 9)),
    "more rows than lanes": ((1, 1, (LANES + 1, 3), (LANES, 1), 1), (2, 1, 5, 6)),
    "one row, widest padding": ((2, 4, (1, 5), (0, 4), 1), (2, 2, 6, 6)),
}


SQUARES = {
    "same padding, groups": ((4, 8, 3, 1, 2), (3, 4, 9, 11)),
    "a single tile": ((1, 1, 3, 0, 1), (1, 1, 3, 3)),
    "widest padding": ((3, 5, 3, 2, 1), (LANES + 1, 3, 8, 7)),
    "several bands": ((33, 24, 3, (2, 1), 1), (2, 33, 29, 34)),
}


def compare(case, dtype, rng):
    (channels, outs, kernel, padding, groups), shape = case
    options = {"padding": padding, "groups": groups}
    compare_with_torch(
        Conv2d(channels, outs, kernel, **options),
        nn.Conv2d(channels, outs, kernel, **options),
        rng.standard_normal(shape).astype(dtype),
    )


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(conv2d, "WAYS", (Winograd,))


@pytest.fixture
def always_squares(monkeypatch):
    monkeypatch.setattr(conv2d, "WAYS", (Winograd2d,))


@pytest.mark.parametrize("taps", OUTPUTS)
def test_the_matrices_make_a_filter_of_few_products(taps, rng):
    m, n = OUTPUTS[taps], points(taps)
    parts = matrices(taps)
    g, x = rng.standard_normal(taps), rng.standard_normal(n)
    y = parts["AT"] @ ((parts["G"] @ g) * (parts["BT"] @ x))
    assert n < m * taps
    np.testing.assert_allclose(y, np.correlate(x, g), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("C3 of LeNet", np.float32),
        ("C3 of LeNet", np.float64),
        ("same padding, groups", np.float32),
        ("five rows, three columns", np.float64),
        ("more rows than lanes", np.float64),
        ("one row, widest padding", np.float32),
    ],
)
def test_output_and_gradients_are_torchs(name, dtype, rng, always):
    compare(CASES[name], dtype, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SQUARES)
def test_output_and_gradients_in_both_directions_are_torchs(name, dtype, rng, always_squares):
    compare(SQUARES[name], dtype, rng)


@pytest.mark.parametrize("fast", ["always", "always_squares"])
def test_maps_without_a_connection_count_for_nothing(fast, rng, request):
    """With a table, some of the kernels that the products take are zeros."""
    request.getfixturevalue(fast)
    table = rng.integers(0, 2, (5, 7))
    table[:, 2] = table[3] = 1
    ours, theirs = Conv2d(7, 5, 3, padding=1, connections=table), nn.Conv2d(7, 5, 3, padding=1)
    theirs.weight.data = torch.tensor(ours.full_weight())
    theirs.bias.data = torch.tensor(ours.bias.value.copy())
    x = rng.standard_normal((3, 7, 6, 9)).astype(np.float32)
    given = torch.tensor(x, requires_grad=True)
    y, dy = theirs(given), rng.standard_normal((3, 5, 6, 9)).astype(np.float32)
    np.testing.assert_allclose(ours.forward(x, training=True), y.detach(), rtol=1e-4, atol=1e-5)
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(ours.backward(dy), given.grad, rtol=1e-4, atol=1e-5)
    dweight = theirs.weight.grad.numpy()[table.astype(bool)]
    np.testing.assert_allclose(ours.weight.grad, dweight, rtol=1e-4, atol=1e-4)


def test_buffers_of_a_larger_batch_leave_no_trace_in_a_smaller_one(rng, always):
    ours, theirs = Conv2d(4, 8, 3, padding=1, groups=2), nn.Conv2d(4, 8, 3, padding=1, groups=2)
    for shape in ((20, 4, 9, 11), (3, 4, 7, 6)):
        compare_with_torch(ours, theirs, rng.standard_normal(shape).astype(np.float32))


def test_a_nan_is_not_lost(rng, always):
    x = rng.standard_normal((1, 6, 14, 14)).astype(np.float32)
    layer = Conv2d(6, 16, 5)
    layer.forward(x)
    layer.weight.value[3, 2, 1, 4] = np.nan
    assert np.isnan(layer.forward(x)[0, 3]).all()


def fastest(layer, shape):
    geometry = Geometry(layer.out_channels, layer.in_channels, layer.window, ends(layer.padding), layer.groups)
    return conv2d.fastest(geometry, shape, layer.output_shape(shape))


def test_it_is_used_where_it_pays():
    assert fastest(Conv2d(6, 16, 5), (6, 14, 14)) is Winograd
    assert fastest(Conv2d(64, 64, 3, padding=1), (64, 16, 16)) is Winograd2d
    assert fastest(Conv2d(64, 64, 3, padding=1), (64, 5, 5)) is Winograd  # the second tile has one row and one column
    assert fastest(Conv2d(64, 64, (5, 3)), (64, 16, 16)) is Winograd
    assert fastest(Conv2d(1, 6, 5, padding=2), (1, 28, 28)) is Direct  # little is saved
    assert fastest(Conv2d(400, 120, 5), (400, 5, 5)) is Direct  # one output a row


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e8, 1e30])
def test_an_infinite_or_huge_pixel_stays_within_its_tile(rng, always, value):
    """Which is more than its own windows: what docs/kernels.md says of it."""
    x = rng.standard_normal((1, 6, 14, 14)).astype(np.float32)
    layer = Conv2d(6, 16, 5).initialize(rng=0)
    before = layer.forward(x).copy()
    x[0, 2, 7, 12] = value
    after = layer.forward(x)
    changed = (after != before)[0].any(axis=0)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert rows.tolist() == [3, 4, 5, 6, 7]  # those whose windows contain it
    assert columns.tolist() == [5, 6, 7, 8, 9]  # a tile of five, of which 8 and 9 have such windows
    if np.isfinite(value):  # to rounding of what is as large as the pixel
        assert np.abs(after - before)[..., 5:8].max() < 1e-5 * value


def test_an_infinite_pixel_stays_within_its_tile_of_rows_and_columns(rng, always_squares):
    x = rng.standard_normal((1, 3, 14, 14)).astype(np.float32)
    layer = Conv2d(3, 4, 3, padding=1).initialize(rng=0)
    before = layer.forward(x).copy()
    x[0, 1, 6, 9] = np.inf
    changed = (layer.forward(x) != before)[0].any(axis=0)
    # Outputs 5 to 7 and 8 to 10 have windows that contain it; tiles of four begin at 4 and 8.
    assert np.flatnonzero(changed.any(1)).tolist() == [4, 5, 6, 7]
    assert np.flatnonzero(changed.any(0)).tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 7},
        {"kernel_size": 5, "stride": 2},
        {"kernel_size": 5, "dilation": 2},
        {"kernel_size": 5, "padding": 5},
        {"kernel_size": 3, "stride": (1, 2)},
        {"kernel_size": 3, "dilation": (2, 1)},
        {"kernel_size": 3, "padding": (3, 0)},
    ],
)
def test_it_is_not_used_where_it_cannot_be(options):
    layer = Conv2d(64, 64, **options)
    assert fastest(layer, (64, 32, 32)) is Direct
