"""The doors: help, version, and what is imported before a command begins."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_run import ROOT

import minicnn.runs.run
import minicnn.training.trainer
from minicnn.cli import main


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
        (["--dryrun"], "did you mean --dry-run?; see minicnn train --help"),
    ],
)
def test_settings_are_no_options(
    folder: Path, arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "small.yaml", *arguments]) == 2
    assert f"unrecognized arguments: {arguments[0]}; {hint}" in capsys.readouterr().err
