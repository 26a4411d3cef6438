"""`train --dry-run`, `--check-gradients` and `--print-config`: what they say, and that they leave nothing behind."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_config import small_config

from minicnn import SGD, Batches, Conv2d, Dense, Dropout, Flatten, MeanSquaredError, Sequential
from minicnn.cli import main
from minicnn.config.experiment import Experiment
from minicnn.config.settings import dump_settings, load_settings
from minicnn.errors import MinicnnError
from minicnn.inspect.gradient_table import print_gradient_table
from minicnn.layers import Tanh, registry
from minicnn.losses import SoftmaxCrossEntropy
from minicnn.runs import dry_run as estimate
from minicnn.runs.dry_run import duration

CONFIG = small_config(before_flatten=[{"Dropout": {"p": 0.2}}])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the settings above in small.yaml."""
    (tmp_path / "small.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*arguments: str) -> int:
    return main(["train", "small.yaml", *arguments])


def only_the_config_is_there(folder: Path) -> bool:
    return [path.name for path in folder.iterdir()] == ["small.yaml"]


class WrongTanh(Tanh):
    """A Tanh whose dx is a thousandth too large."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return super().backward(dy) * 1.001


class WrongDense(Dense):
    """A Dense whose bias has no gradient."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = super().backward(dy)
        self.parameters()[1].grad[...] = 0
        return dx


# --check-gradients


def table_of(network: Sequential, loss: object, shape: tuple[int, ...]) -> list[list[str]]:
    """The cells of each line of the table; of lines whose layer stands above, the layer, too."""
    lines: list[str] = []
    print_gradient_table(network, loss, shape, lines.append)  # type: ignore[arg-type]
    rows = [re.split(r"  +", line.strip()) for line in "\n".join(lines).splitlines()[4:]]
    return [row for row in rows if len(row) > 1]


def test_every_array_of_a_network_has_its_line_in_the_table() -> None:
    network = Sequential([Sequential([Conv2d(2, 3, 3), Tanh()]), Flatten(), Dense(36, 4)])
    rows = table_of(network, SoftmaxCrossEntropy(0.1), (2, 5, 6))
    assert [row[:-4] for row in rows if len(row) > 4] == [
        ["0.0", "Conv2d(2, 3, kernel_size=(3, 3))"],
        ["0.1", "Tanh()"],
        ["1", "Flatten()"],
        ["2", "Dense(36, 4)"],
        ["SoftmaxCrossEntropy"],
        ["network and loss"],
    ]
    assert [row[-4:-2] for row in rows] == [
        *(["input", "100 of 120"], ["weight", "54 of 54"], ["bias", "3 of 3"]),
        *(["input", "72 of 72"], ["input", "72 of 72"]),
        *(["input", "72 of 72"], ["weight", "100 of 144"], ["bias", "4 of 4"]),
        ["input", "16 of 16"],
        *([name, "directions"] for name in ("0.0.weight", "0.0.bias", "2.weight", "2.bias")),
    ]
    assert all(0 <= float(row[-2]) < 1e-6 and row[-1] == "right" for row in rows)


def test_the_network_that_is_checked_stays_as_it_is() -> None:
    network = Sequential([Dense(7, 5), Dropout(0.4), Tanh(), Dense(5, 4)]).initialize("lecun", 0)
    twin = Sequential([Dense(7, 5), Dropout(0.4), Tanh(), Dense(5, 4)]).initialize("lecun", 0)
    table_of(network, MeanSquaredError(), (7,))
    assert network.dtype == np.float32
    x = np.ones((3, 7), np.float32)
    np.testing.assert_array_equal(network.forward(x, True), twin.forward(x, True))


def test_the_work_for_a_layer_that_is_large_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minicnn.inspect.gradient_table.WORK", 35 * 20)
    rows = table_of(Sequential([Dense(7, 5)]), SoftmaxCrossEntropy(), (7,))
    assert [row[-3] for row in rows[:3]] == ["14 of 14", "20 of 35", "5 of 5"]
    monkeypatch.setattr("minicnn.inspect.gradient_table.WORK", 1)
    rows = table_of(Sequential([Dense(7, 5)]), SoftmaxCrossEntropy(), (7,))
    assert [row[-3] for row in rows[:3]] == ["5 of 14", "5 of 35", "5 of 5"]


@pytest.mark.parametrize(
    ("wrong", "places"),
    [
        (WrongTanh, ["1 WrongTanh()", "network and loss", "network and loss"]),
        (WrongDense, ["0 Dense(7, 5)", "network and loss"]),
    ],
)
def test_wrong_gradients_are_named(wrong: type, places: list[str]) -> None:
    first, second = (WrongDense(7, 5), Tanh()) if wrong is WrongDense else (Dense(7, 5), wrong())
    network = Sequential([first, second, Dense(5, 4)])
    lines: list[str] = []
    with pytest.raises(MinicnnError) as caught:
        print_gradient_table(network, SoftmaxCrossEntropy(), (7,), lines.append)
    found = str(caught.value).splitlines()
    assert [line.partition(": gradient of ")[0] for line in found] == places
    assert sum("WRONG" in line for line in lines) == len(places)
    assert all("backward gives" in line and "central differences give" in line for line in found)


def test_check_gradients_of_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--check-gradients") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("gradients against central differences in float64")
    assert out.endswith("\nall 15 gradients are right\n")
    assert "100 of 2,940" in out
    assert only_the_config_is_there(folder)


def test_a_wrong_gradient_ends_in_exit_code_1(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.LAYERS, "Tanh", WrongTanh)
    assert train("--check-gradients", "network.layers.1=Tanh", "network.layers.0.Conv2d.out_channels=1") == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[7].endswith("WRONG")
    assert [line.partition(": gradient of ")[0] for line in err.splitlines()] == [
        *("error: 1 WrongTanh()", "error: network and loss", "error: network and loss")
    ]


# --dry-run


def test_dry_run_says_what_to_expect(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--dry-run") == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [line for line in out.splitlines() if not line.startswith("compiling kernels")]
    assert lines[0].split() == ["layer", "output", "parameters", "multiply-adds", "receptive", "field"]
    assert lines[-5].startswith("mnist-subset: 10,000 training and 2,000 test images")
    step = r"a step of 64 images takes [\d.]+ ms, [\d,]+ images/s; an evaluation of 2,000 images "
    assert re.match(step + r"[\d.e+]+ m?s$", lines[-3])
    assert re.match(r"the whole run, 314 steps and 2 evaluations, takes about [\d.]+ m?s; threads: 1$", lines[-2])
    assert re.match(r"the loss is \d+\.\d{4} before the first step; no run folder was made$", lines[-1])
    assert only_the_config_is_there(folder)


def test_the_estimate_is_steps_and_evaluations_times_epochs(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "time_steps", lambda *_: (0.5, 2.3))
    monkeypatch.setattr(estimate, "time_evaluation", lambda *_: 21.5)
    assert train("--dry-run", "training.epochs=3") == 0
    out = capsys.readouterr().out
    assert "takes 500 ms, 128 images/s" in out
    assert "takes about 5 min 0 s;" in out  # 3 (157 * 0.5 + 21.5)


def test_steps_are_timed_with_the_rates_of_the_schedule_and_the_first_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings("small.yaml", ["schedule={name: constant, warmup: 2}"])
    experiment = Experiment(settings)
    before = experiment.network.values.copy()
    rates: list[float] = []
    original = SGD.step
    monkeypatch.setattr(SGD, "step", lambda self: (rates.append(self.lr), original(self))[1])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (70 * 64, 1, 28, 28)).astype(np.uint8)
    experiment.train_batches = Batches(images, np.zeros(len(images), np.int64), 64, seed=0)
    clock = iter([0.0, 100.0, *(x for k in range(200) for x in (100.0 + k, 100.5 + k))])
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(estimate, "TIMED_SECONDS", 1000.0)
    assert estimate.time_steps(experiment)[0] == 0.5
    np.testing.assert_allclose(rates, 0.05 * np.arange(1, 52) / 141)
    assert not np.array_equal(experiment.network.values, before)


def test_slow_steps_are_few(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment(load_settings("small.yaml"))
    monkeypatch.setattr(estimate, "TIMED_SECONDS", 0.0)
    images = np.zeros((640, 1, 28, 28), np.uint8)
    experiment.train_batches = Batches(images, np.zeros(640, np.int64), 64)
    taken: list[int] = []
    original = SGD.step
    monkeypatch.setattr(SGD, "step", lambda self: (taken.append(1), original(self))[1])
    estimate.time_steps(experiment)
    assert len(taken) == 2


def test_an_evaluation_is_judged_by_its_first_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    experiment = Experiment(load_settings("small.yaml"))
    images = np.zeros((256 * 15, 1, 28, 28), np.uint8)
    experiment.test_batches = Batches(images, np.zeros(len(images), np.int64), 256)
    seen: list[int] = []
    monkeypatch.setattr(estimate, "evaluate", lambda *a: seen.append(len(list(a[2]))))
    seconds = estimate.time_evaluation(experiment)
    assert seen == [10, 10]
    assert seconds == 1.5  # ten batches took a second


MISTAKES = {
    "training.threads=10000": (2, "training.threads: expected at most "),
    "network.layers.5.Dense.out_features=12": (2, "network.layers.5.Dense: expected an output of"),
    "optimizer.lr=1e30": (1, "step 2: expected a finite loss"),
    "output.dir=small.yaml": (1, "output.dir: expected a folder that can be written, received"),
    "output.dir=small.yaml/runs": (1, "output.dir: expected a folder that can be written"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_dry_run_finds_what_a_run_would(folder: Path, capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    code, part = MISTAKES[mistake]
    assert train("--dry-run", mistake) == code
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith(f"error: {part}")
    assert only_the_config_is_there(folder)


def test_durations() -> None:
    seconds = [0.0012345, 0.5, 0.9997, 1, 12.3, 59.8, 60, 200, 3599.9, 3600, 7500, 400_000]
    assert [duration(value) for value in seconds] == [
        *("1.23 ms", "500 ms", "1 s", "1 s", "12 s", "60 s", "1 min 0 s", "3 min 20 s"),
        *("1 h 0 min", "1 h 0 min", "2 h 5 min", "111 h 6 min"),
    ]


# --print-config


def test_print_config_is_the_resolved_settings_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--print-config", "optimizer.lr=0.02") == 0
    out, err = capsys.readouterr()
    assert err == ""
    settings = load_settings("small.yaml", ["optimizer.lr=0.02"])
    assert out == dump_settings(settings)
    (folder / "again.yaml").write_text(out)
    assert load_settings("again.yaml") == settings


def test_one_of_them_at_a_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--dry-run", "--print-config") == 2
    assert "not allowed with" in capsys.readouterr().err
