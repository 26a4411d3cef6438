"""Settings of runs that are soon done: one network, changed as a test needs it."""

from collections.abc import Sequence
from typing import Any

from minicnn.config import yaml_file

SMALL = """\
network:
  layers:
    - Conv2d: {out_channels: 6, kernel_size: 5, padding: 2}
    - ReLU
    - MaxPool: {kernel_size: 4}
    - Flatten
    - Dense: {out_features: 10}
data: {name: mnist-subset}
optimizer: {lr: 0.05, momentum: 0.9}
training: {epochs: 2, threads: 1}
"""


def small_config(*overrides: str, before_flatten: Sequence[Any] = ()) -> str:
    """The YAML text of SMALL with overrides as on the command line, and with layers before Flatten."""
    tree = yaml_file.parse(SMALL, "SMALL")
    tree["network"]["layers"][3:3] = before_flatten
    for assignment in overrides:
        yaml_file.override(tree, assignment)
    return yaml_file.dump(tree)
