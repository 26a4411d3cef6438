"""What the tests of stopped runs share: a run that nobody stopped, and what must be equal to it."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_config import small_config

import minicnn
import minicnn.training.trainer
from minicnn.cli import main
from minicnn.training.checkpoint import Checkpoint

ROOT = Path(__file__).parents[1]

# Dropout, running statistics, momentum and averaged weights, so that their state matters, and augmentation, which must
# not have any; checkpoints between the epochs. Few images, so that as many steps as in a real run are soon done.
CONFIG = small_config(
    "data={name: arrays, path: small.npz}",
    "optimizer.momentum=0.5",
    "augmentation={shift: 2, elastic_alpha: 10}",
    "schedule.name=cosine",
    "training={epochs: 3, batch_size: 16, threads: 1, ema: 0.99}",
    "checkpoint.every=7",
    "output={step_log: true, pictures: false}",
    before_flatten=[{"Dropout": {"p": 0.3}}, {"Residual": {"layers": ["BatchNorm2d", {"Dropout": {"p": 0.1}}]}}],
)
STEPS = 100  # an epoch
SAME = ("model.safetensors", "checkpoints/best.safetensors", "metrics.csv", "steps.csv")


def write_files(folder: Path, config: str = CONFIG) -> None:
    """small.yaml and the images that it names: the first of mnist-subset."""
    (folder / "small.yaml").write_text(config)
    data = minicnn.load_dataset("mnist-subset")
    count = 16 * STEPS
    np.savez(
        folder / "small.npz",
        **{"train_images": data.train_images[:count], "train_labels": data.train_labels[:count]},
        **{"test_images": data.test_images[:300], "test_labels": data.test_labels[:300]},
    )


def started(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def the_run(folder: Path) -> Path:
    [run] = (folder / "runs").iterdir()
    return run


def figures(out: str) -> list[str]:
    """The lines of the epochs and of the result without the times in them."""
    lines = [line for line in out.splitlines() if line.startswith(("epoch ", "test accuracy "))]
    return [re.sub(r"   [\d.]+ s, [\d,]+ images/s$", "", line) for line in lines]


def checkpoint_of(run: Path, name: str = "last") -> Checkpoint:
    return Checkpoint.from_bytes((run / f"checkpoints/{name}.safetensors").read_bytes())


def without_times(checkpoint: Checkpoint) -> dict[str, object]:
    """The state, but for what no two runs have in common."""
    state = json.loads(json.dumps(checkpoint.state))
    for key in ("seconds", "all_seconds"):
        del state["progress"][key]
    for key in ("dir", "pictures"):
        del state["settings"]["output"][key]
    del state["settings"]["training"]["threads"]
    return state


def assert_same(run: Path, other: Path, files: tuple[str, ...] = SAME) -> None:
    for name in files:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    for name in ("last", "previous"):
        one, two = checkpoint_of(run, name), checkpoint_of(other, name)
        assert without_times(one) == without_times(two)
        assert one.arrays.keys() == two.arrays.keys()
        for key, array in one.arrays.items():
            assert array.tobytes() == two.arrays[key].tobytes(), key
    # Half files that a kill leaves do not stay.
    assert {p.relative_to(run) for p in run.rglob("*")} == {
        p.relative_to(other) for p in other.rglob("*") if p.suffix != ".png"
    }


def whole_run(folder: Path) -> tuple[Path, list[str]]:
    """The folder of a run that nobody stopped, with pictures, and its console's figures."""
    write_files(folder)
    process = started(folder, "small.yaml", "output.pictures=true")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return the_run(folder), figures(out)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def before_step(patch: pytest.MonkeyPatch, actions: dict[int, Callable[[], None]]) -> None:
    """Does something when so many steps less one are done; an interrupt then ends the run after the step before."""
    original = minicnn.training.trainer.accumulated_step

    def train_step(network, loss, optimizer, *rest, **options):  # type: ignore[no-untyped-def]
        result = original(network, loss, optimizer, *rest, **options)
        if optimizer.steps + 1 in actions:
            actions[optimizer.steps + 1]()
        return result

    patch.setattr(minicnn.training.trainer, "accumulated_step", train_step)


def train(*overrides: str) -> int:
    return main(["train", "small.yaml", *overrides])


def resume(run: Path, *overrides: str) -> int:
    return main(["train", "--resume", str(run), *overrides])
