"""Runs that are stopped and go on, in this process, where a test can choose the very step."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stopped_runs import (
    CONFIG,
    ROOT,
    STEPS,
    assert_same,
    before_step,
    checkpoint_of,
    figures,
    interrupt,
    resume,
    the_run,
    train,
)

import minicnn.files
import minicnn.runs.run
import minicnn.training.tables
import minicnn.training.trainer
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.run_folder import RunFolder

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def errors_of(capsys: Capture) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


# ---- the same to the bit


@pytest.mark.parametrize("step", [2, 50, 99, 100, 299])
def test_an_interrupt_after_any_step(
    folder: Path, whole: tuple[Path, list[str]], monkeypatch: Patch, capsys: Capture, step: int
) -> None:
    with monkeypatch.context() as patch:
        before_step(patch, {step + 1: interrupt})
        assert train() == 130
    out = capsys.readouterr().out
    run = the_run(folder)
    epoch = 1 + step // STEPS
    [line] = [line for line in out.splitlines() if line.startswith("interrupted")]
    assert line == (
        f"interrupted after step {step}, in epoch {epoch} of 3; to go on: "
        f"minicnn train --resume {Path('runs') / run.name}"
    )
    assert checkpoint_of(run).state["progress"]["step"] == step
    assert resume(run, *(["training.threads="] if step == 50 else [])) == 0  # all cores
    again = capsys.readouterr().out
    assert f"resumed after step {step}, in epoch {epoch} of 3" in again.splitlines()
    assert_same(run, whole[0])
    epochs = [line for line in figures(out) + figures(again) if line.startswith("epoch")]
    assert [*epochs, figures(again)[-1]] == whole[1]


def test_an_interrupt_in_the_last_step_is_no_interrupt(
    folder: Path, whole: tuple[Path, list[str]], monkeypatch: Patch
) -> None:
    before_step(monkeypatch, {3 * STEPS + 1: interrupt})
    assert train() == 0
    assert_same(the_run(folder), whole[0], ("model.safetensors", "metrics.csv", "steps.csv"))


def test_pictures_are_those_of_an_uninterrupted_run(stopped: Path, whole: tuple[Path, list[str]]) -> None:
    assert resume(stopped, "output.pictures=true") == 0
    names = sorted(path.name for path in whole[0].glob("*.png"))
    assert len(names) >= 4
    for name in names:
        assert (stopped / name).read_bytes() == (whole[0] / name).read_bytes(), name


def test_a_run_killed_before_its_first_step(folder: Path, whole: tuple[Path, list[str]], monkeypatch: Patch) -> None:
    original = minicnn.runs.run.Run.introduce

    def introduce(run: minicnn.runs.run.Run) -> None:
        shutil.copytree(run.folder.path, "copy")
        original(run)

    with monkeypatch.context() as patch:
        patch.setattr(minicnn.runs.run.Run, "introduce", introduce)
        assert train() == 0
    assert resume(Path("copy")) == 0
    assert_same(Path("copy"), whole[0])


def test_a_kill_while_the_end_is_drawn(folder: Path, whole: tuple[Path, list[str]], monkeypatch: Patch) -> None:
    """All steps are done, and the checkpoint says so, but not that nothing is left to do."""

    def finish(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("minicnn.runs.run.draw_pictures", finish)
        assert train("output.pictures=true") == 130
    run = the_run(folder)
    (run / "model.safetensors").unlink()
    assert resume(run, "output.pictures=false") == 0
    assert_same(run, whole[0])


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    stopped: Path, whole: tuple[Path, list[str]], capsys: Capture
) -> None:
    last = stopped / "checkpoints/last.safetensors"
    content = bytearray(last.read_bytes())
    content[-10] ^= 1
    last.write_bytes(content)
    assert resume(stopped) == 0
    out, err = capsys.readouterr()
    assert err == (
        f"warning: {last}: expected a whole checkpoint, received a damaged one: wrong checksum; "
        "going on with the one before it\n"
    )
    assert "resumed after step 147, in epoch 2 of 3" in out.splitlines()
    assert_same(stopped, whole[0])


def test_divergence_after_a_stop_keeps_the_same_weights(folder: Path, monkeypatch: Patch, capsys: Capture) -> None:
    """Those of step 200, a copy which was made before the stop."""

    def poison(network) -> None:  # type: ignore[no-untyped-def]
        network[6].weight.value[3, 0] = np.nan

    def run_with(name: str, actions: dict[int, Callable[[], None]]) -> int:
        networks = []
        original = minicnn.training.trainer.Trainer.fit

        def fit(trainer):  # type: ignore[no-untyped-def]
            networks.append(trainer.network)
            return original(trainer)

        with monkeypatch.context() as patch:
            patch.setattr(minicnn.training.trainer.Trainer, "fit", fit)
            before_step(patch, {**actions, 252: lambda: poison(networks[-1])})
            if Path(name).exists():
                return resume(next(Path(name).iterdir()))
            return train(f"output.dir={name}")

    assert run_with("a", {}) == 1
    message = capsys.readouterr().err
    assert "step 252: expected a finite loss" in message
    assert "after step 200, are in" in message
    assert run_with("b", {231: interrupt}) == 130
    assert run_with("b", {}) == 1
    one, two = (next(Path(name).iterdir()) for name in "ab")
    assert capsys.readouterr().err == message.replace(str(one), str(two))
    assert (two / "model.safetensors").read_bytes() == (one / "model.safetensors").read_bytes()


def test_weights_that_are_not_finite_replace_no_checkpoint(folder: Path) -> None:
    assert train("optimizer.lr=1e38", "schedule.name=constant", "checkpoint.every=1") == 1
    for name in ("last", "previous"):
        path = the_run(folder) / f"checkpoints/{name}.safetensors"
        if path.exists():
            arrays = Checkpoint.from_bytes(path.read_bytes()).arrays
            assert np.isfinite(arrays["network.6.weight"]).all()


# ---- what may change


REFUSED = {
    "network.init=lecun": 'network.init: expected "kaiming", as in the run so far, received "lecun"',
    "network.layers.0.Conv2d.padding=1": "network.layers.0.Conv2d.padding: expected [2, 2]",
    "network.layers.1=Tanh": 'network.layers.1: expected "ReLU", as in the run so far, received',
    "network.layers.4.Residual.layers.1.Dropout.p=0.2": "network.layers.4.Residual.layers.1.Dropout.p: expected",
    "network.layers.4.Residual.layers.0=ReLU": "network.layers.4.Residual.layers.0: expected",
    "network.layers.3.Dropout.p=0.4": "network.layers.3.Dropout.p: expected 0.3, as in the run",
    "data.name=folder": 'data.name: expected "arrays", as in the run so far, received "folder"',
    "data.mean=0.2": "data.mean: expected null, as in the run so far, received 0.2",
    "data.validation=0.1": "data.validation: expected null, as in the run so far, received 0.1",
    "loss.label_smoothing=0.1": "loss.label_smoothing: expected 0.0, as in the run so far",
    "training.batch_size=64": "training.batch_size: expected 16, as in the run so far, received 64",
    "training.seed=1": "training.seed: expected 0, as in the run so far, received 1",
    "training.ema=0.9": "training.ema: expected 0.99, as in the run so far, received 0.9",
    "training.ema=": "training.ema: expected 0.99, as in the run so far, received null",
    "training.hard_examples=0.5": "training.hard_examples: expected null, as in the run so far, received 0.5",
    "training.epochs=1": "training.epochs: expected at least 2, as many as were begun, received 1",
    "training.epoch=4": "training.epoch: unknown key; did you mean epochs?",
    "small.yaml": "--resume: expected settings to change, KEY=VALUE",
}


def test_settings_that_must_not_change(stopped: Path, capsys: Capture) -> None:
    files = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    for override, message in REFUSED.items():
        assert resume(stopped, override) == 2, override
        assert any(line.startswith(f"error: {message}") for line in errors_of(capsys)), override
    assert resume(stopped, "training.seed=1", "data.mean=0.2") == 2
    assert len(errors_of(capsys)) == 2
    assert {p: p.read_bytes() for p in stopped.rglob("*") if p.is_file()} == files


def test_settings_that_may_change(stopped: Path, capsys: Capture) -> None:
    changed = ("optimizer.lr=0.01", "schedule.name=constant", "checkpoint.every=", "data.root=d")
    assert resume(stopped, *changed, "output.step_log=false") == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        'changed: data.root from "data" to "d", optimizer.lr from 0.05 to 0.01, '
        'schedule.name from "cosine" to "constant", checkpoint.every from 7 to null, '
        "output.step_log from true to false"
    ) in lines
    assert (stopped / "metrics.csv").read_text().splitlines()[-1].split(",")[2] == "0.01"
    assert "lr: 0.01" in (stopped / "config.yaml").read_text()


def test_more_epochs(folder: Path, whole: tuple[Path, list[str]], capsys: Capture) -> None:
    run = folder / "copy"
    shutil.copytree(whole[0], run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert resume(run) == 0
    assert capsys.readouterr() == (
        f"{run}: all 3 epochs are done; to go on, for example: minicnn train --resume {run} training.epochs=6\n",
        "",
    )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert resume(run, "training.epochs=2") == 2
    assert "training.epochs: expected at least 3" in capsys.readouterr().err
    assert resume(run, "training.epochs=4", "output.pictures=false") == 0
    out = capsys.readouterr().out
    assert "resumed after step 300, in epoch 4 of 4" in out.splitlines()
    assert "the learning rate goes on at 0.00732, that of a run of 4 epochs" in out.splitlines()
    rows = (run / "metrics.csv").read_text()
    assert rows.startswith((whole[0] / "metrics.csv").read_text())
    assert len(rows.splitlines()) == 5
    assert len((run / "steps.csv").read_text().splitlines()) == 401
    assert len((run / "timings.csv").read_text().splitlines()) == 5


def test_an_edited_config_counts_and_a_missing_one_does_not_matter(
    stopped: Path, whole: tuple[Path, list[str]], capsys: Capture
) -> None:
    config = stopped / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("\n  seed: 0", "\n  seed: 5"))
    assert resume(stopped) == 2
    assert "training.seed: expected 0, as in the run so far, received 5" in errors_of(capsys)[0]
    config.unlink()
    assert resume(stopped) == 0
    assert config.read_text() == text
    assert_same(stopped, whole[0])


def test_other_data_under_the_same_name(stopped: Path, capsys: Capture) -> None:
    last = stopped / "checkpoints/last.safetensors"
    for key, value, message in (
        ("name", "mnist", "data: expected mnist, as in the run so far, received arrays"),
        ("train", [10000, 1, 2], "data: expected the train images and labels of the run so far"),
        ("classes", ["a"], "data: expected the classes of the run so far"),
    ):
        found = checkpoint_of(stopped)
        data = {**found.state["data"], key: value}
        content = last.read_bytes()
        last.write_bytes(Checkpoint(found.arrays, {**found.state, "data": data}).to_bytes())
        assert resume(stopped) == 1
        assert errors_of(capsys)[0].startswith(f"error: {message}")
        last.write_bytes(content)


# ---- what is no run, or not to be had


def test_no_run(folder: Path, capsys: Capture) -> None:
    Path("empty").mkdir()
    Path("begun").mkdir()
    Path("begun/config.yaml").write_text(CONFIG)
    for path, message in (
        ("nothing", "nothing: expected the folder of a run, there is none"),
        ("small.yaml", "small.yaml: expected the folder of a run, received a file"),
        ("empty", "empty: expected a run with a checkpoint, there is none"),
        (
            "begun",
            "begun: expected a run with a checkpoint, there is none; to start anew: minicnn train begun/config.yaml",
        ),
    ):
        assert resume(Path(path)) == 1
        assert errors_of(capsys) == [f"error: {message}"]


def test_two_processes_in_one_folder(stopped: Path, capsys: Capture) -> None:
    with RunFolder.existing(stopped):
        code = f"import sys; from minicnn.cli import main; sys.exit(main(['train', '--resume', {str(stopped)!r}]))"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"error: {stopped}: another process is training in this folder\n"
    assert resume(stopped) == 0
