import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from adagrad import Adagrad
from pydantic import create_model

from minicnn import optimizers
from minicnn.config import yaml_file as yaml_tree
from minicnn.config.build import build_network, build_optimizer
from minicnn.config.choices import optimizer_choice
from minicnn.config.settings import Settings, dump_settings, load_settings, load_tree
from minicnn.errors import ConfigError
from minicnn.validation import groups_of, validated

CONFIGS = Path(__file__).parents[2] / "configs"

MINIMAL = """\
network:
  layers:
    - Conv2d: {out_channels: 4, kernel_size: 5}
    - ReLU
    - Flatten
    - Dense: {out_features: 10}
data:
  name: mnist-subset
optimizer:
  lr: 0.1
training:
  epochs: 1
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "minimal.yaml"
    path.write_text(MINIMAL)
    return path


def message_of(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    "path", sorted(set(CONFIGS.glob("*.yaml")) - {CONFIGS / "local.yaml"}), ids=lambda path: path.stem
)
def test_shipped_configs_load_and_survive_a_round_trip(path: Path, tmp_path: Path) -> None:
    settings = load_settings(path)
    resolved = tmp_path / "config.yaml"
    resolved.write_text(dump_settings(settings))
    assert load_settings(resolved) == settings
    assert dump_settings(load_settings(resolved)) == dump_settings(settings)


def test_lenet_explains_every_key() -> None:
    """Whatever can be set has a line of its own in configs/lenet.yaml, with a comment at it."""
    text = (CONFIGS / "lenet.yaml").read_text()
    given = yaml.safe_load(text)
    for group, field in Settings.model_fields.items():
        block = text.partition(f"\n{group}:\n")[2].partition("\n\n")[0]
        keys, *others = (one.model_fields for one in groups_of(field.annotation))
        assert set(given[group]) == set(keys), group
        for key in {key for other in others for key in other} - set(keys):
            [line] = [line for line in block.splitlines() if line.startswith(f"  # {key}:")]
            assert line.count("#") == 2, line
        for key in set(keys) - {"layers"}:
            [line] = [line for line in block.splitlines() if line.startswith(f"  {key}:")]
            assert "#" in line, line


def test_resolved_config_has_defaults_and_one_line_a_layer(config: Path) -> None:
    text = dump_settings(load_settings(config, ["optimizer.momentum=0.9", "data.root=/some/where"]))
    for line in (
        "  - Conv2d: {out_channels: 4, kernel_size: 5}",
        "  - ReLU",
        "  momentum: 0.9",
        "  root: /some/where",
        "  batch_size: 64",
        "  threads: null",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("override", "group", "key", "value"),
    [
        ("optimizer.lr=1e-3", "optimizer", "lr", 1e-3),
        ("optimizer.lr=2E2", "optimizer", "lr", 200.0),
        ("optimizer.lr=.5e-1", "optimizer", "lr", 0.05),
        ("optimizer.lr=1", "optimizer", "lr", 1.0),
        ("optimizer.nesterov=false", "optimizer", "nesterov", False),
        ("optimizer={lr: 0.3}", "optimizer", "lr", 0.3),
        ("training.threads=", "training", "threads", None),
        ("training.threads=2", "training", "threads", 2),
        ("schedule.name=cosine", "schedule", "name", "cosine"),
        ("schedule={name: step, step_size: 0.5}", "schedule", "step_size", 0.5),
        ("data.mean=[0.5]", "data", "mean", [0.5]),
        ("data.root=a=b", "data", "root", Path("a=b")),
        ("data.root=~/digits", "data", "root", Path.home() / "digits"),
    ],
)
def test_override(config: Path, override: str, group: str, key: str, value: object) -> None:
    received = getattr(getattr(load_settings(config, [override]), group), key)
    assert received == value
    assert type(received) is type(value)


def test_override_of_list_items(config: Path) -> None:
    overrides = ["network.layers.0.Conv2d.out_channels=8", "network.layers.1=Tanh"]
    layers = load_settings(config, overrides).network.layers
    assert layers[0] == {"Conv2d": {"out_channels": 8, "kernel_size": 5}}
    assert layers[1] == {"Tanh": {}}


def test_override_of_an_option_of_a_layer_without_options(config: Path) -> None:
    for override in ("network.layers.1=LeakyReLU", "network.layers.1={LeakyReLU: null}"):
        change = [override, "network.layers.1.LeakyReLU.negative_slope=0.2"]
        layers = load_settings(config, change).network.layers
        assert layers[1] == {"LeakyReLU": {"negative_slope": 0.2}}
    message = message_of(config, "network.layers.1.Tanh.x=2")
    assert message.endswith("network.layers.1 is 'ReLU', it has no key Tanh")


def test_thousands_of_mistakes_have_a_few_lines(config: Path) -> None:
    config.write_text(MINIMAL + "".join(f"k{number}: 1\n" for number in range(5000)))
    lines = message_of(config).splitlines()
    assert lines[0].startswith("k0: unknown key; ")
    assert (len(lines), lines[-1]) == (21, "and 4,980 more such errors")
    config.write_text(MINIMAL + f"{'k' * 900}: 1\n")
    assert len(message_of(config)) <= 500


def test_the_last_of_two_overrides_counts(config: Path) -> None:
    assert load_settings(config, ["training.epochs=3", "training.epochs=4"]).training.epochs == 4


def test_a_group_without_keys_has_its_defaults(config: Path) -> None:
    config.write_text(MINIMAL + "schedule:\n  # warmup: 1\n")
    assert load_settings(config).schedule.name == "constant"


BAD_OVERRIDES = {
    "optimizer.lr": "optimizer.lr: expected KEY=VALUE, such as optimizer.lr=0.02",
    "=3": "=3: expected KEY=VALUE, such as optimizer.lr=0.02",
    "optimizer..lr=3": "optimizer..lr=3: expected KEY=VALUE, such as optimizer.lr=0.02",
    "network.layers.4=ReLU": "network.layers.4=ReLU: network.layers is a list: "
    "expected a position from 0 to 3, received 4",
    "network.layers.x=ReLU": "network.layers.x=ReLU: network.layers is a list: "
    "expected a position from 0 to 3, received x",
    "optimizer.lr.x=1": "optimizer.lr.x=1: optimizer.lr is 0.1, it has no key x",
    "optimizer.lr=[1": "optimizer.lr=[1: not valid YAML: a list lacks a comma or its ] "
    "(the parser says: expected ',' or ']', but got '<stream end>')",
    # unknown names
    "optimiser.lr=1": "optimiser: unknown key; did you mean optimizer?",
    "optimizer.learning_rate=1": "optimizer.learning_rate: unknown key; "
    "known are name, lr, momentum, nesterov, weight_decay, clip_norm",
    "optimizer.momentun=0.5": "optimizer.momentun: unknown key; did you mean momentum?",
    "data.name=mnits": "data.name: unknown data set mnits; did you mean mnist?",
    "schedule.name=linear": "schedule.name: expected 'constant', 'step', 'exponential', 'cosine' or "
    "'one-cycle', received \"linear\"",
    # wrong types
    "optimizer=3": "optimizer: expected a group of keys, received 3",
    "optimizer=adam": 'optimizer: expected a group of keys, received "adam"; set optimizer.name=adam',
    "loss=mse": 'loss: expected a group of keys, received "mse"; set loss.name=mse',
    "training=fast": 'training: expected a group of keys, received "fast"',
    "optimizer.lr='3'": 'optimizer.lr: expected a number, received "3"',
    "optimizer.lr=true": "optimizer.lr: expected a number, received true",
    "optimizer.lr=": "optimizer.lr: expected a number, received null",
    "training.epochs=1.0": "training.epochs: expected an integer, received 1.0",
    "training.epochs='1'": 'training.epochs: expected an integer, received "1"',
    "training.epochs=true": "training.epochs: expected an integer, received true",
    "output.pictures=1": "output.pictures: expected true or false, received 1",
    "output.dir=3": "output.dir: expected text, received 3",
    "data.mean=x": 'data.mean: expected a number or a list, received "x"',
    "data.mean=[x]": 'data.mean.0: expected a number, received "x"',
    "network.layers=ReLU": 'network.layers: expected a list, received "ReLU"',
    "network.layers.1=3": "network.layers.1: expected a layer such as ReLU or Dense: {out_features: 10}, received 3",
    "network.layers.0={Residual: [ReLU]}": "network.layers.0: expected Residual: {layers: [...]}, received its layers "
    'alone: ["ReLU"]',
    "network.layers.0.Conv2d=8": "network.layers.0.Conv2d: expected a group of keys, received 8",
    # wrong ranges
    "optimizer.lr=-1": "optimizer.lr: expected a number greater than 0, received -1",
    "optimizer.lr=.nan": "optimizer.lr: expected a finite number, received NaN",
    "optimizer.lr=1e999": "optimizer.lr: expected a finite number, received Infinity",
    "optimizer.momentum=1": "optimizer.momentum: expected a number less than 1, received 1",
    "optimizer.weight_decay=-1e-4": "optimizer.weight_decay: expected a number of at least 0, received -0.0001",
    "optimizer.clip_norm=0": "optimizer.clip_norm: expected a number greater than 0, received 0",
    "loss.label_smoothing=1": "loss.label_smoothing: expected a number less than 1, received 1",
    "training.batch_size=0": "training.batch_size: expected a number of at least 1, received 0",
    "training.epochs=0": "training.epochs: expected a number of at least 1, received 0",
    "training.seed=-1": "training.seed: expected a number of at least 0, received -1",
    "training.threads=0": "training.threads: expected a number of at least 1, received 0",
    "data.std=0": "data.std: expected a number greater than 0, received 0",
    "data.std=[-1]": "data.std.0: expected a number greater than 0, received -1",
    "data.resize=0": "data.resize: expected a number of at least 1, received 0",
    "data.resize=[8]": "data.resize: expected 2 or more items, received [8]",
    "data.validation=1": "data.validation: expected a number less than 1, received 1",
    "network.layers=[]": "network.layers: expected 1 or more items, received []",
    **{
        f"network.init={init}": "network.init: expected a scheme (uniform, lecun, xavier, kaiming, "
        f"lecun-1998) or a range such as {{uniform: 0.5}}, received {received}"
        for init, received in (
            ("orthogonal", "'orthogonal'"),
            ("0.5", "0.5"),
            ("{}", "{}"),
            ("{unform: 0.5}", "{'unform': 0.5}"),
            ("{uniform: 0}", "{'uniform': 0}"),
            ("{uniform: true}", "{'uniform': True}"),
        )
    },
    # settings that do not go together
    "schedule.warmup=2": "schedule.warmup: expected at most training.epochs (1), received 2; "
    "with fewer epochs, set schedule.warmup, too",
    "schedule={name: cosine, gamma: 0.5}": "schedule.gamma: not an option of cosine, whose options are warmup, eta_min",
    "schedule={name: step, gamma: 0.5}": "schedule.step_size: expected a value with step, it is missing",
    "schedule={name: cosine, eta_min: 0.2}": "schedule.eta_min: expected a number from 0 to lr (0.1), received 0.2",
    "schedule={name: one-cycle, pct_start: 0.2, warmup: 0.5}": "schedule.pct_start: expected "
    "either it or a warm-up, which is the length of the way up of one-cycle, "
    "received both (0.2 and 0.5)",
    "loss.class_weights=even": "loss.class_weights: expected a list or 'balanced', received \"even\"",
    "loss.class_weights={cat: 2}": "loss.class_weights: expected a list or 'balanced', received {\"cat\": 2}",
    "optimizer.nesterov=true": "optimizer.nesterov: expected a momentum with it, received momentum 0",
    "loss={name: mean-squared-error, label_smoothing: 0.1}": "loss.label_smoothing: expected 0 "
    "with mean-squared-error, received 0.1",
    "stop.train_accuracy=0": "stop.train_accuracy: expected a number greater than 0, received 0",
    "stop.train_accuracy=99": "stop.train_accuracy: expected a number of at most 1, received 99",
    "stop.weight_change=0": "stop.weight_change: expected a number greater than 0, received 0",
    "stop.patience=0": "stop.patience: expected a number of at least 1, received 0",
    "stop.patience=1.5": "stop.patience: expected an integer, received 1.5",
    "stop.min_delta=-1": "stop.min_delta: expected a number of at least 0, received -1",
    "stop.min_delta=0.1": "stop.min_delta: expected stop.patience with it, received min_delta 0.1 alone",
    "data.path=x": "data.path: expected null with mnist-subset, received x",
    "data.grey=false": "data.grey: expected null with mnist-subset, received false",
    "data={name: arrays, path: x, resize: 8}": "data.resize: expected null with arrays, received 8",
    "data.name=folder": "data.path: expected the place of the images with folder, it is missing",
    # missing
    "epochs=3": "epochs: unknown key; did you mean training.epochs?",
    "lr=3": "lr: unknown key; did you mean optimizer.lr?",
    "training.epochs=9223372036854775807": "training.epochs: expected a number of at most 1e+09, "
    "received 9223372036854775807",
    "data={}": "data.name: expected a value, it is missing",
    "network=": "network: expected a value, it is missing",
}


@pytest.mark.parametrize("override", BAD_OVERRIDES)
def test_bad_setting_is_named_by_its_path(config: Path, override: str) -> None:
    assert message_of(config, override) == BAD_OVERRIDES[override]


def test_each_of_several_mistakes_has_a_line(config: Path) -> None:
    lines = message_of(config, "optimizer.lr=-1", "training.epochs=x").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["optimizer.lr", "training.epochs"]


BAD_FILES = {
    "empty": (b"", "expected groups of settings (network, data, ...), received an empty file"),
    "comment": (b"# network:\n", "received an empty file"),
    "list": (b"- network\n", "expected groups of settings (network, data, ...), received a list"),
    "text": (b"network", "expected groups of settings (network, data, ...), received 'network'"),
    "not YAML": (b"network:\n  layers: ]\n", ", line 2: not valid YAML: "),
    "tab": (b"network:\n\tlayers: 3\n", ", line 2: not valid YAML: lines are indented with spaces, not with tabs ("),
    "a key twice": (b"data: 1\nloss: 1\ndata: 2\n", ", line 3: not valid YAML: key 'data' is given"),
    "a truth value as key": (b"data: 1\ntrue: 2\n", ", line 2: not valid YAML: expected a key that is text"),
    "two documents": (b"data: 1\n---\ndata: 1\n", ", line 2: not valid YAML: "),
    "control characters": (b"data: \x01\n", "not valid YAML: the parser says: unacceptable character"),
    "a Python object": (b"data: !!python/object:os.system {}\n", "not valid YAML: expected plain values"),
    "bytes": (b"\x89PNG\xff\xfe", "expected a YAML text file, received other bytes"),
    "endless nesting": (b"[" * 100_000, "not valid YAML: expected at most 50 groups and lists"),
    "deep nesting": (b"a: " + b"[" * 60 + b"]" * 60, "expected at most 50 groups and lists"),
    "its own part": (MINIMAL.replace("0.1", "&a [*a]").encode(), "received more (by aliases)"),
    "aliases that multiply": (
        b"".join(b"k%d: &k%d [%s]\n" % (i, i, b"*k%d," % (i - 1) * 9) for i in range(1, 12)).replace(b"*k0,", b"1,"),
        ", line 6: not valid YAML: expected at most 100,000 values, received more (by aliases)",
    ),
    "a large file": (b"#" * 1_000_000, "expected a file of at most 262,144 bytes"),
    "a tag": (b"data: 1\nloss: !!timestamp now\n", ", line 2: not valid YAML: expected plain values"),
    "a tag of no text": (b"loss: !!int ''\n", "not valid YAML: expected plain values"),
    "a number of 5,000 digits": (b"loss: %s\n" % (b"9" * 5000), "at most 4,300 digits"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file(tmp_path: Path, kind: str) -> None:
    content, expected = BAD_FILES[kind]
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    message = message_of(path)
    assert expected in message
    assert "\n" not in message
    assert message.startswith(str(path))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert message_of(missing) == f"{missing}: cannot be read: No such file or directory"
    assert message_of(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"
    (tmp_path / "config.yaml").touch()
    assert f"minicnn train --resume {tmp_path} goes on" in message_of(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_pipe_or_a_device_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        expected = f"{path}: expected a file, received a pipe, a socket or a device"
        assert message_of(path) == expected


NUMBERS = {  # of YAML 1.2, and what YAML 1.1 makes of some
    "010": 10,
    "0123": 123,
    "0o10": 8,
    "0x1F": 31,
    "+5": 5,
    "1e-3": 1e-3,
    "1.": 1.0,
    "-.5": -0.5,
    "1:30": "1:30",
    "1_000": "1_000",
    "0b11": "0b11",
    "yes": "yes",
    "NO": "NO",
    "2020-01-01": "2020-01-01",
    "True": True,
    "~": None,
    "": None,
}


@pytest.mark.parametrize("text", NUMBERS)
def test_plain_values_are_those_of_yaml_1_2(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.yaml").write_text(f"key: {text}\n")
    in_file, in_override = yaml_tree.read(tmp_path / "one.yaml"), {}
    yaml_tree.override(in_override, f"key={text}")
    for value in (in_file["key"], in_override["key"]):
        assert (type(value), value) == (type(NUMBERS[text]), NUMBERS[text])


def test_numbers_of_yaml_1_1_are_no_numbers(config: Path) -> None:
    assert load_settings(config, ["training.seed=0123"]).training.seed == 123
    for text in ("1:30", "1_000", "0b11"):
        assert message_of(config, f"training.epochs={text}") == (
            f'training.epochs: expected an integer, received "{text}"'
        )
    assert "expected true or false" in message_of(config, "optimizer.nesterov=yes")


@pytest.mark.parametrize("text", [*NUMBERS, "0o10", "1e3", "a: b", "!a", "=", "<<", "# a", "1.5"])
def test_text_that_looks_like_something_else_is_written_in_quotes(text: str) -> None:
    value = {"a": text, "b": [text]}
    assert yaml_tree.parse(yaml_tree.dump(value), "text") == value
    assert yaml.safe_load(yaml_tree.dump(value)) == value  # for readers of YAML 1.1


def test_a_long_override_is_cut_in_its_message(config: Path) -> None:
    assert len(message_of(config, "training.seed=" + "9" * 5000)) < 200


def test_a_second_optimizer_has_options_of_its_own(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(optimizers.OPTIMIZERS, "adagrad", Adagrad)
    choice = optimizer_choice(optimizers.OPTIMIZERS)
    with_adagrad = create_model("WithAdagrad", __base__=Settings, optimizer=(choice, ...))

    def settings(optimizer: str) -> Any:
        return validated(with_adagrad, load_tree(config, [f"optimizer={optimizer}"]))

    assert settings("{lr: 0.1}").optimizer.model_dump() == load_settings(config).optimizer.model_dump()
    chosen = settings("{name: adagrad, lr: 0.1, lr_decay: 0.5}")
    optimizer = build_optimizer(chosen, build_network(chosen))
    assert type(optimizer) is Adagrad and (optimizer.lr_decay, optimizer.eps, optimizer.lr) == (0.5, 1e-10, 0.1)
    for text, lr in {"{name: adamw, betas: [0.5, 0.9]}": 0.001, "{name: rmsprop}": 0.01}.items():
        assert settings(text).optimizer.lr == lr
    for wrong, message in {
        "{name: adagrad, lr: 0.1, lr_decay: -1}": "optimizer.lr_decay: expected a number of at least 0, received -1",
        "{name: adagrad, lr: 0.1, lrdecay: 1}": "optimizer.lrdecay: unknown key; did you mean lr_decay?",
        "{name: adagrad, lr: 0.1, momentum: 0.9}": "optimizer.momentum: sgd and rmsprop have it, adagrad has name, lr, "
        "lr_decay, eps and clip_norm; to replace the whole group: optimizer={name: adagrad, ...}",
        "{name: adam, betas: [0.9, 1]}": "optimizer.betas.1: expected a number less than 1, received 1",
        "{name: adam, betas: 0.9}": "optimizer.betas: expected a list, received 0.9",
        "{name: adam, lr: 0.1, max_norm: 1}": "optimizer.max_norm: it is called optimizer.clip_norm now",
        "{name: adagrad}": "optimizer.lr: expected a value, it is missing",
        "{momentum: 0.9}": "optimizer.lr: expected a value, it is missing",
        "{lr: 0.1, nesterov: true}": "optimizer.nesterov: expected a momentum with it, received momentum 0",
        "{name: adm, lr: 0.1}": "optimizer.name: expected 'sgd', 'adam', 'adamw', 'rmsprop' or 'adagrad', "
        'received "adm"',
        "3": "optimizer: expected a group of keys, received 3",
    }.items():
        with pytest.raises(ConfigError) as caught:
            settings(wrong)
        assert str(caught.value) == message
