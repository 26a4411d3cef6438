"""Trains several networks one after the other, each in a run folder of its own below one folder, and compares them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minicnn import own_code
from minicnn.config.build import build_network
from minicnn.config.comparison import Comparison, changed
from minicnn.config.experiment import Experiment
from minicnn.config.settings import Settings, flat
from minicnn.console import info, table
from minicnn.errors import ConfigError
from minicnn.model import load
from minicnn.runs.resume import find_start
from minicnn.runs.run import check_machine, resume, train
from minicnn.training.checkpoint import Checkpoints
from minicnn.training.process_group import ProcessGroup
from minicnn.training.run_folder import RunFolder
from minicnn.training.step import evaluate
from minicnn.training.tables import read_table

Row = dict[str, Any]


def train_comparison(comparison: Comparison, name: str, group: ProcessGroup) -> bool:
    """Trains all networks below a new folder called `name` and the time; False if Ctrl-C or SIGTERM ended it early.

    Raises MinicnnError, as `train` does for one network; no later one is trained then.
    """
    _check(comparison, group)
    with RunFolder.new(comparison.first.output.dir, name) as folder:
        try:
            folder.write_text("config.yaml", comparison.dump())
            for settings in comparison.settings.values():
                folder.write_code(own_code.files_of(settings.model_dump(mode="json")))
            return _train_all(comparison, folder)
        except BaseException:
            if not _begun(comparison, folder):
                folder.discard()
            raise


def resume_comparison(path: Path, overrides: Sequence[str], group: ProcessGroup) -> bool:
    """Goes on with the comparison in the folder `path`: with the networks that were stopped, then those not begun.

    `overrides`: settings to change for all networks, such as training.epochs=20. Raises MinicnnError, as `resume` does.
    """
    with RunFolder.existing(path) as folder:
        comparison = changed(path, overrides)
        _check(comparison, group)
        for name in _begun(comparison, folder):  # refuses what must not change, before anything has
            find_start(path / name, _as_overrides(comparison.settings[name]))
        folder.remove_halves()
        folder.write_text("config.yaml", comparison.dump())
        return _train_all(comparison, folder)


def _check(comparison: Comparison, group: ProcessGroup) -> None:
    """Raises ConfigError for what can be known to be wrong before the first network is trained."""
    if group.world_size > 1:
        raise ConfigError(
            "networks: expected a single network under torchrun, received "
            f"{len(comparison.settings)}; compare them in one process"
        )
    check_machine(comparison.first)
    comparison.each(build_network, aloud=False)


def _begun(comparison: Comparison, folder: RunFolder) -> list[str]:
    """The networks that have a checkpoint."""
    found = {name: Checkpoints(folder.path / name) for name in comparison.settings}
    return [name for name, c in found.items() if c.last.exists() or c.previous.exists()]


def _as_overrides(settings: Settings) -> list[str]:
    """All settings, so that a network goes on with those of the comparison, whatever it had when it was left."""
    values = flat(settings.model_dump(mode="json"))
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def _train_all(comparison: Comparison, folder: RunFolder) -> bool:
    begun = _begun(comparison, folder)
    for name, settings in comparison.settings.items():
        run, overrides = folder.path / name, _as_overrides(settings)
        info(comparison.heading(name))
        if name in begun:
            start = find_start(run, overrides).state
            if start["complete"] and not start["changes"]:
                info(f"{run}: done before")
                continue
        done = resume(run, overrides) if name in begun else train(settings, name, parent=folder.path)
        if not done:
            info(f"to go on with all networks: minicnn train --resume {folder.path}")
            return False
    rows = results(comparison, folder.path)
    folder.write_table("comparison.csv", rows)
    if comparison.first.output.pictures:
        folder.attempt("comparison.png", _draw, comparison, folder.path)
    info(f"\n{as_table(rows)}\n\n{folder.path}")
    return True


def results(comparison: Comparison, folder: Path) -> list[Row]:
    """A row for each network: its size, what it costs, how good it has become, and how long that took.

    Both accuracies are those of the trained network, without augmentation: `final_train_accuracy` is not the
    train_accuracy of metrics.csv, which counts during an epoch, while weights change. Seconds are of training alone.
    """
    experiment = Experiment(comparison.first)
    return [
        {"network": name, **_figures(experiment, settings, folder / name)}
        for name, settings in comparison.settings.items()
    ]


def _figures(experiment: Experiment, settings: Settings, run: Path) -> Row:
    model, data = load(run), experiment.data
    learned = experiment.evaluation_batches(data.train_images, data.train_labels)
    test, train = (
        evaluate(model.network, experiment.loss, batches).accuracy for batches in (experiment.test_batches, learned)
    )
    timings = read_table(run / "timings.csv")
    return {
        "parameters": model.network.parameter_count,
        "multiply_adds": model.network.multiply_adds(model.network_shape),
        "connections": model.network.connections(model.network_shape),
        f"{data.held_out}_accuracy": test,
        "final_train_accuracy": train,
        "epochs": len(timings),
        "seconds": round(sum(row["seconds"] for row in timings), 3),
    }


def as_table(rows: Sequence[Row]) -> str:
    """The rows of `results` as text."""
    head = [key.replace("_", "-" if key == "multiply_adds" else " ") for key in rows[0]]
    cells = [[_cell(key, value) for key, value in row.items()] for row in rows]
    return table(cells, "<" + ">" * (len(head) - 1), head)


def _cell(key: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2%}" if key.endswith("accuracy") else f"{value:.2f}"
    return value if isinstance(value, str) else f"{value:,}"


def _draw(comparison: Comparison, folder: Path) -> None:
    from minicnn.inspect.plots.figures import plot_comparison  # matplotlib takes a second to import

    metrics = {name: read_table(folder / name / "metrics.csv") for name in comparison.settings}
    plot_comparison(folder / "comparison.png", metrics)
