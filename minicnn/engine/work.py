"""How a pass through a network becomes a program.

A batch is cut into blocks of LANES images. A block is a job, which takes it through all layers, forward and backward,
with nobody to wait for; its maps lie in memory of the thread that does it. Only what needs all blocks (the gradients of
parameters, statistics of a batch) is a phase of its own. Layers declare their work to a `Work`, call by call, and
`finish` makes the program, which can then be run any number of times.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minicnn.kernels import LANES

from . import cache, driver
from .arrays import Array, Shape, aligned_zeros, replacements
from .memory import Arena, Map, new_map
from .program import ARGUMENTS, Program, to_word

#: Bytes of a core's second-level cache, or somewhat less.
CACHE = 1 << 20
#: Into how many jobs a call on parameters is cut at most.
SHARES = 8

_LETTERS = {"float32": "f", "float64": "d", "uint8": "b", "int64": "i"}


@dataclass(frozen=True)
class Input:
    """An argument that is set before each run: a number, or where an array lies."""

    name: str
    kind: str  # a letter, see `compile.KINDS`
    block_step: int = 0  # what to add for each block: bytes of an array, or a number


@dataclass(frozen=True, eq=False)
class Rows:
    """An array with a row for each image, of which a block sees its own LANES; or `per_block` rows for each block."""

    array: Array
    per_block: int = LANES


Argument = Map | Array | Rows | Input | int | float


@dataclass
class Call:
    """Tasks `first` to `last` - 1 of a kernel."""

    kernel: cache.Kernel
    arguments: tuple[Argument, ...]
    first: int
    last: int
    label: str  # what it is for, such as the layer
    joint: bool = False  # whether it does all blocks of a job at once

    @property
    def kinds(self) -> str:
        return "".join(map(_kind, self.arguments))


def _kind(argument: Argument) -> str:
    if isinstance(argument, Input):
        return argument.kind
    if isinstance(argument, Rows):
        argument = argument.array
    if isinstance(argument, Map | np.ndarray):
        return _LETTERS[argument.dtype.name]
    return "r" if isinstance(argument, float) else "n"


class Work:
    """What layers declare their calls to.

    blocks     the number of blocks in the batch
    dtype      float32 or float64
    training   whether Dropout drops and batches give their statistics
    keep       whether maps outlive their job, as they must where a job does not go from the first layer to the last and
               back; then each block has memory for them, else each thread
    """

    def __init__(self, blocks: int, dtype: DTypeLike, training: bool, keep: bool) -> None:
        self.blocks, self.dtype = blocks, np.dtype(dtype)
        self.training, self.keep = training, keep
        #: Whether the layer that declares its calls just now is frozen.
        self.frozen = False
        self._threads, self._blocks = Arena(), Arena()
        self._time = 0  # the number of calls so far
        #: What the calls that are declared next are for; for people who look at the program.
        self.label = ""
        #: What the places of layers begin with that are declared next: "2.layers." within layer 2.
        self.place = ""
        self._before: list[Call] = []
        self._after: list[Call] = []
        #: (calls of a job, whether each block has such a job) or something to do in Python, in order.
        self._steps: list[tuple[list[Call], bool] | Callable[[Program], None]] = []
        self._setters: list[Callable[[Program], dict[str, float]]] = []
        self._pause: int | None = None
        self._pause_time = -1
        self._watched: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self._replacements = replacements.number
        #: Images of the batch, and those from this block on.
        self.samples = Input("samples", "n")
        #: The loss of each block, once a loss has been declared, and its right answers, where they are counted.
        self.losses: Rows | None = None
        self.correct: Rows | None = None
        self.remaining = Input("samples", "n", -LANES)
        #: How many elements lie between the copies that two blocks have of a map.
        self.block_step = Input("block step", "n")
        #: Elements from a block's map to that of the next block in its job, for calls that do both.
        self.map_step = Input("map step", "n")

    @cached_property
    def group(self) -> int:
        """Blocks of a job: with two, a dense layer reads its weights half as often. Large maps of two would push each
        other out of the cache; so this is not to be asked for before the maps of convolutions are declared."""
        sizes = [buffer.size for arena in (self._threads, self._blocks) for buffer in arena.buffers]
        fit = 2 * max(sizes, default=0) * self.dtype.itemsize <= CACHE
        return 2 if fit and self.blocks >= 2 * driver.get_threads() else 1

    # --- memory ------------------------------------------------------------------------------------

    def map(self, shape: Shape, zeros: bool = False, kept: bool = False) -> Map:
        """A map for a layer's output or its gradient. With `zeros`, what is never written stays 0; one that is `kept`
        each block has for itself, for calls that come after all blocks."""
        arena = self._blocks if self.keep or kept else self._threads
        return new_map(arena, shape, self.dtype, self.dtype.itemsize, zeros)

    def scratch(self, shape: Shape, dtype: DTypeLike | None = None, zeros: bool = False) -> Map:
        """A map that nobody needs once the calls that follow it are done."""
        kind = np.dtype(dtype or self.dtype)
        return new_map(self._threads, shape, kind, self.dtype.itemsize, zeros)

    def rows(self, features: int) -> Rows:
        """An array with `features` numbers of each image, one image after the other."""
        count = self.blocks * LANES
        return Rows(aligned_zeros(count * features, self.dtype).reshape(count, features))

    def numbers(self, count: int, dtype: DTypeLike | None = None) -> Rows:
        """`count` numbers of each block, such as its share of a gradient."""
        array = aligned_zeros(self.blocks * count, dtype or self.dtype)
        return Rows(array.reshape(self.blocks, count), 1)

    def shared(self, size: int, dtype: DTypeLike | None = None) -> Array:
        """An array that all jobs see."""
        return aligned_zeros(size, dtype or self.dtype)

    def array(self, owner: Any, name: str) -> Array:
        """The array that is an attribute of an object, as it is now; a program is stale once it is another one.

        Whatever replaces it counts that in `arrays.replacements`.
        """
        found: Array = self.watched(owner, name)
        return found

    def watched(self, owner: Any, name: str) -> Any:
        """The same for an attribute that is True or False."""
        found = getattr(owner, name)
        self._watched[id(owner), name] = owner, name, found
        return found

    # --- calls -------------------------------------------------------------------------------------

    def call(self, kernel: cache.Kernel, *arguments: Argument, tasks: int = 1, joint: bool = False) -> None:
        """To be done for each block; if `joint`, once for the `group` blocks of a job, whose maps lie `map_step` apart.

        A last job may have fewer blocks, and then there is another map all the same.
        """
        last = self._steps[-1] if len(self._steps) != (self._pause or 0) else None
        if not isinstance(last, tuple) or not last[1]:
            last = [], True
            self._steps.append(last)
        last[0].append(self._new(kernel, arguments, tasks, joint=joint))

    # These cut a call into jobs of at least `grain` tasks: a job takes a thread some 0.3 us before it does anything.

    def together(self, kernel: cache.Kernel, *arguments: Argument, tasks: int = 1, grain: int = 1) -> None:
        """To be done once all blocks have come this far, before any goes on."""
        self._steps.append((_shares(self._new(kernel, arguments, tasks), grain), False))

    def before(self, kernel: cache.Kernel, *arguments: Argument, tasks: int = 1, grain: int = 1) -> None:
        """To be done before the first block begins: what depends on weights alone."""
        self._before += _shares(self._new(kernel, arguments, tasks, 0), grain)

    def after(self, kernel: cache.Kernel, *arguments: Argument, tasks: int = 1, grain: int = 1) -> None:
        """To be done after the last block has ended, in any order: what becomes of all blocks' kept maps.

        What is declared last comes first, so that gradients are in the order of the parameters, like all else that is
        done to them. For a frozen layer, which has no such gradients, it is not done at all.
        """
        if not self.frozen:
            self._after[:0] = _shares(self._new(kernel, arguments, tasks, math.inf), grain)

    def settle(self) -> None:
        """What is declared from here on comes after all that was declared to come `after`."""
        if self._after:
            self._steps.append((self._after, False))
            self._after = []

    def _new(
        self,
        kernel: cache.Kernel,
        arguments: tuple[Argument, ...],
        tasks: int,
        time: float | None = None,
        joint: bool = False,
    ) -> Call:
        self._time += 1
        for argument in arguments:
            if isinstance(argument, Map):
                argument.buffer.use(self._time if time is None else time)
        return Call(kernel, arguments, 0, tasks, self.label, joint)

    def python(self, step: Callable[["Program"], None]) -> None:
        """To be done in Python, once all blocks have come this far."""
        self._steps.append(step)

    def on_run(self, setter: Callable[["Program"], dict[str, float]]) -> None:
        """Before each run, `setter(program)` gives values of inputs, or raises if the batch cannot be run."""
        self._setters.append(setter)

    @contextmanager
    def frozen_layer(self, frozen: bool) -> Iterator[None]:
        """A block in which a layer declares its calls, which if it is frozen are those outside training."""
        before = self.training, self.frozen
        if frozen:
            self.training, self.frozen = False, True
        try:
            yield
        finally:
            self.training, self.frozen = before

    def pause(self) -> None:
        """Here the program can be left, to be gone on with later, more than once if need be."""
        self._pause = len(self._steps)
        self._pause_time = self._time

    # --- the program -------------------------------------------------------------------------------

    @property
    def requests(self) -> list[cache.Request]:
        """The kernels that the program is going to call, the driver's first."""
        steps = [step[0] for step in self._steps if isinstance(step, tuple)]
        calls = [call for step in (self._before, *steps, self._after) for call in step]
        return [*driver.REQUESTS, *((call.kernel, call.kinds) for call in calls)]

    def finish(self) -> "Program":
        """Compiles what has to be compiled, and lays out the program."""
        threads = driver.capacity()
        for buffer in (*self._threads.buffers, *self._blocks.buffers):
            if buffer.first <= self._pause_time < buffer.last:
                buffer.use(math.inf)
        blocks = -(-self.blocks // self.group) * self.group
        for arena, copies in ((self._threads, threads * self.group), (self._blocks, blocks)):
            arena.plan()
            arena.array = aligned_zeros(arena.size * copies, self.dtype)
        steps = list(self._steps)
        pause = self._pause
        if self._before:
            steps.insert(0, (self._before, False))
            pause = None if pause is None else pause + 1
        if self._after:
            steps.append((self._after, False))
        calls = [call for step in steps if isinstance(step, tuple) for call in step[0]]
        entries = iter(cache.addresses(self.requests)[len(driver.REQUESTS) :])
        program = Program(self.blocks, threads, calls, tuple(self._watched.values()), self._replacements)
        program.is_small = self.blocks == 1 and any(isinstance(step, tuple) and step[1] for step in self._steps)
        for name in ("losses", "correct"):
            rows: Rows | None = getattr(self, name)
            if rows is not None:
                setattr(program, name, rows.array)
        words: list[tuple[int, ...]] = []
        table: list[tuple[int, ...]] = []
        jobs: list[tuple[int, ...]] = []
        phases: list[tuple[int, int]] = []
        begin = 0

        def close(end: int) -> None:
            nonlocal begin
            if end > begin:
                program.parts.append((begin, end))
            begin = end

        for number, step in enumerate(steps):
            if number == pause:
                close(len(phases))
                program.pause = len(program.parts)
            if not isinstance(step, tuple):
                close(len(phases))
                program.parts.append(step)
                continue
            first = len(table)
            for call in step[0]:
                place = len(words)
                for argument in call.arguments:
                    if isinstance(argument, Input):
                        program.places.setdefault(argument.name, []).append(len(words))
                    words.append(self._word(argument))
                count = len(words) - place
                assert count <= ARGUMENTS
                table.append((next(entries), place, count, call.first, call.last, call.joint))
            start = len(jobs)
            if step[1]:
                jobs += [
                    (first, len(table), block, min(self.group, self.blocks - block))
                    for block in range(0, self.blocks, self.group)
                ]
            else:
                jobs += [(k, k + 1, 0, 1) for k in range(first, len(table))]
            phases.append((start, len(jobs) - start))
        close(len(phases))
        if program.pause is None:
            program.pause = len(program.parts)
        program.lay_out(phases, jobs, table, words, self._setters)
        program.set("block step", self._blocks.size)
        program.set("map step", (self._blocks if self.keep else self._threads).size)
        return program

    def _word(self, argument: Argument) -> tuple[int, int, int, int]:
        if isinstance(argument, Input):
            return 0, argument.block_step, 0, 0
        if isinstance(argument, Map):
            buffer, size = argument.buffer, self.dtype.itemsize
            value = buffer.arena.array.ctypes.data + buffer.offset * size
            step = buffer.arena.size * size
            kept = buffer.arena is self._blocks
            return (value, step, 0, 0) if kept else (value, 0, self.group * step, step)
        if isinstance(argument, Rows):
            array = argument.array
            return array.ctypes.data, argument.per_block * array.nbytes // len(array), 0, 0
        if isinstance(argument, np.ndarray):
            assert argument.flags.c_contiguous
            return argument.ctypes.data, 0, 0, 0
        return to_word(argument), 0, 0, 0


def _shares(call: Call, grain: int) -> list[Call]:
    """The call, cut into several of as many tasks each, at least `grain`."""
    step = max(-(-(call.last - call.first) // SHARES), grain)
    return [
        Call(call.kernel, call.arguments, first, min(first + step, call.last), call.label)
        for first in range(call.first, call.last, step)
    ]
