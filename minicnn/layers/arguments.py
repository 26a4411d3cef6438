"""Checks of the arguments and inputs of layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn.engine.arrays import Shape
from minicnn.errors import ShapeError

Pair = tuple[int, int]
#: (kernel size, stride, padding, dilation), each for rows and columns. The padding is that above and to the left.
Window = tuple[Pair, Pair, Pair, Pair]
#: (top, bottom, left, right)
Sides = tuple[int, int, int, int]
#: What the argument may be: a number, a pair, Sides, or "same".
Padding = int | Sequence[int] | str


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


def check_window(
    name: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> tuple[Pair, Pair, Pair | Sides, Pair]:
    """The arguments of a window, each an int or a pair, as pairs. Raises ShapeError, which says whose they are.

    padding may have four numbers, or be "same": as much as lets an output of stride 1 have the size of its input; of an
    odd number of rows or columns one more is at the end, as in PyTorch.
    """
    kernel, strides = pair(kernel_size, f"{name}: kernel_size", 1), pair(stride, f"{name}: stride", 1)
    dilations = pair(dilation, f"{name}: dilation", 1)
    sides = padding
    if isinstance(padding, str) and padding == "same":
        if strides != (1, 1):
            raise ShapeError(f'{name}: padding: expected numbers with stride {strides}, received "same"')
        rows, columns = (d * (k - 1) for k, d in zip(kernel, dilations, strict=True))
        sides = (rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)
    elif _is_whole(padding):
        sides = (padding,) * 4
    elif isinstance(padding, tuple | list) and len(padding) == 2:
        sides = (padding[0], padding[0], padding[1], padding[1])
    if not isinstance(sides, tuple | list) or len(sides) != 4 or not all(_is_whole(n) and n >= 0 for n in sides):
        raise ShapeError(
            f"{name}: padding: expected an int or a pair of ints >= 0, (top, bottom, left, right) or "
            f'"same", received {padding!r}'
        )
    top, bottom, left, right = map(int, sides)
    symmetric = (top, left) == (bottom, right)
    return kernel, strides, (top, left) if symmetric else (top, bottom, left, right), dilations


def begins(padding: Pair | Sides) -> Pair:
    """The padding above and to the left."""
    return padding if len(padding) == 2 else (padding[0], padding[2])


def ends(padding: Pair | Sides) -> Pair:
    """The padding below and to the right."""
    return padding if len(padding) == 2 else (padding[1], padding[3])


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


def output_size(place: str, input_size: Pair, window: Window, behind: Pair) -> Pair:
    """(OH, OW) of a convolution's output, with the padding `behind`, below and to the right.

    Raises ShapeError, which names the `place`, where no window fits.
    """
    sizes = []
    for n, k, s, p, d, q in zip(input_size, *window, behind, strict=True):
        size = (n + p + q - d * (k - 1) - 1) // s + 1
        if size < 1:
            around = f"2 * {p}" if p == q else f"{p} + {q}"
            raise ShapeError(
                f"{place}: expected an input (with padding) at least as large as the kernel, "
                f"{d * (k - 1) + 1}, received {n} + {around}"
            )
        sizes.append(size)
    return sizes[0], sizes[1]
