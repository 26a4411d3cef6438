"""Learning-rate schedules against torch's, step by step."""

import itertools
import math

import numpy as np
import pytest
import torch

from minicnn import make_schedule
from minicnn.errors import ConfigError
from minicnn.schedules import OPTIONS

LR, STEPS = 0.3, 60
schedulers = torch.optim.lr_scheduler

#: Our name and options, and torch's scheduler for a number of steps.
PAIRS = {
    "constant": ({}, lambda o, steps: schedulers.ConstantLR(o, factor=1)),
    "step": ({"step_size": 7}, lambda o, steps: schedulers.StepLR(o, 7)),
    "step, gamma": ({"step_size": 1, "gamma": 0.83}, lambda o, steps: schedulers.StepLR(o, 1, gamma=0.83)),
    "exponential": ({"gamma": 0.93}, lambda o, steps: schedulers.ExponentialLR(o, 0.93)),
    "cosine": ({}, lambda o, steps: schedulers.CosineAnnealingLR(o, T_max=steps)),
    "cosine, eta_min": ({"eta_min": 0.07}, lambda o, steps: schedulers.CosineAnnealingLR(o, T_max=steps, eta_min=0.07)),
}


def torch_rates(make, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    schedule = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def rates(name, steps=STEPS, **options):
    schedule = make_schedule(name.partition(",")[0], LR, steps, **options)
    return [schedule(step) for step in range(steps)]


def assert_equal(received, expected):
    """To 1e-12; cosine's last rates are small differences of numbers near lr."""
    np.testing.assert_allclose(received, expected, rtol=1e-12, atol=1e-14 * LR)


@pytest.mark.parametrize("name", PAIRS)
def test_every_step_equals_torch(name):
    options, make = PAIRS[name]
    assert_equal(rates(name, **options), torch_rates(lambda o: make(o, STEPS), STEPS))


@pytest.mark.parametrize("warmup", [1, 13, STEPS - 1])
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")  # torch's own call
def test_every_step_with_a_warm_up_equals_torch(name, warmup):
    options, make = PAIRS[name]

    def chain(optimizer):
        rise = schedulers.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
        both = [rise, make(optimizer, STEPS - warmup)]
        return schedulers.SequentialLR(optimizer, both, milestones=[warmup])

    assert_equal(rates(name, warmup_steps=warmup, **options), torch_rates(chain, STEPS))


@pytest.mark.parametrize("steps", [3, 20, 61])
@pytest.mark.parametrize("pct_start", [None, 0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("factors", [{}, {"div_factor": 10.0}, {"final_div_factor": 50.0}], ids=str)
def test_one_cycle_equals_torch(steps, pct_start, factors):
    options = factors if pct_start is None else {"pct_start": pct_start, **factors}

    def make(optimizer):
        return schedulers.OneCycleLR(optimizer, max_lr=LR, total_steps=steps, cycle_momentum=False, **options)

    # torch allows total_steps - 1 calls of step()
    assert_equal(rates("one-cycle", steps, **options)[:-1], torch_rates(make, steps - 1))


def test_one_cycle_s_last_rate():
    last = rates("one-cycle", 20, div_factor=10, final_div_factor=50)[-1]
    assert last == pytest.approx(LR / 10 / 50, rel=1e-12)


def test_warm_up_is_the_length_of_the_way_up_of_one_cycle():
    assert_equal(rates("one-cycle", 20, warmup_steps=5), rates("one-cycle", 20, pct_start=0.25))
    assert np.argmax(rates("one-cycle", 20, warmup_steps=5)) == 4


REQUIRED = {"step": {"step_size": 3}, "exponential": {"gamma": 0.9}}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (5, 5), (9, 2)])
def test_rates_are_positive_and_at_most_lr_whatever_the_number_of_steps(name, steps, warmup):
    found = rates(name, steps, warmup_steps=warmup, **REQUIRED.get(name, {}))
    assert all(0 < rate <= LR for rate in found)


@pytest.mark.parametrize("name", OPTIONS)
def test_rates_after_the_last_step_stay_in_range(name):
    schedule = make_schedule(name, LR, 10, **REQUIRED.get(name, {}))
    assert all(0 <= schedule(step) <= LR for step in range(10, 30))


@pytest.mark.parametrize(("name", "option"), [*itertools.product(OPTIONS, ["eta_min", "div_factor"])])
def test_an_option_that_a_schedule_does_not_have_is_refused_with_those_it_has(name, option):
    if option in OPTIONS[name]:
        make_schedule(name, LR, 10, **{option: 0.1})
        return
    with pytest.raises(ConfigError) as caught:
        make_schedule(name, LR, 10, **{option: 0.1})
    has = ", ".join(["warmup", *OPTIONS[name]])
    expected = f"schedule.{option}: not an option of {name}, whose options are {has}"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("linear", {}, "constant, step, exponential, cosine, one-cycle, received 'linear'"),
        ("cosine", {"lr": 0.0}, "lr: expected a number > 0, received 0"),
        ("cosine", {"lr": math.nan}, "lr: expected a number > 0, received nan"),
        ("cosine", {"total_steps": 0}, "expected total_steps >= 1, received 0"),
        ("cosine", {"warmup_steps": 21}, "received 21 of 20"),
        ("cosine", {"warmup_steps": -1}, "received -1 of 20"),
        ("step", {}, "schedule.step_size: expected a value with step, it is missing"),
        ("step", {"step_size": 0}, "schedule.step_size: expected a whole number of steps"),
        ("step", {"step_size": 1.5}, "schedule.step_size: .* received 1.5"),
        ("step", {"step_size": 1, "gamma": 0.0}, "schedule.gamma: .* received 0"),
        ("exponential", {}, "schedule.gamma: expected a value with exponential, it is missing"),
        ("exponential", {"gamma": 1.1}, "schedule.gamma: .*at most 1, received 1.1"),
        ("exponential", {"gamma": math.nan}, "schedule.gamma: .* received nan"),
        ("cosine", {"eta_min": -0.1}, "schedule.eta_min: .* received -0.1"),
        ("cosine", {"eta_min": 0.2}, r"schedule.eta_min: .* to lr \(0.1\), received 0.2"),
        ("one-cycle", {"pct_start": 1.1}, "schedule.pct_start: expected a share"),
        ("one-cycle", {"div_factor": 0.0}, "schedule.div_factor: expected a number > 0"),
        ("one-cycle", {"final_div_factor": math.inf}, "schedule.final_div_factor: .* inf"),
        ("one-cycle", {"pct_start": 0.2, "warmup_steps": 3}, r"received both \(0.2 and 3\)"),
    ],
)
def test_impossible_schedules_are_refused(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_schedule(name, **{"lr": 0.1, "total_steps": 20} | arguments)
