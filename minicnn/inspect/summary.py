"""The table of a network: what each layer gives, holds, costs and sees.

The receptive field of a layer is the patch of the input that one of its outputs depends on. A layer with a window of
kernel k, stride s, padding p and dilation d changes that of the layer before it, in rows and in columns:

    size   <- size + (k - 1) d jump       height or width of the patch, in input pixels; 1 for the input itself
    offset <- offset - p jump             where the patch of output 0 begins; 0 for the input itself
    jump   <- jump s                      the distance between the patches of neighbouring outputs; 1 at first

so that output i sees the input from offset + i jump to offset + i jump + size - 1. Padding counts as input: a negative
offset means that the first patch begins outside the image. C5 of LeNet-5 sees 32x32, its input of 28x28 and 2 pixels
around it. Flattening is a window as large as the map, so that everything behind it sees what the whole map sees. What
is added up of several paths sees what any of them sees: mostly, that is the field of the longest.

Source: Araujo, Norris and Sim, Computing receptive fields of convolutional neural networks (2019), section
"Single-path networks" and "Arbitrary computation graphs"; dilation makes of a kernel k one of d (k - 1) + 1.
"""

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

from minicnn.checks import takes
from minicnn.console import table
from minicnn.errors import ShapeError
from minicnn.layers.layer import Layer

Shape = tuple[int, ...]
Pair = tuple[int, int]


@dataclass(frozen=True)
class LayerSummary:
    """One line of the table; counts are per image."""

    name: str
    """The place in the network: "3", or "2.0" for the first layer of a Sequential at 2."""
    layer: str
    depth: int
    """How many layers with a line of their own it is within."""
    within: bool
    """Whether the lines below it, which are deeper, are those of its layers, whose results it adds up."""
    output_shape: Shape
    parameters: int
    """Here and below, without those of layers with lines of their own."""
    multiply_adds: int | None
    """None if the layer does not say."""
    connections: int | None
    """See `Layer.connections`; None if the layer does not say."""
    receptive_field: Pair | None
    """Height and width, None where there are no pixels or a layer does not say what it sees."""
    jump: Pair | None
    """Rows and columns between the fields of neighbours; None where there are no neighbours or no field."""
    offset: Pair | None
    """Row and column where the field of the first output begins."""
    activation_bytes: int
    """What the output for one image takes; 0 for Flatten, which gives the same memory another shape."""
    weight_bytes: int
    """Parameters, and what else is saved with them (running statistics)."""
    frozen: bool = False
    """Whether training leaves the layer as it is."""
    frozen_parameters: int = 0
    """How many of its parameters training leaves as they are."""


def summarize(network: Layer, input_shape: Sequence[int]) -> list[LayerSummary]:
    """The lines of the table as data. `input_shape` has no batch axis; ShapeError if it misfits."""
    shape = tuple(input_shape)
    try:
        network.output_shape(shape)  # a misfit is reported by the network, which names the place
    except ShapeError as error:
        hint = "; without the batch axis: " + str(shape[1:]) if takes(network.output_shape, shape[1:]) else ""
        raise ShapeError(f"{error}{hint}") from None
    sees = _View((1, 1), (1, 1), (0, 0)) if len(shape) == 3 else None
    number_size = 4 if network.dtype is None else network.dtype.itemsize
    return list(_rows(network, shape, "", 0, sees, number_size))


