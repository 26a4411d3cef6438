"""Full disks, folders that go away and lost files: what they cost a run, and that it goes on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stopped_runs import ROOT, assert_same, before_step, checkpoint_of, figures, resume, the_run, train

import minicnn.files
import minicnn.runs.run
import minicnn.training.tables
import minicnn.training.trainer
from minicnn.cli import main
from minicnn.errors import DivergedError

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


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
