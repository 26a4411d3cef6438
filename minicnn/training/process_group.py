"""Several processes that train one network (data-parallel), started by torchrun, on one machine or more.

    torchrun --nproc-per-node=2 train.py configs/lenet.yaml

Every process ("rank") has the whole network and the same weights. Of each batch it takes its shard; the gradients of
all shards are added up (one all-reduce a step) and every rank makes the same update. As each rank divides its loss by
the number of samples in the whole batch, the sum is the gradient that one process would have had for that batch.

What depends on a shard, as in PyTorch's DistributedDataParallel: BatchNorm2d in training normalises by the statistics
of its shard, and the running statistics of rank 0 are those that count; each rank's Dropout draws masks of its own.

torch.distributed, with its backend gloo, carries the messages; it is imported under torchrun only.
"""

import ctypes
import json
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np

from minicnn.config.settings import flat
from minicnn.console import under_torchrun
from minicnn.data.batches import Batch, Batches
from minicnn.engine.arrays import Array
from minicnn.errors import ConfigError, DataError, MinicnnError, RankLostError
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss
from minicnn.training.step import Evaluation, evaluate


class OneProcess:
    """What `Ranks` is for several processes, for a single one, which has nobody to wait for."""

    rank, size = 0, 1
    local_rank = 0
    restarts = 0
    #: The sum of something over all ranks, for `train_step`; None for a single process.
    reduce: Any = None

    def shard(self, batch: Batch) -> Batch:
        """This rank's part of a batch."""
        return batch

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, anything that JSON can hold."""
        return [value]

    def share(self, content: bytes | None) -> bytes | None:
        """What rank 0 passes, on every rank."""
        return content

    def wait(self) -> None:
        """Returns when every rank has got here."""

    def evaluate(self, network: Sequential, loss: Loss, batches: Batches) -> Evaluation:
        """`minicnn.evaluate`, each rank on its part of the samples; all ranks have the whole result."""
        return evaluate(network, loss, batches)

    def separate_generators(self, network: Sequential) -> None:
        """Lets the generators of this rank's layers draw other numbers than those of other ranks."""

    def stop_requested(self, here: bool) -> bool:
        """Whether some rank is to end its training after this step; `here` says it of this one."""
        return here

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block in which each rank may fail: if one does, all of them leave with its error, which rank 0 raises."""
        yield

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """A block that one rank of each machine goes through first, then the others, which find what it has made."""
        yield

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Says goodbye to the other ranks."""


class Ranks(OneProcess):
    """The processes that torchrun has started, of which this is number `rank` of `size`.

    Each method must be called by all ranks, in the same order. Raises RankLostError when one of them is gone.
    """

    def __init__(self) -> None:
        environment = {name: int(os.environ.get(name, default)) for name, default in _NUMBERS}
        self.rank, self.size = environment["RANK"], environment["WORLD_SIZE"]
        self.local_rank = environment["LOCAL_RANK"]
        self.restarts = environment["TORCHELASTIC_RESTART_COUNT"]
        import torch
        import torch.distributed

        self._torch: Any = torch
        with _Lost("could not be reached"), _parent_watched():
            meeting = self._torch.distributed.rendezvous("env://", timeout=PATIENCE)
            store, rank, size = next(meeting)
            # torchrun's store outlives a restart: without a prefix, a rank may find the address that another one had.
            store = self._torch.distributed.PrefixStore(f"minicnn-{self.restarts}", store)
            self._torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
        self._stop_here = self._stop = False
        self._buffer = np.empty(0, np.float32)

    def reduce(self, gradients: Array, numbers: Sequence[float]) -> list[float]:
        """Adds up the gradients of all ranks, in place, and returns the sums of their `numbers`."""
        size = gradients.size
        if self._buffer.size != size + len(numbers) + 1:
            self._buffer = np.empty(size + len(numbers) + 1, gradients.dtype)
        self._buffer[:size] = gradients
        self._buffer[size:] = [*numbers, self._stop_here]
        with _Lost():
            self._torch.distributed.all_reduce(self._torch.from_numpy(self._buffer))
        gradients[...] = self._buffer[:size]
        sums = [float(number) for number in self._buffer[size:]]
        self._stop = sums.pop() > 0
        return sums

    def stop_requested(self, here: bool) -> bool:
        # Signals reach the ranks in different steps. So the wish travels with the next step's gradients, after which
        # all ranks know of it.
        self._stop_here = here
        return self._stop

    def shard(self, batch: Batch) -> Batch:
        return batch.shard(self.rank, self.size)

    def gather(self, value: Any) -> list[Any]:
        return [json.loads(content) for content in self._gather_bytes(json.dumps(value).encode())]

    def share(self, content: bytes | None) -> bytes | None:
        torch = self._torch
        length = torch.tensor([-1 if content is None else len(content)])
        with _Lost():
            torch.distributed.broadcast(length, 0)
            if length.item() < 0:
                return None
            whole = np.empty(length.item(), np.uint8)
            if self.rank == 0 and content is not None:
                whole[:] = np.frombuffer(content, np.uint8)
            torch.distributed.broadcast(torch.from_numpy(whole), 0)
        return whole.tobytes()

    def wait(self) -> None:
        with _Lost():
            self._torch.distributed.barrier()

    def evaluate(self, network: Sequential, loss: Loss, batches: Batches) -> Evaluation:
        with _Lost():
            for buffer in network.buffers().values():
                self._torch.distributed.broadcast(self._torch.from_numpy(buffer), 0)
        part = batches.part(self.rank, self.size)
        here = evaluate(network, loss, part) if len(part) else Evaluation(0.0, 0.0, np.empty(0))
        sums = [here.loss * len(here.scores), here.accuracy * len(here.scores)]
        loss_sum, correct = np.sum(self.gather(sums), axis=0)
        shape = network.output_shape(batches.sample_shape)
        dtype = network.dtype or np.dtype(np.float32)
        parts = self._gather_bytes(here.scores.astype(dtype).tobytes())
        scores = np.frombuffer(b"".join(parts), dtype).reshape(-1, *shape)
        return Evaluation(float(loss_sum / len(scores)), float(correct / len(scores)), scores)

    def separate_generators(self, network: Sequential) -> None:
        for generator in network.generators():
            bits: Any = generator.bit_generator
            bits.state = bits.jumped(self.rank).state if self.rank else bits.state

    @contextmanager
    def together(self) -> Iterator[None]:
        problem = None
        try:
            yield
        except RankLostError:
            raise
        except MinicnnError as error:
            problem = error
        reports = self.gather(problem and [isinstance(problem, ConfigError), str(problem)])
        found = [(rank, *report) for rank, report in enumerate(reports) if report]
        if not found:
            return
        rank, is_config, message = found[0]
        kind = ConfigError if is_config else MinicnnError
        if self.rank > 0:
            raise SystemExit(2 if is_config else 1)
        raise problem or kind(f"rank {rank}: {message}")

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        if self.local_rank > 0:
            self.wait()
        try:
            yield
        except MinicnnError:
            if self.local_rank == 0:
                self.wait()
            raise
        if self.local_rank == 0:
            self.wait()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # else some ranks may be gone, and there is nothing to say goodbye to
            self._torch.distributed.destroy_process_group()

    def _gather_bytes(self, content: bytes) -> list[bytes]:
        torch = self._torch
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with _Lost():
            torch.distributed.all_gather(lengths, torch.tensor([len(content)]))
            longest = max(int(length) for length in lengths)
            padded = np.zeros(longest, np.uint8)
            padded[: len(content)] = np.frombuffer(content, np.uint8)
            parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
            torch.distributed.all_gather(parts, torch.from_numpy(padded))
        return [part.numpy()[: int(length)].tobytes() for part, length in zip(parts, lengths, strict=True)]


SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h
PATIENCE = timedelta(minutes=5)  # how long a rank waits for the others at the start

_NUMBERS = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0), ("TORCHELASTIC_RESTART_COUNT", 0))


@contextmanager
def _parent_watched() -> Iterator[None]:
    """Ends this process when torchrun ends within the block, in which it would wait for ranks that never come.

    Linux does that; elsewhere PATIENCE ends the wait. No thread could, as torch keeps the interpreter's lock.
    """
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError, TypeError):
        yield
        return
    prctl(SET_DEATH_SIGNAL, int(signal.SIGTERM))
    try:
        yield
    finally:
        prctl(SET_DEATH_SIGNAL, 0)


class _Lost:
    """Turns the errors of torch.distributed within the block into a RankLostError."""

    def __init__(self, what: str = "has ended or cannot be reached any more") -> None:
        self.what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: Any, traceback: Any) -> None:
        if kind is not None and issubclass(kind, RuntimeError):
            raise RankLostError(f"another process of this run {self.what}") from None


#: The file in a run's folder that says which torchrun has begun it.
NOTE = "torchrun.json"
#: Settings that may differ from machine to machine.
OWN = ("data.root", "data.path", "output.dir", "training.threads")


def join() -> OneProcess:
    """The processes of this run: `Ranks` under torchrun, else this one alone."""
    return Ranks() if under_torchrun() else OneProcess()


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
            if json.loads(note.read_text())["run"] == run_key():
                found.append((note.stat().st_mtime, note.parent))
    if not found:
        return None
    newest = max(found)[1]
    return newest if any(newest.glob("checkpoints/*.safetensors")) else None


def check_data(ranks: OneProcess, fingerprint: Mapping[str, Any]) -> None:
    """Raises DataError unless all ranks have the same data."""
    first, *others = ranks.gather(fingerprint)
    for rank, other in enumerate(others, 1):
        if other != first:
            raise DataError(f"data: expected the same on all ranks, received others on rank {rank} than on rank 0")


def check_settings(ranks: OneProcess, settings: Mapping[str, Any]) -> None:
    """Raises ConfigError unless all ranks have the same settings, folders and threads apart, and a batch has a sample
    for each of them.
    """
    if settings["training"]["batch_size"] < ranks.size:
        raise ConfigError(
            f"training.batch_size: expected at least {ranks.size}, the number of ranks, "
            f"received {settings['training']['batch_size']}"
        )
    same = {key: value for key, value in flat(settings).items() if key not in OWN}
    first, *others = ranks.gather(same)
    for rank, other in enumerate(others, 1):
        for key in sorted({*first, *other}):
            if first.get(key) != other.get(key):
                raise ConfigError(
                    f"{key}: expected the same on all ranks, received {first.get(key)} on rank 0 "
                    f"and {other.get(key)} on rank {rank}"
                )


def ranks_on_this_machine() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if under_torchrun() else 1
