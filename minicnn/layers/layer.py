"""What every layer has: parameters, shapes, forward and backward, in NumPy's layout."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import partial, reduce, wraps
from inspect import isabstract, signature
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import DTypeLike

from minicnn.checks import checked, told
from minicnn.engine.arrays import Array, Shape
from minicnn.engine.lanes import pack, unpack
from minicnn.engine.memory import Map
from minicnn.engine.program import Program
from minicnn.engine.work import Rows, Work
from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import LANES

from .arguments import Window
from .explain import Explanation, Place, Step, index, number, strongest
from .freezing import Backward as Backward
from .freezing import Freezable, freezable
from .initializers import Scheme
from .parameter import Parameter, check_float
from .state import WITH_CHILDREN, KeyMismatch, constructor_options, load_arrays, with_children

#: What a layer says that holds for its own `forward` alone.
_OF_THE_MATHS = frozenset(
    {"elementwise", "linear", "identity", "has_weights", "normalizes", "output_range", "gives_probabilities"}
    | {"explain", "to_onnx", "filters", "paths"}
)


class OnnxGraph(Protocol):
    """What a layer adds itself to; see `minicnn.export.onnx`."""

    place: str

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds an operator; returns the name of its output."""

    def constant(self, name: str, value: Any) -> str:
        """Adds a constant array, floats in the element type of the graph; returns its full name."""

    def layer(self, layer: "Layer", x: str, shape: Shape, name: str) -> str:
        """Adds a layer within this one; returns the name of its output."""


