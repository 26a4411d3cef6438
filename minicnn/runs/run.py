"""One training run, from settings to a folder with the trained weights, figures and pictures.

What is wrong shows as early as it can: first the settings, then a folder that cannot be written, then the data, and
while these are loaded kernels are compiled; only then are weights trained.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from minicnn.config.experiment import build_network, kernels_of_run, load_data
from minicnn.config.messages import validated
from minicnn.config.settings import Settings, dump_settings
from minicnn.console import info, leads, under_torchrun, warn
from minicnn.data import Dataset
from minicnn.engine import driver
from minicnn.engine.progress import Preparation
from minicnn.errors import ConfigError, MinicnnError, RankLostError
from minicnn.layers.sequential import Sequential
from minicnn.runs.lint import lint
from minicnn.runs.resume import find_start, fingerprint
from minicnn.training.callbacks import logs
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.interrupt import Interrupt
from minicnn.training.process_group import (
    NOTE,
    OneProcess,
    check_data,
    check_settings,
    earlier_run,
    join,
    ranks_on_this_machine,
    run_key,
)
from minicnn.training.run_folder import NoFolder, RunFolder
from minicnn.training.trainer import Trainer


def train(settings: Settings, name: str, parent: Path | None = None) -> bool:
    """Trains in a new folder called `name` and the time; False if Ctrl-C or SIGTERM ended it early.

    With `parent` the folder is parent/name, and may be there already.

    Raises MinicnnError: settings that do not fit together, data that cannot be had, a folder that
    cannot be written, a loss that is not finite (the folder has the last good weights then).
    """
    use_threads(settings.training.threads)
    logs.check_available(settings.output)
    network = build_network(settings)
    with join() as ranks:
        with ranks.together():
            check_settings(ranks, settings.model_dump(mode="json"))
        earlier = _begun_before(settings, ranks)
        if earlier:
            return _go_on(earlier, (), ranks)
        with _folder(ranks, lambda: _new_folder(settings, name, parent)) as folder, Interrupt() as interrupt:
            try:
                folder.write_text("config.yaml", dump_settings(settings))
                if under_torchrun():
                    folder.write_json(NOTE, {"run": run_key(), "ranks": ranks.size})
                data, seconds = _data(settings, network, ranks)
                with ranks.together():
                    trainer = Trainer(settings, network, data, folder, ranks, seconds)
                trainer.save()  # so that a run that is killed in its first epoch can go on, too
                trainer.start()
                for line in lint(settings, network, trainer.train_batches):
                    warn(line)
            except BaseException:
                folder.discard()
                raise
            return _complete(trainer, interrupt)


def resume(path: Path, overrides: Sequence[str] = ()) -> bool:
    """Goes on with the run in the folder `path`, to the end that it would have come to without a stop.

    `overrides`: settings to change, such as training.epochs=20. False if it was stopped again.
    Raises MinicnnError: no such run, or another process at it; a checkpoint that cannot be used, and none before it;
    a setting that must not change or other data; and all that `train` raises.
    """
    with join() as ranks:
        return _go_on(path, overrides, ranks)


def _go_on(path: Path, overrides: Sequence[str], ranks: OneProcess) -> bool:
    with _folder(ranks, lambda: RunFolder.existing(path)) as folder, Interrupt() as interrupt:
        with ranks.together():
            found = find_start(path, overrides).to_bytes() if leads() else None
            folder.remove_halves()
        start = Checkpoint.from_bytes(ranks.share(found) or b"")
        settings = validated(Settings, start.state["settings"])
        epochs, done = settings.training.epochs, start.state["progress"]["epoch"] - 1
        stopped = start.state["progress"]["stopped"]
        if any(change.startswith(("stop.", "training.epochs ")) for change in start.state["changes"]):
            stopped = ""  # the rules are asked again after the next epoch
        if start.state["complete"] and epochs == done:
            info(
                f"{path}: all {epochs} epochs are done; to go on, for example: "
                f"minicnn train --resume {path} training.epochs={2 * epochs}"
            )
            return True
        if start.state["complete"] and stopped:
            info(
                f"{path}: stopped after epoch {done} of {epochs}: {stopped}; to go on without such "
                f"a rule: minicnn train --resume {path} stop={{}}"
            )
            return True
        with ranks.together():
            check_settings(ranks, start.state["settings"])
            use_threads(settings.training.threads)
            logs.check_available(settings.output)
            network = build_network(settings)
        data, seconds = _data(settings, network, ranks)
        with ranks.together():
            trainer = Trainer(settings, network, data, folder, ranks, seconds)
            trainer.restore(start)
            trainer.progress.stopped = stopped
            folder.write_text("config.yaml", dump_settings(settings))
        trainer.start()
        if start.state["changes"]:
            info(f"changed: {', '.join(start.state['changes'])}")
        progress = trainer.progress
        if any(change.startswith("training.epochs ") for change in start.state["changes"]):
            rate = trainer.schedule(progress.step)
            info(f"the learning rate goes on at {rate:.3g}, that of a run of {epochs} epochs")
        info(f"resumed after step {progress.step:,}, in epoch {progress.epoch} of {epochs}")
        return _complete(trainer, interrupt)


def _begun_before(settings: Settings, ranks: OneProcess) -> Path | None:
    """The folder of the run that these ranks were at when torchrun restarted them."""
    found = earlier_run(settings.output.dir) if ranks.restarts and leads() else None
    path = ranks.share(str(found).encode() if found else None)
    return Path(path.decode()) if path else None


def _new_folder(settings: Settings, name: str, parent: Path | None) -> RunFolder:
    return RunFolder.new(settings.output.dir, name) if parent is None else RunFolder.at(parent / name)


def _folder(ranks: OneProcess, make: Callable[[], RunFolder]) -> RunFolder:
    """The folder of a run, made by rank 0, which alone writes there."""
    with ranks.together():
        folder = make() if leads() else None
    path = ranks.share(str(folder.path).encode() if folder else None)
    return folder or NoFolder(Path((path or b"").decode()))


def _data(settings: Settings, network: Sequential, ranks: OneProcess) -> tuple[Dataset, float]:
    """The data, and how long it took to compile or load the kernels, which is done meanwhile."""
    with ranks.together(), ranks.in_turn(), Preparation(lambda: kernels_of_run(settings, network), info) as preparation:
        data = load_data(settings, warn)
    if ranks.size > 1:
        with ranks.together():
            check_data(ranks, fingerprint(data))
    return data, preparation.seconds


def _complete(trainer: Trainer, interrupt: Interrupt) -> bool:
    """Trains as long as it is wanted; then all that a run leaves behind."""
    interrupt.polite = True
    try:
        test = trainer.fit(interrupt)
    except BaseException as error:
        try:  # whatever has happened, what has been learned is not lost
            trainer.save_weights()
        except MinicnnError as another:  # and what has happened is not hidden
            warn(str(another))
        if isinstance(error, RankLostError):
            raise RankLostError(
                f"{error}; to go on after the last checkpoint: --resume {trainer.folder.path}"
            ) from None
        raise
    trainer.save_weights()
    trainer.finish(test)
    return trainer.done


def use_threads(threads: int | None) -> None:
    """Sets the number of threads of all kernels; None stands for all cores, which ranks on one machine share."""
    cores = driver.most_threads()
    if threads is not None and threads > cores:
        raise ConfigError(f"training.threads: expected at most {cores}, the number of cores, received {threads}")
    driver.set_threads(threads or max(1, cores // ranks_on_this_machine()))
