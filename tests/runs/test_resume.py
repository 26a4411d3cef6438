"""Runs that are stopped and go on, in this process, where a test can choose the very step."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from interrupted import (
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
    whole_run,
)

import minicnn.files
import minicnn.runs.run
import minicnn.training.tables
import minicnn.training.trainer
from minicnn.cli import main
from minicnn.errors import DivergedError
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.run_folder import RunFolder

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    return whole_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: Patch) -> Path:
    """A current folder with the settings of the whole run in small.yaml."""
    (tmp_path / "small.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: Patch) -> None:
    monkeypatch.setattr(minicnn.files.os, "fsync", lambda handle: None)


@pytest.fixture
def stopped(folder: Path, monkeypatch: Patch, capsys: Capture) -> Path:
    """The folder of a run that was interrupted after step 150."""
    with monkeypatch.context() as patch:
        before_step(patch, {151: interrupt})
        assert train() == 130
    capsys.readouterr()
    return the_run(folder)


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
        patch.setattr(minicnn.runs.run.Pictures, "draw", finish)
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
        network[5].weight.value[3, 0] = np.nan

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
            assert np.isfinite(arrays["network.5.weight"]).all()


# ---- what may change


REFUSED = {
    "network.init=lecun": 'network.init: expected "kaiming", as in the run so far, received "lecun"',
    "network.layers.0.Conv2d.padding=1": "network.layers.0.Conv2d.padding: expected [2, 2]",
    "network.layers.1=Tanh": 'network.layers.1: expected "ReLU", as in the run so far, received',
    "network.layers.3.Dropout.p=0.4": "network.layers.3.Dropout.p: expected 0.3, as in the run",
    "data.name=mnist": 'data.name: expected "mnist-subset", as in the run so far, received "mnist"',
    "data.mean=0.2": "data.mean: expected null, as in the run so far, received 0.2",
    "data.validation=0.1": "data.validation: expected null, as in the run so far, received 0.1",
    "loss.label_smoothing=0.1": "loss.label_smoothing: expected 0.0, as in the run so far",
    "training.batch_size=64": "training.batch_size: expected 100, as in the run so far, received 64",
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
    config.write_text(text.replace("seed: 0", "seed: 5"))
    assert resume(stopped) == 2
    assert "training.seed: expected 0, as in the run so far, received 5" in errors_of(capsys)[0]
    config.unlink()
    assert resume(stopped) == 0
    assert config.read_text() == text
    assert_same(stopped, whole[0])


def test_other_data_under_the_same_name(stopped: Path, capsys: Capture) -> None:
    last = stopped / "checkpoints/last.safetensors"
    for key, value, message in (
        ("name", "mnist", "data: expected mnist, as in the run so far, received mnist-subset"),
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


# ---- a disk that is full, a folder that goes away


def test_a_disk_that_is_full_for_a_while(
    folder: Path, whole: tuple[Path, list[str]], monkeypatch: Patch, capsys: Capture
) -> None:
    full = False
    kept: list[object] = []

    def fsync(handle: int) -> None:
        if full:
            raise OSError(28, "No space left on device")

    def fill() -> None:
        nonlocal full
        full = True

    def empty() -> None:
        nonlocal full
        full = False
        kept.append(checkpoint_of(the_run(folder)).state["progress"]["step"])

    monkeypatch.setattr(minicnn.files.os, "fsync", fsync)
    before_step(monkeypatch, {31: fill, 251: empty})
    assert train() == 0
    assert kept == [28]
    warnings = capsys.readouterr().err.splitlines()
    assert all(line.startswith("warning: ") for line in warnings)
    assert sorted(line.partition("goes on without ")[2] for line in warnings) == [
        *("a new checkpoint", "metrics.csv", "steps.csv", "the best weights", "timings.csv")
    ]
    assert_same(the_run(folder), whole[0], ("model.safetensors", "metrics.csv", "steps.csv"))


LIMITED = """
import resource, sys
from minicnn.cli import main
from minicnn.errors import DivergedError
from minicnn.training.trainer import Trainer

fit = Trainer.fit

def limited(*arguments):
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))
    return fit(*arguments)

Trainer.fit = limited
sys.exit(main(["train", "small.yaml"]))
"""


def test_files_that_must_not_grow(folder: Path, whole: tuple[Path, list[str]]) -> None:
    """A real limit, of 15 KB a file: too little for a new checkpoint and for the log of all steps."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", LIMITED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert sorted(line.partition("goes on without ")[2] for line in done.stderr.splitlines()) == [
        *("a new checkpoint", "steps.csv")
    ]
    run = the_run(folder)
    assert checkpoint_of(run).state["progress"]["step"] == 0  # that of the start stays
    for name in ("model.safetensors", "metrics.csv", "checkpoints/best.safetensors"):
        assert (run / name).read_bytes() == (whole[0] / name).read_bytes()
    assert not list(run.rglob(".*"))


