"""The estimator for scikit-learn, in scikit-learn's own checks, searches and pipelines."""

import math
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from minicnn import SGD, Conv2d, Dense, Flatten, MinicnnError, ReLU, Sequential, Tanh
from minicnn.sklearn import CNNClassifier

X, Y = load_digits(return_X_y=True)
chosen = np.random.default_rng(0).permutation(len(X))[:600]
X, Y = X[chosen], Y[chosen]


def tiny(image_shape: tuple[int, ...], classes: int) -> Sequential:
    return Sequential([Flatten(), Dense(math.prod(image_shape), 16), Tanh(), Dense(16, classes)])


def test_the_checks_of_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks that are skipped, as for want of pandas
        results = check_estimator(CNNClassifier(epochs=3), on_fail=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert not failed and sum(result["status"] == "passed" for result in results) > 40


def test_digits_as_rows_images_and_bytes_in_a_search_and_a_pipeline() -> None:
    classifier = CNNClassifier(image_shape=(8, 8), epochs=10, random_state=0)
    rows = clone(classifier).fit(X[:500], Y[:500])
    assert rows.score(X[500:], Y[500:]) > 0.85
    assert rows.model_.input_shape == rows.image_shape_ == (1, 8, 8) and len(rows.history_) == 10
    images = clone(classifier).fit(X[:500].reshape(-1, 8, 8), Y[:500])
    np.testing.assert_array_equal(images.predict_proba(X[500:].reshape(-1, 1, 8, 8)), rows.predict_proba(X[500:]))
    again = pickle.loads(pickle.dumps(rows))
    np.testing.assert_array_equal(again.predict(X[500:]), rows.predict(X[500:]))
    as_bytes = clone(classifier).fit((15 * X[:500]).astype(np.uint8), Y[:500])
    assert as_bytes.score(15 * X[500:], Y[500:]) > 0.85  # floats mean the same as the bytes did

    search = GridSearchCV(CNNClassifier(tiny, epochs=2, random_state=0), {"lr": [1e-4, 0.1]}, cv=2).fit(X, Y)
    assert search.best_params_ == {"lr": 0.1}
    names = np.array(["even", "odd"])[Y % 2]
    pipeline = make_pipeline(StandardScaler(), clone(classifier)).fit(X[:500], names[:500])
    assert set(pipeline.predict(X[500:])) == {"even", "odd"} and pipeline.score(X[500:], names[500:]) > 0.85


def test_a_network_and_an_optimizer_that_are_given_stay_as_they_are() -> None:
    network, optimizer = Sequential([Conv2d(1, 4, 3), ReLU(), Flatten(), Dense(144, 10)]), SGD(lr=0.1)
    before = network.values.copy()
    classifier = CNNClassifier(network, image_shape=(1, 8, 8), optimizer=optimizer, epochs=1, random_state=0)
    first = classifier.fit(X, Y).model_.network.values.copy()
    np.testing.assert_array_equal(classifier.fit(X, Y).model_.network.values, first)
    np.testing.assert_array_equal(network.values, before)
    assert not optimizer.parameters
    kept = clone(classifier).set_params(init=None, lr=0.0).fit(X, Y)
    np.testing.assert_array_equal(kept.model_.network.values, before)


@pytest.mark.parametrize(
    ("options", "rows", "labels", "message"),
    [
        ({"image_shape": (8, 7)}, X, Y, r"image_shape: expected \(C, H, W\) with 64 numbers, .*\(1, 8, 7\)"),
        ({"network": Sequential([Flatten(), Dense(64, 3)])}, X, Y, "an output for each of 10 classes"),
        ({"optimizer": "adam", "lr": 0.1}, X, Y, r"received 'adam'; make one of that name: Adam\("),
        ({}, X, np.zeros(600), "expected two classes or more, received 1 class"),
        ({}, X.reshape(-1, 2, 2, 4, 4), Y, "expected rows"),
    ],
)
def test_what_does_not_fit(options: dict, rows: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CNNClassifier(**options).fit(rows, labels)
    fitted = CNNClassifier(tiny, epochs=1).fit(X.reshape(-1, 8, 8), Y)
    with pytest.raises(MinicnnError, match=r"expected images of \(1, 8, 8\) as in fit"):
        fitted.predict(X.reshape(-1, 8, 2, 4))


def test_rows_without_the_shape_of_their_images() -> None:
    network = Sequential([Conv2d(1, 2, 3), Flatten(), Dense(72, 10)])
    with pytest.raises(ValueError, match=r"layer 0 Conv2d.* image_shape says .* now \(1, 1, 64\)"):
        CNNClassifier(network, epochs=1).fit(X, Y)
    CNNClassifier(network, epochs=1, image_shape=(8, 8)).fit(X, Y)
