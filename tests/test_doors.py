"""What the API takes for arrays, labels and parameters, and what it refuses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from minicnn import (
    SGD,
    Batches,
    ConfigError,
    Conv2d,
    Dense,
    DivergedError,
    EarlyStopping,
    Flatten,
    MeanSquaredError,
    MinicnnError,
    Model,
    Sequential,
    ShapeError,
    SoftmaxCrossEntropy,
    Tanh,
    check_gradients,
    evaluate,
    summary,
    train_step,
)

X = np.random.default_rng(0).random((4, 3), np.float32)
LABELS = np.array([0, 1, 1, 0])


@pytest.fixture
def network() -> Sequential:
    return Sequential([Dense(3, 2)]).initialize("kaiming", rng=0)


def test_an_evaluation_of_nothing(network: Sequential) -> None:
    for batches in ([], iter(())):
        with pytest.raises(MinicnnError, match="evaluate: expected at least one batch, received"):
            evaluate(network, SoftmaxCrossEntropy(), batches)


@pytest.mark.parametrize("labels", [None, 3, 0.5, "x", np.int64(1), [0, 1], [[0, 1], [1]]])
@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy, MeanSquaredError])
def test_labels_of_another_kind(network: Sequential, labels: object, loss: Callable[[], object]) -> None:
    optimizer = SGD(network.parameters(), 0.1)
    for use in (
        lambda: train_step(network, loss(), optimizer, (X, labels)),
        lambda: evaluate(network, loss(), [(X, labels)]),
        lambda: loss().forward(network.forward(X), labels),
    ):
        with pytest.raises(ShapeError, match="expected"):
            use()


def test_a_tensor_that_requires_a_gradient_stands_for_its_numbers(network: Sequential) -> None:
    tensor = torch.from_numpy(X.copy()).requires_grad_()
    np.testing.assert_array_equal(network.forward(tensor), network.forward(X))
    model = Model(network, (3,))
    np.testing.assert_array_equal(model.scores(tensor), model.scores(X))
    loss, target = MeanSquaredError(), torch.zeros(4, 2, requires_grad=True)
    expected = loss.forward(network.forward(X), np.zeros((4, 2), np.float32))
    assert loss.forward(network.forward(tensor), target) == expected
    assert evaluate(network, loss, [(tensor, target)]).loss == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["arrays", "numbers", "network"])
def test_parameters_of_an_optimizer(network: Sequential, kind: str) -> None:
    parameters = {"arrays": [np.zeros(3)], "numbers": [1, 2], "network": network}[kind]
    with pytest.raises(ConfigError, match=r"SGD: parameters: expected .*arameters"):
        SGD(parameters, 0.1)  # type: ignore[arg-type]


# Mistakes, each with its remedy.

PICTURES = np.random.default_rng(0).random((8, 1, 6, 7), np.float32)
CLASSES = np.arange(8) % 3
ONES = np.eye(3, dtype=int)[CLASSES]
LAST = np.moveaxis(PICTURES, 1, -1)


def cnn() -> Sequential:
    return Sequential([Conv2d(1, 2, 3), Tanh(), Flatten(), Dense(40, 3)]).initialize(rng=0)


def step(x: Any, target: Any) -> object:
    network = cnn()
    return train_step(network, SoftmaxCrossEntropy(), SGD(network.parameters()), (x, target))


def score(x: Any, target: Any) -> object:
    return evaluate(cnn(), SoftmaxCrossEntropy(), [(x, target)])


def batches(x: Any, target: Any) -> object:
    network = cnn()
    return train_step(network, SoftmaxCrossEntropy(), SGD(network.parameters()), next(iter(Batches(x, target, 4))))


def fit(x: Any, target: Any) -> object:
    return Model(cnn()).fit(x, target, verbose=False)


def known(x: Any, target: Any) -> object:
    return Model(cnn(), (1, 6, 7)).evaluate(x, target)


def predict(x: Any, target: Any) -> object:
    return Model(cnn(), (1, 6, 7)).predict(x)


def forward(x: Any, target: Any) -> object:
    return SoftmaxCrossEntropy()(cnn()(x), target)


ARRAYS = (step, score, forward)
IMAGES = (batches, fit, known, predict)
LABELLED = (step, score, forward, batches)
AS_OBJECTS = PICTURES.astype(object)
NOT_A_NUMBER = np.where(PICTURES[2, 0, 1, 3] == PICTURES, np.float32(np.nan), PICTURES)


@pytest.mark.parametrize(
    ("x", "target", "doors", "message"),
    [
        (LAST, CLASSES, (*ARRAYS, *IMAGES), r"channels last; .*moveaxis\((x|images), -1, -3\)"),
        (PICTURES[:, 0], CLASSES, ARRAYS, r"only channel: x\[:, numpy.newaxis\]"),
        ((255 * PICTURES).astype(np.uint8), CLASSES, ARRAYS, r"x.astype\(numpy.float32\) / 255"),
        (255 * PICTURES, CLASSES, IMAGES, "from 0 to 1 .*; divide them by 255"),
        (NOT_A_NUMBER, CLASSES, (*ARRAYS, *IMAGES), r"NaN at index \(2, 0, 1, 3\)"),
        (AS_OBJECTS, CLASSES, (*ARRAYS, *IMAGES[:-1]), r"received object; if these are numbers: .*astype"),
        (PICTURES.astype(float), CLASSES, ARRAYS, r"received float64; convert it with x.astype\(numpy.float32\)"),
        (PICTURES, ONES, LABELLED, r"one-hot rows .* by labels.argmax\(axis=1\)"),
        (PICTURES, CLASSES[:, np.newaxis], (*LABELLED, fit, known), r"labels.ravel\(\)"),
        (PICTURES, CLASSES / 1.0, (*LABELLED, fit, known), r"labels.astype\(int\)"),
        (PICTURES, np.full(8, np.nan), (*LABELLED, fit, known), "NaN at index 0"),
        (PICTURES, np.array(list("abcabcab")), LABELLED, r"numpy.unique\(labels, return_inverse=True\)\[1\]"),
        (PICTURES, CLASSES + 1, (step, score, forward, fit, known), "they count from 0: labels - 1"),
    ],
    ids=lambda value: "" if isinstance(value, np.ndarray | tuple) else value[:20],
)
def test_arrays_and_labels_in_another_form(x: Any, target: Any, doors: Any, message: str) -> None:
    for door in doors:
        with pytest.raises(MinicnnError, match=message) as caught:
            door(x, target)
        assert "\n" not in str(caught.value), door


class NoLoss:
    def forward(self, y: Any, target: Any) -> float:
        return 0.0


N, S = cnn(), SoftmaxCrossEntropy()
O, PAIR = SGD(N.parameters(), lr=0.5), (PICTURES, CLASSES)  # noqa: E741


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_step(N, S, O, PICTURES, CLASSES), r"make them a pair: train_step\(.*, \(x, target\)\)"),  # type: ignore[arg-type]
        (
            lambda: train_step(S, N, O, PAIR),
            r"network: expected a Sequential, received SoftmaxCrossEntropy\(\); the order",
        ),  # type: ignore[arg-type]
        (
            lambda: train_step(N, O, S, PAIR),
            r"loss: expected a Loss, received SGD\(lr=0.5\); the order is train_step\(",
        ),  # type: ignore[arg-type]
        (lambda: train_step(N, SoftmaxCrossEntropy, O, PAIR), r"the class SoftmaxCrossEntropy; make one of it"),  # type: ignore[arg-type]
        (lambda: train_step(N, NoLoss(), O, PAIR), "derives from minicnn.Loss"),  # type: ignore[arg-type]
        (lambda: train_step(N, S, SGD, PAIR), r"optimizer: expected an Optimizer, received the class SGD; make one"),  # type: ignore[arg-type]
        (lambda: N(PICTURES > 0), r"^Sequential: expected an input of float32, received bool"),
        (lambda: train_step(N[3], S, O, PAIR), r"put it into one: Sequential\(\[layer\]\)"),
        (lambda: train_step(Model(N), S, O, PAIR), "its network is model.network"),  # type: ignore[arg-type]
        (lambda: train_step(N, S, O, PICTURES), r"received an array of float32 \(8, 1, 6, 7\)"),  # type: ignore[arg-type]
        (lambda: train_step(N, S, O, Batches(*PAIR, 4)), "for batch in batches: ..."),  # type: ignore[arg-type]
        (lambda: evaluate(N, S, PAIR), r"batches is a list of them: \[\(x, target\)\]"),  # type: ignore[arg-type]
        (lambda: Model(cnn()).fit(*PAIR, optimizer=SGD), "Model.fit: optimizer: expected an Optimizer or None"),  # type: ignore[arg-type]
        (lambda: Model(cnn().astype(float)).fit(*PAIR), r"float64; convert it with network.astype\(numpy.float32\)"),
        (lambda: SGD(N), r"pass its .parameters\(\)"),  # type: ignore[arg-type]
        (lambda: SGD(N.parameters(), lr="0.1"), "lr: expected a number >= 0, received '0.1'"),  # type: ignore[arg-type]
        (lambda: Sequential([Dense]), r"layer 0: expected a Layer, received the class Dense; make one of it: Dense\("),  # type: ignore[list-item]
        (lambda: setattr(N[0], "weight", np.ones(3)), r"an array of float64 \(3,\); .*layer.weight.value = "),
        (lambda: summary(N, PICTURES.shape), r"without the batch axis: \(1, 6, 7\)"),
        (lambda: check_gradients(N, PICTURES), "input_shape: expected a list of ints, received an array"),  # type: ignore[arg-type]
    ],
)
def test_arguments_of_another_kind_or_in_another_order(call: Callable[[], object], message: str) -> None:
    with pytest.raises(MinicnnError, match=message):
        call()


def test_a_loss_that_diverges_on_pixels_names_them() -> None:
    network = cnn()
    optimizer = SGD(network.parameters(), lr=3e38)
    with pytest.raises(DivergedError, match="the inputs go up to 255: divide them by 255"):
        for _ in range(3):
            train_step(network, SoftmaxCrossEntropy(), optimizer, (255 * PICTURES, CLASSES))


def test_batches_are_passed_over_epoch_by_epoch() -> None:
    source = Batches(PICTURES, CLASSES, 3, seed=1)
    for epoch in range(2):
        for batch, same in zip(source, source.epoch(epoch), strict=True):
            x, labels = batch
            np.testing.assert_array_equal(labels, CLASSES[same.numbers])
            np.testing.assert_array_equal(x, PICTURES[same.numbers])
            assert batch.x.shape == x.shape and repr(batch) == f"Batch({len(x)} images of (1, 6, 7))"


def test_what_objects_are_called() -> None:
    found = [SGD(lr=0.5, momentum=0.9), SoftmaxCrossEntropy(0.1), EarlyStopping(3), Batches(*PAIR, 4)]
    assert list(map(repr, found)) == [
        "SGD(lr=0.5, momentum=0.9)",
        "SoftmaxCrossEntropy(label_smoothing=0.1)",
        "EarlyStopping(patience=3)",
        "Batches(8 images of (1, 6, 7), batch_size=4)",
    ]
    html = summary(N, (1, 6, 7))._repr_html_()  # type: ignore[attr-defined]
    assert html.count("<tr>") == 7 and ">Dense(40, 3)</td>" in html and "---" not in html
