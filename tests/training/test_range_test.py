"""The learning-rate range test: its curve against steps by hand, what it suggests, and that it leaves no trace."""

import numpy as np
import pytest

from minicnn import (
    SGD,
    Batches,
    ConfigError,
    Dense,
    DivergedError,
    Flatten,
    MinicnnError,
    Model,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    load_dataset,
    train_step,
)
from minicnn.cli import main
from minicnn.training.range_test import RangeTest, range_test

DATA = load_dataset("mnist-subset")
IMAGES, LABELS = DATA.train_images[:500], DATA.train_labels[:500]


def small():
    return Sequential([Flatten(), Dense(784, 10), ReLU(), Dense(10, 10)]).initialize("kaiming", rng=0)


def test_the_losses_are_those_of_steps_with_rising_rates():
    model = Model(small(), DATA.train_images.shape[1:], 0.1307, 0.3081)
    rule, weights = SGD(momentum=0.5), model.network.state_dict()
    before = vars(model).copy()
    found = model.find_lr(IMAGES, LABELS, 64, optimizer=rule, seed=3, start=1e-4, end=1.0, steps=110)
    assert vars(model) == before and not rule.parameters and rule.lr == 1e-3
    assert all(np.array_equal(weights[name], array) for name, array in model.network.state_dict().items())
    batches = Batches(IMAGES, LABELS, 64, 0.1307, 0.3081, seed=3)
    network, loss = small(), SoftmaxCrossEntropy()
    rule = SGD(network.parameters(), momentum=0.5)
    steps = (batch for epoch in range(14) for batch in batches.epoch(epoch))
    for k, (rate, seen) in enumerate(zip(found.rates, found.losses, strict=True)):
        assert rate == pytest.approx(1e-4 * 10 ** (4 * k / 109))
        rule.lr = float(rate)
        assert train_step(network, loss, rule, next(steps)).loss == seen
    assert len(found.rates) == 110 or found.diverged
    options = {"optimizer": SGD(model.network.parameters(), momentum=0.5), "seed": 3, "start": 1e-4, "end": 1.0}
    halves = model.find_lr(IMAGES, LABELS, 32, steps=110, accumulate=2, **options)
    np.testing.assert_allclose(halves.losses[:60], found.losses[:60], rtol=1e-4)
    assert all(np.array_equal(weights[name], array) for name, array in model.network.state_dict().items())


def test_averages_and_suggestion():
    losses = np.concatenate([np.full(80, 2.0), np.linspace(2, 0.5, 60), np.linspace(0.5, 9, 60)])
    rates = 10.0 ** np.linspace(-5, 1, 200)
    found = RangeTest(rates, losses, False)
    weights = 0.98 ** np.arange(200)[::-1]
    for k in (0, 1, 79, 130, 199):  # the weighted mean of all losses so far
        expected = np.average(losses[: k + 1], weights=weights[199 - k :])
        assert found.averages[k] == pytest.approx(expected)
    lowest = 50 + int(np.argmin(found.averages[50:195]))
    assert 140 < lowest < 160
    assert found.lowest == rates[lowest] and found.suggestion == rates[lowest] / 10
    assert rates[130] < found.steepest < rates[141]
    assert not found.remark
    assert "still falls at the highest rate" in RangeTest(rates, np.linspace(3, 1, 200), False).remark
    assert "does not fall" in RangeTest(rates, np.linspace(1, 3, 200), False).remark
    few = RangeTest(rates[:3], losses[:3], True)
    assert few.suggestion > 0 and few.steepest == rates[0]


def test_it_ends_where_the_loss_explodes():
    batches = Batches(IMAGES, LABELS, 64, 0.1307, 0.3081, seed=3)
    for rule in ({}, {"momentum": 0.9}):
        network = small()
        found = range_test(network, SoftmaxCrossEntropy(), SGD(network.parameters(), **rule), batches, 1e-3, 1e5)
        assert found.diverged and len(found.rates) < 200
        assert np.isfinite(found.losses).all()
    for wrong in ({"start": 0.0}, {"end": 1e-6}, {"steps": 99}, {"end": float("nan")}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            range_test(network, SoftmaxCrossEntropy(), SGD(network.parameters()), batches, **wrong)
    with pytest.raises(MinicnnError, match="steps: expected an integer >= 100, received 1"):
        Model(small()).find_lr(IMAGES, LABELS, steps=1)
    network = small()
    with pytest.raises(DivergedError):
        range_test(network, SoftmaxCrossEntropy(), SGD(network.parameters()), batches, 1e30, 1e35)


CONFIG = """\
network: {layers: [Flatten, {Dense: {out_features: 12}}, ReLU, {Dense: {out_features: 10}}]}
data: {name: mnist-subset}
augmentation: {erasing: 0.5}
optimizer: {lr: 0.1, momentum: 0.9}
training: {epochs: 1, quantize: true}
"""


def test_the_command_suggests_and_leaves_a_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(CONFIG)
    assert main(["find-lr", "small.yaml", "training.batch_size=50", "--steps", "150"]) == 0
    out = capsys.readouterr().out
    assert "lowest average loss at 0." in out
    assert 0.001 < float(out.split("suggestion: optimizer.lr=")[1].split()[0]) < 0.5
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["lr-finder.png", "small", "small.yaml"]
    assert main(["find-lr", "small.yaml", "--start", "1", "--end", "0.1"]) == 2
    assert "end: expected more than the start, 1, received 0.1" in capsys.readouterr().err
    assert main(["find-lr", "small.yaml", "-o", "rates.jpg"]) == 2
    assert "-o/--out: expected a file .png, received rates.jpg" in capsys.readouterr().err
