"""The passes of a convolution with fewer multiplications (see `kernels.winograd`), where that is faster."""

import math

import numpy as np

from minicnn.engine.arrays import Array, Shape
from minicnn.engine.cache import Kernel, Kernels
from minicnn.engine.memory import Map
from minicnn.engine.work import Work
from minicnn.kernels import LANES
from minicnn.kernels.points import OUTPUTS, matrices, points

from ..products import product
from .direct import Direct, Geometry, tap_gradient

kernels = Kernels("winograd")


def weights_at_points(
    work: Work, kernel: Kernel, weight: Array, starts: Array, taps: int, dimensions: int = 1
) -> Array:
    """The weights from each of `starts` on at all points, in that order: remade before each run."""
    # An odd number of vectors from one point to the next, as others would push each other out of the cache.
    count = LANES * (-(-starts.size // LANES) | 1)
    padded = np.full(count, -1)
    padded[: starts.size] = starts.ravel()
    u = work.shared(points(taps) ** dimensions * count)
    g = np.ascontiguousarray(matrices(taps)["G"], work.dtype)
    work.before(kernel, weight, padded, g, u, count, tasks=count // LANES, grain=8)
    return u


class Winograd(Direct):
    """A convolution of one map, and its gradients, each a product for every point."""

    @classmethod
    def cost(cls, geometry: Geometry, x_shape: Shape, y_shape: Shape) -> float:
        (rows, taps), stride, padding, dilation = geometry.window
        if taps not in OUTPUTS or not stride == dilation == (1, 1) or max(padding[0], geometry.ends[0]) >= rows:
            return math.inf
        (channels, height, _), (outs, out_rows, width) = x_shape, y_shape
        vectors = points(taps) * -(-width // OUTPUTS[taps])  # of a row
        products = vectors * outs * channels // geometry.groups * rows * out_rows
        return products + 8 * vectors * (channels * height + outs * out_rows)  # measured

    def __init__(self, work: Work, geometry: Geometry, weight: Array, numbers: Array | None = None) -> None:
        super().__init__(work, geometry, weight, numbers)
        self._taps = geometry.window[0][1]
        self._g = np.ascontiguousarray(matrices(self._taps)["G"], work.dtype)
        #: Where each kernel row begins in the weight: (groups, outs, channels, kernel rows), of a group.
        outs, groups = geometry.outs, geometry.groups
        shape = (groups, outs // groups, geometry.channels // groups, geometry.window[0][0])
        self._starts = np.ascontiguousarray(self.numbers[..., 0]).reshape(shape)

    def forward(self, x: Map, bias: Array | None, y: Map) -> None:
        outs, channels, (kernel, _, padding, _), ends, groups = self.geometry
        n, step = points(self._taps), OUTPUTS[self._taps]
        _, height, width = x.shape
        _, out_rows, out_columns = y.shape
        self._tiles = tiles = -(-out_columns // step)
        rows = height + padding[0] + ends[0]
        self._points = at_points = self.work.map((tiles, n, channels, rows))
        size = (channels, height, width, padding[1], tiles, padding[0], rows)
        self.work.call(kernels.to_points("BT", self._taps), x, at_points, *size, tasks=channels)
        # (group, k = (channel, kernel row), out)
        u = self._weights(self._starts.transpose(0, 2, 3, 1))
        table = self._table_of(channels // groups, rows, range(kernel[0]))
        v = self.work.scratch((n, outs, out_rows))
        for t in range(tiles):
            self._products(at_points, t, u, table, v, channels, outs, rows, out_rows)
            rest = (bias is not None, outs, out_rows, out_columns, t * step)
            given = self.weight if bias is None else bias
            self.work.call(kernels.outputs(self._taps), v, given, y, *map(int, rest), tasks=outs)

    def _weights(self, starts: Array) -> Array:
        return weights_at_points(self.work, kernels.weights_to_points(self._taps), self.weight, starts, self._taps)

    def _table_of(self, maps: int, rows: int, order: range) -> Array:
        """Where the vectors of k = (map, kernel row) lie in a map at a point; kernel rows in that order."""
        return np.array([(c * rows + k) * LANES for c in range(maps) for k in order])

    def _products(
        self, x: Map, tile: int, u: Array, table: Array, y: Map, maps: int, outs: int, rows: int, out_rows: int
    ) -> None:
        """y[p, o, i] = sum over k of u[p, k, o] x[tile, p, k, i], for all points p."""
        n, groups = points(self._taps), self.geometry.groups
        group_outs, group_maps, size = outs // groups, maps // groups, u.size // n
        panels = [
            (
                ((tile * n + p) * maps + g * group_maps) * rows * LANES,
                p * size + g * len(table) * group_outs,
                (p * outs + g * group_outs) * out_rows * LANES,
                -1,
                0,
                len(table),
            )
            for p in range(n)
            for g in range(groups)
        ]
        sizes = {"outs": group_outs, "width": out_rows, "y_row": out_rows * LANES}
        product(self.work.call, x, u, None, y, panels, table, **sizes)

    def _gradient_at_points(self, dy: Map) -> Map:
        """A dy"""
        outs, rows, columns = dy.shape
        at_points = self.work.map((self._tiles, points(self._taps), outs, rows))
        size = (outs, rows, columns, 0, self._tiles, 0, rows)
        self.work.call(kernels.to_points("A", self._taps), dy, at_points, *size, tasks=outs)
        self._dy_points = at_points
        return at_points

    def weight_gradient(self, dy: Map, dweight: Array) -> None:
        outs, channels, (kernel, *_), _, groups = self.geometry
        n, (_, out_rows, _) = points(self._taps), dy.shape
        at_points, x_rows = self._gradient_at_points(dy), self._points.shape[3]
        group_outs, group_channels = outs // groups, channels // groups
        taps = group_channels * kernel[0]
        table = self._table_of(group_channels, x_rows, range(kernel[0]))
        panels = [
            (
                (p * outs + g * group_outs) * out_rows * LANES,
                (p * channels + g * group_channels) * x_rows * LANES,
                (p * groups + g) * group_outs * taps,
            )
            for p in range(n)
            for g in range(groups)
        ]
        count = outs * taps
        sums = self.work.numbers(n * count)
        dy_steps = (out_rows * LANES, self._tiles, out_rows, n * outs * out_rows * LANES)
        x_steps = (n * channels * x_rows * LANES, LANES)
        tap_gradient(self.work.call, at_points, self._points, sums, panels, table, group_outs, *dy_steps, *x_steps)
        starts = np.ascontiguousarray(self._starts.ravel(), np.int64)
        rest = (count, n * count, self.work.blocks)
        kernel_of = kernels.weights_from_points(self._taps)
        self.work.after(kernel_of, sums, starts, self._g, dweight, *rest, tasks=-(-count // LANES), grain=4)

    def input_gradient(self, dy: Map, dx: Map) -> None:
        outs, channels, (kernel, _, padding, _), _, groups = self.geometry
        n, step = points(self._taps), OUTPUTS[self._taps]
        _, height, width = dx.shape
        _, out_rows, _ = dy.shape
        group_outs, group_channels = outs // groups, channels // groups
        # (group, k = (kernel row, out), channel); row h of dx meets row h + padding - kernel row of dy, if it exists.
        u = self._weights(self._starts.transpose(0, 3, 1, 2))
        size, group_size = u.size // n, kernel[0] * group_outs * group_channels
        table = np.array([(o * out_rows - k) * LANES for k in range(kernel[0]) for o in range(group_outs)])
        dv = self.work.scratch((n, channels, height))
        for t in range(self._tiles):
            panels = []
            for p, g, h in np.ndindex(n, groups, height):
                row = h + padding[0]
                first, last = max(0, row - out_rows + 1), min(kernel[0], row + 1)
                panels.append(
                    (
                        (((t * n + p) * outs + g * group_outs) * out_rows + row) * LANES,
                        p * size + g * group_size,
                        ((p * channels + g * group_channels) * height + h) * LANES,
                        -1,
                        first * group_outs,
                        max(first, last) * group_outs,
                    )
                )
            sizes = {"outs": group_channels, "y_row": height * LANES}
            product(self.work.call, self._dy_points, u, None, dv, panels, table, **sizes)
            rest = (channels, height, width, t * step - padding[1], int(t > 0))
            self.work.call(kernels.inputs(self._taps), dv, dx, *rest, tasks=channels)
