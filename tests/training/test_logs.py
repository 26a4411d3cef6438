"""metrics.csv, steps.csv and TensorBoard's events."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from minicnn import SGD, Batches, Dense, Flatten, Sequential, SoftmaxCrossEntropy
from minicnn.cli import main
from minicnn.training.callbacks.logs import StepLog
from minicnn.training.callbacks.tensorboard import TensorBoard
from minicnn.training.run_folder import RunFolder
from minicnn.training.step import StepResult
from minicnn.training.tables import Row, StepTable
from minicnn.training.trainer import Callback, Trainer

HEADER = "step,epoch,lr,loss,accuracy\n"


def row(step: int) -> Row:
    return {"step": step, "epoch": 1, "lr": 0.1, "loss": 1 / step, "accuracy": 0.5}


def trainer_with(callback: Callback, step: int = 0) -> Trainer:
    """One that goes on after `step`."""
    network = Sequential([Flatten(), Dense(4, 2)])
    batches = Batches(np.zeros((2, 1, 2, 2), np.uint8), np.zeros(2, np.int64), 2)
    trainer = Trainer(
        network, SoftmaxCrossEntropy(), SGD(network.parameters(), 0.1), batches, batches, 1, callbacks=[callback]
    )
    trainer.progress.step = step
    return trainer


def take_step(trainer: Trainer, loss: float = 0.25) -> None:
    result = StepResult(loss, 1, 2, 2, 2.0)
    trainer.progress.add(result, 1.0)
    trainer.call("on_step_end", None, result)


def test_rows_of_steps_are_exact(tmp_path: Path) -> None:
    log = StepTable(tmp_path / "steps.csv")
    for step in (1, 2, 3):
        log.add(row(step))
    log.flush()
    assert log.path.read_text() == f"{HEADER}1,1,0.1,1.0,0.5\n2,1,0.1,0.5,0.5\n3,1,0.1,0.3333333333333333,0.5\n"


@pytest.mark.parametrize("left", ["", "4,1,0.1,0.25,0.5\n", "4,1,0.1,0.25,0.5\n5,1,0.", "x\n"])
def test_what_came_after_the_checkpoint_is_cut_off(tmp_path: Path, left: str) -> None:
    path = tmp_path / "steps.csv"
    log = StepTable(path)
    for step in (1, 2, 3):
        log.add(row(step))
    log.flush()
    whole = path.read_text()
    path.write_text(whole + left)
    again = StepTable(path)
    again.cut(3)
    again.add(row(4))
    again.flush()
    assert path.read_text() == whole + "4,1,0.1,0.25,0.5\n"


@pytest.mark.parametrize("content", [None, "", "step,ep", "step,other\n1,2\n"])
def test_a_log_that_is_missing_or_another_is_begun_anew(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "steps.csv"
    if content is not None:
        path.write_text(content)
    log = StepTable(path)
    log.cut(2)
    log.add(row(3))
    log.flush()
    assert path.read_text() == HEADER + "3,1,0.1,0.3333333333333333,0.5\n"


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_rows_that_could_not_be_written_come_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunFolder(tmp_path) as folder:
        trainer = trainer_with(StepLog(folder))
        take_step(trainer)
        trainer.call("on_checkpoint")
        with monkeypatch.context() as patch:
            patch.setattr("minicnn.training.tables.os.fsync", fail)
            for _ in range(2):
                take_step(trainer)
                trainer.call("on_checkpoint")
        assert capsys.readouterr().err.count("warning: ") == 1
        trainer.call("close")
        assert [line[:2] for line in (tmp_path / "steps.csv").read_text().splitlines()] == [*("st", "1,", "2,", "3,")]


def test_steps_show_while_a_run_goes_on(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        trainer = trainer_with(StepLog(folder))
        for _ in range(150):
            take_step(trainer)
        lines = (tmp_path / "steps.csv").read_text().splitlines()
        assert len(lines) == 101 and lines[100] == "100,1,0.1,0.25,0.5"


def test_tensorboard_must_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "tensorboard" else find(name))
    monkeypatch.chdir(tmp_path)
    configuration = str(Path(__file__).parents[2] / "configs/tiny.yaml")
    assert main(["train", configuration, "output.tensorboard=true"]) == 2
    assert capsys.readouterr() == (
        "",
        "error: output.tensorboard: expected the package tensorboard with it, which is not "
        "installed: pip install tensorboard\n",
    )
    assert not list(tmp_path.iterdir())


def test_tensorboard_reads_the_events_of_a_resumed_run(tmp_path: Path) -> None:
    """Of steps that came twice, once before a kill and once after, it shows the second."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    metrics = {"epoch": 1, "step": 3, "lr": 0.1, "train_loss": 0.5, "test_accuracy": 0.75}
    for first, last in ((0, 4), (2, 4)):
        trainer = trainer_with(TensorBoard(tmp_path, steps=True), first)
        trainer.progress.timings.append({"epoch": 1, "seconds": 2.0, "images_per_second": 100})
        trainer.call("on_train_begin")
        for step in range(first + 1, last + 1):
            take_step(trainer, step + first / 10)
            if step == 3:
                trainer.call("on_epoch_end", metrics)
        trainer.call("close")
        for number, path in enumerate(sorted(tmp_path.glob("events*"))):
            path.rename(tmp_path / f"events.out.tfevents.{number}")
    accumulator = accumulators.EventAccumulator(str(tmp_path))
    accumulator.Reload()

    def scalars(tag: str) -> list[tuple[int, float]]:
        return [(event.step, round(event.value, 6)) for event in accumulator.Scalars(tag)]

    assert scalars("step/loss") == [(1, 1.0), (2, 2.0), (3, 3.2), (4, 4.2)]
    assert scalars("train/loss") == [(3, 0.5)]
    assert scalars("test/accuracy") == [(3, 0.75)]
    assert scalars("images_per_second") == [(3, 100.0)]
    assert scalars("epoch") == [(3, 1.0)]


def test_events_that_cannot_be_written_cost_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    trainer = trainer_with(TensorBoard(tmp_path / "file"))
    trainer.call("on_train_begin")
    take_step(trainer)
    trainer.call("close")
    err = capsys.readouterr().err
    assert err.startswith("warning: ") and err.count("\n") == 1
    assert "the training goes on without TensorBoard's events" in err
