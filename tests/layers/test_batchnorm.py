"""BatchNorm2d: equal to torch in every array, statistics that hold against large means, and its buffers."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from against_torch import assert_same, copy_weights, our_results, torch_results
from torch import nn

from minicnn import (
    SGD,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    MaxPool,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    check_gradients,
    evaluate,
    summary,
    train_step,
)
from minicnn.config.build import build_network
from minicnn.config.settings import load_settings
from minicnn.engine import driver
from minicnn.engine.work import Work
from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import LANES
from minicnn.kernels import normalization as kernels
from minicnn.layers.registry import to_config

CONFIG = Path(__file__).parents[2] / "configs" / "tiny.yaml"
BATCHES = (LANES, LANES + 3, 1, 2 * LANES - 1)


def images(n, shape, seed=0, dtype=np.float32, mean=0.0, deviation=1.0):
    x = np.random.default_rng(seed).standard_normal((n, *shape))
    return (mean + deviation * x).astype(dtype)


def pair_of_layers(dtype, **options):
    """(ours, torch's) with the same random weight and bias, if they have any."""
    ours, theirs = BatchNorm2d(3, **options), nn.BatchNorm2d(3, **options)
    theirs = theirs.to(torch.float64 if dtype == np.float64 else torch.float32)
    rng = np.random.default_rng(5)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter[...] = torch.tensor(rng.uniform(-2, 2, 3))
    ours.astype(dtype)
    copy_weights(ours, theirs)
    return ours, theirs


def assert_same_buffers(ours, theirs):
    expected = {name: buffer.numpy() for name, buffer in theirs.named_buffers()}
    assert list(ours.buffers()) == list(expected)
    assert_same(list(ours.buffers().values()), list(expected.values()), rtol=1e-5)


def compare(ours, theirs, x, training):
    theirs.train(training)
    dy = images(len(x), x.shape[1:], seed=100 + len(x), dtype=x.dtype)
    assert_same(our_results(ours, x, dy, training), torch_results(theirs, x, dy))
    if theirs.running_mean is not None:
        assert_same_buffers(ours, theirs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"momentum": 0.3, "eps": 1e-2}, {"affine": False}, {"track_running_stats": False}],
    ids=str,
)
def test_several_steps_and_then_inference_are_those_of_torch(options, dtype):
    ours, theirs = pair_of_layers(dtype, **options)
    for step, n in enumerate(BATCHES):
        compare(ours, theirs, images(n, (3, 5, 7), step, dtype, mean=step, deviation=3), True)
    for n in BATCHES:
        compare(ours, theirs, images(n, (3, 5, 7), n, dtype), False)
    compare(ours, theirs, images(5, (3, 1, 1), 9, dtype), True)


def test_maps_larger_than_a_chunk_of_the_sums():
    assert kernels.CHUNK < 20 * 27 and (20 * 27) % kernels.CHUNK
    ours, theirs = pair_of_layers(np.float32)
    compare(ours, theirs, images(LANES + 1, (3, 20, 27), mean=2), True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}])
def test_gradients_are_the_derivatives(options, training):
    layer = BatchNorm2d(2, **options)
    layer.running_mean[...], layer.running_var[...] = [0.5, -1], [2, 0.3]
    for parameter in layer.parameters():
        parameter.value[...] = np.random.default_rng(0).uniform(-2, 2, 2)
    kept = {name: buffer.copy() for name, buffer in layer.buffers().items()}
    worst = check_gradients(layer, (2, 3, 2), batch=3, training=training)
    assert list(worst) == ["input", *(p.name for p in layer.parameters())]
    for name, buffer in layer.buffers().items():
        np.testing.assert_array_equal(buffer, kept[name])


def test_gradients_of_a_network_with_it():
    network = Sequential([Conv2d(2, 3, 3), BatchNorm2d(3), ReLU(), Flatten(), Dense(36, 4)])
    assert max(check_gradients(network, (2, 5, 6), training=True, directions=4).values()) <= 1e-6


def test_a_large_mean_takes_no_digits_from_a_small_deviation():
    ours = BatchNorm2d(2)
    x = images(LANES + 5, (2, 16, 16), mean=1000, deviation=0.01)
    exact = x.astype(np.float64)
    exact -= exact.mean(axis=(0, 2, 3), keepdims=True)
    variance = (exact**2).mean(axis=(0, 2, 3), keepdims=True)
    y = ours.forward(x, training=True)
    np.testing.assert_allclose(y, exact / np.sqrt(variance + 1e-5), atol=1e-5)
    dy = y + images(*x.shape[:1], x.shape[1:], seed=1)  # so that the mean of dy xhat is not small
    twin = nn.BatchNorm2d(2).to(torch.float64)
    _, dx, dweight, dbias = torch_results(twin, x.astype(np.float64), dy.astype(np.float64))
    assert_same([ours.backward(dy).astype(np.float64)], [dx], rtol=1e-5)
    assert_same([p.grad.astype(np.float64) for p in ours.parameters()], [dweight, dbias], 1e-5)
    np.testing.assert_allclose(ours.running_mean, 0.1 * x.astype(np.float64).mean((0, 2, 3)), 1e-6)


