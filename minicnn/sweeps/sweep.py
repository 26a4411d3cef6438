"""A sweep: many trainings in worker processes, and what comes of them, in a folder of its own.

sweep.json   what is trained (see `Plan`)
sweep.csv    a row for each run, appended when it is done, and sorted at the end
best.yaml    the settings with the highest mean accuracy
accuracy.png accuracy against each setting that varies
checkpoints/ with --halving, until the sweep is done
"""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from minicnn import own_code
from minicnn.config.experiment import Experiment
from minicnn.config.settings import Settings, dump_settings, load_tree
from minicnn.console import info, muted, warn
from minicnn.errors import ConfigError, MinicnnError
from minicnn.files import write_whole
from minicnn.sweeps.backends import LOCAL, Backend, find_backend, run_tasks
from minicnn.sweeps.halving import best, rungs
from minicnn.sweeps.plan import FILE, Plan
from minicnn.sweeps.progress import SweepProgress
from minicnn.sweeps.results import Results, Row, failures, settings_table
from minicnn.sweeps.space import SEED, Range, Values, as_values, plain, points, whole_numbers
from minicnn.sweeps.worker import Outcome, Task
from minicnn.training.interrupt import Interrupt
from minicnn.training.run_folder import RunFolder, run_name
from minicnn.validation import show

MOST_ERRORS = 10  # that are printed


def sweep(
    settings: str | Path | Settings | Mapping[str, Any],
    varied: Mapping[str, Values | str | Range],
    *,
    seeds: Iterable[int] | None = None,
    samples: int | None = None,
    halving: int | None = None,
    jobs: int | None = None,
    backend: str = LOCAL,
    verbose: bool = True,
) -> list[Row]:
    """Trains with each of many settings and seeds, and returns a row (a dict) for each run, as in sweep.csv.

    settings  a YAML file, or settings, or groups of settings as in a file
    varied    for each setting that varies, such as "optimizer.lr", a list of its values, or a range as text: "0..4",
              or, with samples, "0.1..0.9" and "log:0.001..0.3"
    seeds     for training.seed; each setting is trained with each of them [the seed of the settings]
    samples   draws so many settings, instead of all combinations
    halving   successive halving: all settings are trained for few epochs, one in so many goes on to as many times the
              epochs, and so on
    jobs      trainings at a time, each with one thread [one for each core]
    backend   "local", "dask://HOST:PORT", "ray", "slurm:PARTITION" or "submitit"
    verbose   whether to print the table at the end, and to show a progress bar at a terminal

    Each run has the weights of `minicnn train` with the same settings, to the bit. The results are also in a new folder
    below output.dir. A row has `run`, the values that vary, "training.seed", `epochs`, `accuracy`, `balanced_accuracy`,
    `macro_f1`, `loss`, `seconds` of training, `weights`, a hash of the trained weights, and `error`, which is "" unless
    the run has failed.

    Raises ConfigError for settings that are wrong, MinicnnError where the sweep cannot run, and KeyboardInterrupt.
    """
    name = run_name(Path(settings)) if isinstance(settings, str | Path) else "minicnn"
    if isinstance(settings, Settings):
        tree: dict[str, Any] = settings.model_dump(mode="json")
    else:
        tree = load_tree(settings) if isinstance(settings, str | Path) else dict(settings)
    plan = make_plan(name, tree, varied, seeds, samples, halving)
    with nullcontext() if verbose else muted():
        folder, done = run_new(plan, jobs, backend)
    if not done:
        raise KeyboardInterrupt
    return list(Results(folder / "sweep.csv", plan).rows.values())


def make_plan(
    name: str,
    tree: dict[str, Any],
    varied: Mapping[str, Values | str | Range],
    seeds: Iterable[int] | None,
    samples: int | None = None,
    halving: int | None = None,
) -> Plan:
    """Raises ConfigError for what does not fit together; the settings of all runs are checked."""
    if "networks" in tree:
        raise ConfigError("networks: expected a single network to sweep, received several")
    ranges = {key: as_values(key, values) for key, values in varied.items()}
    given = ranges.pop(SEED, None)
    if given is not None and seeds is not None:
        raise ConfigError(f"{SEED}: expected either it or --seeds, received both")
    if given is not None:
        seeds = whole_numbers(SEED, given) if isinstance(given, Range) else given
    for option, number, least in (("samples", samples, 1), ("halving", halving, 2)):
        if number is not None and number < least:
            raise ConfigError(f"--{option}: expected at least {least}, received {number}")
    if halving is not None and "training.epochs" in ranges:
        raise ConfigError("training.epochs: expected one number with --halving, which varies it itself")
    training = tree.get("training")
    seed = training.get("seed", 0) if isinstance(training, dict) else 0
    found = points(ranges, samples, seed if isinstance(seed, int) and seed >= 0 else 0)
    if samples is not None and len(found) < samples:
        warn(f"--samples: there are only {len(found)} different settings, {samples} were asked for")
    numbers = [seed] if seeds is None else plain(seeds)
    if not numbers or len(set(map(str, numbers))) < len(numbers):
        raise ConfigError(f"{SEED}: expected different seeds, at least one, received {show(numbers)}")
    plan = Plan(name, list(ranges), found, numbers, halving, tree)
    plan.check()
    epochs = plan.settings(1).training.epochs
    if halving is not None and min(len(found), epochs) < halving:
        raise ConfigError(
            f"--halving: expected at least {halving} settings and {halving} epochs, "
            f"received {len(found)} and {epochs} (training.epochs)"
        )
    return plan


