"""A run of the command line that is soon done, and where its results are."""

import csv
from pathlib import Path

import pytest
from small_config import small_config

from minicnn.cli import main

ROOT = Path(__file__).parents[2]

CONFIG = small_config("schedule.name=cosine", "output.dir=runs")


def train(*overrides: str) -> int:
    return main(["train", "small.yaml", *overrides])


def the_run(folder: Path) -> Path:
    [run] = (folder / "runs").iterdir()
    return run


def metrics_of(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def assert_refused(capsys: pytest.CaptureFixture[str], received: int, expected: int, *parts: str) -> None:
    """The exit code, one line of error with `parts` in it, and no run folder."""
    assert received == expected
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert not list(Path().glob("runs/*"))
