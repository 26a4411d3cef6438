"""Arguments that cannot be meant, each refused at the door with its name, what was expected and what was received."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from minicnn import (
    EMA,
    SGD,
    Augmentation,
    Batches,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    LeakyReLU,
    LocallyConnected2d,
    MaximumAPosteriori,
    MaxPool,
    MeanPool,
    Model,
    RadialBasis,
    Sequential,
    SoftmaxCrossEntropy,
    Subsample,
    train_step,
)
from minicnn.checks import checked, fits, told
from minicnn.errors import ConfigError, DataError, DivergedError, MinicnnError, ShapeError
from minicnn.layers.layer import Layer

NAN, INF = float("nan"), float("inf")
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), np.uint8)
LABELS = np.arange(6) % 3


def network():
    return Sequential([Dense(3, 2)])


def sgd(**more):
    return SGD(network().parameters(), **({"lr": 0.1} | more))


def batches(**more):
    return Batches(**({"images": IMAGES, "labels": LABELS, "batch_size": 4} | more))


def model(**more):
    return Model(**({"network": network(), "input_shape": (3,)} | more))


#: What is called, and the argument that is wrong.
WRONG = [
    *((Conv2d, (1, 2, 3), "bias", v) for v in ("no", 3, 1, 0, None, 1.0, np.ones(2))),
    *((Dense, (3, 2), "bias", v) for v in (3, "False", [], None)),
    *((Dense, (3,), "out_features", v) for v in (2.0, "2", True, None, NAN, [2], 0, -1)),
    *((Conv2d, (1, 2), "kernel_size", v) for v in (3.0, "3", True, (3,), (3, 3, 3), (3, 2.5))),
    *((Conv2d, (1, 2, 3), "stride", v) for v in (None, "1", (1, True), 0)),
    *((Conv2d, (2, 2, 3), "groups", v) for v in (None, True, 2.0, "2")),
    *((Conv2d, (2, 2, 3), "connections", v) for v in (np.full((2, 2), NAN), [[NAN, 1], [1, 1]])),
    *((LocallyConnected2d, (1, 2, 6, 3), "bias", v) for v in ("yes", 1)),
    *((MaxPool, (2,), "ceil_mode", v) for v in ("yes", 1, None)),
    *((MeanPool, (2,), "count_include_pad", v) for v in ("no", 0)),
    *((MeanPool, (2,), "stride", v) for v in ("2", 2.0, True)),
    *((Subsample, (2,), "kernel_size", v) for v in (None, 2.0)),
    *((LeakyReLU, (), "negative_slope", v) for v in (NAN, INF, -INF, "0.1", None, True, 10**400)),
    *((Dropout, (), "p", v) for v in (NAN, "half", None, True, 1j, 1.5)),
    *((BatchNorm2d, (2,), "eps", v) for v in (NAN, INF, None, "1e-5", True)),
    *((BatchNorm2d, (2,), "momentum", v) for v in (NAN, "0.1", True, 2)),
    *((BatchNorm2d, (2,), "affine", v) for v in ("yes", 1, None)),
    *((RadialBasis, (), "in_features", v) for v in (84.0, "84")),
    *((Sequential, (), "layers", v) for v in (5, None, "Dense", Dense(3, 2))),
    *((SoftmaxCrossEntropy, (), "label_smoothing", v) for v in (NAN, "a", None, True, 2)),
    *((MaximumAPosteriori, (), "j", v) for v in (NAN, INF, "5", True, 0)),
    *((sgd, (), "lr", v) for v in (NAN, INF, -1, None, "0.1", True, [0.1], 1j)),
    *((sgd, (), "momentum", v) for v in (NAN, 1, "0.9", None, True)),
    *((sgd, (), "nesterov", v) for v in ("yes", 1, None)),
    *((sgd, (), "weight_decay", v) for v in (NAN, INF, -0.1, None)),
    *((sgd, (), "clip_norm", v) for v in (NAN, INF, 0, -1, "1", True)),
    *((batches, (), "batch_size", v) for v in (2.5, 0, -1, None, "4", True, NAN)),
    *((batches, (), "mean", v) for v in (NAN, INF, "0.5", [NAN], [0.1, 0.2], None)),
    *((batches, (), "std", v) for v in (NAN, INF, 0, -1, "1", [0.0])),
    *((batches, (), "padding", v) for v in (-1, 1.5, "1", True, None)),
    *((batches, (), "seed", v) for v in (-1, 0.5, "0", True)),
    *((batches, (), "augmentation", v) for v in (True, {"shift": 1}, 3)),
    *((batches, (), "labels", v) for v in ([0, 1, 2, 0, 1, -1], [0.5] * 6, [0, 1], 3, None)),
    *((batches, (), "images", v) for v in (IMAGES / 1.0, IMAGES[0, 0], IMAGES[:0], 5)),
    *((batches, (), "images", v) for v in (np.ma.masked_array(IMAGES),)),
    *((model, (), "network", v) for v in (5, None, [Dense(3, 2)], Dense)),
    *((model, (), "input_shape", v) for v in (3, (3.0,), "3", (True,))),
    *((model, (), "classes", v) for v in ("ab", [1, 2], 5, ["a"], [None, None])),
    *((model, (), "data_set", v) for v in (5, ["mnist"], True)),
    *((model, (), "loss", v) for v in (None, 5, "hinge")),
    *((model, (), "padding", v) for v in (1.0, -1, "0", True, 1)),
    *((model, (), "mean", v) for v in (NAN, "0", [0.1, 0.2])),
    *((model, (), "std", v) for v in (NAN, 0, -1, True)),
    *((Augmentation, (), "shift", v) for v in (NAN, -1, "1", True, INF)),
    *((Augmentation, (), "cutout", v) for v in (1.5, -1, True)),
]


@pytest.mark.parametrize(
    ("function", "arguments", "name", "value"), WRONG, ids=[f"{f.__name__}-{n}-{told(v)[:30]}" for f, _, n, v in WRONG]
)
def test_what_cannot_be_meant_is_refused(function, arguments, name, value):
    with pytest.raises(MinicnnError, match=r"expected .*received") as caught:
        function(*arguments, **{name: value})
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_can_be_meant_is_taken():
    """Numbers of NumPy, ints for floats, lists for pairs."""
    one = np.int64(1)
    layer = Conv2d(one, np.uint8(2), [3, np.int32(3)], stride=one, bias=np.bool_(False))
    assert repr(layer) == "Conv2d(1, 2, kernel_size=(3, 3), bias=False)"
    assert LeakyReLU(np.float32(0.5)).negative_slope == 0.5
    assert LeakyReLU(1).negative_slope == 1.0 and Dropout(np.array(0.25)).p == 0.25
    assert BatchNorm2d(2, momentum=None).momentum is None
    assert sgd(lr=np.float32(0.5), momentum=0, clip_norm=None).lr == 0.5
    assert len(batches(batch_size=np.int64(4), mean=np.array([0.5]), std=(1,), seed=one)) == 2
    assert model(classes=["a", "b"], data_set="x", mean=np.float64(0), std=[1]).classes == ("a", "b")
    assert model(input_shape=np.array([3]), classes=np.array(["a", "b"])).input_shape == (3,)


def test_numbers_that_do_not_stay_in_range():
    optimizer = sgd(momentum=0.9)
    before = optimizer.parameters[0].value.copy()
    for name, values in {
        "lr": (NAN, INF, -0.1, None, "0.1"),
        "momentum": (NAN, 1.0, -0.1),
        "weight_decay": (NAN, INF, -1),
        "clip_norm": (NAN, 0),
    }.items():
        for value in values:
            with pytest.raises(ConfigError, match=f"SGD: {name}: expected a number .*received"):
                setattr(optimizer, name, value)
    optimizer.step()
    np.testing.assert_array_equal(optimizer.parameters[0].value, before)
    optimizer.lr, optimizer.clip_norm = 0, None


def test_what_an_optimizer_is_made_for_stays():
    optimizer, average = sgd(), EMA(network().parameters(), 0.5)
    for rule in (optimizer, average):
        with pytest.raises(ConfigError, match="parameters: expected those that it was made with"):
            rule.parameters = network().parameters()
        assert isinstance(rule.parameters, tuple)
    for value in (NAN, 1, None, "0.5"):
        with pytest.raises(ConfigError, match="EMA: decay: expected a number from 0 to below 1"):
            average.decay = value


def test_a_limit_that_is_set_between_steps_counts():
    optimizer = sgd(lr=1.0)
    weight = optimizer.parameters[0]
    for clip_norm, moved in ((None, 3.0), (0.5, 0.5), (2.0, 2.0), (None, 3.0)):
        optimizer.clip_norm = clip_norm
        for parameter in optimizer.parameters:
            parameter.grad = 0
        weight.grad[0, 0] = 3
        before = weight.value.copy()
        optimizer.step()
        np.testing.assert_allclose((before - weight.value)[0, 0], moved, rtol=1e-5)


def test_asking_for_the_work_of_a_step_changes_no_step():
    optimizer = sgd(clip_norm=1.0)
    weight = optimizer.parameters[0]
    for _ in range(2):
        weight.grad = NAN
        with pytest.raises(DivergedError):
            optimizer.step()
        optimizer.work()
    optimizer.clip_norm = None
    weight.grad, before = 1, weight.value.copy()
    optimizer.step()
    np.testing.assert_allclose(weight.value, before - 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    "parameters",
    [network(), [1, 2], [{"params": [1]}], 5, None, "weights", [], network().parameters()[0], [np.zeros(3)]],
    ids=lambda p: told(p)[:30],
)
def test_what_are_no_parameters(parameters):
    for make in (SGD, EMA)[parameters is None :]:  # an optimizer may get its parameters later
        with pytest.raises(ConfigError, match=r"parameters: expected .*received"):
            make(parameters, 0.1)


def test_the_optimizer_of_another_network():
    ours, other, loss = network(), network(), SoftmaxCrossEntropy()
    batch = np.ones((4, 3), np.float32), np.zeros(4, np.int64)
    before = ours.values.copy(), other.values.copy()
    with pytest.raises(ConfigError, match="an optimizer of the network's parameters"):
        train_step(ours, loss, SGD(other.parameters(), lr=0.1), batch)
    np.testing.assert_array_equal(ours.values, before[0])
    np.testing.assert_array_equal(other.values, before[1])
    train_step(ours, loss, SGD([ours[0].bias], lr=0.1), batch)  # of a part, or of a part's layers
    train_step(ours, loss, SGD(Sequential(ours.layers).parameters(), lr=0.1), batch)


@pytest.mark.parametrize("epoch", [-1, 0.5, True, None, "0"])
def test_epochs_are_whole_numbers(epoch):
    with pytest.raises(DataError, match="epoch: expected an integer >= 0, received"):
        batches(seed=1).order(epoch)
    with pytest.raises(ConfigError, match="epoch: expected an integer >= 0, received"):
        Augmentation(shift=1).apply(IMAGES, epoch=epoch)
    if epoch is not None:
        with pytest.raises(ConfigError, match="seed: expected an integer >= 0, received"):
            Augmentation(shift=1).apply(IMAGES, seed=epoch)


@pytest.mark.parametrize(
    "x", [[[1.0], [1.0, 2.0]], "abc", None, 5, object(), [[None]]], ids=lambda value: type(value).__name__
)
def test_what_is_no_array(x):
    layer, loss = network(), SoftmaxCrossEntropy()
    good = np.ones((2, 3), np.float32)
    layer.forward(good)
    for use in (
        lambda: layer.forward(x),
        lambda: layer.backward(x),
        lambda: loss.forward(x, [0, 1]),
        lambda: loss.forward(good, x),
        lambda: model().predict(x),
        lambda: batches(images=x),
        lambda: batches(labels=x),
        lambda: Augmentation(shift=1).apply(x),
    ):
        with pytest.raises(MinicnnError, match="expected"):
            use()


def test_a_tensor_with_its_graph_stands_for_its_numbers():
    x = torch.ones((2, 3), requires_grad=True)
    ours = network()
    np.testing.assert_array_equal(ours.forward(x), ours.forward(np.ones((2, 3), "f")))


# Gradients that are not finite.


class Damaging(Layer):
    """y = x shift, whose own gradient or dx may be damaged."""

    def __init__(self, own: float = 0.0, dx: float = 0.0):
        self.own, self.dx = own, dx
        self.shift = Dense(1, 3, bias=False).weight.renamed("shift")

    def parameters(self):
        return [self.shift]

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False):
        return x + self.shift.value[:, 0]

    def backward(self, dy):
        self.shift.grad[...] = np.sum(dy, axis=0)[:, None]
        self.shift.grad[1] += np.float32(self.own)
        return dy + np.float32(self.dx)


@pytest.mark.parametrize("damage", [NAN, INF, -INF])
@pytest.mark.parametrize(("place", "name"), [("own", r"1\.shift"), ("dx", r"0\.weight")], ids=["own", "dx"])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_gradients_that_are_not_finite_are_not_applied(place, name, damage, clip_norm):
    layer = Damaging()
    whole = Sequential([Dense(4, 3), layer, Dense(3, 2)])
    loss, batch = SoftmaxCrossEntropy(), (np.ones((4, 4), np.float32), np.arange(4) % 2)
    optimizer = SGD(whole.parameters(), lr=0.1, momentum=0.9, clip_norm=clip_norm)
    train_step(whole, loss, optimizer, batch)
    before = whole.values.copy(), optimizer.state()["velocity"].copy()
    setattr(layer, place, damage)
    with pytest.raises(DivergedError, match=rf"step 2: expected finite gradients.*{name}") as caught:
        train_step(whole, loss, optimizer, batch)
    assert caught.value.step == 2 and optimizer.steps == 1
    np.testing.assert_array_equal(whole.values, before[0])
    np.testing.assert_array_equal(optimizer.state()["velocity"], before[1])
    setattr(layer, place, 0.0)
    train_step(whole, loss, optimizer, batch)
    assert optimizer.steps == 2 and np.isfinite(whole.values).all()


@pytest.mark.parametrize("size", [1, 3, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097, 9000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_element_of_a_gradient_counts(size, dtype):
    layer = Dense(size, 1, bias=False).astype(dtype)
    optimizer = SGD(layer.parameters(), lr=1.0)
    before = layer.weight.value.copy()
    for place in {0, size // 2, size - 1, max(0, size - 17), min(size - 1, 70)}:
        for damage in (NAN, INF, -INF):
            layer.weight.grad = 1
            layer.weight.grad[0, place] = damage
            with pytest.raises(DivergedError, match="received NaN or infinity in that of weight"):
                optimizer.step()
            np.testing.assert_array_equal(layer.weight.value, before)
    layer.weight.grad = np.finfo(dtype).max  # huge is finite
    optimizer.step()
    np.testing.assert_array_equal(layer.weight.value, before - np.finfo(dtype).max)


# The check itself.

FITS = {
    int: ([0, -5, np.int8(3), np.uint64(7), np.array(3)], [1.0, True, "1", None, np.bool_(1), NAN]),
    float: ([0, 1.5, np.float16(2), -3, np.array(2.5)], [NAN, INF, True, "1", None, 1j, 10**400]),
    bool: ([True, False, np.bool_(True)], [0, 1, "yes", None, 1.0]),
    str: (["", "a"], [b"a", 1, None]),
    None: ([None], [0, False, ""]),
    int | None: ([1, None], [1.5, True, "1"]),
    tuple[int, int]: ([(1, 2), [1, 2]], [(1,), (1, 2, 3), (1, 2.0), 1, "12", (True, 1)]),
    tuple[int, ...]: ([(), (1,), [1, 2, 3]], [(1.5,), 1, None]),
    Sequence[float]: ([[], (1, 2.5), np.ones(3)], ["12", 1, [NAN], [[1]], np.ones((2, 2)), None]),
    Sequence[str]: ([["a"], ("a", "b")], ["ab", [1], b"ab", None]),
    float | Sequence[float]: ([1, [1, 2]], ["1", [None]]),
    Layer: ([Dense(1, 1)], [Dense, 1, None]),
    Any: ([1, None, NAN, "a"], []),
    Fraction: ([1, None, "not checked"], []),
}


@pytest.mark.parametrize("hint", FITS, ids=str)
def test_what_fits_an_annotation(hint):
    good, bad = FITS[hint]
    assert [value for value in good if not fits(value, hint)] == []
    assert [value for value in bad if fits(value, hint)] == []


def test_a_checked_function():
    @checked(ShapeError)
    def function(a: int, *rest: Any, b: "bool | None" = "default", **more: int) -> tuple[Any, ...]:
        return a, rest, b, more

    assert function(1) == (1, (), "default", {})
    assert function(1, "x", NAN, b=True, c="not checked")[0] == 1
    assert function.__name__ == "function" and function.__annotations__["a"] is int
    with pytest.raises(ShapeError, match=r"function: b: expected True or False or None, received 1$"):
        function(1, b=1)
    with pytest.raises(TypeError):
        function()
    assert told(np.zeros((100, 100))).count("\n") == 0 and len(told("x" * 1000)) == 80


def test_layers_of_one_s_own_are_not_checked():
    """What others write in their annotations is theirs; what they pass on is checked."""

    class Own(Conv2d):
        def __init__(self, bias: int) -> None:
            super().__init__(1, 2, 3, bias=bias)

    assert Own(True).bias is not None
    with pytest.raises(ShapeError, match="Conv2d: bias: expected True or False, received 'no'"):
        Own("no")
