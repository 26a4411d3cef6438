"""A trained model: images in, classes and probabilities out; and as a file, with what is wrong with files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save as save_bytes

import minicnn.model
from minicnn import (
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool,
    MeanPool,
    Model,
    Parameter,
    ReLU,
    ScaledTanh,
    Sequential,
    ShapeError,
    Sigmoid,
    Softmax,
    SoftmaxCrossEntropy,
    Tanh,
    evaluate,
    load,
)
from minicnn.cli import main
from minicnn.data import Batches
from minicnn.errors import MinicnnError
from minicnn.training.checkpoint import Checkpoint

SHAPE = (1, 9, 8)
CLASSES = tuple("abcde")


def grey_model(**options):
    layers = [Conv2d(1, 6, 5, padding=2), Tanh(), MaxPool(2), Flatten(), Dense(96, 5)]
    network = Sequential(layers).initialize(rng=1)
    return Model(network, SHAPE, 0.13, (0.3,), CLASSES, "toys", **options)


def colour_model():
    network = Sequential([Conv2d(2, 3, 3), ReLU(), Flatten(), Dense(60, 5)]).initialize(rng=1)
    return Model(network, (2, 7, 6), (0.3, 0.5), (0.2, 0.25))


def bytes_of(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# Images in, scores out.


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
    assert max(sizes) <= minicnn.model.BATCH
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
    "text": ("digit.png", "received <U9"),
    "nothing": (None, "received object"),
    "ragged": ([np.zeros((9, 8)), np.zeros((8, 8))], "one array"),
    "too bright": (np.full(SHAPE, 255.0), "floats from 0 to 1 or uint8.*float64 from 255 to 255"),
    "negative": (np.full(SHAPE, -0.5, np.float32), "float32 from -0.5"),
    "NaN": (np.full(SHAPE, np.nan), "from nan to nan"),
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
    "no shape": ({"input_shape": 28}, "input_shape: expected a list of ints, received 28"),
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


# Files.


def every_layer():
    """All layer types, in a nested network."""
    return Sequential(
        [
            Sequential([Conv2d(1, 6, 5, padding=2, bias=False), BatchNorm2d(6, eps=0.01), ReLU()]),
            MaxPool((3, 2), 2, 1, ceil_mode=True),
            Sequential([Sequential([LeakyReLU(0.2), MeanPool(2, count_include_pad=False)])]),
            Sequential([Sigmoid(), Dropout(0.25), Flatten()]),
            Dense(24, 7),
            ScaledTanh(),
            Dense(7, 5, bias=False),
            Tanh(),
            Softmax(),
        ]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back_from_its_file(dtype, tmp_path):
    network = every_layer().initialize(rng=3).astype(dtype)
    network[0][1].running_mean[...] = np.linspace(-1, 1, 6)
    network[0][1].num_batches_tracked[...] = 12
    model = Model(network, SHAPE, 0.13, [0.3], list(CLASSES), "toys")
    model.save(tmp_path / "model.safetensors")
    images = bytes_of((5, *SHAPE))
    for path in (tmp_path, str(tmp_path), tmp_path / "model.safetensors"):
        again = load(path)
        assert repr(again) == repr(model)
        assert (again.mean, again.std, again.classes) == (0.13, (0.3,), CLASSES)
        assert (again.data_set, again.loss, again.output_shape) == (*("toys", "softmax-cross-entropy"), (5,))
        for (name, ours), (other, value) in zip(
            network.state_dict().items(), again.network.state_dict().items(), strict=True
        ):
            assert (name, ours.dtype) == (other, value.dtype)
            np.testing.assert_array_equal(ours, value)
        np.testing.assert_array_equal(again.scores(images), model.scores(images))
    assert again.to_bytes() == model.to_bytes()


def test_a_single_layer_is_a_network_of_one(tmp_path):
    model = Model(Dense(7, 5), (7,))
    model.save(tmp_path / "dense.safetensors")
    x = np.random.default_rng(0).random((3, 7), np.float32)
    np.testing.assert_array_equal(load(tmp_path / "dense.safetensors").scores(x), model.scores(x))


def metadata_of(content):
    """Without its checksum, which is for files that nobody has changed."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = json.loads(header["__metadata__"]["minicnn"])
    metadata.pop("checksum", None)
    return metadata


def changed(content, **changes):
    """A model file with other metadata; None removes a key."""
    metadata = metadata_of(content) | changes
    metadata = {key: value for key, value in metadata.items() if value is not None}
    return save_bytes(load_bytes(content), {"minicnn": json.dumps(metadata)})


