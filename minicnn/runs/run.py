"""One training run, from settings to a folder with the trained weights, figures and pictures.

What is wrong shows as early as it can: first the settings, then a folder that cannot be written, then the data, and
while these are loaded kernels are compiled; only then are weights trained.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from minicnn import own_code
from minicnn.config.build import own_callbacks
from minicnn.config.experiment import Experiment
from minicnn.config.settings import Settings, dump_settings
from minicnn.console import info, warn
from minicnn.data import Dataset
from minicnn.data.balance import Balance, classes_in_words
from minicnn.engine import driver
from minicnn.errors import ConfigError, DivergedError, RankLostError
from minicnn.inspect.summary import summary
from minicnn.layers.registry import to_config
from minicnn.model import FILE_NAME
from minicnn.runs.lint import lint, remedy
from minicnn.runs.pictures import draw_pictures
from minicnn.runs.ranks import NOTE, check_data, check_settings, run_key
from minicnn.runs.result import ERROR_COLUMNS, EpochWeights, error_table
from minicnn.runs.resume import check_same_data, find_start, fingerprint
from minicnn.training import state
from minicnn.training.callbacks import tensorboard
from minicnn.training.callbacks.checkpointing import Checkpointing
from minicnn.training.callbacks.console import ClassReport, EpochLines, ProgressBar
from minicnn.training.callbacks.logs import MetricsLog, StepLog
from minicnn.training.callbacks.model_file import ModelFile
from minicnn.training.callbacks.stopping import EarlyStopping
from minicnn.training.callbacks.weights import LastFiniteWeights
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.interrupt import Interrupt
from minicnn.training.process_group import ProcessGroup, TorchGroup
from minicnn.training.run_folder import NoFolder, RunFolder, environment
from minicnn.training.trainer import Callback
from minicnn.validation import validated


def train(settings: Settings, name: str, group: ProcessGroup | None = None, parent: Path | None = None) -> bool:
    """Trains in a new folder called `name` and the time; False if Ctrl-C or SIGTERM ended it early.

    With `parent` the folder is parent/name, and may be there already.

    Raises MinicnnError: settings that do not fit together, data that cannot be had, a folder that
    cannot be written, a loss that is not finite (the folder has the last good weights then).
    """
    group = group or ProcessGroup()
    check_machine(settings, group)
    experiment = Experiment(settings)
    experiment.network  # noqa: B018 # shows what is wrong with the layers, before a folder is made
    own_callbacks(settings)
    with group.together():
        check_settings(group, settings.model_dump(mode="json"))
    made = partial(RunFolder.new, settings.output.dir, name) if parent is None else partial(RunFolder.at, parent / name)
    with _folder(group, made) as folder, Interrupt() as interrupt:
        try:
            folder.write_text("config.yaml", dump_settings(settings))
            folder.write_code(own_code.files_of(settings.model_dump(mode="json")))
            if isinstance(group, TorchGroup):
                folder.write_json(NOTE, {"run": run_key(), "ranks": group.world_size})
            run = Run(experiment, folder, group, interrupt)
            run.checkpoints.save(run.trainer)  # so that a run that is killed in its first epoch can go on, too
            run.introduce()
            for line in lint(experiment):
                warn(line)
        except BaseException:
            folder.discard()
            raise
        return run.complete()


def resume(path: Path, overrides: Sequence[str] = (), group: ProcessGroup | None = None) -> bool:
    """Goes on with the run in the folder `path`, to the end that it would have come to without a stop.

    `overrides`: settings to change, such as training.epochs=20. False if it was stopped again.
    Raises MinicnnError: no such run, or another process at it; a checkpoint that cannot be used, and none before it;
    a setting that must not change or other data; and all that `train` raises.
    """
    group = group or ProcessGroup()
    with _folder(group, lambda: RunFolder.existing(path)) as folder, Interrupt() as interrupt:
        with group.together():
            found = find_start(path, overrides).to_bytes() if group.rank == 0 else b""
            folder.remove_halves()
        start = Checkpoint.from_bytes(group.broadcast(found))
        settings, changes = validated(Settings, start.state["settings"]), start.state["changes"]
        progress = start.state["progress"]
        if any(change.startswith(("stop.", "training.epochs ")) for change in changes):
            progress["stopped"] = ""  # the rules are asked again after the next epoch
        if start.state["complete"] and (_is_over(path, settings, progress["epoch"] - 1, progress["stopped"])):
            return True
        with group.together():
            check_settings(group, start.state["settings"])
            check_machine(settings, group)
        run = Run(Experiment(settings, resumed=True), folder, group, interrupt)
        with group.together():
            run.restore(start)
            folder.write_text("config.yaml", dump_settings(settings))
        run.introduce()
        run.tell_changes(changes)
        return run.complete()


class Run:
    """A training in a folder of its own: what trains it, and what it leaves behind. Loads the data."""

    def __init__(self, experiment: Experiment, folder: RunFolder, group: ProcessGroup, interrupt: Interrupt) -> None:
        self.experiment, self.folder, self.interrupt = experiment, folder, interrupt
        settings = experiment.settings
        with group.together(), group.in_turn():
            self._compile_seconds = experiment.load(info)
        data = self._data = fingerprint(experiment.data)
        with group.together():
            check_data(group, data)
            self._guard = LastFiniteWeights()
            self._early = EarlyStopping(settings.stop.patience, settings.stop.min_delta, settings.stop.watch)
            model = ModelFile(folder, FILE_NAME, lambda: experiment.model.to_bytes())
            facts = {
                "settings": settings.model_dump(mode="json"),
                "layers": to_config(experiment.network),
                "data": data,
            }
            best = "accuracy" if settings.stop.watch == "loss" else settings.stop.watch
            self.checkpoints = Checkpointing(folder, facts, model.content, settings.checkpoint.every, best)
            writers: list[Callback] = [*self._writers(), model] if group.rank == 0 else []
            callbacks = [*experiment.rules(self._guard, self._early), *writers, self.checkpoints]
            self.trainer = experiment.trainer(callbacks, group=group, interrupted=lambda: interrupt.requested)

    def _writers(self) -> list[Callback]:
        """What tells of the training, on the console and in files."""
        output, folder = self.experiment.settings.output, self.folder
        return [
            ProgressBar(),  # gone before a line is printed
            EpochLines(self.experiment.data.classes),
            ClassReport(self.experiment.data.classes, remedy(self.experiment.settings.loss)),
            MetricsLog(folder),
            *([StepLog(folder)] if output.step_log else []),
            *([EpochWeights(folder)] if output.keep_epochs else []),
            *([tensorboard.TensorBoard(folder.path, output.step_log)] if output.tensorboard else []),
        ]

    def introduce(self) -> None:
        """Says what is going to happen."""
        data = self.experiment.data
        info(introduction(self.experiment, data))
        self.folder.write_json("environment.json", {"data_set": data.name, **environment()})

    def tell_changes(self, changes: Sequence[str]) -> None:
        """Says where a run goes on, and with which settings."""
        trainer = self.trainer
        if changes:
            info(f"changed: {', '.join(changes)}")
        if any(change.startswith("training.epochs ") for change in changes):
            rate = self.experiment.schedule(trainer.progress.step)
            info(f"the learning rate goes on at {rate:.3g}, that of a run of {trainer.epochs} epochs")
        info(f"resumed after step {trainer.progress.step:,}, in epoch {trainer.progress.epoch} of {trainer.epochs}")

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to that moment. Raises MinicnnError if it is one of other data or of another network."""
        check_same_data(checkpoint.state["data"], self._data)
        state.restore(self.trainer, checkpoint)
        metrics = self.trainer.progress.metrics
        figures = (f"{self.trainer.held_out}_{name}" for name in self.trainer.figures)
        columns = ["epoch", "step", "lr", "train_loss", "train_accuracy", *figures, "weight_change"]
        # Callbacks of the user's own may have added others.
        if metrics and [key for key in metrics[0] if key in columns] != columns:
            warn("metrics.csv: expected the columns of the run so far; going on without its rows")
            metrics.clear()

    def complete(self) -> bool:
        """Trains as long as it is wanted; then all that a run leaves behind."""
        self.interrupt.polite = True
        trainer, path = self.trainer, self.folder.path
        try:
            test = trainer.fit()
            assert test is not None, "a run has held-out images"
        except DivergedError as error:
            kept = f"; the last good weights, those after step {self._guard.step}, are in {path / FILE_NAME}"
            raise DivergedError(error.step, error.layer, error.rest + kept, error.gradient) from None
        except RankLostError as error:
            raise RankLostError(f"{error}; to go on after the last checkpoint: --resume {path}") from None
        errors = error_table(self.experiment, test)
        self.folder.attempt("errors.csv", self.folder.write_table, "errors.csv", errors, ERROR_COLUMNS)
        if self.experiment.settings.output.pictures and trainer.group.rank == 0:
            draw_pictures(self.experiment, path, trainer, test)
        progress = trainer.progress
        if not trainer.done:
            info(
                f"interrupted after step {progress.step:,}, in epoch {progress.epoch} of {trainer.epochs}; "
                f"to go on: minicnn train --resume {path}"
            )
        elif progress.stopped:
            info(f"stopped after epoch {progress.epoch - 1} of {trainer.epochs}: {progress.stopped}")
        if self._early.patience is not None and trainer.done:
            best = f"{self._early.best} {trainer.held_out} {self._early.words}"
            info(f"the model is that of epoch {self._early.best_epoch}, with the {best}")
        images = progress.all_images + progress.images
        seconds = progress.all_seconds + progress.seconds
        info(
            f"\n{trainer.held_out} accuracy {test.accuracy:.2%} on {self.experiment.data.name}\n"
            f"training took {seconds:.2f} s, {images / seconds:,.0f} "
            f"images/s, after {self._compile_seconds:.2f} s of loading or compiling kernels\n"
            f"{path}"
        )
        if trainer.done:
            self.checkpoints.save(trainer, complete=True)  # with the pictures, and all that there is to do at the end
        return trainer.done


