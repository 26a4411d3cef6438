"""Where the trainings of a sweep run: in processes of this machine, or on the workers of Dask, Ray or SLURM.

All of them are executors in the sense of Python's concurrent.futures. (joblib also speaks to loky, Dask and Ray. But it
waits without end for a task that Dask has given up, and a single job it runs in the process of its caller.)
"""

import importlib
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicnn.engine import driver
from minicnn.errors import ConfigError, MinicnnError
from minicnn.sweeps.worker import Outcome, Task, begin, work

LOCAL = "local"
KINDS = "local, dask://HOST:PORT, ray, ray://HOST:PORT, slurm:PARTITION or submitit"
MINUTE = 60.0  # seconds: what a scheduler's task should take
IDLE = 300  # seconds until a local worker without work ends
SLURM_JOBS = 16  # at once, unless --jobs says another number


@dataclass
class Backend:
    """An executor, and how work is cut for it.

    make      starts the executor; it is called again if that has broken
    most      tasks that are given to it at a time
    seconds   what a task should take, as far as that is known: 0 is a training a task
    close     ends it; True: at once, whatever it is doing
    """

    make: Callable[[], Executor]
    most: int
    seconds: float
    close: Callable[[Executor, bool], None]
    _executor: Executor | None = None

    def submit(self, tasks: Sequence[Task]) -> "Future[list[Outcome]]":
        self._executor = self._executor or self.make()
        return self._executor.submit(work, tasks)

    def end(self, at_once: bool) -> None:
        if self._executor is not None:
            self.close(self._executor, at_once)
            self._executor = None


