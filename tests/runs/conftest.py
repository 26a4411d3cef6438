"""What tests of runs that stop and go on share."""

from pathlib import Path

import pytest
from stopped_runs import before_step, interrupt, the_run, train, whole_run, write_files

import minicnn.files

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a run that nobody stopped, and its console's figures."""
    return whole_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: Patch) -> Path:
    """A current folder with the settings of the whole run in small.yaml, and its images."""
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
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
