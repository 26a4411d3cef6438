"""Real processes, really killed: in the end the table is that of a sweep that nobody stopped."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_sweep import the_sweep, without_times

from minicnn.cli import main
from minicnn.config.settings import load_settings
from minicnn.sweeps.backends import find_backend, run_tasks
from minicnn.sweeps.worker import Task

WORDS = ("optimizer.lr=0.01,0.03,0.1,1e300", "training.seed=0..3", "--halving", "2", "--jobs", "2")


def rows(here: Path) -> int:
    return sum(path.read_bytes().count(b"\n") - 1 for path in here.glob("runs/*/sweep.csv"))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no groups of processes")
def test_a_sweep_killed_at_random_moments(here, tmp_path_factory, monkeypatch):
    assert main(["sweep", "small.yaml", *WORDS]) == 0
    whole = without_times(the_sweep(here))
    (here / "runs").rename(here / "whole")
    rng = random.Random(0)
    ends = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]
    while True:
        words = ["--resume", str(the_sweep(here)), "--jobs", "2"] if rows(here) else ["small.yaml", *WORDS]
        (here / "log").unlink(missing_ok=True)
        with open(here / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "minicnn", "sweep", *words],
                cwd=here,
                stdout=log,
                stderr=log,
                start_new_session=True,  # as a terminal does, so that Ctrl-C is sent to all of its processes
            )
        goal = rows(here) + rng.randint(1, 6)
        while process.poll() is None and not (ends and rows(here) >= goal):
            time.sleep(0.001)
        if process.poll() is None:
            time.sleep(rng.uniform(0, 0.02))
            end = ends.pop()
            if end is signal.SIGINT:
                os.killpg(process.pid, end)
            else:
                process.send_signal(end)
            code = process.wait(60)
            if code == 0:  # it was faster
                ends.append(end)
                (here / "runs").rename(here / f"done-{rng.random()}")
                continue
            log_text = (here / "log").read_text()
            assert code == (-end if end is signal.SIGKILL else 130), log_text
            assert "Traceback" not in log_text
            assert end is signal.SIGKILL or "to go on: minicnn sweep --resume" in log_text
            continue
        assert process.returncode == 0, (here / "log").read_text()
        break
    assert without_times(the_sweep(here)) == whole
    for name in ("sweep.json", "best.yaml"):
        assert (the_sweep(here) / name).read_bytes() == (the_sweep_of(here / "whole") / name).read_bytes()


def the_sweep_of(folder: Path) -> Path:
    [sweep] = folder.iterdir()
    return sweep


def test_workers_that_are_killed(here):
    """A run that its worker's end has stopped is run again; the others do not notice."""
    tree = load_settings("small.yaml").model_dump(mode="json")
    tasks = [Task(run, {**tree, "training": {**tree["training"], "seed": run % 3}}, 4) for run in range(1, 13)]
    backend = find_backend("local", 2, here)
    outcomes = []
    for outcome in run_tasks(tasks, len(tasks), backend):
        outcomes.append(outcome)
        if len(outcomes) in (1, 7):
            for pid in list(backend._executor._processes):
                os.kill(pid, signal.SIGKILL)
    backend.end(at_once=True)
    assert sorted(outcome.task.run for outcome in outcomes) == list(range(1, 13))
    assert [outcome.error for outcome in outcomes] == [""] * 12
    for seed in range(3):
        same = {o.figures["weights"] for o in outcomes if o.task.run % 3 == seed}
        assert len(same) == 1


def test_workers_end_with_their_parent(here):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from minicnn.sweeps.backends import find_backend\n"
        "backend = find_backend('local', 2, Path())\n"
        "backend.submit([]).result()\n"
        "print(*backend._executor._processes, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        out, _ = process.communicate(timeout=60)  # which waits until the last of them has closed it
    assert process.returncode == -signal.SIGKILL
    assert out.split()
