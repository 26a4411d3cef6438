"""Arrays with a description in one file: model files and checkpoints.

They are safetensors files, with JSON under one key of the metadata, and a checksum over both.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from minicnn.errors import MinicnnError
from minicnn.files import checksum

KEY = "minicnn"  # one key, since safetensors writes several in random order


class DamagedError(MinicnnError):
    """The content of a file is not what was written, or is of another kind."""


def pack(arrays: Mapping[str, np.ndarray], description: Mapping[str, Any], covered: Any) -> bytes:
    """The content of a file, the same for the same values; `covered` is what the checksum covers besides the arrays."""
    from safetensors.numpy import save

    return save(dict(arrays), {KEY: json.dumps({**description, "checksum": checksum(arrays, covered)})})


def unpack(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """The arrays and the description, None for a file of other software that has none. Raises DamagedError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
        size = int.from_bytes(content[:8], "little")
        text = json.loads(content[8 : 8 + size]).get("__metadata__", {}).get(KEY)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedError(f"a damaged or foreign one; safetensors says: {error}") from None
    if text is None:
        return arrays, None
    try:
        return arrays, dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedError(f"a damaged one, whose description cannot be read: {error}") from None


def check(arrays: Mapping[str, np.ndarray], covered: Any, found: object) -> None:
    """Raises DamagedError unless `found` is the checksum."""
    if found != checksum(arrays, covered):
        raise DamagedError("a damaged one: wrong checksum")
