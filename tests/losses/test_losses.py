"""Losses against torch and their NumPy twins, and what they refuse."""

import functools
import itertools

import numpy as np
import numpy_twins as twins
import pytest
import torch
from against_torch import TOLERANCE, assert_same
from torch import nn

from minicnn import BCEWithLogits, HalfSquaredError, MaximumAPosteriori, MeanSquaredError, SoftmaxCrossEntropy
from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import LANES

DTYPES = [np.float32, np.float64]
BATCHES = [1, LANES - 1, LANES, LANES + 1]


def torch_loss(module, y, target):
    """(loss, dy)."""
    y = torch.tensor(y, requires_grad=True)
    value = module(y, torch.tensor(target))
    value.backward()
    return value.item(), y.grad.numpy()


def check(ours, theirs, twin, y, target):
    value = ours.forward(y, target)
    assert isinstance(value, float)
    dy = ours.backward()
    expected, expected_dy = torch_loss(theirs, y, target)
    rtol = TOLERANCE[y.dtype]
    np.testing.assert_allclose(value, expected, rtol=rtol)
    assert_same([dy], [expected_dy])
    twin_value, twin_dy = twin(y.astype(np.float64), target)
    np.testing.assert_allclose(value, twin_value, rtol=rtol)
    np.testing.assert_allclose(dy, twin_dy, rtol=rtol, atol=rtol * np.abs(dy).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(rng, dtype, batch, smoothing):
    logits = 4 * rng.standard_normal((batch, 7)).astype(dtype)
    labels = rng.integers(0, 7, batch)
    check(
        SoftmaxCrossEntropy(label_smoothing=smoothing),
        nn.CrossEntropyLoss(label_smoothing=smoothing),
        lambda y, target: twins.cross_entropy(y, target, smoothing),
        logits,
        labels,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES)
def test_class_weights_soft_targets_and_smoothing_are_those_of_torch(rng, dtype, batch):
    """Each with each; one class has the weight 0."""
    logits, weights = 4 * rng.standard_normal((batch, 7)).astype(dtype), 3 * rng.random(7)
    weights[2] = 0
    hard, soft = np.arange(batch) % 7, rng.dirichlet(np.ones(7), batch).astype(dtype)
    for smoothing, chosen, target in itertools.product((0.0, 0.3), (None, weights), (hard, soft, hard[:, None] == 0)):
        target = target * np.ones(7, dtype) if target.ndim == 2 else target  # rows of 0 or 7 ones, too
        tensor = None if chosen is None else torch.tensor(chosen.astype(dtype))
        check(
            SoftmaxCrossEntropy(smoothing, chosen),
            nn.CrossEntropyLoss(tensor, label_smoothing=smoothing),
            lambda y, target, s=smoothing, w=chosen: twins.weighted_cross_entropy(y, target, s, w),
            logits,
            target,
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES)
def test_binary_cross_entropy(rng, dtype, batch):
    logits, weight, pos_weight = 6 * rng.standard_normal((batch, 5)).astype(dtype), rng.random(5), 4 * rng.random(5)
    weight[1] = pos_weight[3] = 0
    for one, two, soft in itertools.product((None, weight), (None, pos_weight), (False, True)):
        target = rng.random((batch, 5)) if soft else rng.integers(0, 2, (batch, 5))
        tensors = [None if values is None else torch.tensor(values.astype(dtype)) for values in (one, two)]
        check(
            BCEWithLogits(one, two),
            nn.BCEWithLogitsLoss(tensors[0], pos_weight=tensors[1]),
            lambda y, target, w=one, p=two: twins.binary_cross_entropy(y, target, w, p),
            logits,
            target.astype(dtype),
        )
    as_bool = target > 0.5
    loss = BCEWithLogits()
    assert loss.forward(logits, as_bool) == loss.forward(logits, as_bool.astype(np.int64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_of_infinite_and_huge_logits(dtype):
    """The tails keep their digits, and what is right costs nothing, even if it is infinite."""
    y = np.array([[-np.inf, np.inf, 3e38, -80, 80, -20, 20]], dtype)
    loss, right = BCEWithLogits(), (y > 0).astype(dtype)
    np.testing.assert_allclose(loss.forward(y, right) * 7, 2 * np.exp(-80) + 2 * np.log1p(np.exp(-20)), rtol=1e-5)
    dy = np.array([[0, 0, 0, np.exp(-80), -np.exp(-80), 1, -1]])
    dy[0, 5:] *= np.exp(-20) / (1 + np.exp(-20))
    np.testing.assert_allclose(loss.backward() * 7, dy, rtol=1e-5, atol=1e-44)
    near = np.array([[-13, 13]], dtype)  # where 1 + e^-y has lost most of e^-y
    np.testing.assert_allclose(loss.forward(near, near > 0), np.log1p(np.exp(-13)), rtol=1e-6)
    assert loss.forward(y[:, 2:], 1 - right[:, 2:]) > 3e37
    assert loss.forward(y, 1 - right) == np.inf
    np.testing.assert_allclose(np.abs(loss.backward()) * 7, 1, rtol=1e-5)


ALL = [SoftmaxCrossEntropy(0.1, [1, 0, 2, 3.5]), MaximumAPosteriori(), MeanSquaredError(), HalfSquaredError()]


@pytest.mark.parametrize("loss", [*ALL, BCEWithLogits([1, 2, 3, 4])], ids=lambda loss: type(loss).__name__)
def test_sample_weights_make_a_weighted_mean(rng, loss):
    """Whole numbers are as good as so many copies; a weight of 0 is as good as no sample."""
    y, weights = rng.standard_normal((LANES + 3, 4)), rng.integers(0, 4, LANES + 3)
    target = rng.integers(0, 2, y.shape) if loss.multi_label else rng.integers(0, 4, len(y))
    value, dy = loss.forward(y, target, weights), loss.backward()
    copies = np.repeat(np.arange(len(y)), weights)
    np.testing.assert_allclose(value, loss.forward(y[copies], target[copies]), rtol=1e-12)
    expected = np.zeros_like(y)
    np.add.at(expected, copies, loss.backward())
    np.testing.assert_allclose(dy, expected, rtol=1e-10, atol=1e-15)
    assert loss.forward(y, target, np.zeros(len(y))) == 0
    assert not loss.backward().any()
    for wrong in (weights[1:], -weights - 1, weights * np.nan, np.array(["a"] * len(y))):
        with pytest.raises(MinicnnError, match="sample_weight: expected"):
            loss.forward(y, target, wrong)


def test_a_batch_without_a_weight_teaches_nothing(rng):
    """Though the smoothing gives other classes a share; torch has 0 / 0 or infinity."""
    loss = SoftmaxCrossEntropy(0.1, [1, 0, 2])
    assert loss.forward(rng.standard_normal((5, 3)), np.ones(5, int)) == 0
    assert not loss.backward().any()


def test_balanced_class_weights(rng):
    """As scikit-learn has them; they make all classes count alike, and a class without images for nothing."""
    labels = np.repeat([0, 1, 3], [20, 8, 2])
    loss = SoftmaxCrossEntropy(class_weights="balanced")
    with pytest.raises(MinicnnError, match=r"received 'balanced'.*loss.balance\(labels, classes\)"):
        loss.forward(np.zeros((1, 4)), np.array([0]))
    loss.balance(labels, 4)
    assert loss.class_weights == (30 / 60, 30 / 24, 0.0, 30 / 6)
    y = rng.standard_normal((30, 4))
    each = [SoftmaxCrossEntropy().forward(y[labels == k], labels[labels == k]) for k in (0, 1, 3)]
    assert loss.forward(y, labels) == pytest.approx(np.mean(each), rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftmaxCrossEntropy(class_weights="even"), "'balanced' or a list of numbers, received 'even'"),
        (lambda: SoftmaxCrossEntropy(class_weights=[1, -1]), "class_weights: expected a list of finite numbers >= 0"),
        (lambda: SoftmaxCrossEntropy(class_weights=[0, 0]), "class_weights: expected a number above 0"),
        (
            lambda: SoftmaxCrossEntropy(class_weights=[1, 2]).forward(np.zeros((1, 3)), [0]),
            "3 class_weights.*received 2",
        ),
        (
            lambda: SoftmaxCrossEntropy().forward(np.zeros((1, 2)), np.array([[0.5, 1.5]])),
            r"0 to 1, received 1.5.*\(0, 1\)",
        ),
        (lambda: BCEWithLogits(pos_weight=[np.inf]), "pos_weight: expected"),
        (
            lambda: BCEWithLogits([1, 2]).forward(np.zeros((1, 3)), np.zeros((1, 3))),
            "weight: expected 3 numbers, received 2",
        ),
        (lambda: BCEWithLogits().forward(np.zeros((2, 3)), np.zeros((2, 1))), r"expected a target of \(2, 3\)"),
        (lambda: BCEWithLogits().forward(np.zeros((2, 3)), np.full((2, 3), 2)), "from 0 to 1, received 2"),
        (lambda: BCEWithLogits().forward(np.zeros((2, 3, 1)), np.zeros((2, 3, 1))), r"logits \(N, labels\)"),
    ],
)
def test_weights_and_targets_that_do_not_fit_are_refused(make, message):
    with pytest.raises(MinicnnError, match=message):
        make()


class TorchMAP(nn.Module):
    """Cross-entropy with one class more, whose score is -j."""

    def __init__(self, j):
        super().__init__()
        self.j = j

    def forward(self, y, labels):
        rubbish = torch.full((len(y), 1), -self.j, dtype=y.dtype)
        return nn.functional.cross_entropy(torch.cat([y, rubbish], dim=1), labels)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("j", [0.1, 5.0])
def test_map_criterion(rng, dtype, batch, j):
    scores = -4 * rng.random((batch, 7)).astype(dtype)
    labels = rng.integers(0, 7, batch)
    twin = functools.partial(twins.map_criterion, j=j)
    check(MaximumAPosteriori(j), TorchMAP(j), twin, scores, labels)


@pytest.mark.parametrize("dtype", DTYPES)
def test_map_criterion_of_huge_penalties(dtype):
    """Far above j, only the penalty of the right class is pulled down; none is pushed up."""
    scores = np.array([[-1e30, -2e30], [-300, -200]], dtype)
    loss = MaximumAPosteriori(j=10)
    np.testing.assert_allclose(loss.forward(scores, np.array([1, 0])), 1e30, rtol=1e-6)
    np.testing.assert_allclose(loss.backward(), [[0, -0.5], [-0.5, 0]], atol=1e-45)


@pytest.mark.parametrize("j", [0, -1, float("nan"), float("inf")])
def test_the_constant_j_is_positive(j):
    with pytest.raises(ShapeError, match=r"j: expected a (finite )?number"):
        MaximumAPosteriori(j)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_cross_entropy_of_huge_logits_does_not_overflow(dtype, scale):
    logits = scale * np.array([[1, 0, -1], [0, 1, -1]], dtype)
    loss = SoftmaxCrossEntropy()
    np.testing.assert_allclose(loss.forward(logits, np.array([1, 1])), scale / 2, rtol=1e-6)
    np.testing.assert_array_equal(loss.backward(), np.array([[0.5, -0.5, 0], [0, 0, 0]], dtype))


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_classes():
    loss = SoftmaxCrossEntropy()
    value = loss.forward(np.zeros((3, 10), np.float32), np.array([0, 4, 9]))
    np.testing.assert_allclose(value, np.log(10), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (LANES + 1, 3), (3, 2, 4, 5)])
