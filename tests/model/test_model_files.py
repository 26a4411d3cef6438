"""Models as files, also with layers of a user's own; and what is wrong with files."""

import json

import numpy as np
import pytest
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save as save_bytes
from small_models import CLASSES, SHAPE, bytes_of, grey_model

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
    Sigmoid,
    Softmax,
    Tanh,
    load,
)
from minicnn.errors import MinicnnError
from minicnn.training.checkpoint import Checkpoint


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
    """They had options as the settings wrote them, no loss, no padding and no background."""
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
    content = changed(model.to_bytes(), layers=layers, loss=None, padding=None, background=None)
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
    "no JSON": (lambda c: save_bytes(load_bytes(c), {"minicnn": "{"}), "damaged one, whose desc"),
    "a list": (lambda c: save_bytes(load_bytes(c), {"minicnn": "[]"}), "damaged, its desc"),
    "too deep": (lambda c: save_bytes(load_bytes(c), {"minicnn": "[" * 50_000}), "damaged one, whose desc"),
    "newer": (
        lambda c: changed(c, format=2),
        "expected format 1 at most, received 2, of a newer minicnn; upgrade minicnn",
    ),
    "no format": (lambda c: changed(c, format=None), "damaged, .*KeyError: 'format'"),
    "text as format": (lambda c: changed(c, format="1"), "damaged, "),
    "no layers": (lambda c: changed(c, layers=None), "damaged, .*layers: expected a value, it is missing"),
    "no list": (lambda c: changed(c, layers=7), "damaged, "),
    "true as padding": (lambda c: changed(c, padding=True), "padding: expected an integer, received"),
    "a wrong augmentation": (lambda c: changed(c, augmentation={"shift": -1, "later": 1}), "shift: expected a number"),
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


@pytest.mark.parametrize("name", ["net.onnx", "net.c"])
def test_an_export_is_called_so(name, tmp_path):
    (tmp_path / name).write_bytes(b"1")
    with pytest.raises(MinicnnError, match=r"received an export for other programs.* model.safetensors, or the run"):
        load(tmp_path / name)


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
