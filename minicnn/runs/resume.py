"""What may be different when a run goes on: the settings, compared with those that it had so far, and the data."""

import zlib
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from minicnn import own_code
from minicnn.config import yaml_file as yaml_tree
from minicnn.config.build import build_network
from minicnn.config.settings import Settings, flat
from minicnn.console import warn
from minicnn.data import Dataset
from minicnn.errors import ConfigError, DataError, MinicnnError
from minicnn.layers.registry import to_config
from minicnn.model.formats import CheckpointState, parsed
from minicnn.training.callbacks.logs import METRICS, TIMINGS
from minicnn.training.checkpoint import Checkpoint, Checkpoints
from minicnn.training.tables import read_table
from minicnn.validation import show, validated

#: Settings that a run can go on with when they are changed, or groups of such. All others, the next step builds on.
CHANGEABLE = (
    "training.epochs",
    "training.threads",
    "training.freeze",
    "training.lr_factors",
    "optimizer",
    "schedule",
    "stop",
    "checkpoint",
    "output",
    "data.root",
    "data.path",
    "data.if_unavailable",
)
FIXED = ("optimizer.name",)


def find_start(run: Path, overrides: Sequence[str]) -> Checkpoint:
    """The last checkpoint of a run, with the settings to go on with, and `changes`, what is new in them.

    They are those of the run's config.yaml, in which an edited value counts, changed by `overrides`.
    Raises ConfigError, a line for each setting that must not change, and for fewer epochs than were begun; MinicnnError
    if there is no usable checkpoint.
    """
    checkpoint = Checkpoints(run).read()
    progress = parsed(CheckpointState, checkpoint.state, f"{run}, its checkpoint").progress.numbers()
    state = {**checkpoint.state, "progress": progress}
    file = run / "config.yaml"
    tree = yaml_tree.read(file) if file.exists() else dict(state["settings"])
    for assignment in overrides:
        yaml_tree.override(tree, assignment)
    for one in (tree, state["settings"]):
        own_code.load_from(run, own_code.names_in(one), run)
    settings = validated(Settings, tree)
    old, new = _flat(validated(Settings, dict(state["settings"]))), _flat(settings)
    changed = [key for key in new if old[key] != new[key]]
    wrong = [_refusal(key, old[key], new[key]) for key in changed if not _among(key, CHANGEABLE) or key in FIXED]
    begun = state["progress"]["epoch"] - (state["progress"]["batches"] == 0)
    if settings.training.epochs < begun:
        wrong.append(
            f"training.epochs: expected at least {begun}, as many as were begun, received {settings.training.epochs}"
        )
    if wrong:  # with other data, the network may have problems that are none of its own
        raise ConfigError("\n".join(wrong))
    wrong = _differences(state["layers"], to_config(build_network(settings)))
    if wrong:
        raise ConfigError("\n".join(wrong))
    changes = [f"{key} from {show(old[key])} to {show(new[key])}" for key in changed]
    facts = {
        "settings": settings.model_dump(mode="json"),
        "changes": changes,
        "progress": {**state["progress"], **_rows(run, state["progress"]["epoch"] - 1)},
    }
    return Checkpoint(checkpoint.arrays, {**state, **facts})


def _rows(run: Path, epochs: int) -> dict[str, Any]:
    """The rows of metrics.csv and timings.csv up to that epoch; a warning where some are gone."""
    found = {}
    for file in (METRICS, TIMINGS):
        rows: list[dict[str, Any]] = []
        if epochs:
            try:
                rows = [row for row in read_table(run / file) if row["epoch"] <= epochs]
                problem = f"{run / file}: expected the rows of {epochs} epochs, received {len(rows)}"
            except (MinicnnError, KeyError) as error:
                problem = str(error)
            if [row["epoch"] for row in rows] != list(range(1, epochs + 1)):
                warn(f"{problem}; going on without those rows")
                rows = []
        found[file.removesuffix(".csv")] = rows
    return found


def _refusal(place: str, old: Any, new: Any) -> str:
    return f"{place}: expected {show(old)}, as in the run so far, received {show(new)}"


def _among(key: str, known: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(name + ".") for name in known)


def _flat(settings: Settings) -> dict[str, Any]:
    """All values but the layers, by their paths."""
    tree = settings.model_dump(mode="json")
    del tree["network"]["layers"]
    return flat(tree)


def _differences(old: Sequence[Any], new: Sequence[Any], before: str = "network.layers") -> list[str]:
    """A line for each layer that is another one, or for each of its options that has another value."""
    wrong = []
    for i, (one, two) in enumerate(zip_longest(old, new)):
        place = f"{before}.{i}"
        (was, had), (name, options) = (_named(item) for item in (one, two))
        if was != name:
            wrong.append(_refusal(place, was, name))
            continue
        for key in {**had, **options}:
            a, b = had.get(key), options.get(key)
            if _is_row(a) and _is_row(b):
                wrong += _differences(a, b, f"{place}.{name}.{key}")
            elif a != b:
                wrong.append(_refusal(f"{place}.{name}.{key}", a, b))
    return wrong


def _named(item: Any) -> tuple[str | None, Mapping[str, Any]]:
    """The name and the options of a layer, as settings have it: ReLU, or Dense: {out_features: 10}."""
    if item is None or isinstance(item, str):
        return item, {}
    [(name, options)] = item.items()
    return name, options or {}


def _is_row(option: Any) -> TypeGuard[list[Any]]:
    """Whether an option of a layer is a list of layers."""
    return isinstance(option, list) and any(isinstance(one, str | Mapping) for one in option)


def fingerprint(data: Dataset) -> dict[str, Any]:
    """What tells data from other data: the name, and checksums of images and labels."""

    def crc(array: np.ndarray) -> int:
        return zlib.crc32(np.ascontiguousarray(array).data)

    return {
        "name": data.name,
        "classes": list(data.classes),
        "train": [len(data.train_images), crc(data.train_images), crc(data.train_labels)],
        "test": [len(data.test_images), crc(data.test_images), crc(data.test_labels)],
    }


def check_same_data(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises DataError unless the two fingerprints are the same."""
    if before["name"] != now["name"]:
        raise DataError(f"data: expected {before['name']}, as in the run so far, received {now['name']}")
    for part in ("classes", "train", "test"):
        if before[part] != now[part]:
            what = "classes" if part == "classes" else f"{part} images and labels"
            raise DataError(
                f"data: expected the {what} of the run so far, received others under the same name, {now['name']}"
            )
