"""What a training goes on from at any moment between two steps, and its way into a checkpoint and back."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicnn.data.hard_examples import HardExamples
from minicnn.engine.arrays import Array
from minicnn.errors import MinicnnError
from minicnn.layers.sequential import Sequential
from minicnn.optimizers import EMA, Optimizer
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.process_group import OneProcess


@dataclass
class Progress:
    """How far a run has come, in plain numbers."""

    step: int = 0
    epoch: int = 1  # the one under way
    batches: int = 0  # those of it that are done, and sums over their images:
    images: int = 0
    loss: float = 0.0
    correct: int = 0
    seconds: float = 0.0
    all_images: int = 0  # of the epochs before
    all_seconds: float = 0.0
    best_accuracy: float = -1.0
    stopped: str = ""  # why the run has ended before its last epoch
    good_step: int = 0  # after which the weights were those in Memory.good
    # A row an epoch; a checkpoint leaves them to metrics.csv and timings.csv, which only grow.
    metrics: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)

    def numbers(self) -> dict[str, Any]:
        """All but the rows."""
        return {key: x for key, x in vars(self).items() if not isinstance(x, list)}


class Memory:
    """Progress, weights and statistics now and earlier, averages, the optimizer's state, errors, generators."""

    def __init__(
        self,
        network: Sequential,
        optimizer: Optimizer,
        ema: EMA | None,
        ranks: OneProcess,
        hard_examples: HardExamples | None = None,
    ) -> None:
        self._network, self._optimizer, self._ema, self._ranks = network, optimizer, ema, ranks
        self._hard_examples = hard_examples
        self.progress = Progress()
        #: The last weights whose loss has proved finite.
        self.good = self.copy_weights()
        #: What was evaluated after the epoch with the lowest loss on the watched images.
        self.lowest = network.state_dict()
        self._start = network.values.copy()  # the weights at the start of the epoch

    def _weights(self) -> dict[str, Array]:
        """Everything in which a trained network differs from a new one; write into these arrays."""
        weights = {f"weights.{name}": array for name, array in self._network._state().items()}
        return weights | ({"ema": self._ema.average} if self._ema else {})

    def copy_weights(self) -> dict[str, Array]:
        return {name: array.copy() for name, array in self._weights().items()}

    def restore_weights(self, weights: Mapping[str, Array]) -> None:
        for name, array in self._weights().items():
            array[...] = weights[name]

    def begin_epoch(self) -> None:
        self._start[...] = self._network.values

    def weight_change(self) -> float:
        """|w now - w at the start of the epoch| / |w at the start of the epoch|, of all weights w."""
        start = self._start.astype(np.float64)
        length = _norm(start)
        return _norm(self._network.values - start) / length if length else math.inf

    def keep_lowest(self) -> None:
        self.lowest = self._network.state_dict()

    @contextmanager
    def lowest_applied(self) -> Iterator[None]:
        """Within the block, the network is that of the epoch with the lowest loss on the watched images."""
        own = self._network.state_dict()
        self._network.load_state_dict(self.lowest)
        try:
            yield
        finally:
            self._network.load_state_dict(own)

    def _arrays(self) -> dict[str, Array]:
        good = {f"good.{name}": array for name, array in self.good.items()}
        lowest = {f"lowest.{name}": array for name, array in self.lowest.items()}
        hard_examples = {"hard_examples": self._hard_examples.errors} if self._hard_examples else {}
        optimizer = {f"optimizer.{name}": array for name, array in self._optimizer.state().items()}
        return {**self._weights(), **good, **lowest, **hard_examples, **optimizer, "start": self._start}

    def checkpoint(self, **facts: Any) -> Checkpoint:
        """This moment, with some facts more. To be called by all ranks."""
        generators = [generator.bit_generator.state for generator in self._network.generators()]
        state = {
            **facts,
            "progress": self.progress.numbers(),
            "ema_updates": self._ema.updates if self._ema else 0,
            "generators": self._ranks.gather(generators),  # a list for each rank
        }
        return Checkpoint(self._arrays(), state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to that moment. Raises MinicnnError if it does not fit the network."""
        state, arrays = checkpoint.state, checkpoint.arrays
        kept, expected = ({n: a.shape for n, a in x.items()} for x in (arrays, self._arrays()))
        if kept != expected:
            raise MinicnnError(f"checkpoint: expected arrays {expected}, received {kept}")
        self.restore_weights(arrays)
        self.good = {name: arrays[f"good.{name}"] for name in self.good}
        self.lowest = {name: arrays[f"lowest.{name}"] for name in self.lowest}
        for name, array in self._optimizer.state().items():
            array[...] = arrays[f"optimizer.{name}"]
        self._start[...] = arrays["start"]
        if self._hard_examples:
            self._hard_examples.errors[...] = arrays["hard_examples"]
        self.progress = Progress(**state["progress"])
        self._optimizer.steps = self.progress.step
        if self._ema:
            self._ema.updates = state["ema_updates"]
        same_ranks = len(state["generators"]) == self._ranks.size
        generators = state["generators"][self._ranks.rank if same_ranks else 0]
        try:
            for generator, bits in zip(self._network.generators(), generators, strict=True):
                generator.bit_generator.state = bits
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise MinicnnError(f"checkpoint: expected the states of the network's generators: {error}") from None
        if not same_ranks:
            self._ranks.separate_generators(self._network)


def _norm(x: Array) -> float:
    """The Euclidean norm, by NumPy's own sum: unlike BLAS's it is the same for any number of threads."""
    return math.sqrt(float(np.square(x).sum()))