def run_new(plan: Plan, jobs: int | None = None, backend: str = LOCAL) -> tuple[Path, bool]:
    """Runs a sweep in a new folder. Returns the folder, and False if Ctrl-C or SIGTERM ended it early."""
    with RunFolder.new(plan.settings(1).output.dir, f"{plan.name}-sweep") as folder:
        try:
            folder.write_text(FILE, plan.dump())
            folder.write_code(own_code.files_of(plan.tree))
            engine = find_backend(backend, jobs, folder.path)
        except BaseException:
            folder.discard()
            raise
        return folder.path, Sweep(plan, folder, engine).run()


def resume_sweep(path: Path, jobs: int | None = None, backend: str = LOCAL) -> bool:
    """Runs what is missing of the sweep in the folder `path`. False if it was stopped again."""
    plan = Plan.read(path)
    own_code.load_from(path, own_code.names_in(plan.tree), path)
    with RunFolder.existing(path) as folder:
        folder.remove_halves()
        return Sweep(plan, folder, find_backend(backend, jobs, path)).run()


class Sweep:
    """A sweep in its folder, new or begun before."""

    def __init__(self, plan: Plan, folder: RunFolder, backend: Backend) -> None:
        self._plan, self._folder, self._backend = plan, folder, backend
        self._checkpoints = folder.path / "checkpoints"
        self.results = Results(folder.path / "sweep.csv", plan)

    def run(self) -> bool:
        """Trains what is missing, then tells what came of it; False if it was interrupted."""
        plan, settings = self._plan, self._plan.settings(1)
        self._rungs = rungs(len(plan.points), settings.training.epochs, plan.halving)
        total = sum(count for count, _ in self._rungs) * len(plan.seeds)
        with Interrupt():
            done = False
            try:
                self._prepare(settings, total)
                with SweepProgress(total, len(self.results.rows), plan.keys) as progress:
                    self._train_all(progress)
                done = True
            except KeyboardInterrupt:
                info(
                    f"interrupted after {len(self.results.rows):,} of {total:,} runs; "
                    f"to go on: minicnn sweep --resume {self._folder.path}"
                )
            finally:
                self._backend.end(at_once=not done)
        if done:
            self._finish(settings)
        return done

    def _prepare(self, settings: Settings, total: int) -> None:
        """The data and the kernels are made once, before all workers would do it at the same time."""
        experiment = Experiment(settings)
        if len(self.results.rows) < total:
            experiment.load(info)
        self._held_out = experiment.data.held_out
        if len(self._plan.points) > 1 and self._held_out == "test" and settings.output.lint:
            warn(
                "data.validation: the test images choose the best setting, so that its test accuracy is better than "
                "it would be on new images; set data.validation=0.1, say"
            )
        info(f"{total:,} runs in {self._folder.path}")

    def _train_all(self, progress: SweepProgress) -> None:
        """Rung by rung; without halving there is one."""
        chosen, before, done = list(range(len(self._plan.points))), 0, self.results.rows
        for count, epochs in self._rungs:
            if before:
                chosen = best(self.results.scores(before, chosen), count)
            missing = [run for run in self._plan.runs(chosen) if (self._epochs(run, epochs), run) not in done]
            lost = [run for run in missing if before and done[before, run]["error"]]
            for run in lost:  # a setting may go on although one of its runs has failed
                outcome = Outcome(self._task(run, epochs, before), {}, done[before, run]["error"])
                progress.add(self.results.add(outcome))
            left = [run for run in missing if run not in lost]
            tasks = (self._task(run, epochs, before) for run in left)
            for outcome in run_tasks(tasks, len(left), self._backend):
                if outcome.checkpoint is not None:  # first, so that a run that has its row can go on
                    self._checkpoints.mkdir(exist_ok=True)
                    write_whole(self._checkpoint(outcome.task.run, outcome.task.epochs), outcome.checkpoint)
                progress.add(self.results.add(outcome))
            before = epochs
        self.results.sort()

    def _epochs(self, run: int, epochs: int) -> int:
        return epochs if self._plan.halving else int(self._plan.tree_of(run)["training"]["epochs"])

    def _task(self, run: int, epochs: int, before: int) -> Task:
        """A run up to so many epochs, from those before on; without its checkpoint it starts anew."""
        path = self._checkpoint(run, before)
        checkpoint = path.read_bytes() if before and path.is_file() else None
        last = epochs == self._rungs[-1][1]
        folder = str(self._folder.path.resolve())
        return Task(run, self._plan.tree_of(run), self._epochs(run, epochs), checkpoint, not last, folder)

    def _checkpoint(self, run: int, epochs: int) -> Path:
        return self._checkpoints / f"{run}-{epochs}.safetensors"

    def _finish(self, settings: Settings) -> None:
        """The table, the best settings and the picture."""
        plan, rows = self._plan, list(self.results.rows.values())
        for line in failures(rows, plan.keys)[:MOST_ERRORS]:
            warn(line)
        ranked = self.results.settings()
        if not ranked[0]["n"]:
            raise MinicnnError(f"{self._folder.path}: expected a run that does not fail, all {len(rows):,} have failed")
        winner = plan.settings(next(plan.runs([ranked[0]["setting"]])))
        self._folder.write_text("best.yaml", dump_settings(winner))
        if settings.output.pictures:
            self._folder.attempt("accuracy.png", self._draw)
        shutil.rmtree(self._checkpoints, ignore_errors=True)
        info(f"\n{settings_table(ranked, plan.keys, self._held_out)}\n\n{self._folder.path}")

    def _draw(self) -> None:
        """Accuracy against the settings; with halving, after the epochs that all of them were trained for."""
        from minicnn.inspect.plots.sweeps import plot_sweep  # matplotlib takes a second to import

        rows = list(self.results.rows.values())
        if self._plan.halving:
            rows = [row for row in rows if row["epochs"] == self._rungs[0][1]]
        plot_sweep(self._folder.path / "accuracy.png", rows, self._plan.keys, self._held_out)