def test_mean_squared_error(rng, dtype, shape):
    y, target = rng.standard_normal((2, *shape)).astype(dtype)
    check(MeanSquaredError(), nn.MSELoss(), twins.mean_squared_error, y, target)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (LANES + 1, 3), (3, 2, 4, 5)])
def test_half_squared_error(rng, dtype, shape):
    y, target = rng.standard_normal((2, *shape)).astype(dtype)
    summed = nn.MSELoss(reduction="sum")
    check(HalfSquaredError(), lambda y, target: summed(y, target) / 2 / len(y), twins.half_squared_error, y, target)


def test_half_squared_error_of_labels_is_that_of_their_one_hot_targets(rng):
    loss, y = HalfSquaredError(), rng.standard_normal((5, 4))
    labels = np.array([3, 0, 2, 2, 1])
    value, dy = loss.forward(y, labels), loss.backward()
    assert value == loss.forward(y, np.eye(4)[labels])
    np.testing.assert_array_equal(dy, loss.backward())
    np.testing.assert_allclose(dy, (y - np.eye(4)[labels]) / 5, rtol=1e-12)


@pytest.mark.parametrize("label", [-1, 3, 1000])
def test_labels_out_of_range_are_named(label):
    with pytest.raises(MinicnnError, match=str(label)):
        SoftmaxCrossEntropy().forward(np.zeros((2, 3), np.float32), np.array([0, label]))


