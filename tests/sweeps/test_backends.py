"""Where sweeps run: chunks for schedulers, lost workers, and the engines themselves, those that are installed."""

import importlib.util
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future

import pytest
from small_sweep import the_sweep, without_times

from minicnn.cli import main
from minicnn.errors import MinicnnError
from minicnn.sweeps.backends import Backend, run_tasks
from minicnn.sweeps.worker import Outcome, Task

WORDS = ("small.yaml", "optimizer.lr=0.02,0.05", "training.seed=0..3")


class Workers(Executor):
    """Does its tasks at once, each run in so many seconds. Some runs end their worker, or those of all."""

    def __init__(self, seconds: float = 1, losing: tuple[int, ...] = (), breaking: tuple[int, ...] = ()) -> None:
        self.sizes: list[int] = []
        self.started = self.ended = 0
        self._seconds, self._losing, self._breaking = seconds, losing, breaking

    def make(self) -> "Workers":
        self.started += 1
        return self

    def submit(self, function, tasks):
        future: Future[list[Outcome]] = Future()
        self.sizes.append(len(tasks))
        runs = {task.run for task in tasks}
        if runs & set(self._breaking):
            future.set_exception(BrokenExecutor("killed"))
        elif runs & set(self._losing):
            future.set_exception(RuntimeError("this worker\nis gone"))
        else:
            future.set_result([Outcome(task, {"seconds": self._seconds}) for task in tasks])
        return future

    def outcomes(self, count: int, most: int, seconds: float) -> dict[int, str]:
        backend = Backend(self.make, most, seconds, lambda *_: setattr(self, "ended", self.ended + 1))
        found = [(o.task.run, o.error) for o in run_tasks((Task(n, {}, 1) for n in range(count)), count, backend)]
        assert len(found) == count
        return dict(found)


@pytest.mark.parametrize(
    ("seconds", "each", "most", "first", "largest"),
    [
        (0, 0.5, 4, [1, 1, 1, 1, 1, 1], 1),  # local: a training a task
        (60, 0.5, 4, [1, 1, 1, 1, 120], 120),  # nobody knows how long the first take
        (60, 20, 2, [1, 1, 3, 3], 3),
        (60, 300, 2, [1, 1, 1, 1], 1),
        (math.inf, 0.5, 4, [125, 94, 71], 125),  # jobs in a queue: as much as leaves work for the others
    ],
)
def test_tasks_take_a_minute_as_far_as_there_is_work_for_all(seconds, each, most, first, largest):
    workers = Workers(each)
    assert set(workers.outcomes(500, most, seconds).values()) == {""}
    assert sum(workers.sizes) == 500
    assert workers.sizes[: len(first)] == first
    assert max(workers.sizes) == largest
    assert workers.sizes[-1] == 1


def test_a_run_that_loses_its_worker_twice_has_failed_and_no_other():
    workers = Workers(losing=(5,))
    found = workers.outcomes(12, 4, math.inf)
    assert found.pop(5) == "its worker was lost twice (out of memory?): this worker is gone"
    assert set(found.values()) == {""}
    assert workers.started == 1


def test_a_run_that_breaks_all_workers_has_failed_and_no_other():
    workers = Workers(breaking=(5,))
    found = workers.outcomes(12, 4, math.inf)
    assert found.pop(5) == "its worker was lost twice (out of memory?): killed"
    assert set(found.values()) == {""}
    assert workers.started == workers.ended + 1


def test_workers_without_minicnn():
    class Without(Workers):
        def submit(self, function, tasks):
            future: Future[list[Outcome]] = Future()
            future.set_exception(ModuleNotFoundError("No module named 'minicnn'"))
            return future

    with pytest.raises(MinicnnError, match="--backend: expected workers that have minicnn: No module"):
        Without().outcomes(3, 2, 0)


@pytest.fixture
def expected(here):
    """The rows of the sweep on this machine."""
    assert main(["sweep", *WORDS, "--jobs", "1"]) == 0
    rows = without_times(the_sweep(here))
    (here / "runs").rename(here / "local")
    return rows


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


CLUSTER = """
import os, sys
from distributed import Client, LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        print(cluster.scheduler_address, *client.run(os.getpid).values(), flush=True)
        sys.stdin.read()
"""


@needs("distributed")
def test_dask_with_two_workers_of_which_one_is_killed(here, expected):
    (here / "cluster.py").write_text(CLUSTER)
    cluster = subprocess.Popen(
        [sys.executable, "cluster.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert cluster.stdout is not None
    address, pid, _ = cluster.stdout.readline().split()
    killed = []

    def kill() -> None:
        """When there is a row, and work for the others."""
        while not killed:
            if any(path.read_bytes().count(b"\n") > 1 for path in here.glob("runs/*/sweep.csv")):
                os.kill(int(pid), signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.001)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        assert main(["sweep", *WORDS, "--backend", f"dask://{address.removeprefix('tcp://')}", "--jobs", "2"]) == 0
    finally:
        killed.append("")
        thread.join()
        cluster.communicate(timeout=60)
    assert killed[0] == pid
    assert without_times(the_sweep(here)) == expected


@needs("distributed")
def test_no_scheduler_of_dask(here, capsys, monkeypatch):
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "0.1s"}):
        assert main(["sweep", *WORDS, "--backend", "dask://127.0.0.1:9"]) == 1
    assert "error: --backend: expected a scheduler of Dask at 127.0.0.1:9: " in capsys.readouterr().err
    assert not list(here.glob("runs/*"))


def in_a_process(here, backend: str) -> None:
    """In one of its own, as these engines leave threads and open files behind."""
    command = [sys.executable, "-m", "minicnn", "sweep", *WORDS, "--backend", backend, "--jobs", "2"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@needs("submitit")
def test_submitit_on_this_machine(here, expected):
    in_a_process(here, "submitit")
    assert without_times(the_sweep(here)) == expected


@needs("ray")
def test_ray(here, expected):
    in_a_process(here, "ray")
    assert without_times(the_sweep(here)) == expected