def test_files_of_the_first_version_are_read(tmp_path):
    """They had options as the settings wrote them, no loss and no padding."""
    model = grey_model()
    layers = [
        {
            "Conv2d": {
                **{"in_channels": 1, "out_channels": 6, "kernel_size": 5, "stride": 1},
                **{"padding": 2, "dilation": 1, "groups": 1, "bias": True},
            }
        },
        {"Tanh": {}},
        {"MaxPool": {"kernel_size": 2, "stride": None, "padding": 0, "ceil_mode": False}},
        {"Flatten": {}},
        {"Dense": {"in_features": 96, "out_features": 5, "bias": True}},
    ]
    content = changed(model.to_bytes(), layers=layers, loss=None, padding=None)
    assert list(metadata_of(content)) == [*("format", "layers", "input_shape", "mean", "std", "classes", "data_set")]
    (tmp_path / "model.safetensors").write_bytes(content)
    images = bytes_of((3, *SHAPE))
    again = load(tmp_path)
    np.testing.assert_array_equal(again.scores(images), model.scores(images))
    assert again.loss == "softmax-cross-entropy"


def flipped(content, place):
    """One bit is another."""
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


CONTENTS = {
    "a bit of the weights": (lambda c: flipped(c, len(c) - 300), "damaged one: wrong checksum"),
    "a digit": (lambda c: c.replace(b"0.13,", b"0.14,"), "damaged one: wrong checksum"),
    "a name": (lambda c: c.replace(b"toys", b"tops"), "damaged one: wrong checksum"),
    "checkpoint": (
        lambda c: Checkpoint({"x": np.ones(3)}, {"step": 3}).to_bytes(),
        "expected a model, received a checkpoint; model.safetensors",
    ),
    "empty": (lambda c: b"", "damaged or foreign"),
    "truncated header": (lambda c: c[:100], "damaged or foreign"),
    "truncated": (lambda c: c[:-1], "damaged or foreign"),
    "too long": (lambda c: c + b"x", "damaged or foreign"),
    "garbage": (lambda c: bytes(range(256)) * 20, "damaged or foreign"),
    "a picture": (lambda c: b"\x89PNG\r\n\x1a\n" + bytes(500), "damaged or foreign"),
    "foreign": (lambda c: save_bytes(load_bytes(c)), "weights without its network.*load_state"),
    "other metadata": (lambda c: save_bytes(load_bytes(c), {"format": "pt"}), "without its net"),
    "no JSON": (lambda c: save_bytes(load_bytes(c), {"minicnn": "{"}), "damaged, its desc"),
    "a list": (lambda c: save_bytes(load_bytes(c), {"minicnn": "[]"}), "damaged, its desc"),
    "too deep": (lambda c: save_bytes(load_bytes(c), {"minicnn": "[" * 50_000}), "damaged, its desc"),
    "newer": (
        lambda c: changed(c, format=2),
        "expected format 1 at most, received 2, of a newer minicnn; upgrade minicnn",
    ),
    "no format": (lambda c: changed(c, format=None), "damaged, .*KeyError: 'format'"),
    "text as format": (lambda c: changed(c, format="1"), "damaged, "),
    "no layers": (lambda c: changed(c, layers=None), "damaged, .*layers: expected a value, it is missing"),
    "no list": (lambda c: changed(c, layers=7), "damaged, "),
    "true as padding": (lambda c: changed(c, padding=True), "padding: expected an integer, received"),
    "a word as mean": (lambda c: changed(c, mean="0"), "mean: expected a number or a list, received"),
    "numbers as classes": (lambda c: changed(c, classes=[1, 2]), "classes.0: expected text, received"),
    "a huge layer": (
        lambda c: changed(c, layers=[{"Dense": {"in_features": 30_000, "out_features": 30_000}}]),
        "layer 0 Dense: expected at most about .* weights, .* received options for 900,000,000",
    ),
    "a huge kernel": (
        lambda c: changed(c, layers=[{"Sequential": {"layers": [{"MaxPool": {"kernel_size": 30_000}}]}}]),
        "layer 1 MaxPool: expected at most about",
    ),
    "a huge normalisation": (
        lambda c: changed(c, layers=[{"BatchNorm2d": {"num_features": 10**9}}]),
        "layer 0 BatchNorm2d: expected at most about",
    ),
    "many layers": (lambda c: changed(c, layers=[{"Tanh": {}}] * 100_000), "layers: expected at most 10,000"),
    "no shape": (lambda c: changed(c, input_shape=None), "damaged, .*input_shape: expected a value, it is missing"),
    "no layer": (lambda c: changed(c, layers=[{"Tanh": {}}, 7]), "layers.1: expected a group of keys"),
    "wrong option": (
        lambda c: changed(c, layers=[{"Dense": {"size": 3}}]),
        r"layer 0 Dense: cannot be built with \{'size': 3\}: TypeError",
    ),
    "impossible option": (
        lambda c: changed(c, layers=[{"Dense": {"in_features": 0, "out_features": 5}}]),
        "layer 0 Dense: in_features: expected an int >= 1",
    ),
    "in a nested network": (
        lambda c: changed(c, layers=[{"Sequential": {"layers": [{"Tanh": {}}, {"Dence": {}}]}}]),
        "layer 0, layer 1: Dence is no layer",
    ),
    "other network": (
        lambda c: changed(c, layers=[{"Dense": {"in_features": 7, "out_features": 5}}]),
        "the state does not fit: unexpected 4.bias, 4.weight; 0.weight: expected shape",
    ),
    "missing weights": (
        lambda c: save_bytes(
            {k: v for k, v in load_bytes(c).items() if k != "4.bias"}, {"minicnn": json.dumps(metadata_of(c))}
        ),
        r"missing 4\.bias",
    ),
    "complex weights": (
        lambda c: save_bytes(
            load_bytes(c) | {"4.bias": np.ones(5, np.complex64)}, {"minicnn": json.dumps(metadata_of(c))}
        ),
        "4.bias: expected numbers",
    ),
    "shape that does not fit": (lambda c: changed(c, input_shape=[1, 28, 28]), "layer 4 Dense"),
    "classes that do not fit": (lambda c: changed(c, classes=["a"]), "classes: expected"),
    "std 0": (lambda c: changed(c, std=0), "std: expected numbers > 0"),
    "text as mean": (lambda c: changed(c, mean="x"), "mean: expected"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_that_is_no_model_is_refused_by_name(name, tmp_path):
    change, message = CONTENTS[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(change(grey_model().to_bytes()))
    with pytest.raises(MinicnnError, match=rf"^{path}: .*{message}"):
        load(tmp_path)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path, content = tmp_path / "cut.safetensors", grey_model().to_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(MinicnnError, match="damaged or foreign"):
            load(path)


def test_files_and_folders_that_are_not_there_are_named(tmp_path):
    with pytest.raises(MinicnnError, match=r"none\.safetensors: expected a model file or a run's"):
        load(tmp_path / "none.safetensors")
    with pytest.raises(MinicnnError, match=rf"{tmp_path}: expected a run's folder, with model"):
        load(tmp_path)
    with pytest.raises(MinicnnError, match="expected a model file"):
        load("x" * 5000)


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "none" / "model", tmp_path / "file" / "model", tmp_path):
        with pytest.raises(MinicnnError, match=f"{path}: cannot be written"):
            grey_model().save(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert not list(tmp_path.parent.glob(".*.tmp"))


# Layers of a user's own.


class Shift(Layer):
    """y = x + amount, with an amount for each feature, which starts at `start`."""

    def __init__(self, features, start=0.0):
        self.features, self.start = features, start
        self.amount = Parameter("amount", np.full(features, start, np.float32))

    def parameters(self):
        return [self.amount]

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False):
        return x + self.amount.value

    def backward(self, dy):
        self.amount.grad[...] = dy.sum(axis=0)
        return dy


class Forgetful(Shift):
    def __init__(self, count):
        super().__init__(count)


def test_a_layer_of_ones_own_is_loaded_with_its_class(tmp_path):
    path = tmp_path / "own.safetensors"
    network = Sequential([Dense(7, 5), Sequential([Shift(5, np.float32(0.5))])])
    network[1][0].amount.value[...] = np.arange(5)
    Model(network, (7,)).save(path)
    x = np.random.default_rng(0).random((3, 7), np.float32)
    again = load(path, layers={"Shift": Shift})
    assert again.network[1][0].start == 0.5
    np.testing.assert_array_equal(again.scores(x), network.forward(x))
    with pytest.raises(MinicnnError, match=r'layer 1, layer 0: Shift is no.*pass its class: layers=\{"Shift": Shift'):
        load(path)


class Block(Sequential):
    """A network that a user writes as a class."""

    def __init__(self, width, classes=5):
        self.width, self.classes = width, classes
        super().__init__([Dense(7, width), Tanh(), Dense(width, classes)])


@pytest.mark.parametrize("network", [Block(6), Sequential([Block(6, classes=4), Softmax()])])
def test_a_network_that_is_a_class_is_loaded_with_its_class(network, tmp_path):
    model = Model(network, (7,))
    model.save(tmp_path / "own.safetensors")
    x = np.random.default_rng(0).random((3, 7), np.float32)
    again = load(tmp_path / "own.safetensors", layers={"Block": Block})
    assert isinstance(again.network[0], Block)
    np.testing.assert_array_equal(again.scores(x), model.scores(x))


def test_a_name_of_minicnn_is_not_free_for_a_layer_of_ones_own():
    other = type("Tanh", (Shift,), {})
    with pytest.raises(MinicnnError, match=r"layer 1 Tanh: expected a name that no layer of mini"):
        Model(Sequential([Dense(7, 5), other(5)]), (7,)).to_bytes()


def broken(*arguments, **options):
    raise KeyError("anything")


@pytest.mark.parametrize("wrong", [lambda features, start: Parameter("x", np.ones(1)), broken])
def test_a_class_that_is_not_the_layers_is_refused(wrong, tmp_path):
    Model(Shift(5), (5,)).save(tmp_path / "own.safetensors")
    with pytest.raises(MinicnnError, match="layer 0"):
        load(tmp_path / "own.safetensors", layers={"Shift": wrong})


@pytest.mark.parametrize("layer", [Forgetful(5), Shift(5, np.ones(5, np.float32))])
def test_a_layer_that_cannot_be_described_is_not_saved(layer, tmp_path):
    with pytest.raises(MinicnnError, match=r"layer 1 (Shift|Forgetful): .*(start|count)"):
        Model(Sequential([Dense(7, 5), layer]), (7,)).save(tmp_path / "own.safetensors")
    assert list(tmp_path.iterdir()) == []


# The command line.


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    grey_model().save("run/model.safetensors")
    return tmp_path


@pytest.mark.parametrize("run", ["run", "run/model.safetensors"])
def test_export_writes_an_onnx_file(run, run_folder, capsys):
    import onnxruntime

    assert main(["export", run, "model.onnx"]) == 0
    assert capsys.readouterr().out == "model.onnx\n"
    images = bytes_of((3, *SHAPE))
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    [scores] = session.run(None, {"pixels": (images / 255).astype(np.float32)})
    np.testing.assert_allclose(scores, grey_model().scores(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none", "model.onnx"], 1, "none: expected a model file or a run's folder"),
        (["empty", "model.onnx"], 1, "empty: expected a run's folder, with model.safetensors"),
        (["bad.safetensors", "model.onnx"], 1, "bad.safetensors: expected a model file"),
        (["run", "none/model.onnx"], 1, "none/model.onnx: cannot be written"),
        (["run", "bad.safetensors/model.onnx"], 1, "model.onnx: cannot be written"),
        (["run", "run/model.safetensors"], 2, "expected FILE with the ending .onnx or .c, received run/"),
        (["run", "model.c", "--name", "my-net"], 2, "name: expected letters, digits and _, a letter first"),
        (["run", "model.onnx", "--name", "net"], 2, "--name: expected a FILE.c with it"),
        (["run", "model.onnx", "--int8"], 2, "--int8: expected a FILE.c with it"),
        (["run", "model.c", "--root", "data"], 2, "--root: expected --int8 with it"),
        (["run", "model.c", "--int8"], 1, "data set: expected one of mnist, "),
        (["run"], 2, "required: FILE; see minicnn export --help"),
    ],
)
def test_mistakes_with_export_are_one_line(arguments, code, message, run_folder, capsys):
    Path("empty").mkdir()
    Path("bad.safetensors").write_bytes(b"nothing")
    before = sorted(run_folder.rglob("*"))
    assert main(["export", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(run_folder.rglob("*")) == before


def test_export_without_onnx_names_the_command_that_installs_it(run_folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", "run", "model.onnx"]) == 1
    assert "error: ONNX export needs the package onnx: python -m pip" in capsys.readouterr().err


def test_heavy_packages_are_imported_only_when_needed():
    code = "import sys, minicnn; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "pydantic", "matplotlib", "safetensors", "onnx"}
    assert not heavy & set(done.stdout.split())
