"""The folder of one training run, and what its environment.json says of the machine."""

import csv
import io
import itertools
import json
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np

import minicnn
from minicnn.errors import MinicnnError
from minicnn.files import write_whole
from minicnn.kernels.vector import LANES


class RunFolder:
    """`parent/<name>-<time>/`, made at once, so that a place that cannot be written shows early.

    Raises MinicnnError where the folder or, later, a file cannot be written.
    """

    def __init__(self, parent: Path, name: str) -> None:
        stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for attempt in itertools.count(1):  # two runs may start in the same second
                self.path = parent / (stem if attempt == 1 else f"{stem}-{attempt}")
                try:
                    self.path.mkdir()
                    break
                except FileExistsError:
                    continue
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise MinicnnError(
                f"output.dir: expected a folder that can be written, received {parent}: {reason}"
            ) from None

    def write(self, name: str, content: bytes) -> None:
        """The file `name` with that content, whole or not at all, whenever the machine may stop."""
        write_whole(self.path / name, content)

    def write_text(self, name: str, text: str) -> None:
        self.write(name, text.encode())

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self.write_text(name, json.dumps(value, indent=2) + "\n")

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A CSV file with a line of column names, those of the first row."""
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(name, text.getvalue())

    def write_weights(
        self, name: str, weights: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
    ) -> None:
        """A safetensors file with `metadata` as JSON under the one key "minicnn"."""
        from safetensors.numpy import save

        # safetensors writes several keys in random order, and equal runs should be equal files.
        self.write(name, save(dict(weights), {"minicnn": json.dumps(metadata)}))

    def discard(self) -> None:
        """Removes the folder of a run that ended before its first step."""
        shutil.rmtree(self.path, ignore_errors=True)


def environment() -> dict[str, Any]:
    """Versions and machine, as far as they can change the figures of a run."""
    return {
        "minicnn": minicnn.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": numba.get_num_threads(),
        "threading_layer": numba.threading_layer(),  # type: ignore[attr-defined]
        "lanes": LANES,
    }


def _cpu_name() -> str:
    try:  # platform.processor() is empty or just "x86_64" on Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
