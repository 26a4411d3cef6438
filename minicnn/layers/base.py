"""What every layer has: parameters, shapes, forward and backward, and the way in and out of the lane layout."""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import lanes as lane_kernels
from minicnn.kernels.vector import LANES

from .initialization import Scheme
from .state import KeyMismatch, constructor_options, load_arrays

Array = NDArray[Any]
Shape = tuple[int, ...]
Call = tuple[Callable[..., None], tuple[Any, ...]]  # of a kernel, and what it is called with
Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]


class Cell:
    """The arrays of one parameter, and where they are part of larger ones."""

    def __init__(self, value: Array) -> None:
        self.value = value
        self.grad = np.zeros_like(value)
        self.home: Home | None = None


class Home(NamedTuple):
    """The flat arrays in which the parameters of a network lie, one behind the other."""

    values: Array
    gradients: Array
    cells: list[Cell]


class Parameter:
    """A trainable array and its gradient.

    `value` and `grad` keep their identity while a network is trained: an assignment to them writes into the arrays.
    """

    def __init__(self, name: str, value: Array, cell: Cell | None = None) -> None:
        self.name = name
        self.cell = cell or Cell(value)

    @property
    def value(self) -> Array:
        return self.cell.value

    @value.setter
    def value(self, value: Array) -> None:
        self.cell.value[...] = value

    @property
    def grad(self) -> Array:
        return self.cell.grad

    @grad.setter
    def grad(self, grad: Array) -> None:
        self.cell.grad[...] = grad

    def renamed(self, name: str) -> "Parameter":
        """The same parameter under another name."""
        return Parameter(name, self.value, self.cell)

    def move(self, value: Array, grad: Array, home: Home | None = None) -> None:
        """Lets the parameter live in other arrays, whose contents count from now on."""
        self.cell.value, self.cell.grad, self.cell.home = value, grad, home

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {self.value.shape}, {self.value.dtype})"