def introduction(experiment: Experiment, data: Dataset) -> str:
    """What is going to be trained, and with what."""
    network, settings = experiment.network, experiment.settings
    padding, transfer = settings.data.padding, experiment.transfer
    start = f"\nstarted from {settings.training.start_from}: {transfer}" if transfer else ""
    channels, height, width = shape = data.train_images.shape[1:]
    seen = channels, height + 2 * padding, width + 2 * padding
    around = f" with {padding} pixels of black around them" if padding else ""
    train, test = (Balance.of(labels, data.classes) for labels in (data.train_labels, data.test_labels))
    return (
        f"{summary(network, seen)}\n\n"
        f"{data.name}: {len(data.train_images):,} training and {len(data.test_images):,} "
        f"{data.held_out} images of {' x '.join(map(str, shape))}{around}, "
        f"{classes_in_words(train, test, data.held_out)}{start}"
    )


def check_machine(settings: Settings, group: ProcessGroup | None = None) -> None:
    """Sets the number of threads of all kernels; those of several ranks on one machine share its cores.

    Raises ConfigError for more threads than there are cores, and if a package is missing that the settings need.
    """
    threads, cores = settings.training.threads, driver.most_threads()
    if threads is not None and threads > cores:
        raise ConfigError(f"training.threads: expected at most {cores}, the number of cores, received {threads}")
    driver.set_threads(threads or max(1, cores // (group or ProcessGroup()).local_world_size))
    if settings.output.tensorboard:
        tensorboard.check_available()


def _is_over(path: Path, settings: Settings, done: int, stopped: str) -> bool:
    """Whether a run that has come to its end stays there; says how it could go on."""
    epochs = settings.training.epochs
    if epochs == done:
        info(
            f"{path}: all {epochs} epochs are done; to go on, for example: "
            f"minicnn train --resume {path} training.epochs={2 * epochs}"
        )
    elif stopped:
        info(
            f"{path}: stopped after epoch {done} of {epochs}: {stopped}; to go on without such "
            f"a rule: minicnn train --resume {path} stop={{}}"
        )
    return epochs == done or bool(stopped)


def _folder(group: ProcessGroup, make: Callable[[], RunFolder]) -> RunFolder:
    """The folder of a run, made by rank 0, which alone writes there."""
    with group.together():
        folder = make() if group.rank == 0 else None
    path = group.broadcast(folder.path if folder else Path())
    return folder or NoFolder(path)
