"""Subsample: how it begins, its counts and its errors; the table of layers has its maths."""

import pickle

import numpy as np
import pytest

from minicnn import MeanPool, ShapeError, Subsample


def test_begins_as_mean_pooling(rng):
    x = rng.standard_normal((3, 2, 6, 6)).astype(np.float32)
    for scheme in ("uniform", "kaiming"):
        layer = Subsample(2, 2).initialize(scheme)
        np.testing.assert_allclose(layer.forward(x), MeanPool(2).forward(x), rtol=1e-6, atol=1e-7)


def test_begins_at_random_as_in_1998():
    layer = Subsample(300, 2).initialize("lecun-1998", rng=0)
    for parameter in layer.parameters():
        assert 0.58 < np.abs(parameter.value).max() <= 2.4 / 4
        assert abs(parameter.value.mean()) < 0.06


def test_s2_of_lenet5():
    layer = Subsample(6, 2)
    assert sum(parameter.value.size for parameter in layer.parameters()) == 12
    assert layer.connections((6, 28, 28)) == 5880
    assert layer.output_shape((6, 29, 28)) == (6, 14, 14)


def test_one_that_an_earlier_version_has_pickled_can_be_used(rng):
    layer, x = Subsample(2, 2), rng.standard_normal((3, 2, 6, 6)).astype(np.float32)
    expected = layer.forward(x)
    for name in ("padding", "ceil_mode"):  # it had no such attributes
        del layer.__dict__[name]
    loaded = pickle.loads(pickle.dumps(layer))
    assert repr(loaded) == "Subsample(2, kernel_size=(2, 2))"
    np.testing.assert_array_equal(loaded.forward(x), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Subsample(0, 2), "in_channels: expected an int >= 1, received 0"),
        (lambda: Subsample(3, 0), "kernel_size: .*received 0"),
        (lambda: Subsample(3, 2, stride=0), "stride: .*received 0"),
        (lambda: Subsample(3, 2).output_shape((2, 4, 4)), r"\(3, H, W\)"),
        (lambda: Subsample(3, 5).output_shape((3, 4, 5)), "as large as the window, 5, received 4"),
    ],
)
def test_bad_arguments_and_inputs_are_refused(make, message):
    with pytest.raises(ShapeError, match=message):
        make()
