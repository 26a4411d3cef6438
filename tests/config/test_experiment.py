"""From settings to layers, loss, optimizer and schedule."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from layer_cases import FIRST

from minicnn import Residual, resnet8, vgg_small
from minicnn import zoo as models
from minicnn.config.build import LAYERS, build_loss, build_network, build_optimizer, build_schedule, find_spec
from minicnn.config.settings import Data, Settings, dump_settings, load_settings
from minicnn.data.image_list import Options
from minicnn.errors import ConfigError
from minicnn.layers import Dense
from minicnn.layers.registry import to_config
from minicnn.losses import MaximumAPosteriori
from minicnn.validation import validated

CONFIGS = Path(__file__).parents[2] / "configs"


def settings_with(*overrides: str) -> Settings:
    return load_settings(CONFIGS / "tiny.yaml", overrides)


@pytest.mark.parametrize(
    ("config", "options"), [("lenet", ("relu", "max")), ("tiny", ("relu", "max")), ("lenet-tanh", ("tanh", "mean"))]
)
def test_configs_spell_out_the_network_in_models(config: str, options: tuple[str, str]) -> None:
    network = build_network(load_settings(CONFIGS / f"{config}.yaml"))
    assert repr(network) == repr(models.lenet5(*options))


def test_the_config_of_1998_spells_out_the_network_in_models() -> None:
    network = build_network(load_settings(CONFIGS / "lenet1998.yaml"))
    assert to_config(network) == to_config(models.lenet5_1998())


@pytest.mark.parametrize(("config", "comments"), [("lenet", 8), ("lenet1998", 8), ("fashion", 7), ("cifar10", 17)])
def test_shapes_and_parameters_in_the_comments_are_right(config: str, comments: int) -> None:
    """Comments such as `# C1  (6, 28, 28)  156`."""
    path = CONFIGS / f"{config}.yaml"
    settings = load_settings(path)
    network = build_network(settings)
    shapes = network.shapes(find_spec(settings.data).input_shape)[1:]
    lines = [line for line in path.read_text().splitlines() if line.startswith("    - ")]
    assert len(lines) == len(network)
    checked = 0
    for line, layer, shape in zip(lines, network, shapes, strict=True):
        comment = line.partition("#")[2]
        if comment:
            assert str(shape) in comment
            size = sum(parameter.value.size for parameter in layer.parameters())
            assert comment.endswith(f" {size:,}" if size else ")")
            checked += 1
    assert checked == comments


def test_every_option_is_written_out_in_the_description() -> None:
    settings = settings_with("network.layers.2={LeakyReLU: {negative_slope: 0}}")
    layers = to_config(build_network(settings))
    assert layers[0]["Conv2d"] == {
        "in_channels": 1,
        "out_channels": 6,
        "kernel_size": [5, 5],
        "stride": [1, 1],
        "padding": [2, 2],
        "dilation": [1, 1],
        "groups": 1,
        "bias": True,
    }
    assert layers[1] == {"ReLU": {}}
    assert layers[2] == {"LeakyReLU": {"negative_slope": 0.0}}
    assert layers[-1] == {"Dense": {"in_features": 84, "out_features": 10, "bias": True}}


def test_a_list_stands_for_a_pair() -> None:
    network = build_network(settings_with("network.layers.0.Conv2d.kernel_size=[3, 7]"))
    assert network[0].parameters()[0].value.shape == (6, 1, 3, 7)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_can_be_named(name: str) -> None:
    """With the arguments that do not follow from the layer before."""
    case = FIRST[LAYERS[name].__name__]
    given = {key: value for key, value in case.arguments.items() if not key.startswith(("in", "num_features"))}
    given |= {"layers": ["ReLU"]} if name == "Residual" else {}
    before = [] if len(case.shape) == 3 else ["Flatten", {"Dense": {"out_features": case.shape[0]}}]
    items = [*before, {name: given}, "Flatten", {"Dense": {"out_features": 10}}]
    network = build_network(settings_with(f"network.layers={json.dumps(items)}"))
    assert type(network[len(before)]) is LAYERS[name]


@pytest.mark.parametrize("table", ["lenet5", "[[1, 0, 1, 0, 0, 0], [0, 1, 1, 1, 1, true]]"])
def test_connections_are_a_name_or_rows(table: str) -> None:
    out, count = (16, 60) if table == "lenet5" else (2, 7)
    network = build_network(
        settings_with(
            f"network.layers.3.Conv2d={{out_channels: {out}, kernel_size: 5, connections: {table}}}",
            "network.layers.7.Dense.in_features=null",
        )
    )
    assert network[3].parameters()[0].value.shape == (count, 5, 5)


def test_a_wrong_table_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"layers\.3\.Conv2d: .*connections: expected .* \(1, 2\)"):
        build_network(settings_with("network.layers.3.Conv2d.connections=[[1, 0]]"))


RESIDUAL = (
    "network.layers.2={Residual: {layers: [{Conv2d: {out_channels: 8, kernel_size: 3, stride: 2, padding: 1}}, "
    "BatchNorm2d, {Residual: {layers: [ReLU, {Conv2d: {out_channels: 8, kernel_size: 1}}]}}], "
    "shortcut: [{Conv2d: {out_channels: 8, kernel_size: 1, stride: 2}}]}}"
)


def test_layers_in_layers() -> None:
    """What follows from the layer before, overrides, and the text that settings become."""
    settings = settings_with(RESIDUAL, "network.layers.2.Residual.layers.0.Conv2d.padding=[1, 1]")
    network = build_network(settings)
    assert network.shapes((1, 28, 28))[3] == (8, 14, 14)
    block = network[2]
    assert isinstance(block, Residual) and block.shortcut is not None
    assert [child.options().get("in_channels") for child in (block.layers[0], block.shortcut[0])] == [6, 6]
    assert repr(block.layers[2]) == "Residual([ReLU(), Conv2d(8, 8, kernel_size=(1, 1))])"
    assert validated(Settings, yaml.safe_load(dump_settings(settings))) == settings


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("layers.0.Conv2d.out=3", r"2\.Residual\.layers\.0\.Conv2d\.out: unknown key; known are in_channels, out_"),
        ("layers.2.Residual.layers.0=Relu", r"2\.Residual\.layers\.2\.Residual\.layers\.0: unknown layer Relu"),
        ("layers.2.Residual.layers=[]", r"2\.Residual\.layers\.2\.Residual\.layers: expected 1 or more items"),
        ("layers=ReLU", r"2\.Residual\.layers: expected a list, received"),
        ("layers.1=7", r"2\.Residual\.layers\.1: expected a layer such as ReLU"),
        ("shortcut.0=Dense", r"2\.Residual\.shortcut\.0\.Dense\.out_features: expected a value, it is missing"),
        (
            "shortcut=null",
            r"2\.Residual: .*\(8, 14, 14\) from layers and \(6, 28, 28\) from the input itself; set shortcut",
        ),
        ("layers.0.Conv2d.kernel_size=40", r"2\.Residual\.layers\.0\.Conv2d: .*at least as large as the kernel"),
    ],
)
def test_mistakes_in_layers_in_layers_have_their_place(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"network\.layers\." + message):
        build_network(settings_with(RESIDUAL, f"network.layers.2.Residual.{override}"))


@pytest.mark.parametrize(("size", "rest"), [(28, 7), (32, 8), (9, 3)])
def test_networks_of_the_zoo(size: int, rest: int) -> None:
    assert resnet8(3, 2, width=4).shapes((2, size, size))[-3:] == [(16, rest, rest), (16,), (3,)]
    assert vgg_small(3, 2, size, width=2).output_shape((2, size, size)) == (3,)
    assert resnet8().parameter_count == 77_754 and vgg_small().parameter_count == 298_858
    assert repr(vgg_small(10, 3, 32)) == repr(build_network(load_settings(CONFIGS / "cifar10.yaml")))
    with pytest.raises(ConfigError, match="vgg_small: image_size: expected an int >= 8, received 7"):
        vgg_small(image_size=7)


def test_mean_squared_error_is_against_one_for_the_class() -> None:
    loss = build_loss(settings_with("loss.name=mean-squared-error"))
    y = np.random.default_rng(0).standard_normal((5, 10)).astype(np.float32)
    labels = np.array([3, 0, 9, 3, 5])
    expected = y - np.eye(10)[labels]
    np.testing.assert_allclose(loss.forward(y, labels), np.mean(expected**2), rtol=1e-6)
    np.testing.assert_allclose(loss.backward(), 2 * expected / y.size, rtol=1e-6, atol=1e-8)


def test_half_squared_error_is_the_sum_over_the_classes_halved() -> None:
    loss = build_loss(settings_with("loss.name=half-squared-error"))
    value = loss.forward(np.full((2, 10), 3, np.float32), np.array([3, 0]))
    assert value == (9 * 3**2 + 2**2) / 2


def test_initial_weights_in_a_range_of_their_own() -> None:
    init = settings_with("network.init={uniform: 0.25}").network.init
    for parameter in Dense(30, 40).initialize(init, rng=0).parameters():
        assert 0.2 < np.abs(parameter.value).max() <= 0.25


def test_the_constant_j_reaches_the_loss() -> None:
    loss = build_loss(settings_with("loss.name=maximum-a-posteriori", "loss.j=0.5"))
    assert isinstance(loss, MaximumAPosteriori)
    assert loss.j == 0.5
    default = build_loss(settings_with("loss.name=maximum-a-posteriori"))
    assert isinstance(default, MaximumAPosteriori)
    assert default.j == MaximumAPosteriori().j


def test_padding_enlarges_what_the_network_sees() -> None:
    settings = settings_with("data.padding=2", "network.layers.0.Conv2d.padding=0")
    assert find_spec(settings.data).input_shape == (1, 32, 32)
    assert build_network(settings).output_shape((1, 32, 32)) == (10,)


def test_label_smoothing_reaches_the_loss() -> None:
    y = np.zeros((1, 10), np.float32)
    y[0, 0] = 3
    plain, smooth = (
        build_loss(settings_with(f"loss.label_smoothing={share}")).forward(y, np.array([0])) for share in (0, 0.1)
    )
    np.testing.assert_allclose(smooth - plain, 0.1 * 0.9 * 3, rtol=1e-5)


def test_every_setting_reaches_the_optimizer() -> None:
    settings = settings_with("optimizer={lr: 0.3, momentum: 0.5, nesterov: true, weight_decay: 0.01, clip_norm: 2}")
    optimizer = build_optimizer(settings, build_network(settings))
    received = {key: getattr(optimizer, key) for key in type(settings.optimizer).model_fields if key != "name"}
    assert received == {"lr": 0.3, "momentum": 0.5, "nesterov": True, "weight_decay": 0.01, "clip_norm": 2}


@pytest.mark.parametrize("name", ["constant", "cosine", "one-cycle"])
def test_warmup_is_in_epochs(name: str) -> None:
    settings = settings_with(f"schedule={{name: {name}, warmup: 1.5}}", "training.epochs=4", "optimizer.lr=0.2")
    schedule = build_schedule(settings, steps_per_epoch=100)
    rates = [schedule(step) for step in range(400)]
    assert np.argmax(rates) in (149, 150)
    assert max(rates) == pytest.approx(0.2)
    assert np.all(np.diff(rates[:149]) > 0)
    if name == "constant":
        assert set(rates[150:]) == {0.2}
    else:
        assert np.all(np.diff(rates[150:]) < 0)
        assert rates[-1] < 1e-4


def test_options_in_epochs_become_steps() -> None:
    def rates(schedule: str) -> list[float]:
        settings = settings_with(f"schedule={schedule}", "training.epochs=4", "optimizer.lr=0.2")
        rate = build_schedule(settings, steps_per_epoch=10)
        return [rate(step) for step in range(40)]

    step = rates("{name: step, step_size: 1.5, gamma: 0.5}")
    assert step == [0.2] * 15 + [0.1] * 15 + [0.05] * 10
    assert rates("{name: step, step_size: 0.001, gamma: 1}") == [0.2] * 40
    exponential = rates("{name: exponential, gamma: 0.5}")
    np.testing.assert_allclose(exponential, 0.2 * 0.5 ** (np.arange(40) / 10), rtol=1e-12)
    warm = rates("{name: exponential, gamma: 0.5, warmup: 1}")
    np.testing.assert_allclose(warm[10:], exponential[:30], rtol=1e-12)


def test_every_option_reaches_the_schedule() -> None:
    plain, eta_min, share, first, last = (
        [build_schedule(settings_with(f"schedule={given}"), 20)(step) for step in range(60)]
        for given in (
            "{name: cosine}",
            "{name: cosine, eta_min: 0.01}",
            "{name: one-cycle, pct_start: 0.5}",
            "{name: one-cycle, div_factor: 10}",
            "{name: one-cycle, div_factor: 10, final_div_factor: 5}",
        )
    )
    assert plain[0] == eta_min[0]
    assert plain[-1] < 0.01 < eta_min[-1] < 0.011
    assert np.argmax(share) == 29
    np.testing.assert_allclose([first[0], last[0]], 0.005)
    np.testing.assert_allclose([first[-1], last[-1]], [0.005 / 1e4, 0.005 / 5])


def test_mean_and_std_have_one_number_a_channel() -> None:
    build_network(settings_with("data.mean=[0.5]", "data.std=0.5"))
    with pytest.raises(ConfigError, match=r"data\.std: .* the 1 channels of mnist-subset, received 2"):
        build_network(settings_with("data.std=[1, 1]"))


def test_own_images_are_read_alike_from_settings_and_in_python() -> None:
    options = vars(Options())
    assert {name: Data.model_fields[name].default for name in options} == options