def _rows(
    layer: Layer, shape: Shape, place: str, depth: int, sees: "_View | None", number_size: int
) -> Generator[LayerSummary, None, "_View | None"]:
    """The lines of a layer and of those within it; `sees` is what each element of its input sees."""
    paths, output_shape = layer.paths(), layer.output_shape(shape)
    behind = sees and sees.through(layer, shape)
    if paths is None or len(paths) > 1:
        within = paths is not None
        unknown = not within and type(layer).declare is Layer.declare  # a user's, which may not know its costs
        counts = [
            None if unknown and getattr(type(layer), name) is getattr(Layer, name) else getattr(layer, name)(shape)
            for name in ("multiply_adds", "connections")
        ]
        yield LayerSummary(
            name=place or "0",
            layer=type(layer).__name__ if within else repr(layer),
            depth=depth,
            within=within,
            output_shape=output_shape,
            parameters=0 if within else sum(parameter.value.size for parameter in layer.parameters()),
            multiply_adds=0 if within else counts[0],
            connections=0 if within else counts[1],
            receptive_field=behind.size if behind else None,
            jump=behind.jump if behind and len(output_shape) == 3 else None,
            offset=behind.offset if behind else None,
            activation_bytes=0 if layer.identity and not layer.elementwise else number_size * prod(output_shape),
            weight_bytes=0 if within else sum(array.nbytes for array in layer.state_arrays().values()),
            frozen=layer.frozen,
            frozen_parameters=0 if within else sum(one.value.size for one in layer.parameters() if one.frozen),
        )
        depth += 1
    children = layer.children()
    for path in paths or []:
        inner, inner_shape = sees, shape
        for name in path:
            here = f"{place}.{name}" if place else name
            inner = yield from _rows(children[name], inner_shape, here, depth, inner, number_size)
            inner_shape = children[name].output_shape(inner_shape)
    return behind


def summary(network: Layer, input_shape: Sequence[int]) -> str:
    """The table of a network as text, with one line per layer and a total. `input_shape` is that of one sample."""
    rows = summarize(network, input_shape)
    lines = [
        ("", "input", _by(tuple(input_shape)), "", "", ""),
        *((row.name, _indented(row, row.layer), *_costs(row), _field(row.receptive_field)) for row in rows),
        None,
        ("", "total", "", f"{sum(row.parameters for row in rows):,}", _total(rows), ""),
    ]
    text = table(lines, "<<>>>>", ("", "layer", "output", "parameters", "multiply-adds", "receptive field"))
    return text + _frozen(rows)


def full_summary(network: Layer, input_shape: Sequence[int]) -> str:
    """The table with everything that is known of each layer, and an explanation of its columns."""
    rows = summarize(network, input_shape)
    lines = [
        (
            row.name,
            _indented(row, short(row.layer)),
            *_costs(row),
            "" if row.within else _count(row.connections),
            _field(row.receptive_field),
            _sides(row.jump),
            _sides(row.offset),
            f"{row.activation_bytes:,}",
            "" if row.within else f"{row.weight_bytes:,}",
        )
        for row in rows
    ]
    sums = [f"{sum(getattr(row, name) for row in rows):,}" for name in ("activation_bytes", "weight_bytes")]
    last = (f"{sum(row.parameters for row in rows):,}", _total(rows), _total(rows, "connections"))
    head = ["", "layer", "output", "parameters", "multiply-adds", "connections"]
    head += ["sees", "jump", "offset", "activations", "weights"]
    first = ("", "input", _by(tuple(input_shape)), *[""] * 8)
    text = table([first, *lines, None, ("", "total", "", *last, "", "", "", *sums)], "<<" + 9 * ">", head)
    return f"{text}{_frozen(rows)}\n{LEGEND}"


LEGEND = """\
All counts are for one image; activations (what a layer gives) and weights are in bytes.
sees, jump, offset: output i depends on the input pixels from offset + i jump to offset + i jump + sees - 1, by rows
and columns; padding counts as input."""


def as_json(network: Layer, input_shape: Sequence[int]) -> dict[str, Any]:
    """The same as data for JSON: input_shape, layers (the fields of LayerSummary) and total, null where not known."""
    rows = [vars(row) for row in summarize(network, input_shape)]
    counts = ("parameters", "multiply_adds", "connections", "activation_bytes", "weight_bytes")
    total = {key: None if any(row[key] is None for row in rows) else sum(row[key] for row in rows) for key in counts}
    return {"input_shape": tuple(input_shape), "layers": rows, "total": total}