class Layer(ABC):
    """A function with parameters, its input (N, ...) and output (N, ...) NumPy arrays.

    A layer of your own overrides `output_shape`, `forward` and `backward`, and `parameters` if it has any; it works
    alone and in a `Sequential`. The layers of this package override `_forward` and `_backward` instead, which see
    batches in the lane layout (blocks, ..., LANES).
    """

    #: True if the output for a sample depends on that sample alone, so that a batch may run in pieces.
    per_sample = False
    _samples: int | None = None
    _input_shape: Shape
    _known: tuple[Shape, Shape] = ((), ())

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for pair in (("forward", "backward"), ("_forward", "_backward")):
            if all(getattr(cls, name) is not getattr(Layer, name) for name in pair):
                return
        raise TypeError(f"{cls.__name__}: a layer must define both forward and backward")

    # --- what a layer is -------------------------------------------------------------------------

    @property
    def per_sample_inference(self) -> bool:
        """`per_sample` outside training, where normalisation, for one, may be by constants."""
        return self.per_sample

    def parameters(self) -> list[Parameter]:
        """The trainable parameters, in a fixed order."""
        return []

    def buffers(self) -> dict[str, Array]:
        """The arrays that belong to the layer's state and are not trained; what is written into them counts."""
        return {}

    def options(self) -> dict[str, Any]:
        """The arguments of the constructor: type(layer)(**layer.options()) builds a layer of the same kind.

        They are the attributes of the same names; a layer that keeps them elsewhere overrides this method.
        Raises MinicnnError for an argument that is no attribute.
        """
        return constructor_options(self, Parameter)

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers, with the names and in the order of PyTorch's twin of the layer."""
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> KeyMismatch:
        """Writes the arrays or torch tensors of `state` into the parameters and buffers of the same names.

        Numbers are converted to the layer's element type. With strict=False keys may be missing or unexpected; both are
        returned. Raises ShapeError for keys, shapes or types that do not fit, and changes nothing then.
        """
        return load_arrays(type(self).__name__, self._state(), state, strict)

    def _state(self) -> dict[str, Array]:
        return {parameter.name: parameter.value for parameter in self.parameters()} | self.buffers()

    def generators(self) -> list[np.random.Generator]:
        """The random generators that the layer draws from, in a fixed order: part of the state of a training."""
        return []

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of one output sample for an input sample of `input_shape`. Raises ShapeError."""

    def multiply_adds(self, input_shape: Shape) -> int:
        """Multiply-adds of one forward pass for one sample, by the layer's formula (kernels may need fewer)."""
        return 0

    def connections(self, input_shape: Shape) -> int:
        """Connections for one sample, as LeCun et al. (1998) count them: an output has one for each input in a sum with
        weights (padding included), one for its bias, and one for each place of a pooling window."""
        return 0

    @property
    def window(self) -> Window | None:
        """(kernel, stride, padding, dilation) of a layer that slides a window over its input, else None."""
        return None

    def initialize(
        self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None
    ) -> Self:
        """Draws new parameters (see `minicnn.layers.initialization`) and seeds the layer's own random choices."""
        return self

    def astype(self, dtype: DTypeLike) -> Self:
        """Converts all parameters to float32 or float64, in place."""
        for parameter in self.parameters():
            parameter.move(parameter.value.astype(dtype), parameter.grad.astype(dtype))
        return self

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The element type of the parameters; None for a layer that has none and takes either."""
        parameters = self.parameters()
        return parameters[0].value.dtype if parameters else None

    # --- forward and backward --------------------------------------------------------------------

    def forward(self, x: Array, training: bool = False) -> Array:
        """The output (N, ...) for input (N, ...).

        Raises ShapeError for an input of the wrong shape or element type, MinicnnError if it has a NaN.
        """
        x = self._checked(x)
        y = self._forward(self._pack("x", x, check=True), len(x), training)
        self._samples, self._dtype = len(x), y.dtype
        self._shapes = x.shape, (len(x), *y.shape[1:-1])
        return self._unpack(y, len(x))

    def backward(self, dy: Array) -> Array:
        """dx for the last forward pass; assigns (never adds to) the gradient of every parameter.

        dy is the derivative of the loss with respect to the output, dx that with respect to the input.
        """
        if self._samples is None:
            raise MinicnnError(f"{self!r}: backward before forward; call forward first")
        x_shape, y_shape = self._shapes
        dy = np.asarray(dy)
        self._expect("dy", y_shape, self._dtype, dy)
        return self._unpack(self._backward(self._pack("dy", dy, check=True), True), x_shape[0])

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        """forward in the lane layout; the result stays valid until the next call."""
        self._samples, self._input_shape = samples, (samples, *x.shape[1:-1])
        y = np.asarray(self.forward(self._unpack(x, samples), training))
        self._expect("y", (samples, *self._output_lanes(x.shape[:-1])[1:]), x.dtype, y)
        return self._pack("y", y)

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        """backward in the lane layout; dx may be written over dy. Without need_dx the result does not matter."""
        dx = np.asarray(self.backward(self._unpack(dy, self._input_shape[0])))
        self._expect("dx", self._input_shape, dy.dtype, dx)
        return self._pack("dx", dx)

    # --- helpers ---------------------------------------------------------------------------------

    def _checked(self, x: Array) -> Array:
        x = np.asarray(x)
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
        self._output_lanes(x.shape)
        return x

    def _expect(self, name: str, shape: Shape, dtype: DTypeLike, array: Array) -> None:
        if array.shape != shape or array.dtype != dtype:
            raise ShapeError(
                f"{self!r}: expected {name} of shape {shape} and type {dtype}, "
                f"received {array.shape} and {array.dtype}"
            )

    def _output_lanes(self, x_shape: Shape) -> Shape:
        """(blocks, ...) of the output for an input (blocks, ...), both without lanes; remembers the last answer."""
        if x_shape != self._known[0]:
            self._known = x_shape, (x_shape[0], *self.output_shape(x_shape[1:]))
        return self._known[1]

    def _buffer(self, name: str, shape: Shape, dtype: DTypeLike) -> Array:
        """Memory that the layer keeps: the same array again while its shape stands."""
        buffers: dict[str, tuple[Array, Array]] = self.__dict__.setdefault("_buffers", {})
        whole, view = buffers.get(name, (None, None))
        if view is not None and view.shape == shape and view.dtype == dtype:
            return view
        size = math.prod(shape)
        if whole is None or whole.dtype != dtype or whole.size < size:
            whole = aligned_zeros(size, dtype)
        view = whole[:size].reshape(shape)
        buffers[name] = whole, view
        return view

    def _repeat(self, name: str, key: tuple[Any, ...], make: Callable[[], list[Call]]) -> None:
        """Calls the kernels that `make` lists. The list is kept as long as all arrays in `key` are the same objects.

        Which they are from step to step: so a pass costs little more in Python than the calls themselves.
        """
        lists: dict[str, tuple[tuple[Any, ...], list[Call]]] = self.__dict__.setdefault(
            "_lists", {}
        )
        known, calls = lists.get(name, ((), []))
        if len(known) != len(key) or not all(map(operator.is_, known, key)):
            lists[name] = key, calls = key, make()
        for kernel, arguments in calls:
            kernel(*arguments)

    def _list(self, name: str) -> list[Call] | None:
        """The list that `_repeat` keeps, another object whenever it was made anew; None before, and in a copy."""
        lists = self.__dict__.get("_lists", {})
        return lists[name][1] if name in lists else None

    def _pack(self, name: str, x: Array, check: bool = False) -> Array:
        samples, shape = len(x), x.shape[1:]
        lanes = self._buffer("packed " + name, (-(-samples // LANES), *shape, LANES), x.dtype)
        pack(x, lanes, f"{self!r}: {name}" if check else None)
        return lanes

    def _unpack(self, lanes: Array, samples: int) -> Array:
        x = np.empty((samples, *lanes.shape[1:-1]), lanes.dtype)
        features = math.prod(x.shape[1:])
        lane_kernels.unpack(
            lanes.reshape(len(lanes), features, LANES), x.reshape(samples, features)
        )
        return x

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_buffers", "_lists")}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def pack(x: Array, lanes: Array, place: str | None = None) -> None:
    """Copies a batch into the lane layout. With a `place`, to name, raises MinicnnError for NaN in it."""
    x = np.ascontiguousarray(x)
    features = math.prod(x.shape[1:])
    finite = np.empty(len(lanes), np.bool_)
    lane_kernels.pack(
        x.reshape(len(x), features), lanes.reshape(len(lanes), features, LANES), finite
    )
    if place and not finite.all() and np.isnan(x).any():
        index = tuple(int(i) for i in np.argwhere(np.isnan(x))[0])
        raise MinicnnError(f"{place}: expected numbers, received NaN at index {index}")


def aligned_zeros(size: int, dtype: DTypeLike) -> Array:
    """A flat array that starts on a cache line, as a vector that crosses none is loaded twice as fast."""
    dtype = np.dtype(dtype)
    raw = np.zeros(size * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size * dtype.itemsize].view(dtype)


def bias_arrays(bias: Parameter | None, dtype: DTypeLike) -> tuple[Array, Array]:
    """Value and gradient for a kernel, which takes empty arrays for "no bias"."""
    return (np.empty(0, dtype), np.empty(0, dtype)) if bias is None else (bias.value, bias.grad)


def pair(value: Any, name: str, least: int) -> tuple[int, int]:
    """An int or a pair of ints as a pair. Raises ShapeError if one is no int or less than `least`."""
    values = (value, value) if isinstance(value, int | np.integer) else value
    if (
        isinstance(values, tuple | list)
        and len(values) == 2
        and all(_is_whole(number) and number >= least for number in values)
    ):
        return int(values[0]), int(values[1])
    raise ShapeError(f"{name}: expected an int or a pair of ints >= {least}, received {value!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def positive(value: Any, name: str) -> int:
    """A whole number >= 1. Raises ShapeError."""
    if not _is_whole(value) or value < 1:
        raise ShapeError(f"{name}: expected an int >= 1, received {value!r}")
    return int(value)


def image_shape(layer: Layer, input_shape: Shape, channels: int | None = None) -> Shape:
    """`input_shape` if it is (C, H, W) with the right number of channels. Raises ShapeError."""
    wanted = f"({channels or 'C'}, H, W)"
    if len(input_shape) != 3 or (channels is not None and input_shape[0] != channels):
        raise ShapeError(
            f"{layer!r}: expected an input of {wanted} a sample, received {input_shape}"
        )
    return input_shape
