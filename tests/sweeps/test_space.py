"""What a sweep varies: values, ranges, grids and draws; rungs of successive halving."""

import math

import numpy as np
import pytest

from minicnn.errors import ConfigError
from minicnn.sweeps.halving import best, rungs
from minicnn.sweeps.space import Range, as_values, parse, points, read


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.01,0.03,1e-3", [0.01, 0.03, 0.001]),
        ("0..4", Range(0, 4)),
        ("-2..2,10", [-2, -1, 0, 1, 2, 10]),
        ("0.1..0.9", Range(0.1, 0.9)),
        ("log:1e-3..0.3", Range(0.001, 0.3, True)),
        ("ReLU,{LeakyReLU: {negative_slope: 0.1}}", ["ReLU", {"LeakyReLU": {"negative_slope": 0.1}}]),
        ("[1,2],[3,4]", [[1, 2], [3, 4]]),
        ("[0.1, 0.2]", ["[0.1, 0.2]"]),
        ("null,0.99", [None, 0.99]),
        ("../data", ["../data"]),
        ("'a,b'", ["'a,b'"]),
        ("5", ["5"]),
        ("", [""]),
    ],
)
def test_values_and_ranges(text, values):
    assert read("key", text) == values


def test_words_that_set_and_words_that_vary():
    words = ["data.validation=0.1", "optimizer.lr=0.1,0.2", "data.root=../data", "training.seed=0..2"]
    assert parse(words) == (
        ["data.validation=0.1", "data.root=../data"],
        {"optimizer.lr": [0.1, 0.2], "training.seed": Range(0, 2)},
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer.lr=3..1"], "optimizer.lr: expected a range from a smaller to a larger number, received 3..1"),
        (["optimizer.lr=1..1"], "from a smaller to a larger"),
        (["optimizer.lr=log:0..1"], "optimizer.lr: expected a range of numbers > 0 for log, received log:0..1"),
        (["optimizer.lr=1..1e999"], "from a smaller to a larger"),
        (["optimizer.lr=0.1..0.2,3"], "optimizer.lr: expected a list of values or a range of whole numbers"),
        (["optimizer.lr=1,2", "optimizer.lr=3,4"], "optimizer.lr: expected its values once"),
        (["optimizer.lr=1,{2"], "not valid YAML"),
        (["training.seed=0..9999999,1"], "training.seed: expected at most 1,000,000 values"),
    ],
)
def test_mistakes(words, message):
    with pytest.raises(ConfigError) as caught:
        parse(words)
    assert message in str(caught.value)


def test_a_grid_has_all_combinations_the_last_setting_fastest():
    grid = points({"a": [1, 2], "b": Range(0, 2)}, None, 0)
    assert [tuple(point.values()) for point in grid] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert points({}, None, 0) == [{}]
    with pytest.raises(ConfigError, match=r"a: .* received 0.1..0.2; --samples N draws"):
        points({"a": Range(0.1, 0.2)}, None, 0)
    with pytest.raises(ConfigError, match="a grid of at most 1,000,000 settings"):
        points(dict.fromkeys("abc", Range(0, 999)), None, 0)


def test_samples_are_drawn_from_their_ranges():
    varied = {"lr": Range(0.001, 1.0, True), "p": Range(0.2, 0.4), "shift": Range(0, 3), "name": ["x", "y"]}
    drawn = points(varied, 400, 7)
    assert len(drawn) == 400
    lr, p, shift = (np.array([point[key] for point in drawn]) for key in ("lr", "p", "shift"))
    for number, third in enumerate(np.split(np.sort(np.log10(lr)), 4)):  # a quarter of them in each quarter
        assert third.mean() == pytest.approx(-3 + 0.75 * (number + 0.5), abs=0.15)
    assert 0.2 <= p.min() < 0.205
    assert 0.395 < p.max() <= 0.4
    assert p.mean() == pytest.approx(0.3, abs=0.01)
    assert np.bincount(shift).tolist() == pytest.approx([100] * 4, abs=30)
    assert {point["name"] for point in drawn} == {"x", "y"}
    assert points(varied, 10, 7) == drawn[:10]  # fewer are the first of them
    assert points(varied, 10, 8) != drawn[:10]


def test_whole_numbers_on_a_log_scale_reach_both_ends():
    drawn = [point["n"] for point in points({"n": Range(1, 8, True), "x": Range(0.0, 1.0)}, 800, 0)]
    counts = np.bincount(drawn, minlength=9)[1:]
    expected = [800 * math.log((n + 1) / n) / math.log(9) for n in range(1, 9)]
    assert counts.tolist() == pytest.approx(expected, abs=50)


def test_samples_are_all_different():
    assert sorted(point["a"] for point in points({"a": Range(0, 3)}, 10, 0)) == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="--samples: expected settings to draw"):
        points({}, 10, 0)


def test_what_python_gives():
    assert as_values("a", (1, 2)) == [1, 2]
    assert as_values("a", np.arange(3)) == [0, 1, 2]
    assert as_values("a", "log:0.1..1") == Range(0.1, 1, True)
    assert as_values("a", "1,2") == [1, 2]
    for wrong in ([], "5"):
        with pytest.raises(ConfigError, match="a: expected a list of values or a range"):
            as_values("a", wrong)


@pytest.mark.parametrize(
    ("points", "epochs", "eta", "expected"),
    [
        (27, 27, 3, [(27, 1), (9, 3), (3, 9), (1, 27)]),
        (10, 20, 3, [(10, 2), (4, 7), (2, 20)]),
        (9, 4, 3, [(9, 1), (3, 4)]),
        (8, 3, 2, [(8, 2), (4, 3)]),
        (5, 100, 5, [(5, 20), (1, 100)]),
        (5, 100, None, [(5, 100)]),
        (1000, 1000, 10, [(1000, 1), (100, 10), (10, 100), (1, 1000)]),
    ],
)
def test_rungs(points, epochs, eta, expected):
    assert rungs(points, epochs, eta) == expected


def test_the_best_go_on():
    scores = {0: [0.5, 0.7], 1: [0.9, None], 2: [0.6, 0.6], 3: [None, None], 4: [0.8, 0.8]}
    assert best(scores, 1) == [4]
    assert best(scores, 2) == [0, 4]  # of equal ones, the first
    assert best(scores, 4) == [0, 1, 2, 4]  # a failed run counts as 0
