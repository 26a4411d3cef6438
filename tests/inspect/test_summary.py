"""The table of a network: counts and receptive fields that the literature states, and its text."""

import re
from typing import Any

import numpy as np
import pytest

from minicnn import BatchNorm2d, Conv2d, Dense, Flatten, GlobalMeanPool, MaxPool, MeanPool, ReLU, Sequential, Softmax
from minicnn.errors import ShapeError
from minicnn.inspect.summary import as_json, full_summary, summarize, summary
from minicnn.layers import LocallyConnected2d
from minicnn.layers.layer import Layer
from minicnn.zoo import lenet5


class Negate(Layer):
    """A user's layer that says nothing about its costs."""

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return input_shape

    def forward(self, x: Any, training: bool = False) -> Any:
        return -x

    def backward(self, dy: Any) -> Any:
        return -dy


class Crop(Negate):
    """A user's layer that does not say which pixels its outputs see."""

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        c, h, w = input_shape
        return c, h - 2, w - 2


def fields(layers: list[Layer], input_shape: tuple[int, ...]) -> list[Any]:
    return [row.receptive_field for row in summarize(Sequential(layers), input_shape)]


def test_lenet5() -> None:
    rows = summarize(lenet5(), (1, 28, 28))
    assert [row.name for row in rows] == [str(i) for i in range(12)]
    assert sum(row.parameters for row in rows) == 61_706
    costs = [row.multiply_adds for row in rows if row.parameters]
    assert costs == [117_600, 240_000, 48_000, 10_080, 840]
    assert sum(row.multiply_adds or 0 for row in rows) == 416_520
    assert [row.output_shape for row in rows[::3]] == [(6, 28, 28), (16, 10, 10), (400,), (84,)]
    squares = [5, 5, 6, 14, 14, 16, 32, 32, 32, 32, 32, 32]
    assert [row.receptive_field for row in rows] == [(size, size) for size in squares]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([Conv2d(1, 1, 3), Conv2d(1, 1, 3)], [(3, 3), (5, 5)]),
        ([Conv2d(1, 1, 2), Conv2d(1, 1, 2)], [(2, 2), (3, 3)]),
        ([MeanPool(2, stride=1), MaxPool(2, stride=1)], [(2, 2), (3, 3)]),
        ([Conv2d(1, 1, (3, 5), dilation=(2, 1))], [(5, 5)]),
        ([MaxPool((2, 3)), ReLU(), Conv2d(1, 1, 3)], [(2, 3), (2, 3), (6, 9)]),
        ([MeanPool(2), MeanPool(2), Conv2d(1, 1, 3, stride=2)], [(2, 2), (4, 4), (12, 12)]),
        ([Conv2d(1, 2, 1), Flatten(), Dense(800, 2)], [(1, 1), (20, 20), (20, 20)]),
        ([MaxPool(5), Softmax(), Flatten()], [(5, 5), (5, 5), (20, 20)]),
        ([Conv2d(1, 2, (2, 3), padding="same"), MaxPool(2)], [(2, 3), (3, 4)]),
        ([MaxPool(5), GlobalMeanPool(), Dense(1, 2)], [(5, 5), (20, 20), (20, 20)]),
    ],
)
def test_receptive_field(layers: list[Layer], expected: list[tuple[int, int]]) -> None:
    assert fields(layers, (1, 20, 20)) == expected


def test_c5_as_a_convolution_sees_what_c5_as_a_dense_layer_sees() -> None:
    convolutional = Sequential([*lenet5()[:6], Conv2d(16, 120, 5)])
    c5 = summarize(convolutional, (1, 28, 28))[-1]
    assert c5.output_shape == (120, 1, 1) and c5.receptive_field == (32, 32)
    assert (c5.parameters, c5.multiply_adds) == (48_120, 48_000)