@dataclass(frozen=True)
class _View:
    """The receptive field so far, the step between those of neighbours and the place of the first; rows, columns."""

    size: Pair
    jump: Pair
    offset: Pair

    def through(self, layer: Layer, shape: Shape) -> "_View | None":
        """What the outputs of `layer` see, None if it does not say."""
        paths, children, output_shape = layer.paths(), layer.children(), layer.output_shape(shape)
        if paths is not None:
            views = [self._along([children[name] for name in path], shape) for path in paths]
            return reduce(_View.joined, views[1:], views[0])
        if children and layer.window is None:
            return self._only_child(list(children.values()), shape, output_shape)
        stride, padding, dilation = (1, 1), (0, 0), (1, 1)
        if layer.window is not None:
            kernel, stride, padding, dilation = layer.window
        elif len(shape) == 3 and len(output_shape) == 1:
            kernel = (shape[1], shape[2])
        elif shape[1:] == output_shape[1:]:  # pixel by pixel, or after the pixels are flattened
            kernel = (1, 1)
        else:
            return None
        sides = [
            (size + (k - 1) * d * jump, jump * s, offset - p * jump)
            for size, jump, offset, k, s, p, d in zip(
                self.size, self.jump, self.offset, kernel, stride, padding, dilation, strict=True
            )
        ]
        return _View(*zip(*sides, strict=True))

    def _along(self, layers: Sequence[Layer], shape: Shape) -> "_View | None":
        """What the last of these layers sees."""
        view: _View | None = self
        for layer in layers:
            view = view and view.through(layer, shape)
            shape = layer.output_shape(shape)
        return view

    def _only_child(self, children: Sequence[Layer], shape: Shape, output_shape: Shape) -> "_View | None":
        """What a layer sees of which no more is known than the layers within it: that of a single one that fits."""
        try:
            fits = len(children) == 1 and children[0].output_shape(shape) == output_shape
        except ShapeError:
            return None
        return self.through(children[0], shape) if fits else None

    def joined(self: "_View | None", other: "_View | None") -> "_View | None":
        """What a sum of both sees."""
        if self is None or other is None or self.jump != other.jump:
            return None
        sides = [
            (max(o + s, p + t) - min(o, p), min(o, p))
            for s, o, t, p in zip(self.size, self.offset, other.size, other.offset, strict=True)
        ]
        size, offset = zip(*sides, strict=True)
        return _View(size, self.jump, offset)


def _indented(row: LayerSummary, layer: str) -> str:
    return "  " * row.depth + layer


def _costs(row: LayerSummary) -> tuple[str, str, str]:
    if row.within:
        return _by(row.output_shape), "", ""
    return _by(row.output_shape), f"{row.parameters:,}", _count(row.multiply_adds)


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _frozen(rows: Sequence[LayerSummary]) -> str:
    """A line on layers that training leaves alone, if there are any."""
    places = ", ".join(row.name for row in rows if row.frozen or row.frozen_parameters)
    if not places:
        return ""
    stay = sum(row.frozen_parameters for row in rows)
    learn = sum(row.parameters for row in rows) - stay
    return f"\ntrainable parameters: {learn:,}; frozen: {stay:,}, in layers {places}"


def _total(rows: Sequence[LayerSummary], what: str = "multiply_adds") -> str:
    known = [getattr(row, what) for row in rows if getattr(row, what) is not None]
    return f"{sum(known):,}" if len(known) == len(rows) else f">= {sum(known):,}"


def _field(size: Pair | None) -> str:
    return "-" if size is None else _by(size)


def _sides(pair: Pair | None) -> str:
    if pair is None:
        return "-"
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}, {pair[1]}"


def short(layer: str) -> str:
    """Conv2d(1, 6, 5, padding=2) for Conv2d(1, 6, kernel_size=(5, 5), padding=(2, 2)): as one would type it."""
    return re.sub(r"kernel_size=|input_size=", "", re.sub(r"\((\d+), \1\)", r"\1", layer))


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))
