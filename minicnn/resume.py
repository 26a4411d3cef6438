"""What may be different when a run goes on: the settings, compared with those that it had so far, and the data."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicnn import yaml_tree
from minicnn.build import layer_list
from minicnn.config import Settings
from minicnn.data import Dataset
from minicnn.errors import ConfigError, DataError
from minicnn.validation import show, validated

#: Settings that a run can go on with when they are changed, or groups of such. All others, the next step builds on.
CHANGEABLE = (
    "training.epochs",
    "training.threads",
    "optimizer",
    "schedule",
    "checkpoint",
    "output",
    "data.root",
    "data.path",
    "data.if_unavailable",
)
FIXED = ("optimizer.name",)


def resumed_settings(
    run: Path, before: Mapping[str, Any], overrides: Sequence[str], epochs_begun: int
) -> tuple[Settings, list[str]]:
    """The settings to go on with, and a text for each that is not as `before`, those of the checkpoint.

    They are those of the run's config.yaml, in which an edited value counts, changed by `overrides`.
    Raises ConfigError, a line for each setting that must not change, and for fewer epochs than were begun.
    """
    file = run / "config.yaml"
    tree = yaml_tree.read(file) if file.exists() else dict(before)
    for assignment in overrides:
        yaml_tree.override(tree, assignment)
    settings = validated(Settings, tree)
    old, new = _flat(validated(Settings, dict(before))), _flat(settings)
    # The options of a layer that is another one now say nothing new.
    keys = [key for key in {**old, **new} if (key in old and key in new) or key.count(".") == 2]
    changed = [key for key in keys if old.get(key) != new.get(key)]
    wrong = [
        f"{key}: expected {show(old.get(key))}, as in the run so far, received {show(new.get(key))}"
        for key in changed
        if not _among(key, CHANGEABLE) or key in FIXED
    ]
    if settings.training.epochs < epochs_begun:
        wrong.append(
            f"training.epochs: expected at least {epochs_begun}, as many as were begun, "
            f"received {settings.training.epochs}"
        )
    if wrong:
        raise ConfigError("\n".join(wrong))
    return settings, [f"{key} from {show(old[key])} to {show(new[key])}" for key in changed]


def _among(key: str, known: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(name + ".") for name in known)


def _flat(settings: Settings) -> dict[str, Any]:
    """All values by their paths; a layer counts as its name, and its options with their defaults."""
    tree = settings.model_dump(mode="json")
    del tree["network"]["layers"]
    flat = {f"{group}.{key}": value for group, keys in tree.items() for key, value in keys.items()}
    for i, layer in enumerate(layer_list(settings)):
        [(name, options)] = layer.items()
        flat[f"network.layers.{i}"] = name
        flat.update({f"network.layers.{i}.{name}.{key}": x for key, x in options.items()})
    return flat


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


def check_data(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises DataError unless the two fingerprints are the same."""
    if before["name"] != now["name"]:
        raise DataError(
            f"data: expected {before['name']}, as in the run so far, received {now['name']}"
        )
    for part in ("classes", "train", "test"):
        if before[part] != now[part]:
            what = "classes" if part == "classes" else f"{part} images and labels"
            raise DataError(
                f"data: expected the {what} of the run so far, received others under the same name, "
                f"{now['name']}"
            )
