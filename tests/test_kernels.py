"""Kernels where the public layers do not reach: precision, infinities, NaN, the lane layout."""

import naive
import numpy as np
import pytest
import torch
from minicnn.kernels.tile import WIDE, choose_tile
from torch import nn

from minicnn import LeakyReLU, MaxPool, MeanPool, ReLU, ScaledTanh, Sigmoid, Softmax, Tanh
from minicnn.kernels import LANES, lanes


def in_lanes(layer, x):
    """The layer's output for x (N, ...), NaN and all, which the public `forward` would refuse."""
    y = layer._forward(naive.pack(x, LANES), len(x), False)
    return naive.unpack(y, len(x))


def gradient_in_lanes(layer, dy):
    return naive.unpack(layer._backward(naive.pack(dy, LANES), True), len(dy))


# Precision of the vector polynomials.


def all_magnitudes():
    """A million finite float32 numbers with every sign, exponent and many mantissas."""
    bits = np.arange(0, 2**32, 4093, dtype=np.uint64).astype(np.uint32)
    special = np.array([0.0, -0.0, 1e-45, -1e-45, 3.4028235e38, -3.4028235e38], np.float32)
    near_zero = np.linspace(-20, 20, 200_001, dtype=np.float32)
    x = np.concatenate([bits.view(np.float32), special, near_zero])
    return x[np.isfinite(x)]


def ulps(y, truth):
    """Distance in units of the last place of the float32 number nearest to the truth."""
    unit = np.spacing(np.abs(truth.astype(np.float32)))
    return np.abs(y.astype(np.float64) - truth) / unit


def exact_sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


ACTIVATIONS = {
    "Tanh": (Tanh, np.tanh),
    "ScaledTanh": (ScaledTanh, naive.scaled_tanh),
    "Sigmoid": (Sigmoid, exact_sigmoid),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_within_4_ulp(name):
    make, exact = ACTIVATIONS[name]
    x = all_magnitudes()
    y = make().forward(x.reshape(1, -1))[0]
    assert y.dtype == np.float32
    errors = ulps(y, exact(x.astype(np.float64)))
    worst = np.argmax(errors)
    assert errors[worst] <= 4, f"{errors[worst]:.1f} ulp at {x[worst]!r}, received {y[worst]!r}"


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_in_float64_are_exact(name):
    make, exact = ACTIVATIONS[name]
    x = np.concatenate([np.linspace(-800, 800, 10_001), np.linspace(-1e-3, 1e-3, 1001)])
    y = make().forward(x.reshape(1, -1))[0]
    np.testing.assert_allclose(y, exact(x), rtol=4e-16 if name == "Tanh" else 1e-15)


def test_softmax_is_accurate_for_every_spread_of_its_inputs(rng):
    """Also where exp gives denormal numbers or nothing."""
    x = rng.uniform(0, 200, (500, 1)) * rng.standard_normal((500, 10))
    x = (np.round(64 * x) / 64).astype(np.float32)  # whose differences are exact
    truth = naive.softmax(x.astype(np.float64))
    y = Softmax().forward(x)
    normal = truth > 1.2e-38
    np.testing.assert_allclose(y[normal], truth[normal], rtol=2e-6)
    np.testing.assert_allclose(y[~normal], truth[~normal], atol=3e-45)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)


# Infinities and NaN: the training loop has to see them.

SPECIAL = np.array([[np.nan, np.inf, -np.inf, 1.0, -1.0, 0.0, -0.0, np.nan]])
DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("layer", "module"),
    [
        (ReLU(), nn.ReLU()),
        (LeakyReLU(0.1), nn.LeakyReLU(0.1)),
        (Sigmoid(), nn.Sigmoid()),
        (Tanh(), nn.Tanh()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_activations_pass_nan_and_infinity_on_as_torch_does(layer, module, dtype):
    x = SPECIAL.astype(dtype)
    expected = module(torch.tensor(x)).numpy()
    np.testing.assert_allclose(in_lanes(layer, x), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaled_tanh_passes_nan_and_infinity_on(dtype):
    x = SPECIAL.astype(dtype)
    np.testing.assert_allclose(in_lanes(ScaledTanh(), x), naive.scaled_tanh(x), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_nan_wins_in_max_pooling_as_in_torch(where, dtype):
    x = np.arange(4, dtype=dtype).reshape(1, 1, 2, 2)
    x[0, 0][where] = np.nan
    layer = MaxPool(2)
    assert np.isnan(in_lanes(layer, x)).all()
    tensor = torch.tensor(x, requires_grad=True)
    nn.functional.max_pool2d(tensor, 2).backward(torch.ones(1, 1, 1, 1, dtype=tensor.dtype))
    dx = gradient_in_lanes(layer, np.ones((1, 1, 1, 1), dtype))
    np.testing.assert_array_equal(dx, tensor.grad.numpy())


def test_a_window_of_minus_infinity_has_a_maximum_and_a_gradient():
    layer = MaxPool(2)
    y = layer.forward(np.full((1, 1, 2, 2), -np.inf, np.float32))
    assert y.item() == -np.inf
    np.testing.assert_array_equal(layer.backward(np.ones_like(y))[0, 0], [[1, 0], [0, 0]])


def test_nan_stays_in_its_window_and_its_image(rng):
    x = rng.standard_normal((LANES + 2, 2, 4, 4)).astype(np.float32)
    x[3, 1, 2, 3] = np.nan
    for layer in (MaxPool(2), MeanPool(2)):
        y = in_lanes(layer, x)
        assert np.argwhere(np.isnan(y)).tolist() == [[3, 1, 1, 1]]


@pytest.mark.parametrize("layer", [ReLU(), LeakyReLU(), Tanh(), Sigmoid()], ids=repr)
def test_nan_in_the_upstream_gradient_is_passed_on(layer):
    x = np.ones((1, 3), np.float32)
    in_lanes(layer, x)
    dx = gradient_in_lanes(layer, np.array([[1, np.nan, 2]], np.float32))
    assert np.isnan(dx).tolist() == [[False, True, False]]


# The lane layout.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, LANES - 1, LANES, LANES + 1, 3 * LANES])
@pytest.mark.parametrize("features", [1, LANES - 1, LANES, 2 * LANES + 3])
def test_packing_and_unpacking(rng, n, features, dtype):
    x = rng.standard_normal((n, features)).astype(dtype)
    expected = naive.pack(x, LANES)
    packed = np.full_like(expected, 7)
    finite = np.zeros(len(packed), np.bool_)
    lanes.pack(x, packed, finite)
    np.testing.assert_array_equal(packed, expected)
    assert finite.all()
    back = np.zeros_like(x)
    lanes.unpack(packed, back)
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_packing_notices_what_is_not_finite(rng, value):
    features = 2 * LANES + 3
    for place in [(0, 0), (LANES - 1, LANES), (LANES + 1, 2 * LANES), (3 * LANES, features - 1)]:
        x = rng.standard_normal((3 * LANES + 1, features)).astype(np.float32)
        x[place] = value
        packed = naive.pack(x, LANES)
        finite = np.ones(len(packed), np.bool_)
        lanes.pack(x, packed, finite)
        assert np.flatnonzero(~finite).tolist() == [place[0] // LANES]


def test_all_wide_planes_have_the_same_tile():
    """So that lines of writing, each of another width, share their kernels."""
    for rows in (1, 3, 6, 16, 120):
        tiles = {choose_tile(rows, columns) for columns in range(WIDE, 300)}
        assert len(tiles) == 1
        assert tiles.pop()[1] < WIDE
