"""The passes of a convolution with fewer multiplications (see `kernels.winograd`), where that is faster."""

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.kernels import conv
from minicnn.kernels import winograd as kernels
from minicnn.kernels.tile import TILE, choose_tile
from minicnn.kernels.vector import LANES

from .base import Array, Call, Shape, bias_arrays

if TYPE_CHECKING:
    from .conv import Conv2d


def pays(layer: "Conv2d", x_shape: Shape, y_shape: Shape) -> bool:
    """Whether `forward` can be used, and saves more multiplications than the way to the points and back costs."""
    rows, taps = layer.kernel_size
    edge = rows - 1 - layer.padding[0]
    if taps not in kernels.OUTPUTS or layer.stride != (1, 1) or layer.dilation != (1, 1):
        return False
    possible = 0 <= edge <= TILE and x_shape[1] > 2 * edge
    return possible and _saved(layer, x_shape, y_shape) > 4  # measured


def backward_pays(layer: "Conv2d", x_shape: Shape, y_shape: Shape) -> bool:
    """The same for `backward`, after such a forward pass."""
    return _saved(layer, x_shape, y_shape) > 9  # measured


def _saved(layer: "Conv2d", x_shape: Shape, y_shape: Shape) -> float:
    """Multiplications saved in a pass for each vector that goes to the points or comes from there."""
    (channels, height, _), (outs, out_rows, width) = x_shape, y_shape
    rows, taps = layer.kernel_size
    vectors = kernels.points(taps) * -(-width // kernels.OUTPUTS[taps])  # of a row
    saved = outs * (channels // layer.groups) * rows * out_rows * (taps * width - vectors)
    return saved / (vectors * (channels * height + outs * out_rows))


@cache
def _vectors(taps: int, dtype: np.dtype[Any], transposed: bool) -> Array:
    """The columns of G, or its rows, as (parts, their number, LANES), filled up with zeros."""
    g = kernels.matrices(taps)["G"]
    g = g if transposed else g.T
    parts = -(-g.shape[1] // LANES)
    padded = np.pad(g, ((0, 0), (0, parts * LANES - g.shape[1])))
    vectors = padded.reshape(len(g), parts, LANES).swapaxes(0, 1)
    return np.ascontiguousarray(vectors, dtype)


def forward(layer: "Conv2d", x: Array, y: Array) -> tuple[tuple[Array, Array], list[Call]]:
    """The kernel calls that write y, and what `backward` takes as `kept`: x and the weights, both at the points."""
    rows, taps = layer.kernel_size
    n, tiles, top = kernels.points(taps), -(-y.shape[3] // kernels.OUTPUTS[taps]), layer.padding[0]
    outs, channels = layer.out_channels, layer.in_channels // layer.groups
    group_outs = outs // layer.groups

    u = layer._buffer("u", (n, outs * channels * rows), x.dtype)
    shape = (len(x), n * layer.in_channels, tiles, x.shape[2] + 2 * top, LANES)
    x_at_points = layer._buffer("x at points", shape, x.dtype)
    rows_of_tile, columns = choose_tile(group_outs, y.shape[2])
    arguments = (
        x_at_points,
        u.ravel(),
        bias_arrays(layer.bias, x.dtype)[0],
        y,
        layer._buffer("room", (kernels.room(taps, rows_of_tile * columns), LANES), x.dtype),
        layer.groups,
    )
    weight = layer.weight.value.reshape(-1, taps)
    return (x_at_points, u), [
        (kernels.weights_to_points, (weight, _vectors(taps, x.dtype, False), u)),
        (kernels.to_points("BT", taps), (x, x_at_points, layer.padding[1], top)),
        (kernels.outputs(taps, rows_of_tile, columns), arguments),
    ]


def backward(layer: "Conv2d", kept: tuple[Array, Array], dy: Array, dx: Array | None) -> list[Call]:
    """The kernel calls that write the gradients of the parameters, and dx unless it is None."""
    x_at_points, u = kept
    rows, taps = layer.kernel_size
    n, tiles, edge = kernels.points(taps), x_at_points.shape[2], rows - 1 - layer.padding[0]
    outs, channels = layer.out_channels, layer.in_channels // layer.groups
    groups, group_outs = n * layer.groups, outs // layer.groups

    shape = (len(dy), n * outs, tiles, dy.shape[2], LANES)
    dy_at_points = layer._buffer("y at points", shape, dy.dtype)
    du = layer._buffer("du", (n * outs, channels, 1, rows), dy.dtype)
    height, columns = choose_tile(group_outs, min(rows, LANES))
    sums = layer._buffer("sums", (conv.gradient_room(height, columns, 1, rows), LANES), dy.dtype)
    no_bias = np.empty(0, dy.dtype)
    du_arguments = (x_at_points, dy_at_points, du, no_bias, sums, groups, (1, 1, 0))
    gradients = (
        du.reshape(n, outs, channels * rows),
        _vectors(taps, dy.dtype, True),
        layer.weight.grad.reshape(outs, channels * rows, taps),
        dy,
        bias_arrays(layer.bias, dy.dtype)[1],
    )
    calls: list[Call] = [
        (kernels.to_points("A", taps), (dy, dy_at_points, 0, 0)),
        (conv.weight_gradient(height, columns, 1, 1), du_arguments),
        (kernels.weights_from_points, gradients),
    ]
    if dx is None:
        return calls

    shape = (len(dx), n * layer.in_channels, tiles, dx.shape[2], LANES)
    dx_at_points = layer._buffer("dx at points", shape, dy.dtype)
    height, columns = choose_tile(channels, dx.shape[2] - 2 * edge, TILE // max(1, edge))
    arguments = (
        dy_at_points,
        u.ravel(),
        no_bias,
        dx_at_points,
        (groups, group_outs, 1, rows),
        (1, 1, 0),
        1,
        # Read from its last element backwards, the kernel is turned round.
        (rows - 1, group_outs * channels * rows, rows, channels * rows, 0, -1),
    )
    return [
        *calls,
        (conv.correlate(height, columns, 1, edge, rows), arguments),
        (kernels.inputs_from_points(taps), (dx_at_points, dx, layer.padding[1])),
    ]
