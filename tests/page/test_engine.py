"""The page's engine against Python's: values, dx and dweight of every layer, losses, filters, digits."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Open, few_images, floats, made_up, text_of, write_page
from layer_cases import CASES

from minicnn import (
    ELU,
    GELU,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalMeanPool,
    HalfSquaredError,
    LeakyReLU,
    LocallyConnected2d,
    LogSoftmax,
    MaximumAPosteriori,
    MaxPool,
    MeanPool,
    MeanSquaredError,
    Model,
    RadialBasis,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Softmax,
    SoftmaxCrossEntropy,
    Subsample,
    Tanh,
    lenet5,
    lenet5_1998,
)
from minicnn.inspect.frequency import dilated, frequency_response
from minicnn.layers.activation import Activation
from minicnn.layers.layer import Layer
from minicnn.layers.registry import LAYERS
from minicnn.layers.walk import outputs

RUN = """([x, dy, n, training]) => {
    const { floats, base64 } = modules["engine/data.js"];
    const network = minicnn.network;
    network.forward(floats(x), n, training);
    network.backward(floats(dy), n);
    const text = (array) => (array ? base64(array) : null);
    const layers = [...modules["engine/rows.js"].everyLayer(network.layers)];
    return layers.map(({ name, place, y, dx, dweight, dbias, running_mean, running_var }) => ({
        name, place, y: text(y), dx: text(dx), weight: text(dweight), bias: text(dbias),
        running_mean: text(running_mean), running_var: text(running_var),
    }));
}"""


def odd_network() -> Sequential:
    """Every layer that the two LeNets lack, with options of all kinds, for (3, 17, 14)."""
    return Sequential(
        [
            Conv2d(3, 8, 3, stride=(2, 1), padding=1),  # (8, 9, 14)
            LeakyReLU(0.1),
            BatchNorm2d(8),
            Conv2d(8, 12, (3, 2), padding=(2, 1), dilation=2, groups=4),  # (12, 9, 14)
            Sigmoid(),
            BatchNorm2d(12, momentum=None, affine=False),
            Sequential([MeanPool(3, stride=2, padding=1, ceil_mode=True), Sequential([Tanh()])]),  # (12, 5, 8)
            LocallyConnected2d(12, 5, (5, 8), (2, 3), stride=(1, 2), padding=1, dilation=(2, 1)),  # (5, 5, 4)
            ReLU(),
            Residual([Conv2d(5, 5, 3, padding=1), Residual([Tanh()], [Softmax()])]),
            Residual([Conv2d(5, 5, 3, 1, 1)], [Sequential([Conv2d(5, 5, 1, bias=False), Dropout(0.0)])]),
            MaxPool(3, stride=2, padding=1, ceil_mode=True),  # (5, 3, 3)
            MeanPool(2, stride=1, padding=1, count_include_pad=False),  # (5, 4, 4)
            Softmax(),
            Subsample(5, (2, 3), stride=1),  # (5, 3, 2)
            LocallyConnected2d(5, 4, (3, 2), 2, bias=False),  # (4, 2, 1)
            Dropout(0.0),
            Flatten(),
            Dense(8, 7, bias=False),
            RadialBasis(7, np.random.default_rng(1).normal(size=(6, 7)).tolist()),
        ]
    )


def network_of_features() -> Sequential:
    """More layers, for (2, 7, 6)."""
    return Sequential(
        [
            *(Conv2d(2, 8, (3, 2), padding=(2, 0, 0, 1)), ELU(0.7), Dropout2d(0.0), GlobalMeanPool()),
            *(Dense(8, 7, bias=False), BatchNorm1d(7), GELU("tanh"), Dense(7, 6), LogSoftmax()),
        ]
    )


NETWORKS = {
    "LeNet-5": lambda: Model(lenet5(), (1, 28, 28), 0.13, 0.31),
    "LeNet-5 of 1998": lambda: Model(lenet5_1998(), (1, 28, 28), 0.1, 0.3, loss="maximum-a-posteriori", padding=2),
    "odd": lambda: Model(odd_network(), (3, 17, 14), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
    "features": lambda: Model(network_of_features(), (2, 7, 6), 0.4, 0.3),
}


def page_of(name: str, folder: Path) -> tuple[Model, Path]:
    model = NETWORKS[name]()
    model.network.initialize(rng=5)
    rng = np.random.default_rng(0)
    for _ in range(2):  # for running statistics of its own
        model.network.forward(rng.normal(size=(9, *model.network_shape)).astype(np.float32), training=True)
    data = few_images() if model.input_shape == (1, 28, 28) else made_up(model.input_shape, 6)
    return model, write_page(folder / "page.html", model, data)


def agree(found: str | None, expected: np.ndarray, what: str) -> None:
    assert found is not None, what
    most = float(np.abs(expected).max())
    np.testing.assert_allclose(floats(found), expected.ravel(), rtol=0, atol=1e-5 * most, err_msg=what)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_gradients_of_all_layers(name: str, training: bool, opened: Open, tmp_path: Path) -> None:
    model, path = page_of(name, tmp_path)
    found = opened(path)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(5, *model.network_shape)).astype(np.float32)
    dy = rng.normal(size=(5, *model.output_shape)).astype(np.float32)
    layers = found.js(RUN, [text_of(x), text_of(dy), 5, training])
    expected = [(place, layer) for place, layer in model.network.places() if type(layer) is not Sequential]
    assert [(layer["place"], layer["name"]) for layer in layers] == [
        (at, type(layer).__name__) for at, layer in expected
    ]
    values = {place: y for place, _, y in outputs(model.network, x, training)}
    gradients: dict[str, np.ndarray] = {}
    backward(model.network, dy, "", gradients)
    for (place, layer), seen in zip(expected, layers, strict=True):
        agree(seen["y"], values[place], f"y of {place} {layer!r}")
        agree(seen["dx"], gradients[place], f"dx of {place} {layer!r}")
        for parameter in layer.parameters() if layer.paths() is None else ():
            agree(seen[parameter.name], parameter.grad, f"d{parameter.name} of {place} {layer!r}")
        for key in ("running_mean", "running_var") if layer.buffers().keys() >= {"running_mean"} else ():
            agree(seen[key], layer.buffers()[key], f"{key} of {place}")


def backward(layer: Layer, dy: np.ndarray, before: str, found: dict[str, np.ndarray]) -> np.ndarray:
    """dx of a layer after a forward pass; `found` gets that of all layers within it, by their places."""
    paths, parts = layer.paths(), []
    if paths is None:
        return layer.backward(dy)
    for path in paths:
        dx = dy
        for name in reversed(path):
            place = before + name
            dx = found[place] = backward(layer.children()[name], dx, f"{place}.", found)
        parts.append(dx)
    return np.sum(parts, axis=0)


def test_the_page_knows_all_layers(opened: Open, tmp_path: Path) -> None:
    _, path = page_of("odd", tmp_path)
    known = opened(path).js('Object.keys(modules["engine/layers.js"].LAYERS)')
    assert set(known) == {kind.__name__ for kind in LAYERS.values()}


LOSSES: list[tuple[Any, dict[str, Any]]] = [
    (SoftmaxCrossEntropy(), {"name": "softmax-cross-entropy"}),
    (SoftmaxCrossEntropy(0.2), {"name": "softmax-cross-entropy", "label_smoothing": 0.2}),
    (MaximumAPosteriori(7.0), {"name": "maximum-a-posteriori", "j": 7.0}),
    (MaximumAPosteriori(), {"name": "maximum-a-posteriori"}),
    (MeanSquaredError(), {"name": "mean-squared-error"}),
    (HalfSquaredError(), {"name": "half-squared-error"}),
]


def test_losses_filters_images_and_steps(opened: Open, tmp_path: Path) -> None:
    model, path = page_of("LeNet-5", tmp_path)
    found = opened(path)
    rng = np.random.default_rng(2)
    y, labels = rng.normal(0, 4, (7, 10)).astype(np.float32), rng.integers(0, 10, 7)
    for loss, told in LOSSES:
        value, dy = found.js(
            """([loss, y, labels]) => {
                const { floats, base64 } = modules["engine/data.js"];
                const dy = new Float32Array(70);
                return [modules["engine/losses.js"].lossOf(loss, floats(y), labels, 7, 10, dy), base64(dy)];
            }""",
            [told, text_of(y), labels.tolist()],
        )
        assert value == pytest.approx(loss.forward(y, labels), rel=1e-6), repr(loss)
        agree(dy, loss.backward(), repr(loss))

    x = np.linspace(-7, 7, 57, dtype=np.float32)[None]  # with 0, which random numbers never are
    for case in CASES:
        layer = case.make()
        if isinstance(layer, Activation):
            y = layer.forward(x)
            seen = found.js(
                """([name, options, x, y]) => {
                    const { value, slope } = modules["engine/layers.js"].LAYERS[name];
                    return [x.map((v) => value(v, options)), x.map((v, i) => slope(v, y[i], options))];
                }""",
                [type(layer).__name__, layer.options(), x[0].tolist(), y[0].tolist()],
            )
            np.testing.assert_allclose(seen, [y[0], layer.backward(np.ones_like(y))[0]], 0, 1e-6, err_msg=case.name)

    kernels = rng.normal(size=(3, 4, 3))
    response = found.js(
        "([k]) => [...modules['engine/frequency.js'].response(k, [4, 3], [2, 1], 33)]",
        [kernels.reshape(3, -1).tolist()],
    )
    expected = np.sqrt(np.square(frequency_response(dilated(kernels, (2, 1)), 33)).sum(axis=0))
    np.testing.assert_allclose(response, expected.ravel(), atol=1e-9)

    halves = np.array([0, 1, -2.5, 65504, 6e-8, 1e-5, -0.1], np.float16)
    seen = found.js("([t]) => [...modules['engine/data.js'].halves(t)]", [base64.b64encode(halves.tobytes()).decode()])
    np.testing.assert_array_equal(np.array(seen, np.float32), halves.astype(np.float32))

    # The image on show, the scores and the gradient are those of Python.
    pixels = np.array(found.js("[...minicnn.pixels]"), np.uint8).reshape(1, 28, 28)
    agree(found.js("modules['engine/data.js'].base64(minicnn.x)"), model.transform(pixels), "the normalised image")
    scores = model.scores(pixels)
    agree(found.js("modules['engine/data.js'].base64(minicnn.scores)"), scores, "scores")
    shares = found.js("[...minicnn.probabilities]")
    np.testing.assert_allclose(shares, model.probabilities(scores)[0], atol=1e-6)