def test_a_channel_that_is_constant_gives_its_bias():
    layer = BatchNorm2d(2)
    layer.bias.value[...] = [3, -4]
    y = layer.forward(np.full((5, 2, 4, 4), 1234.5, np.float32), training=True)
    np.testing.assert_allclose(y[:, 0], 3, rtol=1e-6)
    np.testing.assert_allclose(y[:, 1], -4, rtol=1e-6)
    assert np.all(layer.running_var >= 0.9 - 1e-6)


def lanes_of(place):
    """The memory of a map that is kept: (blocks, *shape, LANES)."""
    buffer = place.buffer
    copies = buffer.arena.array.reshape(-1, buffer.arena.size)
    part = copies[:, buffer.offset : buffer.offset + place.vectors * LANES]
    return part.reshape(len(copies), *place.shape, LANES)


def results_on_lanes(layer, x, dy, samples, training):
    """(y, dx), all of them in the lane layout, for what lanes without a sample hold as well."""
    work = Work(len(x), x.dtype, training, keep=True)
    given = work.map(x.shape[1:-1])
    y, backward = layer.declare(work, given)
    work.pause()
    gradient = work.map(y.shape)
    dx = backward(gradient, True)
    program = work.finish()
    lanes_of(given)[...] = x
    program.run(samples)
    found = lanes_of(y).copy()
    lanes_of(gradient)[...] = dy
    program.run(samples, paused=True)
    return found, lanes_of(dx)


@pytest.mark.parametrize("training", [True, False])
def test_lanes_without_a_sample_count_for_nothing_and_stay_zero(training):
    """Whatever they hold, even infinity; behind a convolution with a bias it is never zero."""
    samples, shape = LANES + 3, (2, 3, 4, 5, LANES)
    results = []
    for rest in (0.0, np.inf):
        x, dy = (np.random.default_rng(seed).standard_normal(shape) for seed in (1, 2))
        x[1, ..., 3:], dy[1, ..., 3:] = rest, 1e9 if rest else 0.0
        layer = BatchNorm2d(3).astype(np.float64)
        y, dx = results_on_lanes(layer, x, dy, samples, training)
        assert np.all(y[1, ..., 3:] == 0) and np.all(dx[1, ..., 3:] == 0)
        results.append([y, dx, *(p.grad for p in layer.parameters()), *layer.buffers().values()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_shows(value):
    layer = BatchNorm2d(3)
    x = np.zeros((1, 3, 2, 2, LANES), np.float32)
    x[0, 1, 0, 0, 0] = value
    y, _ = results_on_lanes(layer, x, np.zeros_like(x), LANES, True)
    assert np.isnan(y[0, 1]).any() and np.isfinite(y[0, [0, 2]]).all()


def test_results_do_not_depend_on_the_number_of_threads():
    def results(threads):
        before = driver.get_threads()
        driver.set_threads(threads)
        try:
            layer, x = BatchNorm2d(5), images(3 * LANES + 1, (5, 5, 7))
            return [*our_results(layer, x, x**2, True), *layer.buffers().values()]
        finally:
            driver.set_threads(before)

    for a, b in zip(results(1), results(2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_value_a_channel_has_no_variance():
    x = images(1, (3, 1, 1))
    with pytest.raises(ShapeError, match=r"BatchNorm2d\(3\).*more than one value per channel"):
        BatchNorm2d(3).forward(x, training=True)
    with pytest.raises(ShapeError, match="more than one value"):
        BatchNorm2d(3, track_running_stats=False).forward(x)
    assert BatchNorm2d(3).forward(x).shape == x.shape


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"num_features": 0}, "num_features"),
        ({"num_features": 3, "eps": -1.0}, "eps"),
        ({"num_features": 3, "momentum": 1.5}, "momentum"),
    ],
)
def test_impossible_arguments_are_refused(options, place):
    with pytest.raises(ShapeError, match=f"BatchNorm2d: {place}"):
        BatchNorm2d(**options)


