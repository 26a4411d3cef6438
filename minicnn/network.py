"""Sequential: layers one after the other, itself a layer."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, overload

import numpy as np
from numpy.typing import DTypeLike

from minicnn.errors import ShapeError
from minicnn.layers import MaxPool, ReLU
from minicnn.layers.base import Array, Home, Layer, Parameter, Shape, aligned_zeros
from minicnn.layers.initialization import Scheme


class Sequential(Layer):
    """y = layer_n(... layer_1(x)). Backward: the chain rule, from the last layer to the first.

    A batch is brought into the lane layout once, at the outer edge. All parameters move into one flat array,
    `values`, and their gradients into its twin, `gradients`, so that an optimizer's step is one kernel over one
    vector. Parameters are named like those of PyTorch's nn.Sequential: "0.weight".

    Raises ShapeError, which names the layer, for layers that do not fit.
    """

    #: Called with the number of a layer and "forward" or "backward" before that layer works.
    watch: Callable[[int, str], None] | None = None

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = list(layers)
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise ShapeError(f"layer {i}: expected a Layer, received {type(layer).__name__}")
            if any(layer is other for other in self.layers[:i]):
                raise ShapeError(
                    f"layer {i} {layer!r}: expected each layer once, received it again"
                )
        self._order = _order_of_work(self.layers)
        # Below the first layer with parameters nobody needs a gradient.
        trainable = (k for k, (i, _) in enumerate(self._order) if self.layers[i].parameters())
        self._first_trainable = next(trainable, len(self._order))
        self.per_sample = all(layer.per_sample for layer in self.layers)
        self._flatten()

    def _flatten(self) -> None:
        """Moves all parameters into the flat arrays."""
        parameters = self.parameters()
        dtype = parameters[0].value.dtype if parameters else np.dtype(np.float32)
        for parameter in parameters:
            if parameter.value.dtype != dtype:
                raise ShapeError(
                    f"{parameter.name}: expected {dtype} like {parameters[0].name}, "
                    f"received {parameter.value.dtype}"
                )
        size = sum(parameter.value.size for parameter in parameters)
        self.values, self.gradients = aligned_zeros(size, dtype), aligned_zeros(size, dtype)
        self._home = Home(self.values, self.gradients, [p.cell for p in parameters])
        at = 0
        for parameter in parameters:
            end = at + parameter.value.size
            value = self.values[at:end].reshape(parameter.value.shape)
            grad = self.gradients[at:end].reshape(parameter.value.shape)
            value[...], grad[...] = parameter.value, parameter.grad
            parameter.move(value, grad, self._home)
            at = end

    def claim_parameters(self) -> None:
        """Moves them back into this network's arrays, if another one of the same layers has moved them since."""
        if any(cell.home is not self._home for cell in self._home.cells):
            self._flatten()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._flatten()  # a copy's arrays are no longer views of one

    @property
    def per_sample_inference(self) -> bool:
        return all(layer.per_sample_inference for layer in self.layers)

    def parameters(self) -> list[Parameter]:
        return [
            parameter.renamed(f"{i}.{parameter.name}")
            for i, layer in enumerate(self.layers)
            for parameter in layer.parameters()
        ]

    def buffers(self) -> dict[str, Array]:
        return {
            f"{i}.{name}": array
            for i, layer in enumerate(self.layers)
            for name, array in layer.buffers().items()
        }

    def options(self) -> dict[str, Any]:
        if type(self).__init__ is not Sequential.__init__:
            return super().options()
        return {"layers": [type(layer)(**layer.options()) for layer in self.layers]}

    def _state(self) -> dict[str, Array]:
        return {
            f"{i}.{name}": array
            for i, layer in enumerate(self.layers)
            for name, array in layer._state().items()
        }

    def generators(self) -> list[np.random.Generator]:
        return [generator for layer in self.layers for generator in layer.generators()]

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.shapes(input_shape)[-1]

    def shapes(self, input_shape: Shape) -> list[Shape]:
        """The shape of a sample before the first layer and after each. Raises ShapeError."""
        shapes = [tuple(input_shape)]
        for i, layer in enumerate(self.layers):
            try:
                shapes.append(layer.output_shape(shapes[-1]))
            except ShapeError as error:
                raise ShapeError(f"layer {i} {error}") from None
        return shapes

    def multiply_adds(self, input_shape: Shape) -> int:
        shapes = self.shapes(input_shape)
        return sum(
            layer.multiply_adds(shape) for layer, shape in zip(self.layers, shapes, strict=False)
        )

    def connections(self, input_shape: Shape) -> int:
        shapes = self.shapes(input_shape)
        return sum(
            layer.connections(shape) for layer, shape in zip(self.layers, shapes, strict=False)
        )

    def initialize(
        self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None
    ) -> Self:
        rng = np.random.default_rng(rng)
        for layer in self.layers:
            layer.initialize(scheme, rng)
        return self

    def astype(self, dtype: DTypeLike) -> Self:
        for layer in self.layers:
            layer.astype(dtype)
        self._flatten()
        return self

    @property
    def dtype(self) -> np.dtype[np.generic] | None:
        return self.values.dtype if self.values.size else None

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        self._outputs = []
        for i, layer in self._order:
            if self.watch:
                self.watch(i, "forward")
            x = layer._forward(x, samples, training)
            self._outputs.append((i, x))
        return x

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        first = 0 if need_dx else self._first_trainable
        for k in range(len(self._order) - 1, first - 1, -1):
            i, layer = self._order[k]
            if self.watch:
                self.watch(i, "backward")
            dy = layer._backward(dy, need_dx or k > first)
        return dy

    def first_not_finite(self) -> str | None:
        """The first layer whose output in the last forward pass holds a NaN or infinity."""
        for i, output in self._outputs:
            if not np.isfinite(output).all():
                return f"layer {i} {self.layers[i]!r}"
        return None

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> list[Layer]: ...
    def __getitem__(self, index: int | slice) -> Layer | list[Layer]:
        return self.layers[index]

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self.layers))}])"

    @property
    def parameter_count(self) -> int:
        """The number of trainable numbers."""
        return int(self.values.size)


class _RectifiedMaxPool:
    """A ReLU and the MaxPool behind it in one.

    The maximum over a window of max(x, 0) is that of the window and a 0: the same output and gradients, to the bit.
    """

    def __init__(self, pool: MaxPool) -> None:
        self._pool = pool

    def _forward(self, x: Array, samples: int, training: bool) -> Array:
        return self._pool._maximum(x, 0.0)

    def _backward(self, dy: Array, need_dx: bool) -> Array:
        return self._pool._backward(dy, need_dx)


def _order_of_work(layers: list[Layer]) -> list[tuple[int, Layer | _RectifiedMaxPool]]:
    """The layers, numbered, in which a ReLU and a MaxPool behind it are one."""
    order: list[tuple[int, Layer | _RectifiedMaxPool]] = []
    for i, layer in enumerate(layers):
        # Not those of derived classes, which may do something else.
        if type(layer) is MaxPool and i and type(layers[i - 1]) is ReLU:
            order[-1] = i, _RectifiedMaxPool(layer)
        else:
            order.append((i, layer))
    return order
