"""SGD against torch's."""

import copy
import math

import numpy as np
import numpy_twins as twins
import pytest
import torch
from adam import Adam
from against_torch import TOLERANCE

from minicnn import SGD, Dense, Sequential, SoftmaxCrossEntropy, train_step
from minicnn.errors import ConfigError, MinicnnError
from minicnn.inspect.trace import trace

RULES = [
    {},
    {"momentum": 0.9},
    {"weight_decay": 0.1},
    {"momentum": 0.9, "weight_decay": 0.1},
    {"momentum": 0.8, "nesterov": True},
    {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
]


def torch_twins(parameters):
    """torch parameters with copies of our values."""
    return [torch.nn.Parameter(torch.tensor(p.value)) for p in parameters]


def set_gradients(rng, parameters, tensors):
    for parameter, twin in zip(parameters, tensors, strict=True):
        parameter.grad[...] = rng.standard_normal(parameter.value.shape)
        twin.grad = torch.tensor(parameter.grad)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("clip_norm", [None, 0.5, 3.0, 1e6])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_steps_equal_torch(rng, rule, clip_norm, dtype):
    parameters = Sequential([Dense(5, 4), Dense(4, 3)]).astype(dtype).parameters()
    tensors = torch_twins(parameters)
    ours = SGD(parameters, lr=0.1, clip_norm=clip_norm, **rule)
    theirs = torch.optim.SGD(tensors, lr=0.1, **rule)
    for step in range(6):
        set_gradients(rng, parameters, tensors)
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(tensors, clip_norm)
        if step == 3:
            ours.lr = theirs.param_groups[0]["lr"] = 0.02
        ours.step()
        theirs.step()
        for parameter, twin in zip(parameters, tensors, strict=True):
            expected = twin.detach().numpy()
            rtol = TOLERANCE[np.dtype(dtype)]
            np.testing.assert_allclose(parameter.value, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("size", [5, 5000])
def test_an_optimizer_is_a_class_and_a_kernel(rng, size, clip_norm, dtype):
    parameters = Sequential([Dense(size, 4), Dense(4, 3)]).astype(dtype).parameters()
    tensors = torch_twins(parameters)
    ours, theirs = Adam(parameters, 0.01, clip_norm=clip_norm), torch.optim.Adam(tensors, 0.01)
    for _ in range(6):
        set_gradients(rng, parameters, tensors)
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(tensors, clip_norm)
        ours.step()
        theirs.step()
        for parameter, twin in zip(parameters, tensors, strict=True):
            rtol = 10 * TOLERANCE[np.dtype(dtype)]
            np.testing.assert_allclose(parameter.value, twin.detach().numpy(), rtol=rtol, atol=rtol)


def test_the_state_of_an_optimizer_is_all_that_it_takes_to_go_on(rng):
    """Of one that nobody but its class knows, too."""
    for make in (lambda p: SGD(p, 0.1, 0.9), Adam):
        networks = [Sequential([Dense(5, 4), Dense(4, 3)]).initialize(rng=0) for _ in range(2)]
        one, other = (make(network.parameters()) for network in networks)
        for step in range(5):
            for network in networks[: 1 if step < 3 else 2]:
                network.gradients = np.sin(np.arange(network.gradients.size) + step, dtype=np.float32)
            one.step()
            if step >= 3:
                other.step()
            elif step == 2:
                networks[1].values, other.steps = networks[0].values, one.steps
                for name, array in other.state().items():
                    array[...] = one.state()[name]
        assert sorted(one.state()) == sorted(make.states if isinstance(make, type) else ["velocity"])
        np.testing.assert_array_equal(networks[0].values, networks[1].values)


def test_trace_and_a_step_of_training_take_any_optimizer():
    network = Sequential([Dense(5, 3)]).initialize(rng=0)
    x, before = np.ones((1, 5), np.float32), network.values.copy()
    optimizer = Adam(network.parameters(), 0.01)
    train_step(network, SoftmaxCrossEntropy(), optimizer, (x, np.array([2])))
    np.testing.assert_allclose(np.abs(network.values - before), 0.01, rtol=1e-3)  # as in each first step of Adam
    text = trace(network, SoftmaxCrossEntropy(), Adam(network.parameters(), 0.01), x, 2)
    assert "Adam, with a learning rate of 0.01:" in text and "0.weight[2, " in text


@pytest.mark.parametrize(("argument", "value"), [("lr", -1.0), ("beta1", 1.0), ("clip_norm", 0.0), ("eps", "x")])
def test_numbers_of_an_optimizer_of_ones_own_are_checked(argument, value):
    with pytest.raises(ConfigError, match=rf"^Adam: {argument}: expected a (finite )?number.*, received"):
        Adam(Dense(2, 2).parameters(), **{argument: value})


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_steps_equal_the_twin(rng, rule):
    (parameter,) = Dense(6, 7, bias=False).astype(np.float64).parameters()
    w, v = parameter.value.copy(), 0.0
    optimizer = SGD([parameter], lr=0.1, **rule)
    rule = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0} | rule
    for step in range(4):
        parameter.grad[...] = rng.standard_normal(w.shape)
        w, v = twins.sgd_step(w, parameter.grad, v, lr=0.1, first=step == 0, **rule)
        optimizer.step()
        np.testing.assert_allclose(parameter.value, w, rtol=1e-12)


def test_parameters_that_do_not_share_one_buffer(rng):
    parameters = Dense(5, 4).parameters() + Dense(3, 2).parameters()
    tensors = torch_twins(parameters)
    set_gradients(rng, parameters, tensors)
    torch.nn.utils.clip_grad_norm_(tensors, 1.0)
    SGD(parameters, lr=0.1, momentum=0.9, clip_norm=1.0).step()
    torch.optim.SGD(tensors, lr=0.1, momentum=0.9).step()
    for parameter, twin in zip(parameters, tensors, strict=True):
        np.testing.assert_allclose(parameter.value, twin.detach().numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("chosen", [(0, 3), (0, 1, 2), (1, 2, 3), (3, 2, 1, 0)])
def test_a_part_of_a_network_leaves_the_rest_alone(chosen):
    parameters = Sequential([Dense(5, 4), Dense(4, 3)]).parameters()
    for parameter in parameters:
        parameter.grad[...] = 1.0
    before = [parameter.value.copy() for parameter in parameters]
    SGD([parameters[i] for i in chosen], lr=0.5).step()
    for i, (parameter, value) in enumerate(zip(parameters, before, strict=True)):
        expected = value - 0.5 if i in chosen else value
        np.testing.assert_allclose(parameter.value, expected, rtol=1e-6)


def test_no_parameters_at_all_are_refused():
    with pytest.raises(MinicnnError, match="parameter"):
        SGD([], lr=0.1)


def test_velocity_outlives_a_second_network_of_the_same_layers():
    """Sequential(network[:1]) moves that layer's parameters, but its velocity is the optimizer's."""
    network = Sequential([Dense(5, 4), Dense(4, 3)])
    twin = copy.deepcopy(network)
    optimizers = [SGD(net.parameters(), lr=0.1, momentum=0.9) for net in (network, twin)]
    for step in range(2):
        for net, optimizer in zip((network, twin), optimizers, strict=True):
            for parameter in net.parameters():
                parameter.grad[...] = 1.0
            optimizer.step()
        if step == 0:
            Sequential(network[:1])
    for parameter, other in zip(network.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(parameter.value, other.value, rtol=1e-6)


def test_velocity_without_a_gradient_ends_as_zero():
    """And not as a number below the normal range, with which processors are slow."""
    network = Sequential([Dense(7, 5)])
    optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9)
    network.gradients[...] = np.linspace(-1, 1, network.gradients.size)
    optimizer.step()
    network.gradients[...] = 0
    for _ in range(700):
        optimizer.step()
    assert optimizer.state()["velocity"].any()
    for _ in range(100):
        optimizer.step()
    assert not optimizer.state()["velocity"].any()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("lr", -1.0),
        ("lr", math.nan),
        ("momentum", -0.1),
        ("weight_decay", -1e-4),
        ("clip_norm", 0.0),
        ("clip_norm", -1.0),
    ],
)
def test_arguments_out_of_range_are_named(argument, value):
    arguments = {"lr": 0.1, argument: value}
    with pytest.raises(MinicnnError, match=argument):
        SGD(Dense(2, 2).parameters(), **arguments)


def test_nesterov_needs_momentum():
    with pytest.raises(MinicnnError, match="nesterov"):
        SGD(Dense(2, 2).parameters(), lr=0.1, nesterov=True)
