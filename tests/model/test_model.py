"""A trained model: images in, classes and probabilities out; and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from small_models import SHAPE, bytes_of, colour_model, grey_model

from minicnn import (
    Conv2d,
    Dense,
    Dropout,
    Model,
    Sequential,
    ShapeError,
    Softmax,
    SoftmaxCrossEntropy,
    Tanh,
    evaluate,
    lenet5,
    load,
)
from minicnn.data import Batches
from minicnn.data.batches import EVALUATION_BATCH
from minicnn.errors import MinicnnError


def test_scores_are_those_of_the_network_for_normalised_pixels():
    model, images = colour_model(), bytes_of((4, 2, 7, 6))
    mean, std = np.reshape([0.3, 0.5], (2, 1, 1)), np.reshape([0.2, 0.25], (2, 1, 1))
    expected = model.network.forward(((images / 255 - mean) / std).astype(np.float32))
    scores = model.scores(images)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_scores_are_those_of_the_evaluation_of_a_run():
    model, images = grey_model(), bytes_of((70, *SHAPE))
    batches = Batches(images, np.zeros(70, int), 32, model.mean, model.std)
    expected = evaluate(model.network, SoftmaxCrossEntropy(), batches).scores
    np.testing.assert_allclose(model.scores(images), expected, rtol=1e-5, atol=1e-6)


def test_images_may_come_in_several_shapes():
    model, images = grey_model(), bytes_of((3, *SHAPE))
    expected = model.scores(images)
    np.testing.assert_array_equal(model.scores(images[:, 0]), expected)
    np.testing.assert_array_equal(model.scores(list(images)), expected)
    np.testing.assert_array_equal(model.scores(torch.tensor(images)), expected)
    np.testing.assert_array_equal(model.scores(np.asfortranarray(images)), expected)
    for one in (images[1:2], images[1], images[1, 0]):
        np.testing.assert_array_equal(model.scores(one), expected[1:2])
    colour, images = colour_model(), bytes_of((3, 2, 7, 6))
    np.testing.assert_array_equal(colour.scores(images[1]), colour.scores(images)[1:2])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pixels_may_be_floats_from_0_to_1(dtype):
    model, images = grey_model(), bytes_of((3, *SHAPE))
    tolerance = 0.01 if dtype is np.float16 else 1e-5
    floats = (images / 255).astype(dtype)
    for ours, expected in ((floats, images), (floats[:, 0], images), (floats[0], images[:1])):
        np.testing.assert_allclose(model.scores(ours), model.scores(expected), atol=tolerance)


def test_a_network_in_float64_computes_in_float64():
    model = grey_model()
    expected = model.scores(bytes_of((3, *SHAPE)))
    model.network.astype(np.float64)
    scores = model.scores(bytes_of((3, *SHAPE)))
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    images = bytes_of((3, *SHAPE))
    x = (images / 255 - 0.13) / 0.3
    np.testing.assert_allclose(scores, model.network.forward(x), rtol=1e-12, atol=1e-12)


def test_many_images_go_through_in_batches(monkeypatch):
    model, images = grey_model(), bytes_of((600, *SHAPE))
    sizes = []
    forward = model.network.forward
    monkeypatch.setattr(model.network, "forward", lambda x: sizes.append(len(x)) or forward(x))
    scores = model.scores(images)
    assert sum(sizes) == 600
    assert max(sizes) <= EVALUATION_BATCH
    np.testing.assert_allclose(scores[570:], model.scores(images[570:]), rtol=1e-5, atol=1e-6)


def test_predictions_are_the_places_of_the_highest_scores():
    model, images = grey_model(), bytes_of((20, *SHAPE))
    predictions = model.predict(images)
    assert predictions.dtype == np.int64
    np.testing.assert_array_equal(predictions, model.scores(images).argmax(axis=1))
    assert len(set(predictions)) > 1


def test_inputs_need_not_be_images():
    network = Sequential([Dense(7, 5)]).initialize(rng=0)
    model = Model(network, (7,))
    x = np.random.default_rng(0).random((3, 7), np.float32)
    np.testing.assert_array_equal(model.scores(x), network.forward(x))
    np.testing.assert_allclose(model.scores(x[0]), network.forward(x[:1]), rtol=1e-5, atol=1e-6)


def test_outputs_that_are_maps_have_scores_and_no_classes():
    model = Model(Conv2d(1, 6, 5, padding=2), SHAPE)
    assert model.scores(bytes_of((2, *SHAPE))).shape == (2, 6, 9, 8)
    with pytest.raises(ShapeError, match="one score a class"):
        model.predict(bytes_of((2, *SHAPE)))


# Probabilities.


def constant_model(scores, *more, **options):
    """Gives these scores for every input; then come `more` layers."""
    dense = Dense(2, len(scores))
    dense.weight.value[...], dense.bias.value[...] = 0, scores
    return Model(Sequential([dense, *more]), (2,), **options)


ANY = np.zeros((3, 2), np.float32)


def test_probabilities_of_logits_are_their_softmax():
    p = constant_model([1000, 999, 1001]).predict_proba(ANY)
    assert p.dtype == np.float32
    expected = np.exp([-1, -2, 0]) / np.exp([-1, -2, 0]).sum()
    np.testing.assert_allclose(p, [expected] * 3, rtol=1e-5)


@pytest.mark.parametrize("end", [[Softmax()], [Sequential([Softmax()])], [Softmax(), Dropout(), Sequential([])]])
def test_a_softmax_at_the_end_is_not_done_twice(end):
    model = constant_model([1, 2, 0], *end)
    np.testing.assert_allclose(model.predict_proba(ANY), model.scores(ANY))
    np.testing.assert_allclose(model.predict_proba(ANY).sum(axis=1), 1, rtol=1e-6)


def test_a_softmax_that_is_not_at_the_end_does_not_count():
    p = constant_model([1, 2, 0], Softmax(), Tanh()).predict_proba(ANY)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.3, -0.1], [0.75, 0.25, 0]),
        ([-0.2, 0, -1], [1 / 3] * 3),
        ([2, 0, 0], [1, 0, 0]),
        ([0.6, 0.3, 0.1], [0.6, 0.3, 0.1]),
    ],
)
@pytest.mark.parametrize("loss", ["mean-squared-error", "half-squared-error"])
def test_scores_of_squared_error_are_estimates_of_probabilities(scores, expected, loss, tmp_path):
    model = constant_model(scores, loss=loss)
    np.testing.assert_allclose(model.predict_proba(ANY), [expected] * 3, rtol=1e-5)
    model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict_proba(ANY), model.predict_proba(ANY))


# Input that is refused.

BAD_IMAGES = {
    "size": (np.zeros((3, 1, 8, 8), np.uint8), r"\(N, 1, 9, 8\) or \(N, 9, 8\).*\(3, 1, 8, 8\)"),
    "channels": (np.zeros((3, 3, 9, 8), np.uint8), r"received \(3, 3, 9, 8\)"),
    "axes": (np.zeros((1, 1, 1, 9, 8), np.uint8), "or one image without N"),
    "no axes": (np.uint8(3), r"received \(\)"),
    "a row": (np.zeros(72, np.uint8), r"received \(72,\)"),
    "no images": (np.zeros((0, 1, 9, 8), np.uint8), "at least one"),
    "integers": (np.zeros(SHAPE, np.int64), "uint8 from 0 to 255 or floats.*received int64"),
    "truth values": (np.zeros(SHAPE, bool), "received bool"),
    "bytes": (b"digit.png", r"received \|S9"),
    "nothing": (None, "received object"),
    "ragged": ([np.zeros((9, 8)), np.zeros((8, 8))], "one array"),
    "too bright": (np.full(SHAPE, 255.0), "floats from 0 to 1 or uint8.*float64 from 255 to 255"),
    "negative": (np.full(SHAPE, -0.5, np.float32), "float32 from -0.5"),
    "NaN": (np.full(SHAPE, np.nan), r"NaN at index \(0, 0, 0, 0\)"),
    "a late one": (np.concatenate([np.zeros((300, 9, 8)), np.full((1, 9, 8), 2.0)]), "to 2"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_images_that_do_not_fit_are_refused(name):
    images, message = BAD_IMAGES[name]
    for method in (grey_model().predict, grey_model().predict_proba):
        with pytest.raises(MinicnnError, match="images: expected .*" + message):
            method(images)


def test_weights_that_are_damaged_show_in_the_scores():
    model = grey_model()
    model.network.values[:] = np.inf
    with pytest.raises(MinicnnError, match="the network gives NaN"):
        model.predict(np.ones(SHAPE, np.float32))


BAD_MODELS = {
    "shape": ({"input_shape": (2, 9, 8)}, r"layer 0 Conv2d"),
    "a function": (
        {"network": lenet5},
        r"network: expected a Layer, received the function lenet5; call it: lenet5\(\)",
    ),
    "no shape": ({"input_shape": 28}, "input_shape: expected a list of ints or None, received 28"),
    "fractions": ({"input_shape": (1, 9.5, 8)}, r"input_shape: .*received \(1, 9.5, 8\)"),
    "mean": ({"mean": (0.1, 0.2)}, r"mean: .*each of 1 channels, received \(0.1, 0.2\)"),
    "mean of text": ({"mean": "grey"}, "mean: .*received 'grey'"),
    "NaN": ({"mean": np.nan}, "mean: .*received nan"),
    "std": ({"std": 0}, "std: expected numbers > 0, received 0"),
    "text": ({"classes": "abcde"}, "classes: expected a list of strings or None, .*'abcde'"),
    "data set": ({"data_set": 5}, "data_set: expected a string or None, received 5"),
    "classes": ({"classes": list("abc")}, r"classes: expected \(5,\), a name for each.*received 3"),
    "loss": ({"loss": "hinge"}, "loss: expected one of softmax-cross-entropy, .*received 'hinge'"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_what_does_not_fit_together_is_refused(name):
    changes, message = BAD_MODELS[name]
    arguments = {"network": grey_model().network, "input_shape": SHAPE} | changes
    with pytest.raises(MinicnnError, match=message):
        Model(**arguments)


def test_heavy_packages_are_imported_only_when_needed():
    code = "import sys, minicnn; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "pydantic", "matplotlib", "safetensors", "onnx"}
    assert not heavy & set(done.stdout.split())
