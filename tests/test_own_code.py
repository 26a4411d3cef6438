"""Layers, losses, optimizers and callbacks of a user's own, named in settings, and when their code is run."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from minicnn import MinicnnError, load, own_code
from minicnn.cli import main
from minicnn.config.settings import load_settings, load_tree
from minicnn.sweeps.worker import Task, work
from minicnn.training.tables import read_table

MODULE = """\
from pathlib import Path

import numpy as np

from minicnn import Callback, Layer, Loss, Parameter, SGD
from own_helpers import QUARTER

Path(__file__).with_name("was_run").touch()


class PReLU(Layer):
    def __init__(self, channels):
        self.channels = channels
        self.slope = Parameter("slope", np.full(channels, QUARTER, np.float32))

    def parameters(self):
        return [self.slope]

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False):
        self.x = x
        return np.where(x > 0, x, self.slope.value * x)

    def backward(self, dy):
        below = np.where(self.x > 0, 0, dy)
        self.slope.grad[...] = (below * self.x).sum(axis=0)
        return np.where(self.x > 0, dy, self.slope.value * dy)


class Huber(Loss):
    def __init__(self, delta: float = 1.0):
        self.delta = delta

    def forward(self, y, target):
        self.e = y - np.eye(y.shape[1], dtype=y.dtype)[target]
        size = abs(self.e)
        return np.where(size <= self.delta, size**2 / 2, self.delta * (size - self.delta / 2)).mean()

    def backward(self):
        return self.e.clip(-self.delta, self.delta) / self.e.size


class Plain(SGD):
    def __init__(self, parameters, lr: float = 0.1, extra: float = 0.0):
        super().__init__(parameters, lr)
        self.extra = extra


class Count(Callback):
    kept = ("count",)

    def __init__(self, step: int = 1):
        self.step, self.count = step, 0

    def on_epoch_end(self, trainer, row):
        self.count += self.step
        Path("count").write_text(str(self.count))
        row["count"] = self.count
"""

CONFIG = """\
network:
  layers: [Flatten, Dense: {out_features: 6}, "own_module:PReLU": {channels: 6}, Dense: {out_features: 3}]
data: {name: arrays, path: images.npz}
loss: {name: "own_module:Huber", delta: 0.5}
optimizer: {name: "own_module:Plain", lr: 0.2, extra: 0.5}
training: {epochs: 2, threads: 1, batch_size: 16, callbacks: ["own_module:Count": {step: 2}]}
output: {pictures: false, lint: false}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, and in code/ a configuration with its modules, which nobody has loaded yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own_code, "_loaded", {})
    for name in ("own_module", "own_helpers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    code = tmp_path / "code"
    code.mkdir()
    (code / "own_module.py").write_text(MODULE)
    (code / "own_helpers.py").write_text("QUARTER = 0.25\n")
    (code / "own.yaml").write_text(CONFIG)
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 100, (60, 4, 5), np.uint8) + (60 * labels[:, None, None])
    np.savez(
        tmp_path / "images.npz",
        train_images=images.astype(np.uint8),
        train_labels=labels,
        test_images=images.astype(np.uint8),
        test_labels=labels,
    )
    return tmp_path


def forget(*places: Path) -> None:
    """As a new process, which has run nothing yet."""
    own_code._loaded.clear()
    for name in ("own_module", "own_helpers"):
        sys.modules.pop(name, None)
    for place in places:
        (place / "was_run").unlink(missing_ok=True)