def test_a_folder_that_goes_away(folder: Path, monkeypatch: Patch, capsys: Capture) -> None:
    before_step(monkeypatch, {151: lambda: shutil.rmtree(the_run(folder))})
    assert train() == 1
    out, err = capsys.readouterr()
    assert [line[:7] for line in figures(out)] == ["epoch 1", "epoch 2", "epoch 3"]
    assert err.splitlines()[-1].startswith("error: ")
    assert "model.safetensors: cannot be written: No such file" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_only_half_files_of_a_run_are_removed(stopped: Path) -> None:
    others = [stopped / ".notes.tmp", stopped / "mine/.x.1.tmp", stopped.parent / ".y.part"]
    halves = [stopped / ".model.safetensors.1.tmp", stopped / "checkpoints/.last.safetensors.22.tmp"]
    halves.append(stopped / ".curves.png.7.part")
    (stopped / "mine").mkdir()
    for path in others + halves:
        path.write_text("x")
    assert main(["train", "--resume", str(stopped.parent)]) == 1  # no run
    assert all(path.exists() for path in others + halves)
    assert resume(stopped) == 0
    assert all(path.exists() for path in others)
    assert not any(path.exists() for path in halves)


def test_a_full_disk_does_not_hide_a_loss_that_is_not_finite(folder: Path, monkeypatch: Patch, capsys: Capture) -> None:
    def fsync(handle: int) -> None:
        raise OSError(28, "No space left on device")

    def diverge() -> None:
        monkeypatch.setattr(minicnn.files.os, "fsync", fsync)
        raise DivergedError(30, "layer 5 Dense(294, 10)")

    before_step(monkeypatch, {31: diverge})
    assert train() == 1
    *warnings, error = capsys.readouterr().err.splitlines()
    assert any("model.safetensors: cannot be written: No space left on device" in line for line in warnings)
    assert error.startswith("error: step 30: expected a finite loss")


TINY = """\
network: {layers: [Flatten, Dense: {out_features: 2}]}
data: {name: arrays, path: arrays.npz}
optimizer: {lr: 0.001}
training: {epochs: 60, threads: 1}
output: {pictures: false, lint: false}
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: Patch) -> Path:
    """A current folder with the settings of a run of 60 epochs that take no time."""
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4), np.uint8)
    labels = np.arange(8) % 2
    np.savez(
        tmp_path / "arrays.npz",
        **{f"{split}_images": images for split in ("train", "test")},
        **{f"{split}_labels": labels for split in ("train", "test")},
    )
    (tmp_path / "small.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_an_epoch_writes_does_not_grow(tiny: Path, monkeypatch: Patch) -> None:
    sizes: list[int] = []
    original = minicnn.files.write_whole

    def write_whole(path: Path, content: bytes, *rest: Path) -> None:
        sizes.append(len(content))
        original(path, content, *rest)

    monkeypatch.setattr(minicnn.training.checkpoint, "write_whole", write_whole)
    monkeypatch.setattr(minicnn.training.tables, "write_whole", write_whole)
    assert main(["train", "small.yaml"]) == 0
    assert len(sizes) >= 60
    assert max(sizes[-20:]) <= max(sizes[:20]) + 100
    for name in ("metrics.csv", "timings.csv"):
        lines = (the_run(tiny) / name).read_text().splitlines()
        assert [line.partition(",")[0] for line in lines] == ["epoch", *map(str, range(1, 61))]


@pytest.mark.parametrize("damage", [None, b"", b"epoch,step\n1,x\n", b"\xff", "short"])
def test_tables_that_got_lost(tiny: Path, damage: bytes | str | None, capsys: Capture) -> None:
    assert main(["train", "small.yaml", "training.epochs=4"]) == 0
    run = the_run(tiny)
    table = run / "metrics.csv"
    whole = table.read_text()
    if damage is None:
        table.unlink()
    else:
        table.write_bytes(whole[:-3].encode() if damage == "short" else damage)  # type: ignore[arg-type]
    capsys.readouterr()
    assert main(["train", "--resume", str(run), "training.epochs=6"]) == 0
    [warning] = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {table}: expected ")
    assert warning.endswith("going on without those rows")
    lines = table.read_text().splitlines()
    assert lines[0] == whole.splitlines()[0]
    assert [line.partition(",")[0] for line in lines[1:]] == ["5", "6"]
    assert len((run / "timings.csv").read_text().splitlines()) == 7
