"""Each rule of the linter: settings that it is there for, and others that come near and are good."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from small_config import small_config

from minicnn import Batches, load_dataset
from minicnn.cli import main
from minicnn.config.build import find_spec
from minicnn.config.comparison import Comparison
from minicnn.config.experiment import Experiment
from minicnn.config.settings import Settings, load_settings, load_tree
from minicnn.runs.lint import lint

CONFIGS = Path(__file__).parents[2] / "configs"

CONFIG = small_config("network.layers=[Flatten, Dense: {out_features: 100}, ReLU, Dense: {out_features: 10}]")


def layers(text: str) -> str:
    """`30 ReLU 0.5 10` as network.layers=[Flatten, Dense with 30 outputs, ReLU, Dropout of 0.5, Dense with 10]."""

    def item(word: str) -> str:
        if word.isdigit():
            return f"{{Dense: {{out_features: {word}}}}}"
        return f"{{Dropout: {{p: {word}}}}}" if word[0].isdigit() else word

    return f"network.layers=[Flatten, {', '.join(map(item, text.split()))}]"


CONVOLUTIONS = (
    "network.layers=[{Conv2d: {out_channels: 6, kernel_size: 5, padding: 2}}, %s"
    "{Conv2d: {out_channels: 6, kernel_size: 5, padding: 2}}, ReLU, {MaxPool: {kernel_size: 4}}, "
    "Flatten, {Dense: {out_features: 10}}]"
)
SKIP = "{Residual: {layers: [%s{Dense: {out_features: 100}}]}}"
MSE = "loss.name=mean-squared-error"
HALF = "loss.name=half-squared-error"

#: Overrides that a rule is there for, and what its line says; overrides that come near.
RULES = {
    "softmax at the end": (
        [layers("100 ReLU 10 Softmax")],
        "network.layers.4.Softmax: softmax-cross-entropy applies the softmax itself",
        [layers("100 ReLU 10 Softmax"), MSE, "optimizer.lr=0.1"],
    ),
    "softmax and dropout at the end": (
        [layers("100 ReLU 10 Dropout Softmax")],
        "network.layers.5.Softmax: softmax-cross-entropy",
        [layers("100 Softmax 10")],
    ),
    "sigmoid at the end": (
        [layers("100 ReLU 10 Sigmoid")],
        "network.layers.4.Sigmoid: scores that are kept within a small range",
        [layers("100 Sigmoid 10")],
    ),
    "tanh at the end": (
        [layers("100 ReLU 10 Tanh")],
        "network.layers.4.Tanh: scores that are kept within a small range",
        [layers("100 ReLU 10 Tanh"), MSE, "optimizer.lr=0.1"],
    ),
    "ReLU at the end": (
        [layers("100 ReLU 10 ReLU")],
        "network.layers.4.ReLU: a ReLU behind the last layer with weights",
        [layers("100 ReLU 10 LeakyReLU")],
    ),
    "ReLU at the end, other loss": (
        [layers("100 ReLU 10 ReLU"), MSE, "optimizer.lr=0.1"],
        "network.layers.4.ReLU: a ReLU behind the last layer with weights",
        [layers("100 ReLU 10"), MSE, "optimizer.lr=0.1"],
    ),
    "dropout at the end": (
        [layers("100 ReLU 10 0.1")],
        "network.layers.4.Dropout: dropout directly before the loss",
        [layers("100 ReLU 0.1 10")],
    ),
    "p as the share to keep": (
        [layers("100 ReLU 0.8 10")],
        "(or 0.2, if 0.8 was to be kept)",
        [layers("100 ReLU 0.75 10")],
    ),
    "two dense layers": (
        [layers("100 10")],
        "network.layers.2.Dense: no activation between it and the Dense before it",
        [layers("100 Sigmoid 10")],
    ),
    "two dense layers with others between": (
        [layers("100 ReLU 30 Dropout 10")],
        "network.layers.5.Dense: no activation between it and the Dense before it",
        [layers("100 ReLU 30 Dropout LeakyReLU 10")],
    ),
    "two convolutions": (
        [CONVOLUTIONS % ""],
        "network.layers.1.Conv2d: no activation between it and the Conv2d before it",
        [CONVOLUTIONS % "ReLU, "],
    ),
    "two convolutions that are parts of one": (
        [CONVOLUTIONS % "{MeanPool: {kernel_size: 1}}, "],
        "network.layers.2.Conv2d: no activation between it and the Conv2d before it",
        [(CONVOLUTIONS % "").replace("}}, R", ", groups: 6}}, R")],
    ),
    "two dense layers in a residual": (
        [layers("100 ReLU SKIP ReLU 10").replace("SKIP", SKIP % "{Dense: {out_features: 9}}, Dropout, ")],
        "network.layers.3.Residual.layers.2.Dense: no activation between it and the Dense before it",
        [layers("100 ReLU SKIP SKIP 10").replace("SKIP", SKIP % "")],
    ),
    "a residual at the end": (
        [layers("10 SKIP ReLU").replace("SKIP", SKIP.replace("100", "10") % "")],
        "network.layers.3.ReLU: a ReLU behind the last layer with weights",
        [layers("10 ReLU SKIP").replace("SKIP", SKIP.replace("100", "10") % "")],
    ),
    "a high learning rate": (
        ["optimizer.lr=0.11"],
        "optimizer.lr: 0.11 with a momentum of 0.9 is so high",
        ["optimizer.lr=0.1"],
    ),
    "a high learning rate without momentum": (
        ["optimizer={lr: 1.1, momentum: 0}"],
        "try 0.5 or less",
        ["optimizer={lr: 1, momentum: 0}"],
    ),
    "a high learning rate that tanh bears": (
        [layers("100 Tanh 10"), "optimizer.lr=0.51"],
        "optimizer.lr: 0.51 with a momentum of 0.9 is so high",
        [layers("100 Tanh 10"), "optimizer.lr=0.5"],
    ),
    "a high learning rate that clipping bears": (
        ["optimizer={lr: 6, clip_norm: 1}"],
        "optimizer.lr: 6 with a momentum of 0 is so high",
        ["optimizer={lr: 3, clip_norm: 1}"],
    ),
    "a high learning rate that one layer bears": (
        ["optimizer.lr=0.3"],
        "optimizer.lr: 0.3 with",
        [layers("10"), "optimizer.lr=0.3"],
    ),
    "a high learning rate that large batches bear": (
        ["optimizer.lr=0.3"],
        "optimizer.lr: 0.3 with",
        ["optimizer.lr=0.3", "training.batch_size=1024"],
    ),
    "a high learning rate for half the sum of ten squares": (
        [HALF, "optimizer.lr=0.041"],
        "optimizer.lr: 0.041 with a momentum of 0.9 is so high that networks like this one often "
        "learn nothing; try 0.01 or less",
        [HALF, "optimizer.lr=0.04"],
    ),
    "a low learning rate": (
        ["optimizer.lr=1e-5"],
        "optimizer.lr: 1e-05 is so low, or 314 steps so few, that learning hardly begins; try 0.05",
        ["optimizer.lr=1e-4"],
    ),
    "a low learning rate for the mean of ten squares": (
        [MSE, "optimizer.lr=1e-4"],
        "optimizer.lr: 0.0001 is so low, or 314 steps so few",
        [MSE, "optimizer.lr=1e-3"],
    ),
    "few steps": (
        ["training={epochs: 1, batch_size: 10000}", "optimizer={lr: 0.1}"],
        "optimizer.lr: 0.1 is so low, or 1 step so few",
        ["training={epochs: 10, batch_size: 10000}", "optimizer={lr: 0.1}"],
    ),
    "a rate that the schedule keeps low": (
        ["schedule={name: exponential, gamma: 1.0e-30}", "optimizer.lr=0.001"],
        "optimizer.lr: 0.001 is so low",
        ["schedule={name: exponential, gamma: 0.1}", "optimizer.lr=0.001"],
    ),
    "weight decay of another optimizer": (
        ["optimizer.weight_decay=0.1"],
        "optimizer.weight_decay: 0.1 pulls the weights to 0",
        ["optimizer.weight_decay=0.05"],
    ),
    "an average over more steps than the run has": (
        ["training.ema=0.999"],
        "training.ema: 0.999 averages over the last 1,000 steps",
        ["training.ema=0.99"],
    ),
    "hard examples that never comes": (
        ["training.hard_examples=0.3", "training.epochs=1"],
        "training.hard_examples: tells what the epochs after the first train on",
        ["training.hard_examples=0.3"],
    ),
    "warm-up without end": (
        ["schedule.warmup=2"],
        "schedule.warmup: 2 epochs of warm-up is the whole run",
        ["schedule.warmup=1.5"],
    ),
    "no step within the run": (
        ["schedule={name: step, step_size: 2}"],
        "schedule.step_size: the first drop would come after 0 + 2 epochs",
        ["schedule={name: step, step_size: 1.9}"],
    ),
    "no step within the run, for the warm-up": (
        ["schedule={name: step, step_size: 1.5, warmup: 0.5}"],
        "schedule.step_size: the first drop would come after 0.5 + 1.5 epochs",
        ["schedule={name: step, step_size: 1, warmup: 0.5}"],
    ),
    "early stopping on the test images": (
        ["training.epochs=9", "stop.patience=3"],
        "stop.patience: the test images choose the epoch of the model",
        ["training.epochs=9", "stop.patience=3", "data.validation=0.1"],
    ),
    "patience that outlasts the run": (
        ["training.epochs=4", "stop.patience=3", "data.validation=0.1"],
        "stop.patience: 3 epochs without a lower loss cannot pass before the 4 epochs",
        ["training.epochs=5", "stop.patience=3", "data.validation=0.1"],
    ),
    "a change that every run falls below": (
        ["stop.weight_change=0.11"],
        "stop.weight_change: a network whose weights move by almost 0.11 of their length",
        ["stop.weight_change=0.1"],
    ),
    "digits in the mirror": (
        ["augmentation.flip=0.5"],
        "augmentation.flip: the mirror image of a character of mnist-subset",
        ["augmentation={flip: 0, shift: 2}"],
    ),
    "digits upside down": (
        ["augmentation.rotation=90"],
        "augmentation.rotation: characters of mnist-subset turned by up to 90 degrees",
        ["augmentation.rotation=15"],
    ),
    "a batch larger than the data": (
        ["training={epochs: 50, batch_size: 10001}"],
        "training.batch_size: 10,001 is more than the 10,000 training images",
        ["training={epochs: 50, batch_size: 10000}"],
    ),
    "mean and std of pixels in 0..255": (
        ["data={name: mnist-subset, mean: 33.3, std: 78.6}"],
        "data.mean, data.std: they give the pixels of the first batch the mean -0.42",
        ["data={name: mnist-subset, mean: 0, std: 1}"],
    ),
    "pixels of up to 255": (
        ["data={name: mnist-subset, mean: 0, std: 0.0039}"],
        "set those of pixels in 0..1, here 0.13 and 0.31",
        ["data={name: mnist-subset, mean: 0, std: 0.2}"],
    ),
    "pixels far from 0": (
        ["data={name: mnist-subset, mean: 1}"],
        "data.mean, data.std: they give the pixels of the first batch the mean -2.8",
        ["data={name: mnist-subset, mean: 0.5}"],
    ),
    "sigmoids at the ends of their range": (
        [layers("100 Sigmoid 10"), "data={name: mnist-subset, std: 0.05}"],
        "network.layers.2.Sigmoid: ",
        [layers("100 Sigmoid 10"), "data={name: mnist-subset, std: 0.2}"],
    ),
    "tanhs at the ends of their range": (
        [layers("100 ScaledTanh 10"), "data={name: mnist-subset, std: 0.05}"],
        "network.layers.2.ScaledTanh: ",
        [layers("100 ScaledTanh 10"), "data={name: mnist-subset, std: 0.2}"],
    ),
    "many sigmoids": (
        [layers("30 Sigmoid " * 6 + "10")],
        "network.layers: the scores are almost the same for all images",
        [layers("30 Sigmoid " * 2 + "10")],
    ),
    "many sigmoids, an image at a time": (
        [layers("30 Sigmoid " * 6 + "10"), "training={epochs: 2, batch_size: 1}", "optimizer={lr: 0.01}"],
        "network.layers: the scores are almost the same for all images",
        [layers("30 Sigmoid " * 2 + "10"), "training={epochs: 2, batch_size: 1}", "optimizer={lr: 0.01}"],
    ),
    "initial weights in a range that is too wide": (
        [layers("100 Sigmoid 10"), "network.init={uniform: 3}"],
        "network.layers.2.Sigmoid: ",
        [layers("100 Sigmoid 10"), "network.init={uniform: 0.1}"],
    ),
    "many layers with small weights": (
        [layers("30 ReLU " * 10 + "10"), "network.init=uniform"],
        "network.layers: the scores are almost the same for all images",
        [layers("30 ReLU " * 10 + "10"), "network.init=kaiming"],
    ),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lint") / "dense.yaml"
    path.write_text(CONFIG)
    return path


@cache
def images_of(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Images, labels, mean and standard deviation: the subset's, or noise in the shape of others."""
    data = load_dataset("mnist-subset")
    images = data.train_images
    if shape != images.shape[1:]:
        images = np.random.default_rng(0).normal(120, 60, (5000, *shape)).clip(0, 255).astype(np.uint8)
    return images, data.train_labels[: len(images)], images.mean() / 255, images.std() / 255


