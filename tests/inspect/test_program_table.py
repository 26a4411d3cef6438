"""`minicnn summary --program`: a training step as the engine runs it."""

import re

import numpy as np
import pytest

from minicnn import BatchNorm2d, Conv2d, Dense, Flatten, MeanSquaredError, Residual, Sequential, cli
from minicnn.inspect.program import program_table, step_program


def network():
    layers = [Conv2d(1, 2, 3), BatchNorm2d(2), Flatten(), Dense(32, 3)]
    return Sequential(layers).initialize(rng=0)


def test_every_call_has_its_layer_and_its_time(capsys):
    assert cli.main(["summary", "configs/tiny.yaml", "--program"]) == 0
    lines = capsys.readouterr().out.splitlines()
    phases = [line for line in lines if line.startswith("phase")]
    calls = [line for line in lines if not line.startswith("phase")]
    assert len(phases) >= 3 and "blocks" in "".join(phases)
    assert all(re.fullmatch(r"  .+ [a-z]+\.\w+.* \d+ tasks?.* \d+\.\d us", line) for line in calls)
    assert any("Conv2d back" in line for line in calls)
    assert any(line.startswith("  loss") for line in calls)


def test_the_network_stays_as_it_was():
    ours = network()
    before = {name: array.copy() for name, array in ours.state_dict().items()}
    program_table(step_program(ours, (1, 6, 6), 20, MeanSquaredError()))
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_statistics_of_a_batch_are_a_phase_of_their_own():
    table = program_table(step_program(network(), (1, 6, 6), 20), times=False)
    rows = [line.split()[:3] for line in table.splitlines()]
    at = rows.index(["1", "BatchNorm2d", "normalization.statistics"])
    assert rows[at - 1][0] == "phase" and rows[at + 1][0] == "phase"


def test_layers_within_layers_have_their_places():
    layers = [Dense(3, 4), Residual([Dense(4, 4), Sequential([Dense(4, 4)])]), Dense(4, 3)]
    program = step_program(Sequential(layers).initialize(rng=0), (3,), 20)
    labels = {call.label.strip() for call in program.calls}
    places = ("0 Dense", "1.layers.0 Dense", "1.layers.1.0 Dense", "1 Residual", "2 Dense")
    assert labels >= {*places, *(f"{place} back" for place in places)}
    assert {label.split()[0] for label in labels} >= {*("input", "0", "1.layers.0", "1.layers.1.0", "1", "2", "loss")}
    own = [(call.label, str(call.kernel)) for call in program.calls if call.label.startswith("1 ")]
    assert own == [
        ("1 Residual ", "moves.add"),
        *(("1 Residual back ", "moves.copy"), ("1 Residual back ", "moves.add")),
    ]


def test_several_networks_have_no_program(capsys):
    assert cli.main(["summary", "configs/local.yaml", "--program"]) == 2
    assert "--program: expected a single network" in capsys.readouterr().err


@pytest.mark.parametrize("batch_size", [1, 16, 17])
def test_each_block_is_counted_once(batch_size):
    program = step_program(network(), (1, 6, 6), batch_size)
    first, count = program.phases[1]
    assert program.jobs[first : first + count, 3].sum() == -(-batch_size // 16)
