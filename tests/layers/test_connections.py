"""Conv2d with a table of connections: what is counted, drawn, kept and refused; the table of layers has its maths."""

import numpy as np
import pytest

from minicnn import Conv2d, Flatten, Model, Sequential, ShapeError, load
from minicnn.layers.registry import from_config, to_config

ODD = [[True, False, True], [False, True, False], [True, True, True], [False, False, True]]


def test_lenet5_names_table_i_of_the_paper():
    table = Conv2d(6, 16, 5, connections="lenet5").table.table
    three = [{i % 6 for i in range(k, k + 3)} for k in range(6)]
    four = [{i % 6 for i in range(k, k + 4)} for k in range(6)]
    apart = [{0, 1, 3, 4}, {1, 2, 4, 5}, {0, 2, 3, 5}]
    assert [set(np.flatnonzero(row)) for row in table] == [*three, *four, *apart, set(range(6))]


def test_kernels_that_are_not_there_do_not_count():
    layer = Conv2d(6, 16, 5, connections="lenet5")
    assert layer.weight.value.shape == (60, 5, 5)
    assert layer.multiply_adds((6, 14, 14)) == 150_000
    assert layer.connections((6, 14, 14)) == 151_600
    full, (outputs, inputs) = layer.full_weight(), np.nonzero(layer.table.table)
    assert np.count_nonzero(full) == 1500
    np.testing.assert_array_equal(full[outputs, inputs], layer.weight.value)
    assert "60 of 96" in repr(layer)


@pytest.mark.parametrize(
    ("scheme", "limit"),  # of weights and bias, for so many connected inputs
    [("uniform", lambda inputs: 1 / np.sqrt(25 * inputs)), ("lecun-1998", lambda inputs: 2.4 / (25 * inputs))],
)
def test_the_fan_in_of_a_unit_is_that_of_its_connections(scheme, limit):
    layer = Conv2d(6, 16, 5, connections="lenet5").initialize(scheme, rng=0)
    for output, inputs in ((0, 3), (6, 4), (15, 6)):
        weights = layer.weight.value[layer.table.outputs == output]
        assert weights.shape == (inputs, 5, 5)
        assert 0.9 * limit(inputs) < np.abs(weights).max() <= limit(inputs)
        assert np.abs(layer.bias.value[output]) <= limit(inputs)


def test_xavier_and_kaiming_follow_the_connections():
    table = np.zeros((40, 30), bool)
    table[:, 0] = True  # an input with 40 outputs, each with one more of another kind
    table[:20, 1:] = True
    kaiming = Conv2d(30, 40, 5, connections=table).initialize("kaiming", rng=0)
    few = kaiming.weight.value[kaiming.table.outputs >= 20]
    np.testing.assert_allclose(few.std(), np.sqrt(2 / 25), rtol=0.1)
    xavier = Conv2d(30, 40, 5, connections=table).initialize("xavier", rng=0)
    few = xavier.weight.value[xavier.table.outputs >= 20]
    np.testing.assert_allclose(np.abs(few).max(), np.sqrt(6 / (25 + 40 * 25)), rtol=0.02)


def test_a_network_description_and_a_model_file_keep_the_table(tmp_path, rng):
    network = Sequential([Conv2d(6, 16, 5, connections="lenet5"), Flatten()])
    again = from_config(to_config(network))
    np.testing.assert_array_equal(again[0].table.table, network[0].table.table)
    Model(network, (6, 14, 14)).save(tmp_path / "model.safetensors")
    x = rng.random((2, 6, 14, 14)).astype(np.float32)
    scores = load(tmp_path / "model.safetensors").scores(x)
    np.testing.assert_array_equal(scores, network.forward(x))


@pytest.mark.parametrize(
    ("connections", "message"),
    [
        ("lenet", "expected lenet5 or a table .*received 'lenet'"),
        (ODD[:3], r"for each of 4 outputs .* 3 inputs, received \(3, 3\)"),
        ([[1, 0, 1], [1]], "rows of true and false"),
        ([[1, 0, 2]] * 4, "1 and 0, received"),
        ([[0.5, 0, 1]] * 4, "1 and 0, received"),
        ([*ODD[:3], [0, 0, 0]], "none for output 3"),
    ],
)
def test_other_tables_are_refused(connections, message):
    with pytest.raises(ShapeError, match=f"Conv2d: connections: .*{message}"):
        Conv2d(3, 4, 3, connections=connections)


def test_groups_and_connections_exclude_each_other():
    with pytest.raises(ShapeError, match="groups 1 with connections, received 2"):
        Conv2d(4, 4, 3, groups=2, connections=np.eye(4, dtype=bool))
