"""The exponential moving average of weights, against torch's."""

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from minicnn import EMA, BatchNorm2d, ConfigError, Conv2d, Dense, Sequential
from minicnn.engine.arrays import replacements


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.999])
def test_averages_equal_torch(rng, decay, dtype):
    network = Sequential([Conv2d(2, 3, 3), BatchNorm2d(3)]).astype(dtype)
    twin = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    twin.to(torch.float32 if dtype == np.float32 else torch.float64)
    ema = EMA(network.parameters(), decay)
    averaged = AveragedModel(twin, multi_avg_fn=get_ema_multi_avg_fn(decay))
    for _ in range(12):
        for name, array in network.state_arrays().items():
            array[...] = rng.uniform(0.5, 2, array.shape)
            twin.state_dict()[name].copy_(torch.tensor(array))
        ema.update()
        averaged.update_parameters(twin)
        with ema.applied():
            ours = network.state_dict()
        for name, array in averaged.module.state_dict().items():  # with the last running statistics
            np.testing.assert_allclose(ours[name], array.numpy(), rtol=4 * np.finfo(dtype).eps, err_msg=name)


def test_parameters_come_back_to_the_bit(rng):
    network = Sequential([Dense(5, 4), Dense(4, 3)]).initialize(rng=0)
    ema = EMA(network.parameters(), 0.9)
    first = network.values.copy()
    ema.update()
    network.values += rng.standard_normal(network.values.size).astype(np.float32)
    before = network.values.copy()
    ema.update()
    with pytest.raises(KeyError), ema.applied():
        np.testing.assert_allclose(network.values, 0.9 * first + 0.1 * before, atol=1e-6)
        raise KeyError
    assert network.values.tobytes() == before.tobytes()


def test_an_update_has_no_program_look_for_replaced_arrays():
    network = Sequential([Dense(5, 4)])
    ema = EMA(network.parameters(), 0.9)
    number = replacements.number
    for _ in range(3):
        ema.update()
    assert replacements.number == number
    ema.average = ema.average.copy()
    assert replacements.number > number


def test_parameters_that_lie_apart():
    layers = [Dense(7, 5), Dense(5, 4)]
    for layer in layers:
        layer.initialize(rng=1)
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    ema = EMA(parameters, 0.5)
    start = [parameter.value.copy() for parameter in parameters]
    ema.update()
    for parameter in parameters:
        parameter.value[...] += 2
    ema.update()
    with ema.applied():
        for parameter, value in zip(parameters, start, strict=True):
            np.testing.assert_allclose(parameter.value, value + 1, rtol=1e-6)


@pytest.mark.parametrize("decay", [-0.1, 1, 1.5, float("nan")])
def test_a_decay_out_of_range(decay):
    with pytest.raises(ConfigError, match=r"EMA: decay: expected a (finite )?number"):
        EMA(Dense(7, 5).parameters(), decay)


def test_no_parameters():
    with pytest.raises(ConfigError, match="EMA: parameters"):
        EMA([], 0.9)