class Layer(Freezable, ABC):
    """A function with parameters, its input (N, ...) and output (N, ...) NumPy arrays.

    A layer of your own overrides `output_shape`, `forward` and `backward`, and `parameters` if it has any; it works
    alone and in a `Sequential`. The layers of this package are `LaneLayer`s, which the engine runs.

    A layer may hold other layers (`children`) and call their forward and backward. Their parameters, buffers and random
    generators are its own, too, under their names behind that of the attribute: "body.0.weight".

    What others must know of a layer it says itself, by methods and by these traits. A layer of your own may leave
    them as they are; then less is known of it (`lint`, for one, has nothing to say of it).

    per_sample           the output for a sample depends on that sample alone
    elementwise          y has the shape of x, and each element depends on the element of x at its place alone
    linear               y is linear in x, up to a bias (random choices and statistics of the batch taken as given)
    identity             outside training, y = x up to the shape
    has_weights          y combines the elements of x by weights, so that an activation belongs between two such layers
    normalizes           y has the mean and the variance that parameters set, whatever those of x are
    output_range         the least and the greatest value of y, None if not known
    gives_probabilities  y is a probability for each index of axis 1
    """

    per_sample = elementwise = linear = identity = has_weights = normalizes = gives_probabilities = False
    output_range: ClassVar[tuple[float, float] | None] = None
    #: The arguments of its constructor and of those that it derives from, and what follows from them.
    _arguments: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls._arguments = cls._arguments | set(signature(cls.__init__).parameters)
            cls.__init__ = _building(cls.__init__)  # type: ignore[method-assign]
        both = cls.forward is not Layer.forward, cls.backward is not Layer.backward
        if both[0] != both[1]:
            raise TypeError(f"{cls.__name__}: a layer must define both forward and backward")
        if cls.__dict__.keys() & {"declare", "forward"}:  # what another layer says of its own maths does not hold
            for name in _OF_THE_MATHS - cls.__dict__.keys():
                if not isabstract(next(base for base in cls.__mro__ if name in base.__dict__)):
                    setattr(cls, name, getattr(Layer, name))
        for name in WITH_CHILDREN.keys() & cls.__dict__.keys():
            setattr(cls, name, with_children(cls.__dict__[name], getattr(Layer, name), WITH_CHILDREN[name]))
        if "declare" in cls.__dict__:
            cls.declare = freezable(cls.declare)  # type: ignore[method-assign]
            cls.declare_own = cls.declare  # type: ignore[method-assign]
        elif cls.__dict__.keys() & {"forward", "backward"}:
            cls.declare = Layer.declare  # type: ignore[method-assign] # in NumPy, whatever it derives from

    # --- what a layer is -------------------------------------------------------------------------

    @property
    def per_sample_inference(self) -> bool:
        """`per_sample` outside training, where normalisation, for one, may be by constants."""
        if self.paths() is None:
            return self.per_sample
        return all(child.per_sample_inference for child in self.children().values())

    def children(self) -> "dict[str, Layer]":
        """The layers within this one by their names, in order: those of its attributes, also in lists and tuples.

        A layer in a list `blocks` is called "blocks.0"; one that is also within another attribute's layer has the place
        there. A layer that keeps others elsewhere overrides this method.
        """
        found: dict[str, Layer] = {}
        for name, value in self.__dict__.items():
            if isinstance(value, Layer):
                found[name] = value
            elif isinstance(value, list | tuple):
                found |= {f"{name}.{i}": one for i, one in enumerate(value) if isinstance(one, Layer)}
        deeper = {id(layer) for child in found.values() for _, layer in child.places()}
        return {name: layer for name, layer in found.items() if id(layer) not in deeper}

    def places(self, before: str = "") -> "Iterator[tuple[str, Layer]]":
        """(place, layer) of all layers within this one, at any depth: "2", "2.layers", "2.layers.0", "3"."""
        for name, layer in self.children().items():
            yield before + name, layer
            yield from layer.places(f"{before}{name}.")

    def paths(self) -> list[list[str]] | None:
        """The names of children that x goes through, if y is a sum of what rows of them make of x.

        An empty row stands for x itself: y = body(x) + x has [["body"], []]. With this, the table, `minicnn trace` and
        ONNX see into a layer. None if y is something else, or not known.
        """
        return None

    def along_paths(self, input_shape: Shape) -> "Iterator[tuple[str, Layer, Shape]]":
        """(name, child, the shape of a sample that it is given) of all children on `paths`. Raises ShapeError."""
        children = self.children()
        for path in self.paths() or []:
            shape = tuple(input_shape)
            for name in path:
                yield name, children[name], shape
                shape = children[name].output_shape(shape)

    def parameters(self) -> list[Parameter]:
        """The trainable parameters, in a fixed order, those of its children last.

        A layer overrides it to list its own; those of its children are added."""
        return [p.renamed(f"{name}.{p.name}") for name, child in self.children().items() for p in child.parameters()]

    def buffers(self) -> dict[str, Array]:
        """The arrays that belong to the layer's state and are not trained; what is written into them counts."""
        return self._of_children(lambda child: child.buffers())

    def options(self) -> dict[str, Any]:
        """The arguments of the constructor: type(layer)(**layer.options()) builds a layer of the same kind.

        They are the attributes of the same names, with new layers in the place of layers; a layer that keeps them
        elsewhere overrides this method.
        Raises MinicnnError for an argument that is no attribute.
        """
        return {key: rebuilt(value) for key, value in constructor_options(self, Parameter).items()}

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers, with the names and in the order of PyTorch's twin of the layer."""
        return {name: array.copy() for name, array in self.state_arrays().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> KeyMismatch:
        """Writes the arrays or torch tensors of `state` into the parameters and buffers of the same names.

        Numbers are converted to the layer's element type. With strict=False keys may be missing or unexpected; both are
        returned. Raises ShapeError for keys, shapes or types that do not fit, and changes nothing then.
        """
        return load_arrays(type(self).__name__, self.state_arrays(), state, strict)

    def state_arrays(self) -> dict[str, Array]:
        """The arrays themselves: the layer's parameters, its buffers, then those of its children, one by one."""
        inner = self._of_children(lambda child: child.state_arrays())
        known = {id(array) for array in inner.values()}
        arrays = [(parameter.name, parameter.value) for parameter in self.parameters()]
        arrays = [(key, array) for key, array in [*arrays, *self.buffers().items()] if id(array) not in known]
        names = [name for name, _ in [*arrays, *inner.items()]]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ShapeError(
                f"{self!r}: expected a name of its own for each parameter and buffer, received {twice!r} twice"
            )
        return {**dict(arrays), **inner}

    def _of_children(self, arrays: "Callable[[Layer], dict[str, Array]]") -> dict[str, Array]:
        children = self.children().items()
        return {f"{name}.{key}": array for name, child in children for key, array in arrays(child).items()}

    def generators(self) -> list[np.random.Generator]:
        """The random generators that the layer draws from, in a fixed order: part of the state of a training."""
        return [generator for child in self.children().values() for generator in child.generators()]

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of one output sample for an input sample of `input_shape`. Raises ShapeError."""

    def multiply_adds(self, input_shape: Shape) -> int:
        """Multiply-adds of one forward pass for one sample, by the layer's formula (kernels may need fewer)."""
        return sum(child.multiply_adds(shape) for _, child, shape in self.along_paths(input_shape))

    def connections(self, input_shape: Shape) -> int:
        """Connections for one sample, as LeCun et al. (1998) count them: an output has one for each input in a sum with
        weights (padding included), one for its bias, and one for each place of a pooling window."""
        return sum(child.connections(shape) for _, child, shape in self.along_paths(input_shape))

    @property
    def window(self) -> Window | None:
        """(kernel, stride, padding, dilation) of a layer that slides a window over its input, else None."""
        return None

    def explain(self, step: Step, at: Place) -> Explanation:
        """How the output at the place `at` came about, and what becomes of its gradient, in the numbers of `step`.

        Formulas are those of the layer's docstring. Without an override, what can be said of any layer.
        """
        source = strongest(step.dx)
        forward = [
            f"a layer of its own kind: x is from {number(step.x.min())} to {number(step.x.max())}, y from "
            f"{number(step.y.min())} to {number(step.y.max())}; {index('y', at)} = {number(step.y[at])}"
        ]
        backward = [
            f"{index('dy', at)} = {number(step.dy[at])}; the largest gradient that it passes on is "
            f"{index('dx', source)} = {number(step.dx[source])}"
        ]
        return Explanation(source, forward, backward)

    def filters(self) -> tuple[str, Array, list[str]] | None:
        """Weights that can be seen as images (filters, inputs, rows, columns), NaN for kernels that do not exist.

        With them, what they are if they are not all, and the name of each filter. None for a layer without such.
        """
        return None

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        """Adds the operators of the layer, as it works outside training, to an ONNX graph; returns the name of y.

        x is the name of its input and `shape` the shape of one sample of it. Without an override, that of the children
        on its `paths`; MinicnnError if there are none.
        """
        paths, children, name = self.paths(), self.children(), type(self).__name__
        if paths is not None:
            results = []
            for path in paths:
                result, shape_of_x = x, shape
                for child in path:
                    result = graph.layer(children[child], result, shape_of_x, f"{child}.")
                    shape_of_x = children[child].output_shape(shape_of_x)
                results.append(result)
            return reduce(partial(graph.node, "Add"), results)
        raise MinicnnError(
            f"layer {graph.place[:-1] or 0} {self!r}: there is no ONNX mapping for it; give {name} a method "
            "to_onnx(self, graph, x, shape), which adds its operators with graph.node and graph.constant"
        )

    def initialize(self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None) -> Self:
        """Draws new parameters (see `minicnn.layers.initializers`) and seeds the layer's own random choices."""
        rng = np.random.default_rng(rng)
        for child in self.children().values():
            child.initialize(scheme, rng)
        return self

    def astype(self, dtype: DTypeLike) -> Self:
        """Converts all parameters to float32 or float64, in place. Raises ShapeError for another type."""
        check_float(dtype)  # before anything changes
        for child in self.children().values():
            child.astype(dtype)
        inner = {parameter.cell for child in self.children().values() for parameter in child.parameters()}
        for parameter in self.parameters():
            if parameter.cell in inner:
                continue
            parameter.move(parameter.value.astype(dtype), parameter.grad.astype(dtype))
        return self

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The element type of the parameters; None for a layer that has none and takes either."""
        parameters = self.parameters()
        return parameters[0].value.dtype if parameters else None

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises ShapeError for a parameter or a layer in the place of another one: networks know the old one."""
        before = self.__dict__.get(name)
        if isinstance(before, Parameter | Layer) and before is not value and "_built" in self.__dict__:
            kind, remedy = "layer", "load_state_dict(...)"
            if isinstance(before, Parameter):
                kind, remedy = "parameter", "value = ..."
            raise ShapeError(
                f"{self!r}: {name}: expected the {kind} that it was built with, received {told(value)}; "
                f"write numbers into that one, with layer.{name}.{remedy}"
            )
        super().__setattr__(name, value)

    def __copy__(self) -> Self:
        """A copy with parameters of its own, like that of copy.deepcopy."""
        return deepcopy(self)

    # --- forward and backward --------------------------------------------------------------------

    def __call__(self, x: Array, training: bool = False) -> Array:
        return self.forward(x, training)

    @abstractmethod
    def forward(self, x: Array, training: bool = False) -> Array:
        """The output (N, ...) for input (N, ...).

        Raises ShapeError for an input of the wrong shape or element type, MinicnnError if it has a NaN.
        """

    @abstractmethod
    def backward(self, dy: Array) -> Array:
        """dx for the last forward pass; assigns (never adds to) the gradient of every parameter.

        dy is the derivative of the loss with respect to the output, dx that with respect to the input.
        """

    @freezable
    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        """Declares the layer's work on maps: its output for x, and the way back.

        For a layer in NumPy that is to unpack, to call forward or backward, and to pack again.
        """
        shape, training = x.shape, work.training
        y_shape = self.output_shape(shape)
        y = self._in_numpy(work, x, y_shape, "y", lambda array: self.forward(array, training))

        def backward(dy: Map, need_dx: bool) -> Map:
            return self._in_numpy(work, dy, shape, "dx", self.backward)

        return y, backward

    #: `declare` of the class whose work it is, for a layer in NumPy that calls forward or backward of its base.
    declare_own = declare

    def _in_numpy(self, work: Work, x: Map, shape: Shape, name: str, function: Callable[[Array], Array]) -> Map:
        """function(x), which has to have that shape, as a map."""
        arrays = [np.zeros((work.blocks * LANES, *s), work.dtype) for s in (x.shape, shape)]

        def step(program: Program) -> None:
            given, found = arrays
            result = np.asarray(function(given[: program.count].copy()))
            self._expect(name, (program.count, *shape), work.dtype, result)
            found[: program.count] = result
            found[program.count :] = 0

        unpack(work, x, Rows(arrays[0]))
        work.python(step)
        return pack(work, Rows(arrays[1]), shape)

    def _expect(self, name: str, shape: Shape, dtype: DTypeLike, array: Array) -> None:
        if array.shape != shape or array.dtype != dtype:
            raise ShapeError(
                f"{self!r}: expected {name} of shape {shape} and type {dtype}, received {array.shape} and {array.dtype}"
            )

    def differing(self, **defaults: Any) -> list[str]:
        """name=value of the attributes that are not as these defaults: for __repr__."""
        values = ((name, getattr(self, name), default) for name, default in defaults.items())
        return [f"{name}={value}" for name, value, default in values if value != default]

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def rebuilt(value: Any) -> Any:
    """An option of a layer, with a new layer of the same kind in the place of each layer."""
    if isinstance(value, Layer):
        return type(value)(**value.options())
    return type(value)(map(rebuilt, value)) if type(value) in (list, tuple) else value


def _building(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor, behind which what a layer is built of stays; that of this package checks its arguments."""
    if str(init.__module__).startswith("minicnn."):
        init = checked(ShapeError)(init)

    @wraps(init)
    def build(self: Layer, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is build:  # and not called by that of a derived class
            self.__dict__["_built"] = True

    return build
