"""A mistake of the user ends in one line of error and leaves no run folder; a run that fails keeps its weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from small_run import assert_refused, the_run, train

import minicnn.runs.run
import minicnn.training.trainer
from minicnn import SGD, Sequential
from minicnn.cli import main
from minicnn.losses import Loss
from minicnn.training.step import StepResult


def write_idx(path: Path, array: np.ndarray) -> None:
    """MNIST's file format: two zeros, the type (8: uint8), the number of axes, their lengths."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


BAD_DATA = {
    "truncated": ("MNIST/raw/train-images-idx3-ubyte",),
    "not MNIST": ("MNIST/raw/train-images-idx3-ubyte",),
    "empty": ("MNIST/raw/t10k-images-idx3-ubyte",),
    "label out of range": ("mnist, test split: expected labels from 0 to 9, received 10",),
    "a label too many": ("mnist, test split: expected one label", "11 images and 12 labels"),
}


@pytest.mark.parametrize("damage", BAD_DATA)
def test_bad_data(folder: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    raw = folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    labels = np.arange(11) % 10
    test_labels = {
        "empty": labels[:0],
        "label out of range": np.arange(11),
        "a label too many": np.arange(12) % 10,
    }.get(damage, labels)
    test_images = np.zeros((0 if damage == "empty" else 11, 28, 28))
    write_idx(raw / "train-images-idx3-ubyte", np.zeros((11, 28, 28)))
    write_idx(raw / "train-labels-idx1-ubyte", labels)
    write_idx(raw / "t10k-images-idx3-ubyte", test_images)
    write_idx(raw / "t10k-labels-idx1-ubyte", test_labels)
    path = raw / "train-images-idx3-ubyte"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "not MNIST":
        path.write_bytes(b"<html>404</html>")
    assert_refused(capsys, train("data.name=mnist"), 1, *BAD_DATA[damage])


USAGE = {
    "no command": ([], "COMMAND"),
    "unknown command": (["trian"], "unknown command trian; did you mean train?"),
    "no config": (["train"], "CONFIG"),
    "unknown option": (["train", "small.yaml", "--epochs", "3"], "--epochs"),
    "missing config": (["train", "none.yaml"], "none.yaml: cannot be read: No such file"),
    "folder as config": (["train", "."], ".: cannot be read: Is a directory"),
    "override without =": (["train", "small.yaml", "epochs"], "epochs: expected KEY=VALUE"),
    "override of no group": (["train", "small.yaml", "epochs=3"], "epochs: unknown key"),
}


@pytest.mark.parametrize("mistake", USAGE)
def test_wrong_usage(folder: Path, capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    arguments, part = USAGE[mistake]
    assert_refused(capsys, main(arguments), 2, part)


@pytest.mark.parametrize(
    ("content", "part"),
    [("", "empty"), ("network: [\n", "not valid YAML"), ("- network\n", "a list"), ("network", "'network'")],
    ids=["empty", "not YAML", "a list", "a word"],
)
def test_bad_config(folder: Path, capsys: pytest.CaptureFixture[str], content: str, part: str) -> None:
    Path("small.yaml").write_text(content)
    assert_refused(capsys, train(), 2, "small.yaml", part)


def test_a_config_of_a_name_nearby(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(capsys, main(["train", "smal.yml"]), 2, "smal.yml: cannot be read", "did you mean small.yaml?")
    assert_refused(capsys, main(["train", str(folder / "small.yml")]), 2, f"did you mean {folder / 'small.yaml'}?")


LAYERS = "network.layers"
BAD_SETTINGS = {
    # unknown names
    f"{LAYERS}.1=RelU6": (f"{LAYERS}.1: unknown layer RelU6; did you mean ReLU?",),
    f"{LAYERS}.1=conv2d": (f"{LAYERS}.1: unknown layer conv2d; did you mean Conv2d?",),
    f"{LAYERS}.1=Wavelet": (f"{LAYERS}.1: unknown layer Wavelet; known are ",),
    f"{LAYERS}.0.Conv2d.kernel=3": (f"{LAYERS}.0.Conv2d.kernel: unknown key; did you mean kernel_size?",),
    f"{LAYERS}.1={{ReLU: {{p: 1}}}}": (f"{LAYERS}.1.ReLU.p: unknown key",),
    "optimizer.momentun=0.5": ("optimizer.momentun: unknown key; did you mean momentum?",),
    # wrong types
    f"{LAYERS}.0={{Conv2d: {{kernel_size: 5}}}}": (f"{LAYERS}.0.Conv2d.out_channels: expected a value, it is missing",),
    f"{LAYERS}.0.Conv2d.kernel_size='5'": (
        f'{LAYERS}.0.Conv2d.kernel_size: expected an integer or a list, received "5"',
    ),
    f"{LAYERS}.0.Conv2d.kernel_size=true": (f"{LAYERS}.0.Conv2d.kernel_size: ", "received true"),
    f"{LAYERS}.0.Conv2d.kernel_size=[5]": (f"{LAYERS}.0.Conv2d.kernel_size",),
    f"{LAYERS}.0.Conv2d.kernel_size=[5, 5, 5]": (f"{LAYERS}.0.Conv2d.kernel_size", "2"),
    f"{LAYERS}.0.Conv2d.bias=1": (f"{LAYERS}.0.Conv2d.bias: expected true or false, received 1",),
    "training.epochs='3'": ('training.epochs: expected an integer, received "3"',),
    # wrong ranges
    f"{LAYERS}.0.Conv2d.padding=-1": (f"{LAYERS}.0.Conv2d: ", "padding", "-1"),
    f"{LAYERS}.0.Conv2d.kernel_size=0": (f"{LAYERS}.0.Conv2d: ", "kernel_size", "0"),
    f"{LAYERS}.0.Conv2d.kernel_size=33": (f"{LAYERS}.0.Conv2d: ", "33", "28"),
    f"{LAYERS}.0.Conv2d.stride=0": (f"{LAYERS}.0.Conv2d: ", "stride", "0"),
    f"{LAYERS}.0.Conv2d.groups=4": (f"{LAYERS}.0.Conv2d: ", "groups", "4"),
    f"{LAYERS}.0.Conv2d.out_channels=0": (f"{LAYERS}.0.Conv2d: ", "out_channels", "0"),
    f"{LAYERS}.2.MaxPool.kernel_size=29": (f"{LAYERS}.2.MaxPool: ", "29", "28"),
    f"{LAYERS}.1={{Dropout: {{p: 2}}}}": (f"{LAYERS}.1.Dropout.p: expected a number of at most 1, received 2",),
    "training.batch_size=0": ("training.batch_size: expected a number of at least 1, received 0",),
    "training.threads=10000": ("training.threads: expected at most ", "received 10000"),
    "optimizer.lr=-1": ("optimizer.lr: expected a number greater than 0, received -1",),
    f"{LAYERS}.4.Dense.out_features=1000000000000000": (f"{LAYERS}.4.Dense: ",),
    f"{LAYERS}.4.Dense.out_features=1{'0' * 40}": (f"{LAYERS}.4.Dense: ",),
    # layers that do not fit together
    f"{LAYERS}.0.Conv2d.in_channels=3": (f"{LAYERS}.0.Conv2d: ", "3", "(1, 28, 28)"),
    f"{LAYERS}.3=ReLU": (f"{LAYERS}.4.Dense: ", "(6, 7, 7)", "Flatten"),
    f"{LAYERS}.4.Dense.in_features=300": (f"{LAYERS}.4.Dense: ", "300", "294"),
    f"{LAYERS}.4=MaxPool": (f"{LAYERS}.4.MaxPool.kernel_size: expected a value, it is missing",),
    f"{LAYERS}.4={{MaxPool: {{kernel_size: 2}}}}": (f"{LAYERS}.4.MaxPool: ", "(294,)"),
    f"{LAYERS}.4.Dense.out_features=12": (
        f"{LAYERS}.4.Dense: expected an output of shape (10,), a number for each class of mnist-subset, received (12,)",
    ),
    f"{LAYERS}.4=Flatten": (f"{LAYERS}.4.Flatten: expected an output of shape (10,)", "(294,)"),
}


@pytest.mark.parametrize("override", BAD_SETTINGS)
def test_bad_settings(folder: Path, capsys: pytest.CaptureFixture[str], override: str) -> None:
    assert_refused(capsys, train(override), 2, *BAD_SETTINGS[override])


def test_a_network_without_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = "[{MeanPool: {kernel_size: [28, 14], stride: [1, 1], padding: 0}}, Flatten]"
    code = train(f"network.layers={layers}")
    assert_refused(capsys, code, 2, "network.layers")


@pytest.mark.parametrize("parent", ["small.yaml", "small.yaml/runs"])
def test_a_run_folder_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str], parent: str) -> None:
    code = train(f"output.dir={parent}")
    assert_refused(capsys, code, 1, "output.dir: expected a folder", parent)


def test_divergence_keeps_the_last_good_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("optimizer.lr=1e30", "schedule.name=constant", "output.lint=false") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: step ")
    assert err.count("\n") == 1
    for part in ("expected a finite loss", "after step 0", "model.safetensors"):
        assert part in err
    weights = load_file(the_run(folder) / "model.safetensors")
    assert len(weights) == 4
    for name, array in weights.items():  # those of the start
        assert (0 < np.abs(array).max() < 2) if name.endswith("weight") else (array == 0).all()


def test_a_nan_that_comes_late(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are kept every 100 steps; a NaN in step 151 takes the run back to step 100."""
    after: dict[int, np.ndarray] = {}
    original = minicnn.training.trainer.accumulated_step

    def step(network: Sequential, loss: Loss, optimizer: SGD, *rest: Any, **options: Any) -> StepResult:
        if optimizer.steps == 150:
            network[4].weight.value[3, 0] = np.nan
        result = original(network, loss, optimizer, *rest, **options)
        after[optimizer.steps] = network[4].weight.value.copy()
        return result

    monkeypatch.setattr(minicnn.training.trainer, "accumulated_step", step)
    assert train() == 1
    err = capsys.readouterr().err
    assert err.startswith("error: step 151: expected a finite loss, ")
    rest = "a lower learning rate often helps; the last good weights, those after step 100, are in "
    assert f"layer 4 Dense(294, 10); {rest}" in err
    kept = load_file(the_run(folder) / "model.safetensors")["4.weight"]
    np.testing.assert_array_equal(kept, after[100])