@pytest.mark.parametrize(
    ("y", "target", "message"),
    [
        (np.zeros((2, 3)), np.array([0]), r"expected 2 integers.*\(1,\)"),
        (np.zeros((2, 3)), np.zeros((2, 3), np.int64), r"expected 2 integers.*\(2, 3\)"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), "expected 2 integers.*float64"),
        (np.zeros((2, 3, 1, 1)), np.array([0, 1]), r"\(N, classes\).*\(2, 3, 1, 1\)"),
        (np.zeros((2, 3), np.int64), np.array([0, 1]), "float32 or float64.*int64"),
    ],
)
def test_cross_entropy_refuses_arrays_that_do_not_fit(y, target, message):
    with pytest.raises(ShapeError, match=message):
        SoftmaxCrossEntropy().forward(y, target)


@pytest.mark.parametrize("kind", [MeanSquaredError, HalfSquaredError])
def test_squared_errors_do_not_broadcast(kind):
    with pytest.raises(MinicnnError, match=kind.__name__):
        kind().forward(np.zeros((2, 3), np.float32), np.zeros((2, 1), np.float32))


@pytest.mark.parametrize("smoothing", [-0.1, 1.5])
def test_label_smoothing_must_be_a_fraction(smoothing):
    with pytest.raises(MinicnnError, match="label_smoothing"):
        SoftmaxCrossEntropy(label_smoothing=smoothing)


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), MeanSquaredError(), HalfSquaredError()])
def test_backward_before_forward(loss):
    with pytest.raises(MinicnnError, match="forward"):
        loss.backward()


