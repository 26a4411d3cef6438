"""Layers that the engine runs, and how a single pass through one becomes a program."""

from abc import abstractmethod
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np

from minicnn.checks import first_nan, numbers_hint, plain_array, shape_hint, told
from minicnn.engine.arrays import Array, Shape, address, replacements
from minicnn.engine.lanes import pack_input, unpack_output
from minicnn.engine.memory import Map
from minicnn.engine.program import Program
from minicnn.engine.work import Work
from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import blocks_of

from .layer import Backward, Layer
from .parameter import Parameter
from .programs import ProgramOwner


class _Pass(NamedTuple):
    """What backward has to know of the last forward pass."""

    key: Hashable
    program: Program | None  # which has kept the maps; None: x has to go through the layer again
    x: Array
    y_shape: Shape


class LaneLayer(ProgramOwner, Layer):
    """A layer whose work is calls of kernels on maps in the lane layout (C, H, W, LANES) of a block of images.

    A derived class overrides `output_shape` and `declare`; forward and backward follow. Any number of threads may call
    forward at the same time; backward is that of the last forward pass of its thread. The arguments of the constructor
    are fixed once the layer is built, as programs rely on them.
    """

    @abstractmethod
    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        """Declares the layer's calls: its output for x, and a function that declares the way back."""

    def forward(self, x: Array, training: bool = False) -> Array:
        x = self._checked(x)
        key = ("forward", blocks_of(len(x)), x.shape[1:], x.dtype.char, training)
        program = self.programs.take(key, lambda: self._program(x, training, False))
        y = self._run_forward(program, x)
        if training:
            self._remember(_Pass(key, program, x, y.shape))
        else:
            self.programs.give(key, program)
            self._remember(_Pass(key, None, x, y.shape))
        return y

    def backward(self, dy: Array) -> Array:
        last: _Pass | None = self._own.last
        if last is None:
            raise MinicnnError(f"{named(self)}: backward before forward; call forward first, in the same thread")
        dy = plain_array(dy, f"{named(self)}: dy", ShapeError)
        self._expect("dy", last.y_shape, last.x.dtype, dy)
        check_nan(self, "dy", dy)
        dy, program = np.ascontiguousarray(dy), last.program
        if program is None or program.is_outdated:
            if program is not None and (self.generators() or not self.per_sample):
                raise MinicnnError(
                    f"{named(self)}: the arrays of its parameters were replaced, or layers frozen, after forward, "
                    "whose random choices or statistics cannot be had again; call forward again"
                )
            program = self._program(last.x, False, True)
            self._run_forward(program, last.x)
            self._own.last = last._replace(program=program, key=None)
        dx = np.empty_like(last.x)
        program.set("dy", address(dy))
        program.set("dx", address(dx))
        program.run(len(dy), paused=True)
        return dx

    def _run_forward(self, program: Program, x: Array) -> Array:
        y = np.empty((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        program.set("x", address(x))
        program.set("y", address(y))
        program.run(len(x))
        return y

    def _remember(self, last: _Pass) -> None:
        before, self._own.last = self._own.last, last
        if before is not None and before.program is not None and before.key is not None:
            self.programs.give(before.key, before.program)

    def _program(self, x: Array, training: bool, keep: bool) -> Program:
        """Forward, and behind a pause backward, if maps are kept for it."""
        keep = keep or training
        check_types(self, x.dtype)
        work = Work(blocks_of(len(x)), x.dtype, training, keep or not in_one_job(self, training))
        y, backward = self.declare_own(work, pack_input(work, "x", x.shape[1:]))
        unpack_output(work, y, "y")
        if keep:
            work.pause()
            dy = pack_input(work, "dy", y.shape)
            unpack_output(work, backward(dy, True), "dx")
        return work.finish()

    def _checked(self, x: Any) -> Array:
        x = plain_array(x, "x", ShapeError)
        wanted = self.dtype
        if wanted is None and x.dtype in (np.float32, np.float64):
            wanted = x.dtype
        if x.dtype != wanted:
            name, hint = wanted or "float32 or float64", numbers_hint(x, "x", wanted or "float32")
            raise ShapeError(f"{named(self)}: expected an input of {name}, received {x.dtype}{hint}")
        if x.ndim < 2:
            raise ShapeError(f"{named(self)}: expected a batch (N, ...), received an array of shape {x.shape}")
        if len(x) == 0:
            raise ShapeError(f"{named(self)}: expected at least one sample, received {x.shape}")
        self.expect_shape(x.shape)
        check_nan(self, "x", x)
        return np.ascontiguousarray(x)

    def expect_shape(self, shape: Shape, name: str = "x") -> Shape:
        """The shape of an output for a batch of `shape`. Raises ShapeError, with the remedy if there is a usual one."""
        try:
            return self.output_shape(shape[1:])
        except ShapeError as error:
            raise ShapeError(f"{error}{shape_hint(self.output_shape, shape, name)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises ShapeError for what would change the layer's geometry, on which programs rely."""
        before = self.__dict__.get(name)
        if before is not value and "_built" in self.__dict__ and not isinstance(before, Parameter):
            if isinstance(before, np.ndarray) and any(before is a for a in self.buffers().values()):
                value = self._fitting(name, before, value)
            elif name in self._arguments:
                raise ShapeError(
                    f"{named(self)}: {name}: expected a layer that stays as it was built, received {name} = "
                    f"{told(value)}; build a new layer instead"
                )
        super().__setattr__(name, value)
        if isinstance(before, np.ndarray | bool) and before is not value:
            replacements.add()

    def _fitting(self, name: str, before: Array, value: Any) -> Array:
        """An array that can take the place of a buffer."""
        array: Array = np.ascontiguousarray(plain_array(value, f"{named(self)}: {name}", ShapeError))
        array = array.reshape(before.shape) if array.size == before.size == 1 else array
        if array.shape != before.shape or array.dtype.name not in ("float32", "float64", "int64"):
            raise ShapeError(
                f"{named(self)}: {name}: expected an array of shape {before.shape} and type {before.dtype}, "
                f"received {array.shape} and {array.dtype}"
            )
        return array


def in_one_job(layer: Layer, training: bool) -> bool:
    """Whether a block can go through the layer, and back, without waiting for other blocks or for NumPy."""
    numpy = any(type(one).declare is Layer.declare for one in (layer, *dict(layer.places()).values()))
    return not numpy and _per_sample(layer, training)


def _per_sample(layer: Layer, training: bool) -> bool:
    """Whether the output for a sample depends on that sample alone, with frozen layers as they are outside training."""
    if layer.frozen or not training:
        return layer.per_sample_inference
    if layer.paths() is None:
        return layer.per_sample
    return all(_per_sample(child, training) for child in layer.children().values())


def check_types(layer: Layer, dtype: np.dtype[Any]) -> None:
    """Raises ShapeError, which names the array, if a parameter has another element type."""
    for parameter in layer.parameters():
        if parameter.value.dtype != dtype:
            raise ShapeError(
                f"{layer!r}: {parameter.name}: expected {dtype} like the input and all other parameters, "
                f"received {parameter.value.dtype}; call astype of the whole network"
            )


def named(layer: Layer) -> str:
    """What a message calls a layer: as it was built, and by its kind alone if it holds others."""
    return type(layer).__name__ if layer.children() else repr(layer)


def check_nan(owner: object, name: str, x: Array) -> None:
    """Raises MinicnnError, which says whose array it is, for one with a NaN."""
    index = first_nan(x)
    if index is not None:
        owner = named(owner) if isinstance(owner, Layer) else owner
        raise MinicnnError(f"{owner}: {name}: expected numbers, received NaN at index {index}")