def find_backend(name: str, jobs: int | None, folder: Path) -> Backend:
    """The backend of that name.

    jobs    trainings at a time [local: one for each core; slurm: 16; Dask and Ray: as many as there are cores]
    folder  submitit keeps its files in a folder there

    Raises ConfigError for an unknown name and for a package that is not installed, MinicnnError where nobody answers.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs: expected at least 1, received {jobs}")
    kind, colon, place = name.partition(":")
    if name == LOCAL:
        return _local(jobs or driver.most_threads())
    if kind == "dask" and place.strip("/"):
        return _dask(place.removeprefix("//"), jobs)
    if kind == "ray" and (name == "ray" or place.strip("/")):
        return _ray(name if colon else None, jobs)
    if name == "submitit" or (kind == "slurm" and place):
        return _submitit(place, jobs or SLURM_JOBS, folder / "jobs")
    raise ConfigError(f"--backend: expected {KINDS}, received {name}")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"minicnn sweep: expected the package {name}, it is not installed: python -m pip install {name}"
        ) from None


def _local(jobs: int) -> Backend:
    loky = _package("loky")
    options = {"timeout": IDLE, "initializer": begin, "initargs": (os.getpid(),)}

    def close(executor: Any, at_once: bool) -> None:
        if at_once:
            executor.shutdown(wait=True, kill_workers=True)  # otherwise they stay for the next sweep, and end when idle

    return Backend(lambda: loky.get_reusable_executor(jobs, **options), 2 * jobs, 0, close)


def _dask(place: str, jobs: int | None) -> Backend:
    distributed = _package("distributed")
    try:
        client = distributed.Client(place, set_as_default=False)
        cores = sum(client.ncores().values())
    except (OSError, ValueError) as error:
        raise MinicnnError(f"--backend: expected a scheduler of Dask at {place}: {error}") from None

    def close(executor: Executor, at_once: bool) -> None:
        executor.shutdown(wait=not at_once)
        client.close()

    return Backend(lambda: client.get_executor(pure=False), jobs or 2 * max(1, cores), MINUTE, close)


def _ray(address: str | None, jobs: int | None) -> Backend:
    ray = _package("ray")
    if not ray.is_initialized():
        try:
            ray.init(address, log_to_driver=False, configure_logging=False)
        except (OSError, ConnectionError, ValueError) as error:
            raise MinicnnError(f"--backend: expected a cluster of Ray at {address}: {error}") from None
    remote = ray.remote(num_cpus=1)(work)

    class Tasks(Executor):
        def submit(self, function: Any, /, *arguments: Any, **_: Any) -> "Future[Any]":
            future: Future[Any] = remote.remote(*arguments).future()
            return future

    cores = int(ray.cluster_resources().get("CPU", 1))
    return Backend(Tasks, jobs or 2 * max(1, cores), MINUTE, lambda executor, at_once: ray.shutdown())


def _submitit(partition: str, jobs: int, folder: Path) -> Backend:
    """Jobs of SLURM; without a partition, processes of this machine, to try it. A thread waits for each job."""
    submitit = _package("submitit")
    executor = submitit.AutoExecutor(folder, cluster="slurm" if partition else "local")
    executor.update_parameters(cpus_per_task=1, tasks_per_node=1, timeout_min=24 * 60, name="minicnn-sweep")
    if partition:
        executor.update_parameters(slurm_partition=partition)
    running: set[Any] = set()

    class Jobs(ThreadPoolExecutor):
        def submit(self, function: Any, /, *arguments: Any, **_: Any) -> "Future[Any]":
            job = executor.submit(function, *arguments)
            running.add(job)
            return super().submit(self._result, job)

        @staticmethod
        def _result(job: Any) -> Any:
            try:
                return job.result()
            finally:
                running.discard(job)

    def close(threads: Executor, at_once: bool) -> None:
        if at_once:
            for job in tuple(running):
                job.cancel(check=False)
        threads.shutdown(wait=not at_once, cancel_futures=True)

    return Backend(lambda: Jobs(jobs), jobs, math.inf, close)


def run_tasks(tasks: Iterable[Task], count: int, backend: Backend) -> Iterator[Outcome]:
    """The outcomes of so many tasks, as they come.

    A training whose worker is lost twice, the second time while it was the only one, has failed. Raises MinicnnError
    where the workers have no minicnn.
    """
    waiting, left, seconds, trained = iter(tasks), count, 0.0, 0
    out: dict[Future[list[Outcome]], list[Task]] = {}
    while left or out:
        while left and len(out) < backend.most:
            chunk = list(itertools.islice(waiting, _size(backend, left, seconds / trained if trained else math.inf)))
            left -= len(chunk)
            out[backend.submit(chunk)] = chunk
        done, _ = wait(out, return_when=FIRST_COMPLETED)
        lost: list[Task] = []
        for future in done:
            chunk = out.pop(future)
            outcomes, error = _result(future)
            if isinstance(error, BrokenExecutor):  # all that it had is lost
                backend.end(at_once=True)
                for another in (chunk, *out.values()):
                    lost += another
                out.clear()
                break
            lost += chunk if error else []
            seconds += sum(outcome.figures.get("seconds", 0.0) for outcome in outcomes)
            trained += len(outcomes)
            yield from outcomes
        for task in lost:
            yield from _alone(task, backend)


def _size(backend: Backend, left: int, mean: float) -> int:
    """How many of the trainings that are left go into the next task; `mean`: the seconds that one takes."""
    share = math.ceil(left / backend.most)
    if math.isinf(backend.seconds):
        return share
    return max(1, min(share, round(backend.seconds / max(mean, 1e-3))))


def _alone(task: Task, backend: Backend) -> list[Outcome]:
    outcomes, error = _result(backend.submit([task]))
    if isinstance(error, BrokenExecutor):
        backend.end(at_once=True)
    text = "" if error is None else " ".join(str(error).split())[:200]
    return [Outcome(task, {}, f"its worker was lost twice (out of memory?): {text}")] if error else outcomes


def _result(future: "Future[list[Outcome]]") -> tuple[list[Outcome], Exception | None]:
    try:
        return future.result(), None
    except ImportError as error:
        raise MinicnnError(f"--backend: expected workers that have minicnn: {error}") from None
    except Exception as error:  # each kind of executor has its own for a lost worker
        return [], error
