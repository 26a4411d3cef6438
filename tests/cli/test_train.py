"""`minicnn train`: the console and the files of a run, that it repeats itself, and what it warns of."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from lane_programs import forget
from PIL import Image
from safetensors.numpy import load_file
from small_run import CONFIG, ROOT, assert_refused, metrics_of, the_run, train

from minicnn import data
from minicnn.cli import main
from minicnn.config.settings import load_settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder of a finished run, its standard output, its standard error."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(CONFIG)
    command = [sys.executable, str(ROOT / "train.py"), "small.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return the_run(folder), done.stdout, done.stderr


def test_console_of_a_run(finished: tuple[Path, str, str]) -> None:
    run, out, err = finished
    lines = out.splitlines()
    assert err == ""  # no bar where there is no terminal, nothing to warn of
    assert any("Conv2d" in line and "156" in line for line in lines)
    assert (
        "mnist-subset: 10,000 training and 2,000 test images of 1 x 28 x 28, 10 classes of 1,000 training images each"
        in lines
    )
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert [line[:9] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    for part in ("train loss", "test loss", "accuracy", " s, ", "images/s"):
        assert part in epochs[0]
    rows = metrics_of(run)
    accuracy = float(rows[-1]["test_accuracy"])
    assert lines[-3] == f"test accuracy {accuracy:.2%} on mnist-subset"
    assert lines[-2].startswith("training took ")
    assert lines[-1] == str(Path("runs") / run.name)
    assert run.name.startswith("small-20")


def test_files_of_a_run(finished: tuple[Path, str, str]) -> None:
    pictures = ["confusion.png", "curves.png", "errors.png", "filters.png"]
    texts = ["config.yaml", "environment.json", "errors.csv", "metrics.csv", "model.safetensors", "timings.csv"]
    run = finished[0]
    names = sorted(path.name for path in run.iterdir())
    assert names == sorted([*pictures, *texts, "checkpoints"])
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["best.safetensors", "last.safetensors", "previous.safetensors"]
    for name in pictures:
        with Image.open(run / name) as picture:
            picture.load()
            assert min(picture.size) >= 100
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 10  # something is drawn


def test_metrics_of_a_run(finished: tuple[Path, str, str]) -> None:
    rows = metrics_of(finished[0])
    assert list(rows[0]) == [
        *("epoch", "step", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy"),
        *("test_balanced_accuracy", "test_macro_f1", "test_top3_accuracy", "test_top5_accuracy", "weight_change"),
    ]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["step"] for row in rows] == ["157", "314"]
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    assert float(rows[1]["lr"]) < float(rows[0]["lr"]) < 0.05
    assert 0.9 < float(rows[1]["test_accuracy"]) <= 1
    timings = list(csv.DictReader((finished[0] / "timings.csv").read_text().splitlines()))
    assert [row["epoch"] for row in timings] == ["1", "2"]
    for row in timings:
        rate = 10_000 / float(row["seconds"])
        assert float(row["images_per_second"]) == pytest.approx(rate, rel=0.02)


def test_environment_of_a_run(finished: tuple[Path, str, str]) -> None:
    environment = json.loads((finished[0] / "environment.json").read_text())
    assert environment["data_set"] == "mnist-subset"
    assert environment["numpy"] == np.__version__
    assert environment["threads"] == 1
    assert environment["cores"] == os.cpu_count()
    assert environment["lanes"] == 16
    for key in ("minicnn", "python", "numba", "platform", "cpu"):
        assert environment[key]


def test_resolved_config_of_a_run(finished: tuple[Path, str, str]) -> None:
    run = finished[0]
    given = load_settings(run.parents[1] / "small.yaml")
    assert load_settings(run / "config.yaml") == given


def test_weights_of_a_run(finished: tuple[Path, str, str]) -> None:
    """The file alone is enough to use the network, also without minicnn."""
    path = finished[0] / "model.safetensors"
    weights = load_file(path)
    shapes = {name: array.shape for name, array in weights.items()}
    assert shapes == {"0.weight": (6, 1, 5, 5), "0.bias": (6,), "4.weight": (10, 294), "4.bias": (10,)}
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]
    model = json.loads(header["minicnn"])
    assert model["format"] == 1
    assert model["input_shape"] == [1, 28, 28]
    assert model["classes"] == list("0123456789")
    assert [next(iter(layer)) for layer in model["layers"]] == [*("Conv2d", "ReLU", "MaxPool", "Flatten", "Dense")]
    assert model["layers"][0]["Conv2d"]["in_channels"] == 1
    assert model["layers"][4]["Dense"] == {"in_features": 294, "out_features": 10, "bias": True}

    torch = pytest.importorskip("torch")
    subset = data.load_dataset("mnist-subset")
    x = torch.tensor(subset.test_images[:200], dtype=torch.float32) / 255
    x = (x - model["mean"][0]) / model["std"][0]
    tensors = {name: torch.tensor(array) for name, array in weights.items()}
    y = torch.nn.functional.conv2d(x, tensors["0.weight"], tensors["0.bias"], padding=2)
    y = torch.nn.functional.max_pool2d(y.relu(), 4).flatten(1)
    y = y @ tensors["4.weight"].T + tensors["4.bias"]
    accuracy = (y.argmax(1).numpy() == subset.test_labels[:200]).mean()
    assert accuracy > 0.85


# ---- repeatability


def weights_of(name: str, *overrides: str) -> bytes:
    assert train(f"output.dir={name}", "output.pictures=false", "training.epochs=1", *overrides) == 0
    [run] = Path(name).iterdir()
    return (run / "model.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_weights(folder: Path) -> None:
    first = weights_of("a")
    assert weights_of("b") == first
    assert weights_of("c", "training.threads=") == first  # all cores
    assert weights_of("d", "training.seed=1") != first


def test_the_resolved_config_repeats_the_run(folder: Path) -> None:
    first = weights_of("a", "optimizer.lr=0.01", "training.seed=3")
    [run] = Path("a").iterdir()
    assert main(["train", str(run / "config.yaml"), "output.dir=b"]) == 0
    [again] = Path("b").iterdir()
    assert (again / "model.safetensors").read_bytes() == first


def test_dropout_repeats_itself_too(folder: Path) -> None:
    dropout = "network.layers.1={Dropout: {p: 0.3}}"
    assert weights_of("a", dropout) == weights_of("b", dropout)


def test_two_runs_in_one_second_have_two_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "20250101-120000")
    for _ in range(2):
        assert train("training.epochs=1", "output.pictures=false") == 0
    names = sorted(path.name for path in Path("runs").iterdir())
    assert names == ["small-20250101-120000", "small-20250101-120000-2"]


# ---- what a run says


def test_a_terminal_gets_a_bar(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert train("training.epochs=1", "training.batch_size=4", "output.pictures=false") == 0
    err = capsys.readouterr().err
    for part in ("epoch 1/1", "loss ", "images/s"):
        assert part in err


def test_a_cold_cache_is_announced(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(monkeypatch, "loss.count_correct")
    assert train("training.epochs=1", "output.pictures=false") == 0
    assert "compiling kernels, once per machine" in capsys.readouterr().out


def test_a_failing_picture_costs_a_warning(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no fonts")

    monkeypatch.setattr("minicnn.inspect.plots.filters.plot_filters", fail)
    assert train("training.epochs=1") == 0
    out, err = capsys.readouterr()
    assert err == "warning: filters.png could not be drawn: RuntimeError: no fonts\n"
    assert out.splitlines()[-3].startswith("test accuracy ")
    assert {"model.safetensors", "errors.png"} < {path.name for path in the_run(folder).iterdir()}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object, root: Path) -> None:
        raise data.download.UnavailableError(f"{root}: no network")

    monkeypatch.setattr(data.mnist.Mnist, "fetch", fail)


@pytest.mark.usefixtures("offline")
def test_the_subset_stands_in_where_that_is_wanted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["data.name=mnist", "data.if_unavailable=mnist-subset", "data.root=nothing"]
    assert train(*wanted, "training.epochs=1", "output.pictures=false") == 0
    out, err = capsys.readouterr()
    assert err.startswith("warning: ")
    assert err.count("\n") == 1
    assert "mnist-subset" in err
    assert out.splitlines()[-3].endswith(" on mnist-subset")
    environment = json.loads((the_run(folder) / "environment.json").read_text())
    assert environment["data_set"] == "mnist-subset"


@pytest.mark.usefixtures("offline")
def test_unavailable_data_is_an_error_otherwise(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = train("data.name=mnist", "data.root=nothing")
    assert_refused(capsys, code, 1, "nothing: no network")
