"""Sequential: layers one after the other, itself a layer."""

from collections.abc import Iterable, Iterator
from typing import Any, Self, overload

import numpy as np
from numpy.typing import DTypeLike

from minicnn.checks import told
from minicnn.engine.arrays import Array, Shape, aligned_zeros, replacements
from minicnn.engine.memory import Map
from minicnn.engine.work import Work
from minicnn.errors import ShapeError

from .activation import ReLU
from .lane_layer import LaneLayer
from .layer import Backward, Layer
from .parameter import Home, write
from .pooling import MaxPool


class Sequential(LaneLayer):
    """y = layer_n(... layer_1(x)). Backward: the chain rule, from the last layer to the first.

    A batch is brought into the lane layout once, at the outer edge. All parameters move into one flat array,
    `values`, and their gradients into its twin, `gradients`, so that an optimizer's step is one kernel over one
    vector. Parameters are named like those of PyTorch's nn.Sequential: "0.weight".

    Raises ShapeError, which names the layer, for layers that do not fit, and for one that is in two places.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = tuple(layers)
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise ShapeError(f"layer {i}: expected a Layer, received {told(layer)}")
        check_places(self)
        self._shapes: dict[Shape, Shape] = {}
        self.per_sample = all(layer.per_sample for layer in self.layers)
        self.linear = all(layer.linear for layer in self.layers)
        self._flatten()

    def children(self) -> dict[str, Layer]:
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def paths(self) -> list[list[str]]:
        return [list(self.children())]

    def _flatten(self) -> None:
        """Moves all parameters into the flat arrays."""
        parameters = self.parameters()
        dtype = parameters[0].value.dtype if parameters else np.dtype(np.float32)
        for parameter in parameters:
            if parameter.value.dtype != dtype:
                raise ShapeError(
                    f"{parameter.name}: expected {dtype} like {parameters[0].name}, received {parameter.value.dtype}"
                )
        size = sum(parameter.value.size for parameter in parameters)
        arrays = aligned_zeros(size, dtype), aligned_zeros(size, dtype)
        self.home = Home(*arrays, [parameter.cell for parameter in parameters])
        self._replacements = -1
        at = 0
        for parameter in parameters:
            end = at + parameter.value.size
            value = self.values[at:end].reshape(parameter.value.shape)
            grad = self.gradients[at:end].reshape(parameter.value.shape)
            value[...], grad[...] = parameter.value, parameter.grad
            parameter.move(value, grad, self.home)
            at = end

    def claim_parameters(self) -> None:
        """Moves them back into this network's arrays, if another one of the same layers has moved them since."""
        number = replacements.number
        if self._replacements != number:
            if any(cell.home is not self.home for cell in self.home.cells):
                self._flatten()
            self._replacements = number

    @property
    def values(self) -> Array:
        return self.home.values

    @values.setter
    def values(self, values: Any) -> None:
        write("values", self.home.values, values)

    @property
    def gradients(self) -> Array:
        return self.home.gradients

    @gradients.setter
    def gradients(self, gradients: Any) -> None:
        write("gradients", self.home.gradients, gradients)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "home"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._flatten()  # a copy's arrays are no longer views of one

    def output_shape(self, input_shape: Shape) -> Shape:
        known = self._shapes.get(input_shape)  # asked for in every step
        if known is None:
            known = self._shapes[input_shape] = self.shapes(input_shape)[-1]
        return known

    def shapes(self, input_shape: Shape) -> list[Shape]:
        """The shape of a sample before the first layer and after each. Raises ShapeError."""
        shapes = [tuple(input_shape)]
        for i, layer in enumerate(self.layers):
            try:
                shapes.append(layer.output_shape(shapes[-1]))
            except ShapeError as error:
                raise ShapeError(f"layer {i} {error}") from None
        return shapes

    def astype(self, dtype: DTypeLike) -> Self:
        super().astype(dtype)
        self._flatten()
        return self

    @property
    def dtype(self) -> np.dtype[np.generic] | None:
        return self.values.dtype if self.values.size else None

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        ways_back: list[Backward] = []
        first = None  # of these, that of the first layer with parameters that are not frozen
        rectified = False
        place, label, labels = work.place, work.label, list[str]()
        for i, layer in enumerate(self.layers):
            following = self.layers[i + 1] if i + 1 < len(self.layers) else None
            work.place, work.label = f"{place}{i}.", f"{place}{i} {type(layer).__name__} "
            if type(layer) is ReLU and type(following) is MaxPool:
                # The maximum over a window of max(x, 0) is that of the window and a 0: the same bits, a pass less.
                rectified = True
                continue
            if first is None and not all(parameter.frozen for parameter in layer.parameters()):
                first = len(ways_back)
            if rectified and isinstance(layer, MaxPool):
                x, way_back = layer.rectify(work, x)
            else:
                x, way_back = layer.declare(work, x)
            rectified = False
            ways_back.append(way_back)
            labels.append(work.label)
        work.place, work.label = place, label

        def backward(dy: Map, need_dx: bool) -> Map:
            label = work.label
            last = 0 if need_dx else len(ways_back) if first is None else first
            for k in range(len(ways_back) - 1, last - 1, -1):
                work.label = labels[k] + "back "
                dy = ways_back[k](dy, need_dx or k > last)
            work.label = label
            return dy

        return x, backward

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Any: ...  # a Layer; which of them, its user knows
    @overload
    def __getitem__(self, index: slice) -> tuple[Layer, ...]: ...
    def __getitem__(self, index: int | slice) -> Layer | tuple[Layer, ...]:
        return self.layers[index]

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self.layers))}])"

    @property
    def parameter_count(self) -> int:
        """The number of trainable numbers."""
        return int(self.values.size)


def check_places(network: Layer) -> None:
    """Raises ShapeError for a layer or a parameter in two places, of which each would have its own gradient."""
    places: dict[object, str] = {}
    for place, layer in network.places():
        if layer in places:
            raise ShapeError(
                f"layer {place} {layer!r}: expected each layer once, received that of layer {places[layer]} "
                "again; build another one, or take a copy.deepcopy"
            )
        places[layer] = place
    names = set()
    for parameter in network.parameters():
        if parameter.cell in places or parameter.name in names:
            other = places.get(parameter.cell, parameter.name)
            raise ShapeError(
                f"{parameter.name}: expected each parameter once and with a name of its own, "
                f"received that of {other} again; a layer needs a Parameter of its own"
            )
        places[parameter.cell] = parameter.name
        names.add(parameter.name)
