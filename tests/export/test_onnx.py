"""ONNX files: valid, and equal to minicnn in ONNX Runtime, for every layer and any batch size."""

import builtins
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from layer_cases import each_case
from onnx.reference import ReferenceEvaluator

import minicnn.layers
from minicnn import (
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MeanPool,
    Model,
    ReLU,
    ScaledTanh,
    Sequential,
    ShapeError,
    Softmax,
    Tanh,
    lenet5,
)
from minicnn.errors import MinicnnError
from minicnn.export.onnx import export_onnx
from minicnn.layers.parameter import Parameter


def runtime(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def assert_equal_in_onnx_runtime(network, shape, path, tolerance=1e-5, seed=0):
    """Batches of 1 and 3, of values in which maxima are often negative, through both."""
    export_onnx(network, path, shape)
    onnx.checker.check_model(path, full_check=True)
    session = runtime(path)
    [entry], [result] = session.get_inputs(), session.get_outputs()
    assert (entry.name, result.name) == ("x", "scores")
    assert entry.shape == ["N", *shape]
    assert result.shape == ["N", *network.output_shape(shape)]
    rng = np.random.default_rng(seed)
    for samples in (1, 3):
        x = (rng.standard_normal((samples, *shape)) - 0.5).astype(network.dtype or np.float32)
        expected = network.forward(x)
        [y] = session.run(None, {"x": x})
        assert y.dtype == expected.dtype
        np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)


IMAGE = (2, 7, 6)


@each_case
def test_a_layer_equals_itself_in_onnx_runtime(case, tmp_path):
    assert_equal_in_onnx_runtime(case.twins()[0], case.shape, tmp_path / "layer.onnx")


POOLS = {"MaxPool": [{}], "MeanPool": [{"count_include_pad": True}, {"count_include_pad": False}]}
WINDOWS = [
    ((2, 2), None, (0, 0)),
    ((2, 2), (1, 2), (1, 0)),
    ((3, 2), (2, 2), (1, 1)),
    ((3, 2), (3, 3), (0, 1)),
    ((2, 2), (3, 3), (1, 1)),  # with ceil_mode, windows that would begin in the right padding
    ((3, 2), (1, 5), (1, 1)),
]


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("size", "stride", "padding"), WINDOWS)
@pytest.mark.parametrize("name", POOLS)
def test_a_pool_equals_itself_in_onnx_runtime(name, size, stride, padding, ceil_mode, tmp_path):
    for options in POOLS[name]:
        pool = getattr(minicnn.layers, name)(size, stride, padding, ceil_mode, **options)
        for shape in [(2, rows, columns) for rows in (5, 6, 7) for columns in (6, 7, 8)]:
            assert_equal_in_onnx_runtime(pool, shape, tmp_path / "pool.onnx")


@pytest.mark.parametrize("network", [Sequential([]), Sequential([Sequential([Flatten(), Dense(84, 7)]), Dropout()])])
def test_networks_in_networks_and_empty_ones(network, tmp_path):
    assert_equal_in_onnx_runtime(network, IMAGE, tmp_path / "network.onnx")


@pytest.mark.parametrize("options", [("relu", "max"), ("tanh", "mean")])
def test_lenet_equals_itself_in_onnx_runtime(options, tmp_path):
    network = lenet5(*options).initialize(rng=0)
    assert_equal_in_onnx_runtime(network, (1, 28, 28), tmp_path / "lenet.onnx")


def test_a_network_in_float64_is_exported_in_float64(tmp_path):
    path = tmp_path / "double.onnx"
    dense = Sequential([Dense(7, 5), ReLU(), Dense(5, 3), Softmax()]).astype(np.float64)
    assert_equal_in_onnx_runtime(dense, (7,), path, tolerance=1e-12)

    # ONNX Runtime has no convolution in float64; ONNX's reference has.
    image = Sequential([Conv2d(1, 6, 5, padding=2), ScaledTanh(), MeanPool(2)]).astype(np.float64)
    export_onnx(image, path, (1, 9, 8))
    x = np.random.default_rng(0).standard_normal((3, 1, 9, 8))
    [y] = ReferenceEvaluator(str(path)).run(None, {"x": x})
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, image.forward(x), rtol=1e-12, atol=1e-12)


def a_model(classes=tuple("abcde"), mean=(0.3, 0.5), std=(0.2, 0.25)):
    network = Sequential([Conv2d(2, 3, 3), ReLU(), Flatten(), Dense(60, 5)]).initialize(rng=1)
    return Model(network, IMAGE, mean, std, classes, "toys")


