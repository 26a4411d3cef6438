"""Optimizers against torch's."""

import copy
import math

import numpy as np
import numpy_twins as twins
import pytest
import torch
from adagrad import Adagrad
from against_torch import TOLERANCE

from minicnn import SGD, Adam, AdamW, Dense, RMSprop, Sequential, SoftmaxCrossEntropy, train_step
from minicnn.errors import ConfigError, DivergedError, MinicnnError
from minicnn.inspect.trace import trace
from minicnn.optimizers import EMA

RULES = [
    {},
    {"momentum": 0.9},
    {"weight_decay": 0.1},
    {"momentum": 0.9, "weight_decay": 0.1},
    {"momentum": 0.8, "nesterov": True},
    {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
]
ADAPTIVE = [
    (Adam, {}),
    (Adam, {"betas": (0.7, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    (AdamW, {}),
    (AdamW, {"betas": (0.0, 0.9), "weight_decay": 0.5}),
    (RMSprop, {}),
    (RMSprop, {"alpha": 0.9, "eps": 1e-3, "momentum": 0.8, "weight_decay": 0.1}),
    (RMSprop, {"alpha": 0.8, "centered": True, "momentum": 0.5}),
    (Adagrad, {"lr_decay": 0.1}),
]


def torch_twins(parameters):
    """torch parameters with copies of our values."""
    return [torch.nn.Parameter(torch.tensor(p.value)) for p in parameters]


def set_gradients(rng, parameters, tensors):
    for parameter, twin in zip(parameters, tensors, strict=True):
        parameter.grad[...] = rng.standard_normal(parameter.value.shape)
        twin.grad = torch.tensor(parameter.grad)


def assert_steps_equal(rng, ours, theirs, parameters, tensors, clip_norm=None, steps=6, rtol=1e-10):
    for step in range(steps):
        set_gradients(rng, parameters, tensors)
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(tensors, clip_norm)
        if step == 3:  # as a schedule does
            factor = 0.02 / ours.lr
            ours.lr = 0.02
            for group in theirs.param_groups:
                group["lr"] *= factor
        ours.step()
        theirs.step()
        for parameter, twin in zip(parameters, tensors, strict=True):
            np.testing.assert_allclose(parameter.value, twin.detach().numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("clip_norm", [None, 0.5, 3.0, 1e6])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_steps_equal_torch(rng, rule, clip_norm, dtype):
    parameters = Sequential([Dense(5, 4), Dense(4, 3)]).astype(dtype).parameters()
    tensors = torch_twins(parameters)
    ours = SGD(parameters, lr=0.1, clip_norm=clip_norm, **rule)
    theirs = torch.optim.SGD(tensors, lr=0.1, **rule)
    assert_steps_equal(rng, ours, theirs, parameters, tensors, clip_norm, rtol=TOLERANCE[np.dtype(dtype)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("kind", "rule"), ADAPTIVE, ids=lambda value: getattr(value, "__name__", str(value)))
def test_adaptive_steps_equal_torch(rng, kind, rule, dtype):
    """Over many steps, in more than a chunk and with a rest, and with clipped gradients; Adagrad is one of a user."""
    for size, clip_norm, steps in ((5, None, 200), (2100, 0.5, 6)):
        parameters = Sequential([Dense(size, 4), Dense(4, 3)]).astype(dtype).parameters()
        tensors = torch_twins(parameters)
        ours, theirs = kind(parameters, 0.01, clip_norm=clip_norm, **rule), getattr(torch.optim, kind.__name__)
        rtol = 10 * TOLERANCE[np.dtype(dtype)]
        assert_steps_equal(rng, ours, theirs(tensors, 0.01, **rule), parameters, tensors, clip_norm, steps, rtol)


def test_defaults_are_those_of_torch():
    parameters = Dense(2, 2).parameters()
    for kind in (SGD, Adam, AdamW, RMSprop):
        ours, theirs = kind(parameters), getattr(torch.optim, kind.__name__)(torch_twins(parameters)).defaults
        known = {key: value for key, value in vars(ours).items() if key in theirs}
        assert len(known) >= 4 and {key: theirs[key] for key in known} == known, kind


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (SGD, ({"lr": 0.03, "momentum": 0.5}, {"weight_decay": 0.2, "nesterov": True})),
        (Adam, ({"lr": 0.03, "betas": (0.5, 0.6)}, {"eps": 0.1})),
        (AdamW, ({"lr": 0.03}, {"weight_decay": 0.0})),
        (RMSprop, ({"lr": 0.03, "centered": True}, {"momentum": 0.8})),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_groups_have_options_of_their_own(rng, kind, options):
    """Those of torch, also of parameters that do not lie side by side; a rate that is set later scales all of them."""
    parameters = Sequential([Dense(5, 4), Dense(4, 3)]).astype(np.float64).parameters()
    tensors = torch_twins(parameters)

    def groups(chosen):
        return [
            {"params": [chosen[i] for i in numbers], **own}
            for numbers, own in zip(((0, 1, 3), (2,)), options, strict=True)
        ]

    more = {"momentum": 0.9} if kind is SGD else {}
    ours = kind(groups(parameters), lr=0.01, clip_norm=2.0, **more)
    theirs = getattr(torch.optim, kind.__name__)(groups(tensors), lr=0.01, **more)
    assert_steps_equal(rng, ours, theirs, parameters, tensors, 2.0, steps=8)
    again = copy.deepcopy(ours)
    assert again.steps == 8 and [group.lr_factor for group in again.groups] == [3.0, 1.0]


def test_parameters_that_are_side_by_side_with_a_frozen_one_listed_between(rng):
    parameters = Sequential([Dense(5, 4), Dense(4, 3)]).astype(np.float64).parameters()
    tensors, order = torch_twins(parameters), (0, 2, 1, 3)
    parameters[2].cell.frozen = True
    ours = Adam([parameters[i] for i in order], 0.1)
    assert_steps_equal(
        rng,
        ours,
        torch.optim.Adam([tensors[i] for i in (0, 1, 3)], 0.1),
        [parameters[i] for i in (0, 1, 3)],
        [tensors[i] for i in (0, 1, 3)],
    )
    first, memory = parameters[0].value.size + parameters[2].value.size, ours.state()["exp_avg_sq"]
    assert not memory[parameters[0].value.size : first].any() and memory[first:].all()


def test_groups_that_cannot_be():
    parameters = Dense(2, 2).parameters()
    for groups, lr, message in (
        ([{"parameters": parameters}], 0.1, 'SGD: parameters[0]: expected a key "params", received parameters'),
        ([{"params": parameters, "Lr": 1}], 0.1, 'SGD: parameters[0]: expected "params" and any of lr, momentum,'),
        ([{"params": parameters[0]}, {"params": parameters[1], "lr": -1}], 0.1, "SGD: parameters[1]: lr: expected a"),
        ([{"params": parameters}, {"params": parameters[1]}], 0.1, "SGD: parameters: expected each once, received bia"),
        ([{"params": []}], 0.1, "SGD: parameters: expected at least one, received none"),
        ([{"params": parameters, "lr": 0.1}], 0.0, "SGD: parameters[0]: lr: expected 0 like that of the optimizer"),
        (3, 0.1, "SGD: parameters: expected a list of Parameters or a list of dicts"),
    ):
        with pytest.raises(ConfigError) as caught:
            SGD(groups, lr)
        assert str(caught.value).startswith(message)
    with pytest.raises(ConfigError, match="nesterov: expected a momentum"):
        SGD([{"params": parameters, "nesterov": True}], 0.1).step()


def test_the_state_of_an_optimizer_is_all_that_it_takes_to_go_on(rng):
    """Of one that nobody but its class knows, too."""
    for make in (lambda p: SGD(p, 0.1, 0.9), Adam, lambda p: RMSprop(p, 0.1, centered=True, momentum=0.9), Adagrad):
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
        assert list(one.state()) == list(type(one).states)
        np.testing.assert_array_equal(networks[0].values, networks[1].values)


def test_trace_and_a_step_of_training_take_any_optimizer():
    network = Sequential([Dense(5, 3)]).initialize(rng=0)
    x, before = np.ones((1, 5), np.float32), network.values.copy()
    optimizer = Adam(network.parameters(), 0.01)
    train_step(network, SoftmaxCrossEntropy(), optimizer, (x, np.array([2])))
    np.testing.assert_allclose(np.abs(network.values - before), 0.01, rtol=1e-3)  # as in each first step of Adam
    text = trace(network, SoftmaxCrossEntropy(), Adam(network.parameters(), 0.01), x, 2)
    assert "Adam, with a learning rate of 0.01:" in text and "0.weight[2, " in text
    groups = [{"params": network[0].weight, "lr": 0.001}, {"params": network[0].bias}]
    assert "learning rate of 0.001" in trace(network, SoftmaxCrossEntropy(), SGD(groups, 0.01), x, 2)
    twin = copy.deepcopy(network)
    network[0].freeze()
    told, expected = (trace(net, SoftmaxCrossEntropy(), SGD(net.parameters(), 0.01), x, 2) for net in (network, twin))
    assert told == f"{expected}\n\n  Training leaves layers 0 as they are; here they are told as if it did not."


@pytest.mark.parametrize(("argument", "value"), [("lr", -1.0), ("lr_decay", -1.0), ("clip_norm", 0.0), ("eps", "x")])
def test_numbers_of_an_optimizer_of_ones_own_are_checked(argument, value):
    with pytest.raises(ConfigError, match=rf"^Adagrad: {argument}: expected a (finite )?number.*, received"):
        Adagrad(Dense(2, 2).parameters(), **{argument: value})


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


def test_what_is_remembered_outlives_another_element_type(rng):
    parameters = (network := Sequential([Dense(5, 4)]).astype(np.float64)).parameters()
    optimizer, average = Adam(parameters, lr=0.1), EMA(parameters, 0.5)
    for dtype in (np.float64, np.float32, np.float64):
        network.astype(dtype)
        before = {name: array.copy() for name, array in optimizer.state().items()}
        for parameter in parameters:
            parameter.grad = (
                np.zeros(parameter.value.shape) if optimizer.steps else rng.standard_normal(parameter.value.shape)
            )
        optimizer.step()
        kept, moving = average.average.copy(), average.updates > 0
        average.update()
        assert average.average.dtype == optimizer.state()["exp_avg"].dtype == dtype
        if moving:
            np.testing.assert_allclose(optimizer.state()["exp_avg"], 0.9 * before["exp_avg"], rtol=1e-6)
            np.testing.assert_allclose(average.average, (kept + network.values) / 2, rtol=1e-6)
    assert optimizer.state()["exp_avg"].all()


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
        ("betas", (0.9, 1.0)),
        ("betas", 0.9),
        ("eps", -1e-8),
        ("alpha", 1.0),
        ("centered", 1),
    ],
)
def test_arguments_out_of_range_are_named(argument, value):
    arguments = {"lr": 0.1, argument: value}
    kind = {"betas": AdamW, "eps": AdamW, "alpha": RMSprop, "centered": RMSprop}.get(argument, SGD)
    with pytest.raises(MinicnnError, match=f"^{kind.__name__}: {argument}: expected"):
        kind(Dense(2, 2).parameters(), **arguments)


def test_nesterov_needs_momentum():
    with pytest.raises(MinicnnError, match="nesterov"):
        SGD(Dense(2, 2).parameters(), lr=0.1, nesterov=True)


def test_a_variance_that_rounding_makes_negative_is_none():
    """Where all gradients are alike, torch's centered RMSprop may take the root of a negative number."""
    (parameter,) = Dense(8, 40, bias=False).parameters()
    optimizer = RMSprop([parameter], 0.01, alpha=0.5, eps=1e-3, centered=True)
    for _ in range(60):
        parameter.grad.flat = np.linspace(0.1, 1, 320)
        optimizer.step()
        assert np.isfinite(parameter.value).all()
    parameter.grad[0, 0] = np.nan
    before = parameter.value.copy()
    with pytest.raises(DivergedError):
        optimizer.step()
    np.testing.assert_array_equal(parameter.value, before)
