"""Runs that begin with the weights of another one, train a part of a network, and go on after a stop."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from stopped_runs import before_step, checkpoint_of, interrupt

from minicnn import Dense, Flatten, MinicnnError, Model, ReLU, Sequential, load
from minicnn.cli import main
from minicnn.config.experiment import Experiment
from minicnn.config.settings import load_settings
from minicnn.model import weights_hash
from minicnn.sweeps.worker import Task, work

CONFIG = """\
network:
  layers:
    - Conv2d: {{out_channels: 3, kernel_size: 3}}
    - BatchNorm2d
    - ReLU
    - Flatten
    - Dense: {{out_features: 6}}
    - Dropout
    - Dense: {{out_features: {classes}}}
data:
  name: arrays
  path: {classes}.npz
optimizer: {{name: adamw, weight_decay: 0.1, clip_norm: 1.0}}
schedule: {{name: cosine}}
training: {{epochs: 2, batch_size: 10, threads: 1}}
output: {{pictures: false, lint: false}}
"""
PARTLY = ("training.freeze=[0, 1]", "training.lr_factors={4: 0.5}", "training.accumulate=2")

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for classes in (3, 5):
        images, labels = rng.integers(0, 256, (75, 6, 6), np.uint8), np.arange(75) % classes
        arrays = {"train_images": images[:55], "train_labels": labels[:55]}
        np.savez(f"{classes}.npz", **arrays, test_images=images[55:], test_labels=labels[55:])
        Path(f"{classes}.yaml").write_text(CONFIG.format(classes=classes))
    return tmp_path


def train(config: str, folder: str, *overrides: str) -> Path:
    assert main(["train", config, f"output.dir={folder}", *overrides]) == 0
    [run] = Path(folder).iterdir()
    return run


def test_a_new_head_on_layers_that_stay(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = train("3.yaml", "old")
    capsys.readouterr()
    first = f"training.start_from={old}"
    run = train("5.yaml", "new", first, *PARTLY)
    lines = capsys.readouterr().out.splitlines()
    assert (
        f"started from {old}: 9 of 11 arrays are those of the other network; initialised anew: 6.weight "
        "(expected shape (5, 6), received (3, 6)), 6.bias (expected shape (5,), received (3,))"
    ) in lines
    assert "trainable parameters: 329; frozen: 36, in layers 0, 1" in lines
    before, after = load(old).network.state_dict(), load(run).network.state_dict()
    for name in before:
        assert np.array_equal(before[name], after[name]) == name.startswith(("0.", "1.")), name
    assert checkpoint_of(run).state["progress"]["step"] == 2 * 3  # 55 images, 20 in a step
    # The settings that the run has written begin the same one again.
    config = load_settings(run / "config.yaml")
    assert config.training.freeze == [0, 1] and config.training.lr_factors == {"4": 0.5}
    optimizer = Experiment(config).optimizer
    assert [group.lr_factor for group in optimizer.groups] == [1.0, 0.5, 1.0]
    # What a sweep does in a process of its own.
    tree = config.model_dump(mode="json")
    [outcome] = work([Task(1, tree, 2)])
    assert (outcome.error, outcome.figures["weights"]) == ("", weights_hash(load(run).network))
    # A run that is stopped goes on without the old one.
    with monkeypatch.context() as patch:
        before_step(patch, {5: interrupt})
        assert main(["train", "5.yaml", "output.dir=stopped", first, *PARTLY]) == 130
    shutil.rmtree(old)
    [stopped] = Path("stopped").iterdir()
    assert main(["train", "--resume", str(stopped)]) == 0
    for name in ("model.safetensors", "metrics.csv"):
        assert (stopped / name).read_bytes() == (run / name).read_bytes()
    # Frozen layers may thaw.
    assert main(["train", "--resume", str(stopped), "training.epochs=3", "training.freeze=[]"]) == 0
    assert not np.array_equal(load(stopped).network.state_dict()["0.weight"], before["0.weight"])


def test_what_cannot_be_started_from(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    Model(Sequential([Flatten(), Dense(36, 3)]), (1, 6, 6)).save("other")
    Path("text").write_text("text")
    for override, message in {
        "training.start_from=gone": "training.start_from: gone: expected a model file or a run's folder, there is none",
        "training.start_from=empty": "training.start_from: empty: expected a run's folder, with model.safetensors in",
        "training.start_from=text": "training.start_from: text: expected a model file, received a damaged or foreign",
        "training.start_from=other": "training.start_from: other: expected weights that fit this network, received "
        "none that do: 0.weight (the other has none), ",
        "training.freeze=[0, 9]": "training.freeze: expected layers of the network, numbered from 0 to 6, received 9",
        "training.freeze=[0, 1, 4, -1]": "training.freeze: expected a layer with weights that is not frozen, received",
        "training.lr_factors={2: 0.1}": "training.lr_factors: expected layers with weights, received layer 2",
    }.items():
        assert main(["train", "3.yaml", override]) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1) and err.startswith(f"error: {message}"), err
    assert not Path("runs").exists()


def test_a_model_in_python() -> None:
    def model(classes: int, hidden: int = 6) -> Model:
        return Model(Sequential([Flatten(), Dense(36, hidden), ReLU(), Dense(hidden, classes)]).initialize(rng=classes))

    old, new = model(3), model(5)
    before = new.network.state_dict()
    taken = new.start_from(old)
    assert (taken.loaded, list(taken.kept), taken.unused) == (["1.weight", "1.bias"], ["3.weight", "3.bias"], [])
    after = new.network.state_dict()
    for name, source in {"1": old.network.state_dict(), "3": before}.items():
        for kind in ("weight", "bias"):
            np.testing.assert_array_equal(after[f"{name}.{kind}"], source[f"{name}.{kind}"])
    # A layer is taken as a whole or not at all, and a state dict of torch's will do.
    state = {**old.network.state_dict(), "1.weight": np.zeros((6, 35)), "4.weight": np.zeros(1)}
    with pytest.raises(MinicnnError, match=r"1.weight \(expected shape .*1.bias \(its layer does not fit\)"):
        model(5).start_from(state)
    taken = model(3).start_from(state)
    assert taken.loaded == ["3.weight", "3.bias"]
    assert str(taken).endswith("1.bias (its layer does not fit); not used: 4.weight")
    with pytest.raises(MinicnnError, match="nowhere: expected a model file"):
        new.start_from("nowhere")
    with pytest.raises(MinicnnError, match=r"start_from: expected a model, .* received 3"):
        new.start_from(3)  # type: ignore[arg-type]