def found(settings: Settings, labels: np.ndarray | None = None) -> list[str]:
    """What is said of these settings."""
    images, known, mean, std = images_of(find_spec(settings.data).input_shape)
    chosen = settings.data
    mean = mean if chosen.mean is None else chosen.mean
    std = std if chosen.std is None else chosen.std
    labels = known if labels is None else labels
    batches = Batches(images, labels, settings.training.batch_size, mean, std, settings.training.seed)
    experiment = Experiment(settings)
    experiment.train_batches = batches
    return lint(experiment)


@pytest.mark.parametrize("rule", RULES)
def test_rule(config: Path, rule: str) -> None:
    bad, expected, good = RULES[rule]
    lines = found(load_settings(config, bad))
    assert any(expected in line for line in lines), lines
    assert all("\n" not in line and "; " in line for line in lines)
    assert found(load_settings(config, good)) == []
    assert found(load_settings(config, [*bad, "output.lint=false"])) == []


def test_data_of_one_class(config: Path) -> None:
    labels = np.full(10_000, 3)
    [line] = found(load_settings(config), labels)
    assert line.startswith("data.name: all training images are of one class, number 3")
    labels[0] = 4
    empty, uneven = found(load_settings(config), labels)
    assert empty.startswith("data.name: there is no training image of 0, which")
    assert uneven.startswith("loss: 3 has 9,999 times as many training images as 4, and always answering 3 would be ")
    [_] = found(load_settings(config, ["loss.class_weights=balanced"]), labels)


