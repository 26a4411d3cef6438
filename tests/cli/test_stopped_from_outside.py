"""Signals, readers that go away and full disks: a run ends in good order, or does not care."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from small_run import ROOT, metrics_of, the_run, train

from minicnn.cli import main
from minicnn.training.interrupt import Interrupt


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_run_in_good_order(folder: Path, name: str) -> None:
    pictures = "output.pictures=true" if name == "SIGINT" else "output.pictures=false"
    command = [sys.executable, "-m", "minicnn", "train", "small.yaml", "training.epochs=999", pictures]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch   2/999"):
                process.send_signal(getattr(signal, name))
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == ""
    lines = out.splitlines()
    assert lines[-5].startswith("interrupted after step ")
    assert lines[-3].startswith("test accuracy ")
    run = the_run(folder)
    names = {path.name for path in run.iterdir()}
    assert {"model.safetensors", "metrics.csv"} < names
    assert ({"curves.png", "errors.png"} < names) == (name == "SIGINT")
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
    command = [sys.executable, str(ROOT / "train.py"), "small.yaml", "output.pictures=false"]
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
    command = [sys.executable, str(ROOT / "train.py"), "small.yaml", "output.pictures=false"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ("warning: standard output cannot be written: No space left on device\n")
    assert len(metrics_of(the_run(folder))) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_warnings_that_cannot_be_written_do_not_end_the_run(folder: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "small.yaml",
        "optimizer.weight_decay=0.06",
        "output.pictures=false",
    ]
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
