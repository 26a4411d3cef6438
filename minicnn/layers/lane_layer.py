"""Layers that the engine runs, and how a single pass through one becomes a program."""

import math
from abc import abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np

from minicnn.engine.lanes import array_input, pack, unpack
from minicnn.engine.program import Map, Program, Work
from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import LANES

from .arguments import Shape, as_array
from .layer import Backward, Layer
from .parameter import Array

#: What a layer keeps between calls, and a copy of it begins without.
TRANSIENT = ("_programs", "_last")


class Programs:
    """Programs that nobody is running, by what they are for. Each thread takes one of its own."""

    def __init__(self) -> None:
        self._free: dict[Hashable, list[Program]] = {}

    def take(self, key: Hashable, make: Callable[[], Program]) -> Program:
        free = self._free.setdefault(key, [])
        while free:
            try:
                program = free.pop()
            except IndexError:  # another thread was faster
                break
            if not program.is_stale:
                return program
        return make()

    def give(self, key: Hashable, program: Program) -> None:
        if len(self._free) > 32:  # batches of ever new sizes
            self._free.clear()
        self._free.setdefault(key, []).append(program)


class _Pass(NamedTuple):
    """What backward has to know of the last forward pass."""

    key: Hashable
    program: Program | None  # which has kept the maps; None: x has to go through the layer again
    x: Array
    y_shape: Shape


class LaneLayer(Layer):
    """A layer whose work is calls of kernels on maps in the lane layout (C, H, W, LANES) of a block of images.

    A derived class overrides `output_shape` and `declare`; forward and backward follow. Any number of threads may call
    forward at the same time, as long as none of them is training.
    """

    _last: _Pass | None = None

    @abstractmethod
    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        """Declares the layer's calls: its output for x, and a function that declares the way back."""

    def forward(self, x: Array, training: bool = False) -> Array:
        x = self._checked(x)
        key = ("forward", -(-len(x) // LANES), x.shape[1:], x.dtype.char, training)
        program = self.programs.take(key, lambda: self._program(x, training, False))
        y = self._run_forward(program, x)
        if training:
            self._remember(_Pass(key, program, x, y.shape))
        else:
            self.programs.give(key, program)
            self._remember(_Pass(key, None, x, y.shape))
        return y

    def backward(self, dy: Array) -> Array:
        last = self._last
        if last is None:
            raise MinicnnError(f"{self!r}: backward before forward; call forward first")
        dy = as_array(dy, "dy")
        self._expect("dy", last.y_shape, last.x.dtype, dy)
        check_nan(self, "dy", dy)
        dy, program = np.ascontiguousarray(dy), last.program
        if program is None or program.is_stale:
            if program is not None and (self.generators() or not self.per_sample):
                raise MinicnnError(
                    f"{self!r}: the arrays of its parameters were replaced after forward, whose random choices or "
                    "statistics cannot be had again; call forward again"
                )
            program = self._program(last.x, False, True)
            self._run_forward(program, last.x)
            self._last = last._replace(program=program, key=None)
        dx = np.empty_like(last.x)
        program.set("dy", dy.ctypes.data)
        program.set("dx", dx.ctypes.data)
        program.run(len(dy), paused=True)
        return dx

    def _run_forward(self, program: Program, x: Array) -> Array:
        y = np.empty((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        program.set("x", x.ctypes.data)
        program.set("y", y.ctypes.data)
        program.run(len(x))
        return y

    def _remember(self, last: _Pass) -> None:
        before = self.__dict__.pop("_last", None)  # of several threads, one gets it
        self._last = last
        if before is not None and before.program is not None and before.key is not None:
            self.programs.give(before.key, before.program)

    def _program(self, x: Array, training: bool, keep: bool) -> Program:
        """Forward, and behind a pause backward, if maps are kept for it."""
        keep = keep or training
        alone = self.per_sample if training else self.per_sample_inference
        work = Work(-(-len(x) // LANES), x.dtype, training, keep or not alone)
        packed = pack(work, array_input(work, "x", x.shape[1:]), x.shape[1:])
        y, backward = self.declare_own(work, packed)
        unpack(work, y, array_input(work, "y", y.shape))
        if keep:
            work.pause()
            dy = pack(work, array_input(work, "dy", y.shape), y.shape)
            unpack(work, backward(dy, True), array_input(work, "dx", x.shape[1:]))
        return work.finish()

    @property
    def programs(self) -> Programs:
        found: Programs | None = self.__dict__.get("_programs")
        return self.__dict__.setdefault("_programs", Programs()) if found is None else found

    def _checked(self, x: Any) -> Array:
        x = as_array(x, "x")
        wanted = self.dtype
        if wanted is None and x.dtype in (np.float32, np.float64):
            wanted = x.dtype
        if x.dtype != wanted:
            name = wanted or "float32 or float64"
            raise ShapeError(
                f"{self!r}: expected an input of {name}, received {x.dtype}; "
                f"convert it with x.astype(np.{wanted or 'float32'})"
            )
        if x.ndim < 2:
            raise ShapeError(
                f"{self!r}: expected a batch (N, ...), received an array of shape {x.shape}"
            )
        if len(x) == 0:
            raise ShapeError(f"{self!r}: expected at least one sample, received {x.shape}")
        self.output_shape(x.shape[1:])
        check_nan(self, "x", x)
        return np.ascontiguousarray(x)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in TRANSIENT}


def check_nan(owner: object, name: str, x: Array) -> None:
    """Raises MinicnnError, which says whose array it is, for one with a NaN."""
    if x.size and math.isnan(x.min()):
        index = tuple(int(i) for i in np.argwhere(np.isnan(x))[0])
        raise MinicnnError(f"{owner!r}: {name}: expected numbers, received NaN at index {index}")