def test_a_run_takes_its_code_with_it_and_runs_it_when_it_is_trusted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "code/own.yaml"]) == 0
    err = capsys.readouterr().err
    assert err == f"running the code of {Path('code/own_module.py')}, as code/own.yaml names own_module:PReLU\n"
    assert str(folder / "code") not in sys.path and not list(folder.rglob("__pycache__"))
    [whole] = (folder / "runs").iterdir()
    assert (folder / "count").read_text() == "4"
    assert (whole / "own_module.py").read_text() == MODULE and (whole / "own_helpers.py").exists()
    shutil.rmtree(folder / "code")

    # The same in two halves, the second in a new process.
    assert main(["train", str(whole / "config.yaml"), "training.epochs=1", "output.dir=halves"]) == 0
    [half] = (folder / "halves").iterdir()
    for command in (["train", "--resume", str(half), "training.epochs=2"], ["evaluate", str(half)]):
        forget(half)
        capsys.readouterr()
        assert main(command) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1
        assert f"own_module:PReLU is code of {half / 'own_module.py'}, which runs only if you trust it: " in err
        assert not (half / "was_run").exists() and "own_module" not in sys.modules
        assert main([*command, "--trust-code"]) == 0
        assert (half / "was_run").exists() and not own_code._trusted
    assert f"accuracy {float(read_table(half / 'metrics.csv')[-1]['test_accuracy']):.2%}" in capsys.readouterr().out
    for file in ("model.safetensors", "metrics.csv"):
        assert (half / file).read_bytes() == (whole / file).read_bytes()
    assert (folder / "count").read_text() == "4"

    # In Python: trusted, or with the class; the same code runs a second time without a question.
    forget(whole)
    with pytest.raises(MinicnnError, match=r"^[^:]*model.safetensors: own_module:PReLU is code of .*trust_code=True"):
        load(whole)
    x = np.zeros((2, 4, 5), np.uint8)
    scores = load(whole, trust_code=True).scores(x)
    np.testing.assert_array_equal(load(whole).scores(x), scores)
    (half / "own_module.py").write_text(MODULE + "\n")  # other code under the same name
    with pytest.raises(MinicnnError, match="runs only if you trust it"):
        load(half)
    (half / "own_module.py").write_text(MODULE)
    (half / "own_helpers.py").write_text("QUARTER = 0.5\n")  # other code that it imports
    with pytest.raises(MinicnnError, match="runs only if you trust it"):
        load(half)
    assert load(half, trust_code=True).network[2].forward.__globals__["QUARTER"] == 0.5
    forget(whole)
    load(whole, trust_code=True)
    cls = type(load(whole).network[2])
    forget(whole)
    np.testing.assert_array_equal(load(whole, layers={"PReLU": cls}).scores(x), scores)
    assert not (whole / "was_run").exists()


def test_a_worker_of_a_sweep_loads_the_code_from_the_folder_of_the_sweep(folder: Path) -> None:
    assert main(["train", "code/own.yaml", "training.epochs=1"]) == 0
    [run] = (folder / "runs").iterdir()
    tree = load_tree("code/own.yaml", ["training.epochs=1"])
    forget()
    [outcome] = work([Task(1, tree, 1, folder=str(folder / "code"))])
    assert outcome.error == ""
    assert outcome.figures["accuracy"] == float(read_table(run / "metrics.csv")[-1]["test_accuracy"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.name=own_module:Hubert", "loss.name: own_module:Hubert: expected a class of own_module, which has no"),
        ("loss.name=own_module:PReLU", "expected a class derived from Loss, received the class PReLU"),
        ("loss.delta=x", 'loss.delta: expected a number, received "x"'),
        ("optimizer.extra2=1", "optimizer.extra2: unknown key"),
        ("network.layers.2={own_module:PReLU: {chanels: 6}}", "PReLU.chanels: unknown key"),
        ("network.layers.2={no_module:PReLU: {channels: 6}}", "expected .*no_module.py, there is none"),
        ("network.layers.2={bad:PReLU: {channels: 6}}", "its module .*: ZeroDivisionError: .* \\(bad.py, line 1\\)"),
        ("network.layers.2={queue:PReLU: {channels: 6}}", "expected a module of your own, .* one of Python's"),
        ("training.callbacks=[EarlyStopping]", "training.callbacks.0: expected one of your own"),
        ("training.callbacks=[own_module:Count: {stepp: 2}]", "training.callbacks.0.own_module:Count.stepp: unknown"),
    ],
)
def test_names_that_are_wrong(folder: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "code" / "bad.py").write_text("1 / 0\n")
    (folder / "code" / "queue.py").write_text("raise SystemExit\n")
    assert main(["train", "code/own.yaml", override]) == 2
    err = capsys.readouterr().err.splitlines()
    errors = [line for line in err if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert re.search(message, errors[0]), errors
    assert "the installed module no_module" not in "".join(err)  # nothing of that name runs
    assert not (folder / "runs").exists()


def test_an_error_in_code_of_ones_own_is_not_called_a_fault_of_minicnn(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = "from minicnn import Callback\n\n\nclass Bad(Callback):\n"
    (folder / "code" / "late.py").write_text(f"{begin}    def on_epoch_end(self, trainer, row):\n        1 / 0\n")
    (folder / "code" / "few.py").write_text(f"{begin}    def on_epoch_end(self, trainer):\n        pass\n")
    assert main(["train", "code/own.yaml", "training.callbacks=[late:Bad]"]) == 1
    err = capsys.readouterr().err
    assert "error: ZeroDivisionError: division by zero, in your own code: late.py, line 6; its traceback is in " in err
    assert main(["train", "code/own.yaml", "training.callbacks=[few:Bad]"]) == 70
    assert "this is a fault of minicnn, or of your own code, please report it; its traceback" in capsys.readouterr().err


def test_the_settings_of_a_run_are_not_read_with_code_that_nobody_trusts(folder: Path) -> None:
    with pytest.raises(MinicnnError, match="runs only if you trust it"):
        load_settings("code/own.yaml", of_run=True)
    assert not (folder / "code" / "was_run").exists()