def test_classes_of_uneven_sizes(config: Path) -> None:
    labels = np.repeat(np.arange(10), [3000, 1200, *[725] * 8])
    [line] = found(load_settings(config), labels)
    assert line == (
        "loss: 0 has 4.14 times as many training images as 2, and always answering 0 would be right in 30.0%; "
        "so that 2 counts, too, set loss.class_weights: balanced"
    )
    [line] = found(load_settings(config, [MSE, "optimizer.lr=0.1"]), labels)
    assert line.endswith("set loss: {name: softmax-cross-entropy, class_weights: balanced}")
    assert found(load_settings(config), np.repeat(np.arange(10), [2500, 1500, *[750] * 8])) == []


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_raise_no_alarm(path: Path) -> None:
    several = path.stem == "local"
    networks = Comparison.of(load_tree(path)).settings if several else {"": load_settings(path)}
    for settings in networks.values():
        assert settings.output.lint
        assert found(settings) == []


def test_batch_normalisation_bears_a_higher_learning_rate() -> None:
    settings = load_settings(CONFIGS / "speedrun.yaml", ["optimizer.lr=1.2"])
    [line] = found(settings)
    assert line.startswith("optimizer.lr: 1.2 with a momentum of 0.8 is so high")


def test_the_network_stays_as_it_is(config: Path) -> None:
    """Its Dropout goes on with the numbers it would have drawn."""
    settings = load_settings(config, [layers("30 ReLU 0.5 10")])
    images = load_dataset("mnist-subset").train_images[:64]
    batches = Batches(images, np.arange(64) % 10, 64, 0.13, 0.31)
    experiment, twin = Experiment(settings), Experiment(settings).network
    experiment.train_batches = batches
    lint(experiment)
    network = experiment.network
    x = np.ones((2, 1, 28, 28), np.float32)
    np.testing.assert_array_equal(network.forward(x, True), twin.forward(x, True))


@pytest.mark.parametrize("flags", [[], ["--dry-run"]], ids=["train", "dry run"])
def test_warnings_of_the_command(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    end = [layers("100 ReLU 10 Softmax"), "training.epochs=1", "output.pictures=false"]
    assert main(["train", str(config), *end, *flags]) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: network.layers.4.Softmax: softmax-cross-entropy applies")
    assert main(["train", str(config), *end, "output.lint=false", *flags]) == 0
    assert capsys.readouterr().err == ""