@pytest.mark.parametrize("shape", [(4, 5, 5), (3,), (3, 5)])
def test_other_inputs_are_refused(shape):
    with pytest.raises(ShapeError, match=r"BatchNorm2d.*\(3, H, W\)"):
        BatchNorm2d(3).forward(images(2, shape))


def test_backward_before_forward_is_refused():
    with pytest.raises(MinicnnError, match="forward"):
        BatchNorm2d(3).backward(images(2, (3, 4, 4)))


# The network around it.


def network():
    return Sequential([Conv2d(1, 3, 3), BatchNorm2d(3), ReLU(), MaxPool(2), Flatten(), Dense(27, 10)]).initialize(
        "kaiming", rng=0
    )


def torch_twin(ours):
    theirs = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), *(nn.Flatten(), nn.Linear(27, 10))
    )
    for parameter, source in zip(theirs.parameters(), ours.parameters(), strict=True):
        parameter.data = torch.tensor(source.value)
    return theirs


def test_training_steps_and_evaluation_are_those_of_torch():
    """With a batch that other networks take in pieces; then evaluation, which is in pieces."""
    ours = network()
    theirs = torch_twin(ours)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}
    optimizer = SGD(ours.parameters(), **settings)
    torch_optimizer = torch.optim.SGD(theirs.parameters(), **settings)
    loss, torch_loss = SoftmaxCrossEntropy(), nn.CrossEntropyLoss()
    labels = np.arange(512) % 10
    for step, n in enumerate((512, 33, 300)):
        x = images(n, (1, 8, 8), seed=step, mean=0.5)
        result = train_step(ours, loss, optimizer, (x, labels[:n]))
        torch_optimizer.zero_grad()
        expected = torch_loss(theirs(torch.tensor(x)), torch.tensor(labels[:n]))
        expected.backward()
        torch_optimizer.step()
        np.testing.assert_allclose(result.loss, expected.item(), rtol=1e-5)
    for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(parameter.value, other.detach().numpy(), rtol=1e-3, atol=1e-5)
    assert_same_buffers(ours[1], theirs[1])
    x = images(600, (1, 8, 8), seed=9)
    scores = evaluate(ours, loss, [(x, np.arange(600) % 10)]).scores
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(x)).numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)


def test_evaluation_by_a_batchs_own_statistics_takes_it_in_one_piece():
    layers = [Conv2d(1, 3, 3), BatchNorm2d(3, track_running_stats=False), ReLU(), MaxPool(2)]
    ours = Sequential([*layers, Flatten(), Dense(27, 10)]).initialize("kaiming", rng=0)
    x = images(300, (1, 8, 8), seed=9)
    scores = evaluate(ours, SoftmaxCrossEntropy(), [(x, np.arange(300) % 10)]).scores
    np.testing.assert_array_equal(scores, ours.forward(x))


def test_evaluation_changes_no_statistics():
    layer = BatchNorm2d(3)
    kept = copy.deepcopy(layer.buffers())
    layer.forward(images(4, (3, 4, 4)))
    for name, buffer in layer.buffers().items():
        np.testing.assert_array_equal(buffer, kept[name])


def test_copies_conversions_and_initialize_carry_the_statistics():
    layer = BatchNorm2d(3)
    layer.forward(images(4, (3, 4, 4), mean=2), training=True)
    kept = {name: buffer.copy() for name, buffer in layer.buffers().items()}
    twin = copy.deepcopy(layer).astype(np.float64)
    assert [b.dtype for b in twin.buffers().values()] == [np.float64, np.float64, np.int64]
    for name, buffer in twin.buffers().items():
        np.testing.assert_array_equal(buffer, kept[name])
    twin.forward(images(4, (3, 4, 4), dtype=np.float64), training=True)
    for name, buffer in layer.buffers().items():
        np.testing.assert_array_equal(buffer, kept[name])
    layer.weight.value[...] = 7
    layer.initialize("kaiming", rng=0)
    for name, buffer in BatchNorm2d(3).buffers().items():
        np.testing.assert_array_equal(layer.buffers()[name], buffer)
    np.testing.assert_array_equal(layer.weight.value, 1)


def test_in_settings_its_channels_follow_from_the_layer_before():
    settings = load_settings(CONFIG, ["network.layers.1=BatchNorm2d"])
    built = build_network(settings)
    assert repr(built[1]) == "BatchNorm2d(6)"
    assert to_config(build_network(settings))[1]["BatchNorm2d"] == {
        "num_features": 6,
        "eps": 1e-5,
        "momentum": 0.1,
        "affine": True,
        "track_running_stats": True,
    }
    assert " BatchNorm2d(6) " in summary(built, (1, 28, 28))
    assert len(built.gradients) == sum(p.value.size for p in built.parameters())
