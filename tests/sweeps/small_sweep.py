"""What the tests of sweeps share: a network that trains in a moment, and what its sweep leaves behind."""

import csv
from pathlib import Path
from typing import Any

import minicnn
from minicnn.config.settings import Settings, dump_settings
from minicnn.model import weights_hash
from minicnn.runs.run import train

# All that has a part in a training, so that a sweep must know it: statistics, masks, averages, rules, chosen images.
CONFIG = """\
network:
  layers:
    - Conv2d: {out_channels: 2, kernel_size: 5, stride: 4}
    - BatchNorm2d
    - ReLU
    - Dropout: {p: 0.1}
    - Flatten
    - Dense: {out_features: 10}
data:
  name: arrays
  path: images
augmentation:
  shift: 1
optimizer:
  lr: 0.05
  momentum: 0.9
schedule:
  name: cosine
  warmup: 0.5
training:
  epochs: 4
  batch_size: 50
  ema: 0.9
  quantize: true
  hard_examples: 0.5
stop:
  patience: 3
output:
  pictures: false
"""


def rows_of(sweep: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((sweep / "sweep.csv").read_text().splitlines()))


def without_times(sweep: Path) -> list[dict[str, str]]:
    """The rows but for what no two sweeps have in common."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows_of(sweep)]


def the_sweep(folder: Path) -> Path:
    [sweep] = (folder / "runs").glob("*-sweep-*")
    return sweep


def trained(settings: Settings, folder: Path) -> str:
    """The hash of the weights that `minicnn train` gives."""
    (folder / "once.yaml").write_text(dump_settings(settings))
    assert train(settings, "run", parent=folder)
    return weights_hash(minicnn.load(folder / "run").network)


def figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
