"""Runs that are stopped and go on: what comes out is, to the bit, what would have come without the stop."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minicnn.checkpoint import Checkpoint

ROOT = Path(__file__).parents[1]

# Dropout, momentum and averaged weights, so that their state matters, and augmentation, which must not have any;
# checkpoints between the epochs.
CONFIG = """\
network:
  layers:
    - Conv2d: {out_channels: 6, kernel_size: 5, padding: 2}
    - ReLU
    - MaxPool: {kernel_size: 4}
    - Dropout: {p: 0.3}
    - Flatten
    - Dense: {out_features: 10}
data:
  name: mnist-subset
augmentation:
  shift: 2
  elastic_alpha: 10
optimizer:
  lr: 0.05
  momentum: 0.9
schedule:
  name: cosine
training:
  epochs: 3
  batch_size: 100
  threads: 1
  ema: 0.99
checkpoint:
  every: 7
output:
  step_log: true
  pictures: false
"""
STEPS = 100  # an epoch
SAME = ("model.safetensors", "checkpoints/best.safetensors", "metrics.csv", "steps.csv")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the settings above in small.yaml."""
    (tmp_path / "small.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a run that nobody stopped, with pictures, and its console's figures."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.yaml").write_text(CONFIG)
    done = started(folder, "small.yaml", "output.pictures=true")
    out, err = done.communicate(timeout=120)
    assert (done.returncode, err) == (0, "")
    return the_run(folder), figures(out)


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
    for key in ("seconds", "all_seconds", "timings"):
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


# ---- real processes, really killed


@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_at_random_moments(
    seed: int, tmp_path: Path, whole: tuple[Path, list[str]]
) -> None:
    """Five times each: mostly SIGKILL, at the start, in the loop, while files are written, at the end."""
    rng = random.Random(seed)
    (tmp_path / "small.yaml").write_text(CONFIG)
    ends = [signal.SIGKILL] * 3 + [rng.choice([signal.SIGKILL, signal.SIGTERM]), signal.SIGINT]
    rng.shuffle(ends)
    lines: list[str] = []
    kills = 0
    while True:
        runs = list((tmp_path / "runs").glob("*"))
        if runs and not (runs[0] / "checkpoints/last.safetensors").exists():
            subprocess.run(["rm", "-r", str(runs[0])], check=True)  # killed before it began
            runs = []
        command = ["--resume", f"runs/{runs[0].name}"] if runs else ["small.yaml"]
        process = started(tmp_path, *command, f"training.threads={rng.choice(['1', 'null'])}")
        if kills < len(ends):
            at_start = rng.random() < 0.2
            assert process.stdout is not None
            head = "" if at_start else wait_for_training(process)
            time.sleep(rng.uniform(0, 1.5) if at_start else rng.uniform(0, 0.12))
            process.send_signal(ends[kills])
            lines += figures(head)
        out, err = process.communicate(timeout=120)
        lines += figures(out)
        if process.returncode == 0:
            if kills < len(ends):  # it was faster: once more, on a new run
                assert_same(the_run(tmp_path), whole[0])
                (tmp_path / "runs").rename(tmp_path / f"done-{kills}")
                lines = []
                continue
            break
        assert process.returncode in (-ends[kills], 130), err
        assert "Traceback" not in err
        kills += 1
    assert_same(the_run(tmp_path), whole[0])
    epochs = [line for line in lines if line.startswith("epoch")]
    # A line that was printed just before a kill may come again.
    assert list(dict.fromkeys(epochs)) == whole[1][:-1]
    assert lines[-1] == whole[1][-1]


def wait_for_training(process: "subprocess.Popen[str]") -> str:
    """Reads what it says until its first step."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith(("mnist-subset: ", "resumed after step ")):
            break
    return text
