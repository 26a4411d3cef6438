"""A run of the command line that is soon done, and where its results are."""

import csv
from pathlib import Path

import pytest

from minicnn.cli import main

ROOT = Path(__file__).parents[2]

CONFIG = """\
network:
  layers:
    - Conv2d: {out_channels: 6, kernel_size: 5, padding: 2}
    - ReLU
    - MaxPool: {kernel_size: 4}
    - Flatten
    - Dense: {out_features: 10}
data:
  name: mnist-subset
optimizer:
  lr: 0.05
  momentum: 0.9
schedule:
  name: cosine
training:
  epochs: 2
  threads: 1
output:
  dir: runs
"""


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
