"""The table of a network: what each layer gives, holds, costs and sees.

The receptive field of a layer is the patch of the input that one of its outputs depends on. It
starts with one pixel; a window of kernel k, dilation d and stride s enlarges it by

    size <- size + (k - 1) * d * jump        jump <- jump * s

where jump is the distance, in input pixels, between the patches of two neighbouring outputs.
Flattening is a window as large as the map, so that everything behind it sees what the whole map
sees. Padding counts as input: C5 of LeNet-5 sees 32x32, its input of 28x28 and 2 pixels around it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from minicnn.layers.base import Layer
from minicnn.network import Sequential

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerSummary:
    """One line of the table; counts are per image."""

    name: str
    """The place in the network: "3", or "2.0" for the first layer of a Sequential at 2."""
    layer: str
    output_shape: Shape
    parameters: int
    multiply_adds: int | None
    """None if the layer does not say."""
    receptive_field: tuple[int, int] | None
    """Height and width, None where there are no pixels or a layer does not say what it sees."""


def summarize(network: Layer, input_shape: Sequence[int]) -> list[LayerSummary]:
    """The lines of the table as data. `input_shape` has no batch axis; ShapeError if it misfits."""
    shape = tuple(input_shape)
    network.output_shape(shape)  # a misfit is reported by the network, which names the place
    sees = _View((1, 1), (1, 1)) if len(shape) == 3 else None
    rows = []
    for name, layer in leaves(network):
        output_shape = layer.output_shape(shape)
        sees = sees and sees.through(layer, shape, output_shape)
        rows.append(
            LayerSummary(
                name=name,
                layer=repr(layer),
                output_shape=output_shape,
                parameters=sum(parameter.value.size for parameter in layer.parameters()),
                multiply_adds=_multiply_adds(layer, shape),
                receptive_field=sees.size if sees else None,
            )
        )
        shape = output_shape
    return rows


def summary(network: Layer, input_shape: Sequence[int]) -> str:
    """The table as text, one line per layer and a total; `input_shape` has no batch axis."""
    rows = summarize(network, input_shape)
    known = [row.multiply_adds for row in rows if row.multiply_adds is not None]
    total = f"{sum(known):,}" if len(known) == len(rows) else f">= {sum(known):,}"
    head = ("", "layer", "output", "parameters", "multiply-adds", "receptive field")
    first = ("", "input", _by(tuple(input_shape)), "", "", "")
    last = ("", "total", "", f"{sum(row.parameters for row in rows):,}", total, "")
    lines = [
        (
            row.name,
            row.layer,
            _by(row.output_shape),
            f"{row.parameters:,}",
            "-" if row.multiply_adds is None else f"{row.multiply_adds:,}",
            "-" if row.receptive_field is None else _by(row.receptive_field),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, first, *lines, last, strict=True)]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(head), rule, line(first), *map(line, lines), rule, line(last)])


@dataclass(frozen=True)
class _View:
    """The receptive field so far and the step between those of neighbours; height, width."""

    size: tuple[int, int]
    jump: tuple[int, int]

    def through(self, layer: Layer, shape: Shape, output_shape: Shape) -> "_View | None":
        """What the outputs of `layer` see, None if it does not say."""
        if layer.window is not None:
            kernel, stride, _, dilation = layer.window
        elif len(shape) == 3 and len(output_shape) == 1:
            kernel, stride, dilation = shape[1:], (1, 1), (1, 1)
        elif shape[1:] == output_shape[1:]:  # pixel by pixel, or after the pixels are flattened
            kernel = stride = dilation = (1, 1)
        else:
            return None
        h, w = (
            size + (k - 1) * d * jump
            for size, k, d, jump in zip(self.size, kernel, dilation, self.jump, strict=True)
        )
        down, across = (jump * s for jump, s in zip(self.jump, stride, strict=True))
        return _View((h, w), (down, across))


def _multiply_adds(layer: Layer, shape: Shape) -> int | None:
    """None for a layer written in NumPy that inherits the base class's 0."""
    inherits = type(layer).multiply_adds is Layer.multiply_adds
    return (
        None
        if inherits and type(layer).forward is not Layer.forward
        else layer.multiply_adds(shape)
    )


def leaves(layer: Layer, prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """The layers that are no Sequential, in order, with their places."""
    if not isinstance(layer, Sequential):
        yield prefix or "0", layer
        return
    for index, child in enumerate(layer):
        yield from leaves(child, f"{prefix}.{index}" if prefix else str(index))


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))
