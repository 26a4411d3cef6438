"""Model files: weights as safetensors, and in the metadata what it takes to use them, with a checksum over both."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.errors import MinicnnError
from minicnn.files import checksum
from minicnn.model.formats import ModelFile, check_sizes, parsed

FILE_NAME = "model.safetensors"
FORMAT = 1  # of the metadata; a file with a higher number is refused
KEY = "minicnn"  # one key, since safetensors writes several in random order


def file_content(description: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> bytes:
    """That of a model file: the fields of `ModelFile` and a state dict."""
    from safetensors.numpy import save

    described: dict[str, Any] = {"format": FORMAT, **description}
    described["checksum"] = checksum(state, described)
    return save(dict(state), {KEY: json.dumps(described)})


def read(path: Path) -> tuple[Path, ModelFile, dict[str, np.ndarray]]:
    """The file, which may be in a run's folder `path`, what it says of its model, and the state dict.

    Raises MinicnnError for a file that is missing, damaged, no model, or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    path = _file(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise MinicnnError(f"{path}: expected a model file, received a damaged or foreign one: {error}") from None
    if KEY not in metadata:
        raise MinicnnError(
            f"{path}: expected a model of minicnn, received weights without its network; build that "
            "and pass safetensors.numpy.load_file(...) to its load_state_dict"
        )
    try:
        return path, _described(json.loads(metadata[KEY]), state), state
    except MinicnnError as error:
        raise MinicnnError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise MinicnnError(
            f"{path}: damaged, its description of the network cannot be used: {type(error).__name__}: {error}"
        ) from None


def _file(path: Path) -> Path:
    if os.path.isdir(path):
        path = path / FILE_NAME
        if not os.path.exists(path):
            best = path.parent / "checkpoints" / "best.safetensors"
            hint = f"; the best weights of this run so far are in {best}" if best.exists() else ""
            raise MinicnnError(f"{path.parent}: expected a run's folder, with {FILE_NAME} in it{hint}")
    if not os.path.isfile(path):
        raise MinicnnError(f"{path}: expected a model file or a run's folder, there is none")
    return path


def _described(description: dict[str, Any], state: Mapping[str, np.ndarray]) -> ModelFile:
    kind = description.get("kind", "model")
    if kind != "model":
        raise MinicnnError(f"expected a model, received a {kind}; {FILE_NAME} in a run's folder is one")
    if isinstance(description["format"], int) and description["format"] > FORMAT:
        raise MinicnnError(
            f"expected format {FORMAT} at most, received {description['format']}, of a newer minicnn; "
            "upgrade minicnn to read it"
        )
    found = description.pop("checksum", None)  # not in files of early versions
    if found and found != checksum(state, description):
        raise MinicnnError("expected a whole model file, received a damaged one: wrong checksum")
    described = parsed(ModelFile, description, "damaged, its description")
    check_sizes(described.layers, state)
    return described