def test_receptive_field_measured_with_gradients() -> None:
    network = Sequential([Conv2d(1, 2, 3, dilation=2), MeanPool(2), Conv2d(2, 1, (1, 3), stride=2)])
    network.initialize(rng=0)
    x = np.random.default_rng(0).normal(size=(1, 1, 24, 24)).astype(np.float32)
    y = network.forward(x)
    dy = np.zeros_like(y)
    dy[0, 0, 1, 1] = 1
    _, _, rows, columns = np.nonzero(network.backward(dy))
    reached = (int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
    sees = summarize(network, (1, 24, 24))[-1]
    assert reached == sees.receptive_field == (6, 10)
    assert sees.jump == (4, 4) and sees.offset == (0, 0)
    assert (rows.min(), columns.min()) == (4, 4)


def test_jump_and_offset_measured_with_gradients() -> None:
    """Without square windows, and with padding: the field of the first output begins outside the image."""
    network = Sequential([Conv2d(1, 2, (3, 5), stride=(1, 2), padding=(1, 2)), MeanPool((2, 1))])
    for parameter in network.parameters():
        parameter.value[...] = 1
    sees = summarize(network, (1, 12, 20))[-1]
    assert (sees.receptive_field, sees.jump, sees.offset) == ((4, 5), (2, 2), (-1, -2))
    y = network.forward(np.zeros((1, 1, 12, 20), np.float32))
    for i, j in ((0, 0), (1, 3), (3, 2)):
        dy = np.zeros_like(y)
        dy[0, 0, i, j] = 1
        _, _, rows, columns = np.nonzero(network.backward(dy))
        for place, offset, jump, size, seen in zip(
            (i, j), sees.offset, sees.jump, sees.receptive_field, (rows, columns), strict=True
        ):
            first = offset + place * jump
            assert (seen.min(), seen.max()) == (max(first, 0), first + size - 1)


def test_where_the_layers_of_lenet5_look() -> None:
    rows = summarize(lenet5(), (1, 28, 28))
    convolutions_and_pools = [rows[i] for i in (0, 2, 3, 5)]
    assert [row.jump for row in convolutions_and_pools] == [(1, 1), (2, 2), (2, 2), (4, 4)]
    assert {row.offset for row in rows} == {(-2, -2)}
    assert rows[7].receptive_field == (32, 32) and rows[7].jump is None  # C5: no neighbours


def test_nested_networks_are_listed_layer_by_layer() -> None:
    block = Sequential([Conv2d(2, 2, 3), Sequential([ReLU()])])
    rows = summarize(Sequential([Conv2d(1, 2, 3), ReLU(), block, Flatten()]), (1, 8, 8))
    assert [row.name for row in rows] == ["0", "1", "2.0", "2.1.0", "3"]
    assert [row.receptive_field for row in rows] == [(3, 3), (3, 3), (5, 5), (5, 5), (8, 8)]
    assert rows[2].layer == repr(Conv2d(2, 2, 3))


def test_one_layer_is_a_network() -> None:
    (row,) = summarize(Dense(4, 3), (4,))
    assert (row.name, row.output_shape, row.parameters, row.multiply_adds) == ("0", (3,), 15, 12)
    assert row.receptive_field is None


def test_a_layer_that_does_not_say() -> None:
    network = Sequential([Conv2d(1, 1, 3, bias=False), Negate(), Crop(), Conv2d(1, 1, 3)])
    rows = summarize(network, (1, 9, 9))
    assert [row.multiply_adds for row in rows] == [9 * 49, None, None, 9 * 9]
    assert [row.connections for row in rows] == [9 * 49, None, None, 10 * 9]
    assert [row.receptive_field for row in rows] == [(3, 3), (3, 3), None, None]
    assert [row.offset for row in rows] == [(0, 0), (0, 0), None, None]
    assert full_summary(network, (1, 9, 9)).splitlines()[-4].split()[-4:] == [">=", "531", "528", "76"]
    assert as_json(network, (1, 9, 9))["total"]["connections"] is None
    lines = summary(network, (1, 9, 9)).splitlines()
    assert lines[4].split()[-4:] == ["1x7x7", "0", "-", "3x3"]
    assert lines[5].split()[-4:] == ["1x5x5", "0", "-", "-"]
    assert lines[-1].split() == ["total", "19", ">=", "522"]


def test_table() -> None:
    lines = summary(lenet5(), (1, 28, 28)).splitlines()
    assert len(lines) == 1 + 1 + 1 + 12 + 1 + 1
    assert lines[2].split() == ["input", "1x28x28"]
    assert lines[3].startswith("0   Conv2d(1, 6, kernel_size=(5, 5)")
    assert lines[3].split()[-4:] == ["6x28x28", "156", "117,600", "5x5"]
    assert lines[-1].split() == ["total", "61,706", "416,520"]
    assert max(map(len, lines)) <= 110
    columns = {line.rfind("5x5") + 3 for line in lines[3:5]} | {len(lines[0])}
    assert len(columns) == 1  # right-aligned under the heading


def test_a_misfit_is_reported_with_its_place() -> None:
    with pytest.raises(ShapeError, match=r"layer 1 Dense"):
        summary(Sequential([Flatten(), Dense(10, 2)]), (1, 2, 2))


def test_connections_of_the_layers_of_1998_that_are_known() -> None:
    assert Conv2d(1, 6, 5).connections((1, 32, 32)) == 122_304  # C1
    assert Conv2d(16, 120, 5).connections((16, 5, 5)) == 48_120  # C5
    assert Dense(120, 84).connections((120,)) == 10_164  # F6


@pytest.mark.parametrize(
    ("layer", "input_shape", "expected"),
    [
        (Conv2d(4, 6, (3, 1), groups=2, bias=False), (4, 5, 5), 6 * 2 * 3 * 15),
        (Dense(7, 5, bias=False), (7,), 35),
        (MaxPool((2, 3), stride=1), (2, 4, 4), 6 * 2 * 3 * 2),
        (MeanPool(2), (6, 28, 28), 4 * 6 * 14 * 14),
        (GlobalMeanPool(), (6, 7, 5), 6 * 7 * 5),
        (ReLU(), (6, 28, 28), 0),
        (Sequential([Conv2d(2, 3, 3), ReLU(), Flatten(), Dense(12, 5)]), (2, 4, 4), 57 * 4 + 65),
    ],
)
def test_connections(layer: Layer, input_shape: tuple[int, ...], expected: int) -> None:
    assert layer.connections(input_shape) == expected


def test_full_table_of_lenet5() -> None:
    lines = full_summary(lenet5(), (1, 28, 28)).splitlines()
    cells = [re.split("  +", line) for line in lines]
    assert " ".join(cells[0][-6:]) == "connections sees jump offset activations weights"
    assert cells[3][1] == "Conv2d(1, 6, 5, padding=2)"
    assert " ".join(cells[3][-9:]) == "6x28x28 156 117,600 122,304 5x5 1 -2 18,816 624"
    assert " ".join(cells[8][-9:]) == "16x5x5 0 0 1,600 16x16 4 -2 1,600 0"
    assert " ".join(cells[10][-9:]) == "120 48,120 48,000 48,120 32x32 - -2 480 192,480"
    assert " ".join(cells[16][-6:]) == "total 61,706 416,520 429,342 58,408 246,824"
    assert max(map(len, lines)) <= 125


def test_memory_counts_running_statistics_and_the_element_type() -> None:
    network = Sequential([Conv2d(2, 3, 3), BatchNorm2d(3), Flatten()])
    rows = summarize(network, (2, 4, 5))
    assert [row.activation_bytes for row in rows] == [72, 72, 0]
    assert [row.weight_bytes for row in rows] == [4 * 57, 4 * 4 * 3 + 8, 0]
    double = summarize(network.astype(np.float64), (2, 4, 5))
    assert [row.activation_bytes for row in double] == [144, 144, 0]


def test_sides_that_differ_are_both_shown() -> None:
    layer = Conv2d(1, 2, (3, 5), stride=(1, 2), padding=(1, 2), bias=False)
    line = full_summary(layer, (1, 12, 20)).splitlines()[3]
    assert line.startswith("0  Conv2d(1, 2, (3, 5), stride=(1, 2), padding=(1, 2), bias=False)")
    assert " 3x5  1, 2  -1, -2 " in line
    local = full_summary(LocallyConnected2d(1, 6, 28, 5, stride=2), (1, 28, 28)).splitlines()[3]
    assert local.startswith("0  LocallyConnected2d(1, 6, 28, 5, stride=2)  ")
