"""What the processes of one run must agree on, and how they find their run again when torchrun has restarted them."""

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from minicnn.config.settings import flat
from minicnn.errors import ConfigError, DataError
from minicnn.training.process_group import ProcessGroup

#: The file in a run's folder that says which torchrun has begun it.
NOTE = "torchrun.json"
#: Settings that may differ from machine to machine.
OWN = ("data.root", "data.path", "output.dir", "training.threads")


def run_key() -> str:
    """What all restarts of a run by the same torchrun have in common, and other runs have not."""
    key = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    # torchrun calls a run "none" unless --rdzv-id or --standalone gives it a name; it stays the parent of its ranks.
    return f"{socket.gethostname()}-{os.getppid()}" if key == "none" else key


def earlier_run(parent: Path) -> Path | None:
    """The folder in `parent` of the run that this torchrun has begun before it restarted its ranks, or None.

    It is the newest one with this torchrun's key, which an older torchrun may have had too; None if it has no
    checkpoint yet.
    """
    found = []
    for note in parent.glob(f"*/{NOTE}"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            if json.loads(note.read_text("utf-8"))["run"] == run_key():
                found.append((note.stat().st_mtime, note.parent))
    if not found:
        return None
    newest = max(found)[1]
    return newest if any(newest.glob("checkpoints/*.safetensors")) else None


def begun_before(group: ProcessGroup, parent: Path) -> Path | None:
    """The folder of that run, on every rank, where torchrun has restarted the ranks."""
    return group.broadcast(earlier_run(parent) if group.restarts and group.rank == 0 else None)


def check_data(group: ProcessGroup, fingerprint: Mapping[str, Any]) -> None:
    """Raises DataError unless all ranks have the same data."""
    first, *others = group.all_gather(fingerprint)
    for rank, other in enumerate(others, 1):
        if other != first:
            raise DataError(f"data: expected the same on all ranks, received others on rank {rank} than on rank 0")


def check_settings(group: ProcessGroup, settings: Mapping[str, Any]) -> None:
    """Raises ConfigError unless all ranks have the same settings, folders and threads apart, and a batch has a sample
    for each of them.
    """
    if settings["training"]["batch_size"] < group.world_size:
        raise ConfigError(
            f"training.batch_size: expected at least {group.world_size}, the number of ranks, "
            f"received {settings['training']['batch_size']}"
        )
    same = {key: value for key, value in flat(settings).items() if key not in OWN}
    first, *others = group.all_gather(same)
    for rank, other in enumerate(others, 1):
        for key in sorted({*first, *other}):
            if first.get(key) != other.get(key):
                raise ConfigError(
                    f"{key}: expected the same on all ranks, received {first.get(key)} on rank 0 "
                    f"and {other.get(key)} on rank {rank}"
                )
