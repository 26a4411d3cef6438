"""Dropout: off at inference, mean preserved, one mask for both directions, seeded."""

import copy

import numpy as np
import pytest

from minicnn import Dropout, Dropout2d, ShapeError
from minicnn.kernels import LANES

N = LANES + 3


def ones(shape=(N, 3, 20, 20), dtype=np.float32):
    return np.ones(shape, dtype)


def test_off_at_inference():
    layer, x = Dropout(0.7), np.random.default_rng(0).standard_normal((N, 5)).astype(np.float32)
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_mean_is_preserved(p, dtype):
    y = Dropout(p).forward(ones(dtype=dtype), training=True)
    assert y.dtype == dtype
    kept = y[y != 0]
    np.testing.assert_allclose(kept, 1 / (1 - p), rtol=1e-6)
    np.testing.assert_allclose(kept.size / y.size, 1 - p, atol=0.02)
    # Every image has a mask of its own.
    shares = np.mean(y != 0, axis=(1, 2, 3))
    np.testing.assert_allclose(shares, 1 - p, atol=0.08)
    assert len({image.tobytes() for image in y}) == N


def test_the_gradient_passes_where_the_value_did():
    layer = Dropout(0.4)
    x = np.random.default_rng(0).standard_normal((N, 200)).astype(np.float32)
    y = layer.forward(x, training=True)
    dy = np.random.default_rng(1).standard_normal((N, 200)).astype(np.float32)
    np.testing.assert_allclose(layer.backward(dy), dy * (y / x), rtol=1e-5)


def test_each_step_draws_a_new_mask():
    layer = Dropout(0.5)
    first, second = (layer.forward(ones(), training=True) for _ in range(2))
    assert not np.array_equal(first, second)


def test_a_copy_repeats_the_masks():
    layer = Dropout(0.5)
    layer.forward(ones(), training=True)
    twin = copy.deepcopy(layer)
    for _ in range(2):
        a, b = (drop.forward(ones(), training=True) for drop in (layer, twin))
        np.testing.assert_array_equal(a, b)


def test_nothing_and_everything():
    x = ones((2, 5))
    np.testing.assert_array_equal(Dropout(0.0).forward(x, training=True), x)
    layer = Dropout(1.0)
    np.testing.assert_array_equal(layer.forward(x, training=True), 0 * x)
    np.testing.assert_array_equal(layer.backward(x), 0 * x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_maps_are_dropped(dtype):
    layer = Dropout2d(0.25).initialize(rng=3)
    y = layer.forward(ones((N, 40, 3, 5), dtype), training=True)
    np.testing.assert_array_equal(layer.backward(ones(y.shape, dtype)), y)
    maps = y[:, :, 0, 0]
    np.testing.assert_array_equal(y, np.broadcast_to(maps[:, :, None, None], y.shape))
    assert set(np.unique(maps)) == {0, dtype(1 / 0.75)}
    np.testing.assert_allclose(np.mean(maps == 0), 0.25, atol=0.05)
    assert len({image.tobytes() for image in maps}) == N
    with pytest.raises(ShapeError, match=r"Dropout2d\(p=0.25\): expected an input of \(C, H, W\)"):
        layer.forward(ones((2, 5)))
