"""Several processes that train one network (data-parallel), started by torchrun, on one machine or more.

    torchrun --nproc-per-node=2 train.py configs/lenet.yaml

Every process ("rank") has the whole network and the same weights. Of each batch it takes its shard; the gradients of
all shards are added up (one all-reduce per step) and every rank makes the same update. As each rank divides its loss by
the number of samples in the whole batch, the sum is the gradient that one process would have had for that batch.

What depends on a shard, as in PyTorch's DistributedDataParallel: BatchNorm2d in training normalises by the statistics
of its shard, and the running statistics of rank 0 are those that count; each rank's Dropout draws masks of its own.

torch.distributed, with its backend gloo, carries the messages; it is imported under torchrun only.
"""

import ctypes
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, Self, TypeVar

import numpy as np

from minicnn import console
from minicnn.data.batches import Batch, Batches
from minicnn.engine.arrays import Array
from minicnn.errors import ConfigError, DivergedError, MinicnnError, RankLostError
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss
from minicnn.training.step import Evaluation, Reduction, evaluate

Value = TypeVar("Value")

SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h
PATIENCE = timedelta(minutes=5)  # how long a rank waits for the others at the start


class ProcessGroup:
    """The processes of a training: this one alone. `TorchGroup` has the same methods for several.

    rank, world_size               the number of this process, 0 for the first, and how many there are
    local_rank, local_world_size   the same, counted on this machine
    restarts                       how often torchrun has restarted the processes
    """

    rank, world_size = 0, 1
    local_rank, local_world_size = 0, 1
    restarts = 0
    #: Adds up gradients and numbers over all ranks, for `train_step`; None for a single process.
    all_reduce: Reduction | None = None

    def shard(self, batch: Batch) -> Batch:
        """This rank's part of a batch."""
        return batch

    def all_gather(self, value: Value) -> list[Value]:
        """The values of all ranks, in their order."""
        return [value]

    def broadcast(self, value: Value) -> Value:
        """The value of rank 0, on every rank."""
        return value

    def barrier(self) -> None:
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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        """Ends the group."""


class TorchGroup(ProcessGroup):
    """The processes that torchrun has started. Only rank 0 prints.

    Every rank must call each method, in the same order. They raise RankLostError when a rank is gone.
    """

    def __init__(self) -> None:
        self.rank, self.world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0))
        self.local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        self.restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
        import torch
        import torch.distributed

        self._torch: Any = torch
        self._distributed: Any = torch.distributed
        self._exit = ExitStack()
        with _lost("could not be reached"), _parent_watched():
            store, rank, size = next(self._distributed.rendezvous("env://", timeout=PATIENCE))
            # torchrun's store outlives a restart: without a prefix, a rank may find the address that another one had.
            store = self._distributed.PrefixStore(f"minicnn-{self.restarts}", store)
            self._distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
        self._stop_here = self._stop = False
        self._buffer = np.empty(0, np.float32)

    def all_reduce(self, gradients: Array, numbers: Sequence[float]) -> list[float]:  # type: ignore[override]
        """Adds up the gradients of all ranks, in place, and returns the sums of their `numbers`."""
        size = gradients.size
        if self._buffer.size != size + len(numbers) + 1:
            self._buffer = np.empty(size + len(numbers) + 1, gradients.dtype)
        self._buffer[:size] = gradients
        self._buffer[size:] = [*numbers, self._stop_here]
        with _lost():
            self._distributed.all_reduce(self._torch.from_numpy(self._buffer))
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
        return batch.shard(self.rank, self.world_size)

    def all_gather(self, value: Value) -> list[Value]:
        values: list[Any] = [None] * self.world_size
        with _lost():
            self._distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: Value) -> Value:
        values = [value]
        with _lost():
            self._distributed.broadcast_object_list(values, 0)
        return values[0]

    def barrier(self) -> None:
        with _lost():
            self._distributed.barrier()

    def evaluate(self, network: Sequential, loss: Loss, batches: Batches) -> Evaluation:
        with _lost():
            for buffer in network.buffers().values():
                self._distributed.broadcast(self._torch.from_numpy(buffer), 0)
        part = batches.part(self.rank, self.world_size)
        parts = self.all_gather(evaluate(network, loss, part) if len(part) else None)
        found = [one for one in parts if one is not None]
        weight = sum(one.weight for one in found)
        mean = sum(one.loss * one.weight for one in found) / (weight or 1)
        accuracy = sum(one.accuracy * len(one.scores) for one in found) / sum(len(one.scores) for one in found)
        labels = [one.labels for one in found if one.labels is not None]
        scores = np.concatenate([one.scores for one in found])
        return Evaluation(mean, accuracy, scores, weight, np.concatenate(labels) if labels else None)

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
        reports = self.all_gather(problem and (isinstance(problem, ConfigError), str(problem)))
        found = [(rank, *report) for rank, report in enumerate(reports) if report]
        if not found:
            return
        rank, is_config, message = found[0]
        if self.rank > 0:
            raise SystemExit(2 if is_config else 1)
        raise problem or (ConfigError if is_config else MinicnnError)(f"rank {rank}: {message}")

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        if self.local_rank > 0:
            self.barrier()
        try:
            yield
        except MinicnnError:
            if self.local_rank == 0:
                self.barrier()
            raise
        if self.local_rank == 0:
            self.barrier()

    def __enter__(self) -> Self:
        if self.rank > 0:
            self._exit.enter_context(console.muted())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        """Ends the group. An error that several ranks find is printed once: by rank 0, or the first of a machine."""
        self._exit.close()
        if kind is None:  # else some ranks may be gone, and there is nothing to say goodbye to
            self._distributed.destroy_process_group()
        if self.rank > 0 and isinstance(error, MinicnnError):
            known = (
                isinstance(error, DivergedError)
                or (isinstance(error, RankLostError) and self.rank > 1)  # 1 says so if 0 cannot
                or (isinstance(error, ConfigError) and self.local_rank > 0)
            )
            if not known:
                console.error(f"rank {self.rank}: {error}")
            raise SystemExit(2 if isinstance(error, ConfigError) else 1)


def join() -> ProcessGroup:
    """The processes of this training: those of torchrun, if it has started this one, else this one alone."""
    # Other launchers set the same variables.
    launched = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))
    return TorchGroup() if launched else ProcessGroup()


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


@contextmanager
def _lost(what: str = "has ended or cannot be reached any more") -> Iterator[None]:
    """Turns the errors of torch.distributed within the block into a RankLostError."""
    try:
        yield
    except RuntimeError:
        raise RankLostError(f"another process of this run {what}") from None
