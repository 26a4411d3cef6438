"""Mixup: the blends, their labels in the loss and in the accuracy, and what they do not depend on."""

import numpy as np
import pytest

from minicnn import (
    SGD,
    Augmentation,
    Batches,
    BCEWithLogits,
    ConfigError,
    Dense,
    Flatten,
    HalfSquaredError,
    MaximumAPosteriori,
    MeanSquaredError,
    Model,
    Sequential,
    SoftmaxCrossEntropy,
    train_step,
)
from minicnn.cli import main
from minicnn.config.settings import load_settings
from minicnn.data.mixup import draw
from minicnn.kernels import LANES
from minicnn.training.step import step_work

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (41, 2, 5, 7), dtype=np.uint8)
LABELS = RNG.integers(0, 4, 41)
WEIGHTS = RNG.integers(0, 4, 41)
FLIPS = Augmentation(flip=0.5, mixup=0.4)


def batches(size, augmentation, labels=LABELS, **options):
    return Batches(IMAGES, labels, size, [0.4, 0.5], 0.3, 7, augmentation, **options)


def network():
    return Sequential([Flatten(), Dense(70, 4)]).initialize("kaiming", rng=1)


def in_order(given, epoch=3):
    """What a network is fed in an epoch, in the order of the images."""
    x = np.empty(IMAGES.shape, np.float32)
    for batch in given.epoch(epoch):
        x[batch.numbers] = batch.arrays()[0]
    return x


@pytest.mark.parametrize("size", [1, LANES - 1, LANES + 1, 41])
def test_blends_do_not_depend_on_the_batches(size):
    mixing = draw(0.4, 7, 3, 41)
    alone = in_order(batches(10, FLIPS.alone))
    x = in_order(batches(size, FLIPS))
    np.testing.assert_allclose(x, mixing.blend(alone, alone[mixing.partners]), atol=1e-6)
    np.testing.assert_array_equal(x, in_order(batches(41, FLIPS)))
    plain = batches(size, Augmentation(mixup=0.4))
    assert plain.augmenter is None and plain.augmented
    raw = in_order(batches(10, None))
    np.testing.assert_allclose(in_order(plain), mixing.blend(raw, raw[mixing.partners]), atol=1e-6)
    shown = plain.variants(np.array([4, 40]), 3)
    expected = mixing.of([4, 40]).blend(IMAGES[[4, 40]], IMAGES[mixing.partners[[4, 40]]])
    np.testing.assert_allclose(shown, expected, atol=0.51)


def test_shares_are_distributed_as_documented():
    for alpha, spread in ((0.2, 0.25 / 1.4), (1.0, 0.25 / 3), (30.0, 0.25 / 61)):  # variance of Beta
        found = [draw(alpha, seed, epoch, 5000) for seed in (0, 1) for epoch in (0, 1)]
        for one in found:
            assert sorted(one.partners) == list(range(5000))
            assert one.shares.min() >= 0.5 and one.shares.max() <= 1
            assert np.mean((one.shares - 0.5) ** 2) == pytest.approx(spread, rel=0.06)
        assert len({one.partners.tobytes() for one in found}) == 4
        assert abs(np.corrcoef(found[0].shares, found[1].shares)[0, 1]) < 4.5 / np.sqrt(5000)
    for alpha in (1e-300, 1e-9, 1000.0):
        assert np.isfinite(draw(alpha, 0, 0, 500).shares).all()


ROWS = (RNG.random((41, 4)) < 0.3).astype(float)


@pytest.mark.parametrize(
    "loss",
    [SoftmaxCrossEntropy(), SoftmaxCrossEntropy(0.1), MeanSquaredError(), HalfSquaredError(), BCEWithLogits()],
    ids=lambda loss: type(loss).__name__,
)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_step_has_the_losses_of_both_labels(loss, weights):
    """Its gradient is the blend of those of the two labels; so is its loss, but for squares of the target alone.

    The loss of a label has the weight of the image that the label belongs to.
    """
    rows = loss.multi_label
    labels = ROWS if rows else LABELS
    [batch] = batches(41, FLIPS, labels, sample_weight=weights).epoch(2)
    mixing, x, net = batch.mixing, batch.arrays()[0], network()
    y = net.forward(x, training=True)
    each = np.ones(41) if weights is None else weights.astype(float)
    total = mixing.blend(each[batch.numbers], each[mixing.partners])
    values, gradients, target = [], [], 0
    for share, numbers in ((mixing.shares, batch.numbers), (1 - mixing.shares, mixing.partners)):
        share = share.astype(float) * each[numbers]
        values.append(loss.forward(y.astype(float), labels[numbers], share) * share.sum() / total.sum())
        gradients.append(loss.backward() * share.sum() / total.sum())
        target = target + share[:, np.newaxis] * ROWS[numbers]
    net.backward(sum(gradients).astype(np.float32))
    expected = net.gradients.copy()
    result = train_step(net, loss, SGD(net.parameters(), lr=0.1), batch)
    np.testing.assert_allclose(net.gradients, expected, atol=2e-6)
    if isinstance(loss, MeanSquaredError | HalfSquaredError):
        assert result.loss < sum(values)
    else:
        assert result.loss == pytest.approx(sum(values), rel=1e-5)
    if rows:
        hits = ((y > 0) == (target > 0.5 * total[:, np.newaxis]))[total > 0]
    else:
        hits = y.argmax(axis=1) == labels[batch.numbers]
    alone = (total == 0).sum() * (loss.answers((4,)) if rows else 0)  # of which any answer may count
    assert hits.sum() <= result.correct <= hits.sum() + alone


def test_losses_of_labels_alone_refuse_it(tmp_path, monkeypatch, capsys):
    [batch] = batches(41, FLIPS).epoch()
    with pytest.raises(ConfigError, match=r"augmentation\.mixup: expected 0 with MaximumAPosteriori.*, whose"):
        step_work(network(), MaximumAPosteriori(), batch)
    (tmp_path / "a.yaml").write_text(
        "network: {layers: [Flatten, {Dense: {out_features: 10}}]}\ndata: {name: mnist-subset}\n"
        "optimizer: {lr: 0.1}\ntraining: {epochs: 1}\naugmentation: {mixup: 0.2}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load_settings("a.yaml").augmentation.mixup == 0.2
    assert main(["train", "a.yaml", "loss.name=maximum-a-posteriori"]) == 2
    assert "augmentation.mixup: expected 0 with maximum-a-posteriori" in capsys.readouterr().err


def test_fit_learns_from_blends():
    model = Model(network(), (2, 5, 7))
    images = np.zeros((200, 2, 5, 7), np.uint8)
    labels = np.arange(200) % 4
    images[np.arange(200), 0, labels] = 255
    history = model.fit(
        images, labels, 10, augmentation=Augmentation(mixup=1), optimizer=SGD(lr=0.5), validation=0.2, verbose=False
    )
    assert history["validation_accuracy"][-1] == 1
    assert history["train_accuracy"][-1] > 0.97  # of the larger shares
    assert history["train_loss"][-1] > 2 * history["validation_loss"][-1]
