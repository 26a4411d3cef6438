"""One training run, from settings to a folder with the trained weights, figures and pictures.

What is wrong shows as early as it can: first the settings, then a folder that cannot be written,
then the data; only then are kernels compiled and weights trained.
"""

import numba

from minicnn import logs
from minicnn.build import build_network, load_data
from minicnn.config import Settings, dump_settings
from minicnn.console import leads, warn
from minicnn.data import Dataset
from minicnn.distributed import OneProcess, check_settings, join, ranks_on_this_machine
from minicnn.errors import ConfigError
from minicnn.interrupt import Interrupt
from minicnn.lint import lint
from minicnn.run_folder import NoFolder, RunFolder
from minicnn.trainer import Trainer


def train(settings: Settings, name: str) -> bool:
    """Trains in a new folder called `name` and the time; False if Ctrl-C or SIGTERM ended it early.

    Raises MinicnnError: settings that do not fit together, data that cannot be had, a folder that
    cannot be written, a loss that is not finite (the folder has the last good weights then).
    """
    use_threads(settings.training.threads)
    logs.check_available(settings.output)
    network = build_network(settings)
    with join() as ranks:
        with ranks.together():
            check_settings(ranks, settings.model_dump(mode="json"))
            folder = RunFolder.new(settings.output.dir, name) if leads() else NoFolder()
        with folder, Interrupt() as interrupt:
            try:
                folder.write_text("config.yaml", dump_settings(settings))
                with ranks.together():
                    trainer = Trainer(settings, network, _data(settings, ranks), folder, ranks)
                    trainer.start()
                for line in lint(settings, network, trainer.train_batches):
                    warn(line)
            except BaseException:
                folder.discard()
                raise
            return _complete(trainer, interrupt)


def _data(settings: Settings, ranks: OneProcess) -> Dataset:
    with ranks.in_turn():
        return load_data(settings, warn)


def _complete(trainer: Trainer, interrupt: Interrupt) -> bool:
    """Trains as long as it is wanted; then all that a run leaves behind."""
    interrupt.polite = True
    try:
        test = trainer.fit(interrupt)
    finally:  # whatever has happened, what has been learned is not lost
        trainer.save_weights()
    trainer.finish(test)
    return trainer.done


def use_threads(threads: int | None) -> None:
    """Sets the number of threads of all kernels; None stands for all cores, which ranks on one machine share."""
    cores = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if threads is not None and threads > cores:
        raise ConfigError(
            f"training.threads: expected at most {cores}, the number of cores, received {threads}"
        )
    numba.set_num_threads(threads or max(1, cores // ranks_on_this_machine()))