# Infinite and huge scores.

HUGE = [
    [1, -np.inf, 2],
    [-np.inf, 0, -np.inf],
    [3e38, -3e38, 0],
    [3e38, 3e38, 3e38],
    [-3e38, -3e38, -3e38],
    [1e30, 1, 2],
    [-1e30, 1, 2],
    [88, -88, 0],
    [1000, 0, -1000],
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", HUGE, ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_of_infinite_and_huge_logits(row, smoothing, dtype):
    """As torch, for each label: a number, or infinity where a class with a share has probability 0."""
    loss = SoftmaxCrossEntropy(smoothing)
    theirs = nn.CrossEntropyLoss(label_smoothing=smoothing)
    for label in range(3):
        y, target = np.array([row], dtype), np.array([label])
        expected, expected_dy = torch_loss(theirs, y, target)
        np.testing.assert_allclose(loss.forward(y, target), expected, rtol=1e-5)
        np.testing.assert_allclose(loss.backward(), expected_dy, rtol=1e-5, atol=1e-6)


def test_cross_entropy_of_minus_infinity_by_hand():
    loss = SoftmaxCrossEntropy()
    y = np.array([[1, -np.inf, 2]], np.float32)
    assert loss.forward(y, np.array([0])) == pytest.approx(1.313262, rel=1e-6)
    np.testing.assert_allclose(loss.backward(), [[-0.731059, 0, 0.731059]], rtol=1e-5)
    assert loss.forward(y, np.array([1])) == np.inf
    nothing = np.full((1, 3), -np.inf, np.float32)
    assert np.isnan(loss.forward(nothing, np.array([1])))  # as torch: 0 / 0
    whole = np.tile(np.array([[0, 1, 2]], np.float32), (LANES + 3, 1))
    whole[LANES + 1] = [-np.inf, 0, 0]  # the others have what they have without it
    labels = np.ones(len(whole), np.int64)
    expected, expected_dy = torch_loss(nn.CrossEntropyLoss(), whole, labels)
    np.testing.assert_allclose(loss.forward(whole, labels), expected, rtol=1e-6)
    np.testing.assert_allclose(loss.backward(), expected_dy, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [row for row in HUGE if row[0] not in (3e38, -3e38)], ids=str)
def test_map_criterion_of_infinite_and_huge_scores(row, dtype):
    loss, theirs = MaximumAPosteriori(5.0), TorchMAP(5.0)
    for label in range(3):
        y, target = np.array([row], dtype), np.array([label])
        expected, expected_dy = torch_loss(theirs, y, target)
        np.testing.assert_allclose(loss.forward(y, target), expected, rtol=1e-5)
        np.testing.assert_allclose(loss.backward(), expected_dy, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("row", [[1, -np.inf, 2], [1e15, -1e15, 0], [1e30, 0, 0]], ids=str)
def test_squared_errors_of_infinite_and_huge_scores(row):
    """The loss is a sum of float64, and so finite for longer than torch's."""
    y, target = np.array([row], np.float32), np.array([[0.5, 1, -2]], np.float32)
    difference = y.astype(np.float64) - target
    for loss, factor in ((MeanSquaredError(), 1 / 3), (HalfSquaredError(), 0.5)):
        expected = factor * np.sum(difference**2)
        np.testing.assert_allclose(loss.forward(y, target), expected, rtol=1e-6)
        np.testing.assert_allclose(loss.backward(), 2 * factor * difference, rtol=1e-6)
