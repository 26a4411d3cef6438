"""The locally connected layer in networks, files and settings; test_layers and test_gradients have its maths."""

from pathlib import Path

import numpy as np
import pytest
from against_torch import our_results

from minicnn import Conv2d, Dense, Flatten, LocallyConnected2d, Model, ReLU, Sequential, load
from minicnn.config.build import build_network
from minicnn.config.settings import load_settings
from minicnn.engine import driver
from minicnn.errors import ConfigError
from minicnn.inspect.summary import summarize
from minicnn.kernels import LANES
from minicnn.layers.registry import to_config

CONFIGS = Path(__file__).parents[2] / "configs"
LOCAL = "{LocallyConnected2d: {out_channels: 3, kernel_size: 3, stride: 2, padding: 1}}"


def settings_with(layers):
    return load_settings(CONFIGS / "tiny.yaml", [f"network.layers=[{layers}]"])


def shared(conv, size):
    """A locally connected layer with the weights of `conv` at every position."""
    local = LocallyConnected2d(conv.in_channels, conv.out_channels, size, *conv.window)
    local.weight.value[...] = conv.weight.value
    local.bias.value[...] = conv.bias.value[:, None, None]
    return local


def test_with_equal_weights_everywhere_it_is_a_convolution(rng):
    """And the gradient of a shared weight is the sum of the gradients of all its copies."""
    conv = Conv2d(2, 3, 3)
    x = rng.standard_normal((LANES + 1, 2, 6, 6)).astype(np.float32)
    dy = rng.standard_normal((LANES + 1, 3, 4, 4)).astype(np.float32)
    y, dx, dweight, dbias = our_results(conv, x, dy)
    local = our_results(shared(conv, 6), x, dy)
    for ours, theirs in zip(local[:2], (y, dx), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(local[2].sum(axis=(0, 1)), dweight, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(local[3].sum(axis=(1, 2)), dbias, rtol=1e-4, atol=1e-4)


def test_an_output_depends_on_the_weights_of_its_position_alone(rng):
    layer = LocallyConnected2d(2, 3, (6, 6), 3)
    x = rng.standard_normal((1, 2, 6, 6)).astype(np.float32)
    before = layer.forward(x)
    layer.weight.value[1, 2, 0] += 1
    layer.bias.value[2, 3, 0] += 1
    changed = np.argwhere(layer.forward(x) != before).tolist()
    assert changed == [[0, 0, 1, 2], [0, 2, 3, 0]]


def test_results_do_not_depend_on_the_number_of_threads(rng):
    layer = LocallyConnected2d(2, 3, (6, 6), 3)
    x = rng.standard_normal((LANES + 1, 2, 6, 6)).astype(np.float32)
    dy = rng.standard_normal((LANES + 1, 3, 4, 4)).astype(np.float32)
    threads = driver.get_threads()
    try:
        results = []
        for number in (1, 2):
            driver.set_threads(number)
            results.append(our_results(layer, x, dy))
    finally:
        driver.set_threads(threads)
    for a, b in zip(results[0], results[-1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_two_positions_start_with_the_same_weights():
    weight = LocallyConnected2d(1, 2, 6, 3).initialize("kaiming", rng=3).weight.value
    assert len(np.unique(weight)) == weight.size


def test_counts_of_the_layer_and_of_the_convolution_of_the_same_shape():
    """The same multiply-adds and connections, as many times the parameters as there are positions."""
    shape = (1, 28, 28)
    conv = Conv2d(1, 6, 5, stride=2, padding=2)
    [row] = summarize(conv, shape)
    [local] = summarize(LocallyConnected2d(1, 6, 28, 5, stride=2, padding=2), shape)
    assert local.output_shape == row.output_shape == (6, 14, 14)
    assert local.multiply_adds == row.multiply_adds == 196 * 150
    assert local.receptive_field == row.receptive_field == (5, 5)
    assert (row.parameters, local.parameters) == (156, 196 * 156)
    layer = LocallyConnected2d(1, 6, 28, 5, stride=2, padding=2)
    assert layer.connections(shape) == conv.connections(shape) == 196 * 156
    assert LocallyConnected2d(1, 6, 28, 5, bias=False).connections(shape) == 576 * 150


def test_a_model_file_holds_all_of_it(tmp_path, rng):
    layers = [LocallyConnected2d(2, 3, (7, 6), 3), ReLU(), Flatten(), Dense(60, 5)]
    model = Model(Sequential(layers), (2, 7, 6))
    model.save(tmp_path / "local.safetensors")
    again = load(tmp_path / "local.safetensors")
    assert to_config(again.network) == to_config(model.network)
    state = again.network.state_dict()
    assert state["0.weight"].shape == (5, 4, 3, 2, 3, 3)
    assert state["0.bias"].shape == (3, 5, 4)
    images = rng.integers(0, 256, (3, 2, 7, 6), np.uint8)
    np.testing.assert_array_equal(again.scores(images), model.scores(images))


def test_in_settings_the_size_of_the_input_follows_from_the_layer_before():
    network = build_network(settings_with(f"{LOCAL}, ReLU, {LOCAL}, Flatten, {{Dense: {{out_features: 10}}}}"))
    assert repr(network[2]) == (
        "LocallyConnected2d(3, 3, input_size=(14, 14), kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))"
    )


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (f"Flatten, {LOCAL}", r"layers\.1\.LocallyConnected2d: expected an input of \(C, H, W\)"),
        (
            "{LocallyConnected2d: {out_channels: 3, kernel_size: 29}}",
            r"layers\.0\.LocallyConnected2d: .* as large as the kernel, 29, received 28 \+ 2 \* 0",
        ),
        (
            "{LocallyConnected2d: {out_channels: 3, kernel_size: 3, input_size: 12}}",
            r"layers\.0\.LocallyConnected2d: .*expected .*\(1, 12, 12\).*received \(1, 28, 28\)",
        ),
        (
            "{LocallyConnected2d: {out_channels: 3, kernel_size: 3, groups: 1}}",
            r"layers\.0\.LocallyConnected2d\.groups: unknown key",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(layers, message):
    with pytest.raises(ConfigError, match=message):
        build_network(settings_with(layers))
