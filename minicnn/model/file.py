"""Model files: weights as safetensors, and in the metadata what it takes to use them, with a checksum over both."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.errors import MinicnnError
from minicnn.files import check, checksum, open_file, pack, unpack
from minicnn.layers import Layer
from minicnn.model.formats import ModelFile, check_sizes, parsed
from minicnn.training.run_folder import runs_in

FILE_NAME = "model.safetensors"
EXPORTS = (".onnx", ".c", ".h")
FORMAT = 1  # of the metadata; a file with a higher number is refused


def file_content(description: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> bytes:
    """That of a model file: the fields of `ModelFile` and a state dict."""
    described = {"format": FORMAT, **description}
    return pack(state, described, described)


def read(path: Path) -> tuple[Path, ModelFile, dict[str, np.ndarray]]:
    """The file, which may be in a run's folder `path`, what it says of its model, and the state dict.

    Raises MinicnnError for a file that is missing, damaged, no model, or of a newer format.
    """
    path = _file(path)
    try:
        with open_file(path) as file:
            state, description = unpack(file.read())
    except OSError as error:
        raise MinicnnError(f"{path}: cannot be read: {error.strerror}") from None
    except MinicnnError as error:
        raise MinicnnError(f"{path}: expected a model file, received {error}") from None
    if description is None:
        raise MinicnnError(
            f"{path}: expected a model of minicnn, received weights without its network; build that "
            "and pass safetensors.numpy.load_file(...) to its load_state_dict"
        )
    try:
        return path, _described(description, state), state
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
            hint = f"; the best weights of this run so far are in {best}" if best.exists() else runs_in(path.parent)
            raise MinicnnError(f"{path.parent}: expected a run's folder, with {FILE_NAME} in it{hint}")
    if not os.path.isfile(path):
        raise MinicnnError(f"{path}: expected a model file or a run's folder, there is none")
    if path.suffix in EXPORTS:
        raise MinicnnError(
            f"{path}: expected a model file or a run's folder, received an export for other programs, which minicnn "
            f"does not read; take {FILE_NAME}, or the run, that it was made from"
        )
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
    if found:
        try:
            check(state, description, found)
        except MinicnnError as error:
            raise MinicnnError(f"expected a whole model file, received {error}") from None
    described = parsed(ModelFile, description, "damaged, its description")
    check_sizes(described.layers, state)
    return described


def weights_hash(network: Layer) -> str:
    """The first 16 digits of the SHA-256 of a network's weights and statistics: equal for equal bits."""
    return checksum(network.state_dict(), None)[:16]
