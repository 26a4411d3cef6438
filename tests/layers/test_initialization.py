"""Weight initialisation by name: torch's definitions, from a seed."""

import math

import numpy as np
import pytest

from minicnn import Conv2d, Dense, LocallyConnected2d, ReLU, Sequential
from minicnn.errors import ConfigError, MinicnnError
from minicnn.zoo import lenet5

LAYERS = {
    "Dense": lambda: Dense(300, 200),
    "Conv2d": lambda: Conv2d(16, 48, 5),
    "grouped Conv2d": lambda: Conv2d(64, 128, 5, groups=4),
    "LocallyConnected2d": lambda: LocallyConnected2d(16, 48, (6, 5), 5),
}
FANS = {  # inputs of an output unit, outputs of an input unit; torch counts them per group
    "Dense": (300, 200),
    "Conv2d": (16 * 25, 48 * 25),
    "grouped Conv2d": (16 * 25, 128 * 25),
    "LocallyConnected2d": (16 * 25, 48 * 25),
}


@pytest.fixture(params=LAYERS)
def layer_and_fans(request):
    return LAYERS[request.param](), *FANS[request.param]


def assert_uniform(values, bound):
    """Fills (-bound, bound): extremes and variance (bound^2 / 3) are those of a uniform sample."""
    assert np.abs(values).max() <= bound
    assert values.max() > 0.98 * bound
    assert values.min() < -0.98 * bound
    np.testing.assert_allclose(np.var(values), bound**2 / 3, rtol=0.15)


def assert_normal(values, deviation):
    """Standard deviation, mean 0 and a normal sample's share within one deviation (68 %)."""
    np.testing.assert_allclose(np.std(values), deviation, rtol=0.02)
    assert abs(values.mean()) < 0.02 * deviation
    np.testing.assert_allclose(np.mean(np.abs(values) < deviation), 0.6827, atol=0.01)


def values(layer):
    return (parameter.value for parameter in layer.parameters())


def test_uniform_is_the_default_of_torch(layer_and_fans):
    """torch's kaiming_uniform_(a=sqrt(5)): weight and bias within 1 / sqrt(fan_in)."""
    layer, fan_in, _ = layer_and_fans
    weight, bias = values(layer.initialize("uniform", rng=0))
    assert_uniform(weight, 1 / math.sqrt(fan_in))
    assert np.abs(bias).max() <= 1 / math.sqrt(fan_in)
    assert np.abs(bias).max() > 0.9 / math.sqrt(fan_in)


def test_kaiming_is_normal_with_the_gain_of_relu(layer_and_fans):
    layer, fan_in, _ = layer_and_fans
    weight, bias = values(layer.initialize("kaiming", rng=0))
    assert_normal(weight, math.sqrt(2 / fan_in))
    assert not bias.any()


def test_xavier_is_uniform(layer_and_fans):
    layer, fan_in, fan_out = layer_and_fans
    weight, bias = values(layer.initialize("xavier", rng=0))
    assert_uniform(weight, math.sqrt(6 / (fan_in + fan_out)))
    assert not bias.any()


def test_lecun_is_normal_with_unit_gain(layer_and_fans):
    layer, fan_in, _ = layer_and_fans
    weight, bias = values(layer.initialize("lecun", rng=0))
    assert_normal(weight, math.sqrt(1 / fan_in))
    assert not bias.any()


def test_a_range_of_ones_own_holds_for_weights_and_biases(layer_and_fans):
    layer, _, _ = layer_and_fans
    weight, bias = values(layer.initialize({"uniform": 0.5}, rng=0))
    assert_uniform(weight, 0.5)
    assert 0.45 < np.abs(bias).max() <= 0.5


@pytest.mark.parametrize("scheme", ["uniform", "kaiming", "xavier", "lecun", {"uniform": 0.5}], ids=str)
def test_the_seed_decides(scheme):
    def weights(rng):
        return [v.copy() for v in values(lenet5().initialize(scheme, rng=rng))]

    same = zip(weights(7), weights(np.random.default_rng(7)), strict=True)
    assert all(np.array_equal(a, b) for a, b in same)
    assert not np.array_equal(weights(7)[0], weights(8)[0])


def test_layers_of_a_network_do_not_repeat_each_other():
    network = Sequential([Dense(9, 9), ReLU(), Dense(9, 9)]).initialize("kaiming", rng=0)
    assert not np.array_equal(network[0].parameters()[0].value, network[2].parameters()[0].value)


def test_a_new_layer_is_initialised():
    for layer in (Dense(30, 40), Conv2d(3, 40, 3)):
        weight, bias = values(layer)
        assert_uniform(weight, 1 / math.sqrt(weight[0].size))
        assert bias.any()


def test_an_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(MinicnnError, match=r"'normal'.*kaiming|kaiming.*'normal'"):
        Dense(2, 2).initialize("normal")


@pytest.mark.parametrize(
    "scheme", [{}, {"uniform": 0}, {"uniform": np.nan}, {"uniform": "0.5"}, {"normal": 1}], ids=str
)
def test_a_range_that_is_none_is_refused(scheme):
    with pytest.raises(ConfigError, match=r"^initialize: scheme: expected a scheme .* or a range .*, received"):
        Dense(2, 2).initialize(scheme)
