"""Figures of a classifier, against scikit-learn's."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as theirs
from sklearn.utils.class_weight import compute_class_weight

from minicnn import MinicnnError
from minicnn.losses.targets import balanced_weights
from minicnn.metrics import class_figures, top_k_accuracy
from minicnn.training.step import Evaluation


@pytest.mark.parametrize("classes", [2, 3, 4, 7])
@pytest.mark.parametrize("samples", [1, 5, 300])
def test_figures_are_those_of_scikit_learn(classes: int, samples: int) -> None:
    """Also where classes have no images, or are never predicted."""
    rng = np.random.default_rng(classes * samples)
    scores = rng.standard_normal((samples, classes))
    labels = (rng.integers(0, classes, samples) * rng.integers(0, 2, samples)).astype(np.int64)
    found = Evaluation(0.5, 0.25, scores, float(samples), labels).figures()
    predictions = scores.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without images
        expected = {
            "loss": 0.5,
            "accuracy": 0.25,
            "balanced_accuracy": theirs.balanced_accuracy_score(labels, predictions),
            "macro_f1": theirs.f1_score(labels, predictions, average="macro", zero_division=0),
        }
        every = np.arange(classes)
        for k in (3, 5):
            if k < classes:
                expected[f"top{k}_accuracy"] = theirs.top_k_accuracy_score(labels, scores, k=k, labels=every)
    assert found == pytest.approx(expected, rel=1e-12)


def test_of_equal_scores_the_first_count() -> None:
    scores, labels = np.zeros((4, 4)), np.arange(4)
    assert [top_k_accuracy(scores, labels, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    assert top_k_accuracy(scores, labels, 1) == (scores.argmax(axis=1) == labels).mean()
    for k in (0, 5):
        with pytest.raises(MinicnnError, match=f"k: expected 1 to 4, the number of classes, received {k}"):
            top_k_accuracy(scores, labels, k)
    assert list(class_figures(scores, labels)) == ["balanced_accuracy", "macro_f1", "top3_accuracy"]


def test_other_targets_have_no_classes() -> None:
    found = Evaluation(0.5, 0.0, np.zeros((2, 3)), 2.0, None)
    assert found.figures() == {"loss": 0.5, "accuracy": 0.0}
    with pytest.raises(MinicnnError, match="expected an evaluation with one class of each sample"):
        assert found.macro_f1


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = np.repeat([0, 2, 3], [200, 80, 20])
    expected = compute_class_weight("balanced", classes=np.array([0, 2, 3]), y=labels)
    np.testing.assert_allclose(balanced_weights(labels, 4), [expected[0], 0, *expected[1:]], rtol=1e-12)