@pytest.mark.parametrize(("mean", "std"), [((0.3, 0.5), (0.2, 0.25)), (0.3, 0.2), ([0.3], 0.2), (0, 1)])
def test_a_model_takes_pixels_from_0_to_1(mean, std, tmp_path):
    model = a_model(mean=mean, std=std)
    export_onnx(model, tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, *IMAGE), np.uint8)
    pixels = (images / 255).astype(np.float32)
    [scores] = runtime(tmp_path / "model.onnx").run(["scores"], {"pixels": pixels})
    np.testing.assert_allclose(scores, model.scores(images), rtol=1e-5, atol=1e-5)


def test_the_file_says_what_it_takes_and_gives(tmp_path):
    export_onnx(a_model(), tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    assert (
        proto.doc_string
        == proto.graph.doc_string
        == (
            "pixels: (N, 2, 7, 6), from 0 to 1 (bytes divided by 255), normalised by the graph's first "
            "operators. scores: (N, 5), the output of the network."
        )
    )
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(properties["classes"]) == list("abcde")
    assert json.loads(properties["mean"]) == [0.3, 0.5]
    assert (properties["data_set"], properties["loss"]) == ("toys", "softmax-cross-entropy")
    assert {array.name for array in proto.graph.initializer} >= {"0.weight", "0.bias", "3.weight"}


def test_the_network_of_a_model_is_left_as_it_was(tmp_path):
    model = a_model()
    before = [parameter.value for parameter in model.network.parameters()]
    export_onnx(model, tmp_path / "one.onnx")
    export_onnx(model, tmp_path / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    after = [parameter.value for parameter in model.network.parameters()]
    assert all(a is b for a, b in zip(before, after, strict=True))


class Shift(Layer):
    """y = x + amount, a layer of a user's own."""

    def __init__(self):
        self.amount = Parameter("amount", np.full(1, 0.5, np.float32))

    def parameters(self):
        return [self.amount]

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False):
        return x + self.amount.value

    def backward(self, dy):
        self.amount.grad[...] = dy.sum()
        return dy


def test_a_users_own_layer_needs_to_onnx(tmp_path):
    network = Sequential([Flatten(), Sequential([Shift()])])
    path = tmp_path / "own.onnx"
    with pytest.raises(MinicnnError, match=r"layer 1.0 Shift\(\): .*give Shift a method to_onnx"):
        export_onnx(network, path, IMAGE)
    assert not path.exists()


class OnnxShift(Shift):
    def to_onnx(self, graph, x, shape):
        return graph.node("Add", x, graph.constant("amount", self.amount.value))


def test_a_users_own_layer_adds_itself(tmp_path):
    assert_equal_in_onnx_runtime(Sequential([Flatten(), Sequential([OnnxShift()])]), IMAGE, tmp_path / "own.onnx")


def test_a_layer_with_maths_of_its_own_does_not_inherit_the_mapping_of_another(tmp_path):
    class Half(OnnxShift):
        def forward(self, x, training=False):
            return super().forward(x, training) / 2

        def backward(self, dy):
            return super().backward(dy / 2)

    with pytest.raises(MinicnnError, match="give Half a method to_onnx"):
        export_onnx(Half(), tmp_path / "own.onnx", (5,))


class Twice(Sequential):
    def forward(self, x, training=False):
        return super().forward(super().forward(x, training), training)


def test_a_network_of_ones_own_is_only_known_if_it_works_like_any_other(tmp_path):
    with pytest.raises(MinicnnError, match="no ONNX mapping"):
        export_onnx(Twice([Tanh()]), tmp_path / "own.onnx", (5,))
    own = type("Block", (Sequential,), {})([Tanh()])
    assert_equal_in_onnx_runtime(own, (5,), tmp_path / "own.onnx")


def test_without_the_package_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_onnx(name, *rest):
        if name == "onnx":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(MinicnnError, match="pip install onnx"):
        export_onnx(a_model(), tmp_path / "model.onnx")


def test_wrong_arguments_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(MinicnnError, match="input_shape: expected the shape of one sample"):
        export_onnx(a_model().network, path)
    with pytest.raises(MinicnnError, match="input_shape: expected none beside a Model"):
        export_onnx(a_model(), path, IMAGE)
    with pytest.raises(ShapeError, match=r"layer 0 Conv2d.*\(2, H, W\)"):
        export_onnx(a_model().network, path, (1, 7, 6))
    with pytest.raises(MinicnnError, match=r"nowhere.*cannot be written"):
        export_onnx(a_model(), tmp_path / "nowhere" / "model.onnx")
    assert list(tmp_path.iterdir()) == []
