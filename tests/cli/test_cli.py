"""The command line, from what a user types to the files of the run folder."""

import csv
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import forget
from safetensors.numpy import load_file

import minicnn.runs.run
import minicnn.training.trainer
from minicnn import SGD, Sequential, data
from minicnn.cli import main
from minicnn.config.settings import load_settings
from minicnn.data import Batch
from minicnn.losses import Loss
from minicnn.training.interrupt import Interrupt
from minicnn.training.step import StepResult

ROOT = Path(__file__).parents[2]

CONFIG = """\
network:
  layers:
    - Conv2d: {out_channels: 6, kernel_size: 5, padding: 2}
    - ReLU
    - MaxPool: {kernel_size: 4}
    - Flatten
    - Dense: {out_features: 10}
data:
  name: mnist-subset
optimizer:
  lr: 0.05
  momentum: 0.9
schedule:
  name: cosine
training:
  epochs: 2
  threads: 1
output:
  dir: runs
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the settings above in small.yaml."""
    (tmp_path / "small.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*overrides: str) -> int:
    return main(["train", "small.yaml", *overrides])


def the_run(folder: Path) -> Path:
    [run] = (folder / "runs").iterdir()
    return run


def metrics_of(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def assert_refused(capsys: pytest.CaptureFixture[str], received: int, expected: int, *parts: str) -> None:
    """The exit code, one line of error with `parts` in it, and no run folder."""
    assert received == expected
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert not list(Path().glob("runs/*"))


# ---- a whole run


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
    assert "mnist-subset: 10,000 training and 2,000 test images of 1 x 28 x 28, 10 classes" in lines
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
    texts = ["config.yaml", "environment.json", "metrics.csv", "model.safetensors", "timings.csv"]
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
        "weight_change",
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


# ---- bad input


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
    "unknown command": (["trian"], "trian"),
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
    f"{LAYERS}.1={{Dropout: {{p: 2}}}}": (f"{LAYERS}.1.Dropout: ", "2"),
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
    original = minicnn.training.trainer.train_step

    def train_step(
        network: Sequential, loss: Loss, optimizer: SGD, batch: Batch, reduce: None = None, errors: bool = False
    ) -> StepResult:
        if optimizer.steps == 150:
            network[4].weight.value[3, 0] = np.nan
        result = original(network, loss, optimizer, batch, reduce, errors)
        after[optimizer.steps] = network[4].weight.value.copy()
        return result

    monkeypatch.setattr(minicnn.training.trainer, "train_step", train_step)
    assert train() == 1
    err = capsys.readouterr().err
    assert err.startswith("error: step 151: expected a finite loss, ")
    assert "layer 4 Dense(294, 10); the last good weights, those after step 100, are in " in err
    kept = load_file(the_run(folder) / "model.safetensors")["4.weight"]
    np.testing.assert_array_equal(kept, after[100])


# ---- being stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_run_in_good_order(folder: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "minicnn", "train", "small.yaml", "training.epochs=999"]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch   2/999"):
                process.send_signal(number)
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == ""
    lines = out.splitlines()
    assert lines[-5].startswith("interrupted after step ")
    assert lines[-3].startswith("test accuracy ")
    run = the_run(folder)
    names = {path.name for path in run.iterdir()}
    assert {"model.safetensors", "metrics.csv", "curves.png", "errors.png"} < names
    assert len(load_file(run / "model.safetensors")) == 4
    assert len((run / "metrics.csv").read_text().splitlines()) >= 3


def test_interrupt_before_the_first_step_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("minicnn.config.experiment.load_data", load)
    assert train() == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert not list(Path("runs").iterdir())


EARLY = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may be born without it

class Interrupting:
    def find_spec(self, name, *rest):
        if name == "llvmlite":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from minicnn.cli import main
sys.exit(main(["train", "small.yaml"]))
"""


def test_an_interrupt_while_the_engine_is_imported(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", EARLY], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
    assert not Path("runs").exists()


def test_the_second_interrupt_ends_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        interrupt.polite = True
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_same_run_again_has_the_same_name(folder: Path) -> None:
    assert train("training.epochs=1", "output.pictures=false") == 0
    config = the_run(folder) / "config.yaml"
    assert main(["train", str(config)]) == 0
    assert {path.name.partition("-")[0] for path in Path("runs").iterdir()} == {"small"}


def test_a_reader_that_goes_away_does_not_end_the_run(folder: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), "small.yaml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
    assert len(metrics_of(the_run(folder))) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_below_the_console_does_not_end_the_run(folder: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), "small.yaml"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ("warning: standard output cannot be written: No space left on device\n")
    assert len(metrics_of(the_run(folder))) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_warnings_that_cannot_be_written_do_not_end_the_run(folder: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), "small.yaml", "optimizer.weight_decay=0.06"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, check=False)
    assert done.returncode == 0
    assert len(metrics_of(the_run(folder))) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--resume", 300 * "a"],
        ["small.yaml", "--dry-run", f"output.dir={300 * 'a'}"],
        ["small.yaml", "--dry-run", 'output.dir="a\\0b"'],
    ],
)
def test_paths_that_no_file_system_takes(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["train", *arguments]) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1


def test_an_interrupt_that_a_callback_swallows_still_counts(capfd: pytest.CaptureFixture[str]) -> None:
    """As Numba's do while it loads kernels; what ctypes cannot pass on, Python prints as a traceback."""
    callback = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))
    with Interrupt() as interrupt:
        callback()
        assert interrupt.requested
    assert capfd.readouterr().err == ""


# ---- the doors


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, part in (["--help"], "train"), (["train", "--help"], "optimizer.lr=0.02"):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        out = capsys.readouterr().out
        assert part in out
        assert "exit codes:" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"minicnn {minicnn.__version__}\n"


def test_every_door_leads_to_the_same_command() -> None:
    for door in (["train.py"], ["-m", "minicnn", "train"]):
        command = [sys.executable, *door, "none.yaml"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr == "error: none.yaml: cannot be read: No such file or directory\n"


def test_training_imports_nothing_slow_before_it_starts() -> None:
    """torch takes seconds to import: the first step does not wait for what it does not need."""
    code = "import sys, minicnn.cli, minicnn.runs.run; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    modules = set(done.stdout.split())
    assert "minicnn.runs.run" in modules
    assert not modules & {"torch", "torchvision", "matplotlib", "PIL"}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--epochs", "5"], "training.epochs=...; "),
        (["--lr=0.1"], "optimizer.lr=0.1; "),
        (["--batch-size=8"], "training.batch_size=8; "),
        (["--nonsense"], "see minicnn"),
    ],
)
def test_settings_are_no_options(
    folder: Path, arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "small.yaml", *arguments]) == 2
    assert f"unrecognized arguments: {arguments[0]}; {hint}" in capsys.readouterr().err
