"""Checks of the arguments and inputs of layers."""

from typing import Any

import numpy as np

from minicnn.engine.arrays import Shape
from minicnn.errors import ShapeError

Pair = tuple[int, int]
#: (kernel size, stride, padding, dilation), each for rows and columns.
Window = tuple[Pair, Pair, Pair, Pair]


def pair(value: Any, name: str, least: int) -> Pair:
    """An int or a pair of ints as a pair. Raises ShapeError if one is no int or less than `least`."""
    values = (value, value) if isinstance(value, int | np.integer) else value
    if (
        isinstance(values, tuple | list)
        and len(values) == 2
        and all(_is_whole(number) and number >= least for number in values)
    ):
        return int(values[0]), int(values[1])
    raise ShapeError(f"{name}: expected an int or a pair of ints >= {least}, received {value!r}")


def check_window(name: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> Window:
    """The arguments of a window, each an int or a pair, as pairs. Raises ShapeError, which says whose they are."""
    return (
        pair(kernel_size, f"{name}: kernel_size", 1),
        pair(stride, f"{name}: stride", 1),
        pair(padding, f"{name}: padding", 0),
        pair(dilation, f"{name}: dilation", 1),
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def positive(value: Any, name: str) -> int:
    """A whole number >= 1. Raises ShapeError."""
    if not _is_whole(value) or value < 1:
        raise ShapeError(f"{name}: expected an int >= 1, received {value!r}")
    return int(value)


def image_shape(layer: object, input_shape: Shape, channels: int | None = None) -> Shape:
    """`input_shape` if it is (C, H, W) with the right number of channels. Raises ShapeError."""
    wanted = f"({channels or 'C'}, H, W)"
    if len(input_shape) != 3 or (channels is not None and input_shape[0] != channels):
        raise ShapeError(f"{layer!r}: expected an input of {wanted} a sample, received {input_shape}")
    return input_shape


def output_size(place: str, input_size: Pair, window: Window) -> Pair:
    """(OH, OW) of a convolution's output. Raises ShapeError, which names the `place`, where no window fits."""
    sizes = []
    for n, k, s, p, d in zip(input_size, *window, strict=True):
        size = (n + 2 * p - d * (k - 1) - 1) // s + 1
        if size < 1:
            raise ShapeError(
                f"{place}: expected an input (with padding) at least as large as the kernel, "
                f"{d * (k - 1) + 1}, received {n} + 2 * {p}"
            )
        sizes.append(size)
    return sizes[0], sizes[1]
