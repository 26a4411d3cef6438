"""The passes of a convolution as its formulas say them, for any stride, padding, dilation and groups."""

from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.kernels import conv as kernels
from minicnn.kernels.tile import TILE, choose_tile
from minicnn.kernels.vector import LANES

from .base import Array, Call, Shape, bias_arrays

if TYPE_CHECKING:
    from .conv import Conv2d


def forward(layer: "Conv2d", x: Array, y: Array) -> list[Call]:
    """The kernel calls that write y."""
    (kernel_rows, kernel_columns), groups = layer.kernel_size, layer.groups
    x, calls = _padded(layer, x)
    channels, taps = layer.in_channels // groups, kernel_rows * kernel_columns
    out_step = channels * taps
    group_outs = layer.out_channels // groups
    arguments = (
        x,
        layer.weight.value.ravel(),
        bias_arrays(layer.bias, x.dtype)[0],
        y,
        (groups, channels, kernel_rows, kernel_columns),
        (layer.stride[0], layer.dilation[0], layer.padding[0]),
        layer.dilation[1],
        (0, group_outs * out_step, out_step, taps, kernel_columns, 1),
    )
    kernel = kernels.correlate(*choose_tile(group_outs, y.shape[3]), layer.stride[1])
    return [*calls, (kernel, arguments)]


def backward(layer: "Conv2d", x: Array, padded: bool, dy: Array, dx: Array | None) -> list[Call]:
    """The kernel calls that write the gradients of the parameters, and dx unless it is None.

    `padded` says that `forward` was used, too, so that x with padded columns exists.
    """
    (kernel_rows, kernel_columns), groups = layer.kernel_size, layer.groups
    channels, group_outs = layer.in_channels // groups, layer.out_channels // groups

    rows, columns = choose_tile(group_outs, min(kernel_columns, LANES))
    room = kernels.gradient_room(rows, columns, kernel_rows, kernel_columns)
    x, padding = _padded(layer, x)
    arguments: tuple[Any, ...] = (
        x,
        dy,
        layer.weight.grad,
        bias_arrays(layer.bias, dy.dtype)[1],
        layer._buffer("sums", (room, LANES), dy.dtype),
        groups,
        (layer.stride[0], layer.dilation[0], layer.padding[0]),
    )
    kernel = kernels.weight_gradient(rows, columns, layer.stride[1], layer.dilation[1])
    calls: list[Call] = [*([] if padded else padding), (kernel, arguments)]
    if dx is None:
        return calls

    reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    left = reach[1] - layer.padding[1]
    width = dx.shape[3] + reach[1]
    if _edges_pay(layer, left, dx.shape[3]):
        rows, columns = choose_tile(channels, dx.shape[3] - 2 * left, TILE // left)
        kernel = kernels.correlate(rows, columns, 1, left, kernel_columns)
    else:
        kernel = kernels.correlate(*choose_tile(channels, dx.shape[3]), 1)
        if left or layer.stride != (1, 1) or width != dy.shape[3]:
            height = (dy.shape[2] - 1) * layer.stride[0] + 1
            shape = (*dy.shape[:2], height, width, LANES)
            dy = _spread(layer, "spread dy", dy, shape, layer.stride, left, calls)
    taps = kernel_rows * kernel_columns
    arguments = (
        dy,
        layer.weight.value.ravel(),
        np.empty(0, dy.dtype),
        dx,
        (groups, group_outs, kernel_rows, kernel_columns),
        (1, layer.dilation[0], reach[0] - layer.padding[0]),
        layer.dilation[1],
        # Read from its last element backwards, the kernel is turned by 180 degrees.
        (taps - 1, group_outs * channels * taps, taps, channels * taps, -kernel_columns, -1),
    )
    return [*calls, (kernel, arguments)]


def _edges_pay(layer: "Conv2d", edge: int, width: int) -> bool:
    """Whether dx is faster with tiles of their own for its `edge` outer columns than with zeros around dy."""
    taps = layer.kernel_size[1]
    possible = layer.stride == (1, 1) and layer.dilation[1] == 1 and 0 < edge <= TILE
    return possible and width > 2 * edge and edge * (edge + 1) > 0.15 * width * taps


def _padded(layer: "Conv2d", x: Array) -> tuple[Array, list[Call]]:
    """x with columns of zeros, and the kernel calls that make it so."""
    left, calls = layer.padding[1], list[Call]()
    if left:
        padded = (*x.shape[:3], x.shape[3] + 2 * left, LANES)
        x = _spread(layer, "padded x", x, padded, (1, 1), left, calls)
    return x, calls


def _spread(
    layer: "Conv2d",
    name: str,
    x: Array,
    shape: Shape,
    steps: tuple[int, int],
    left: int,
    calls: list[Call],
) -> Array:
    spread = layer._buffer(name, shape, x.dtype)
    calls.append((kernels.spread_columns, (x, spread, *steps, left)))
    return spread
