"""The passes of a convolution with the fewest multiplications (see `kernels.winograd2d`), for kernels of 3 x 3."""

import math

import numpy as np

from minicnn.engine.arrays import Array, Shape
from minicnn.engine.cache import Kernels
from minicnn.engine.memory import Map
from minicnn.engine.work import Work
from minicnn.kernels import LANES
from minicnn.kernels.points import OUTPUTS, matrices, points

from ..products import product, sum_rows
from .direct import Direct, Geometry, tap_gradient
from .winograd import weights_at_points

kernels = Kernels("winograd2d")

TAPS = 3
N, STEP = points(TAPS), OUTPUTS[TAPS]
#: Bytes of a band's maps at the points at most, which are to stay in the second-level cache.
BAND = 1 << 19


class Winograd2d(Direct):
    """A convolution of one map, and its gradients, each a product for every one of N x N points."""

    @classmethod
    def cost(cls, geometry: Geometry, x_shape: Shape, y_shape: Shape) -> float:
        kernel, stride, padding, dilation = geometry.window
        fits = stride == dilation == (1, 1) and max(*padding, *geometry.ends) < TAPS
        if kernel != (TAPS, TAPS) or not fits:
            return math.inf
        _, height, width = y_shape
        tiles = N * N * -(-height // STEP) * -(-width // STEP)
        maps, kernels = geometry.channels + geometry.outs, geometry.outs * geometry.channels // geometry.groups
        return tiles * (kernels + 8 * maps) + 40 * kernels  # measured

    def __init__(self, work: Work, geometry: Geometry, weight: Array, numbers: Array | None = None) -> None:
        super().__init__(work, geometry, weight, numbers)
        self._g = np.ascontiguousarray(matrices(TAPS)["G"], work.dtype)
        #: Where each kernel begins in the weight: (groups, outs, channels), of a group.
        groups = geometry.groups
        starts = np.ascontiguousarray(self.numbers[:, :, 0, 0])
        self._starts = starts.reshape(groups, geometry.outs // groups, geometry.channels // groups)
        self._space = work.scratch((N * N,))

    def forward(self, x: Map, bias: Array | None, y: Map) -> None:
        outs, channels, *_ = self.geometry
        _, height, width = y.shape
        tile_rows, columns = -(-height // STEP), -(-width // STEP)
        size = N * N * max(outs, channels) * columns * LANES * self.work.dtype.itemsize
        rows = max((k for k in range(1, tile_rows + 1) if tile_rows % k == 0 and k * size <= BAND), default=1)
        self._bands, self._band = tile_rows // rows, (rows, columns)
        self._x = x
        # All points of a map are more than twice as much as the map. So they are kept only where they are needed again
        # and lie in memory of the thread, not of each block; else they are made band by band, and anew on the way back.
        self._x_points = self._points_of_x() if self.work.training and not self.work.keep else None
        # (group, channel, out)
        u = self._weights(self._starts.transpose(0, 2, 1))
        v = self.work.scratch((N * N, outs, rows * columns))
        for band in range(self._bands):
            points, place = (self._x_points, band) if self._x_points else (self._points_of_x(band), 0)
            self._products(points, place, u, channels, v, outs)
            rest = (bias is not None, outs, height, width, band * rows, rows, columns)
            given = self.weight if bias is None else bias
            self.work.call(kernels.outputs(TAPS), v, given, y, self._space, *map(int, rest), tasks=outs)

    def _points_of_x(self, band: int | None = None) -> Map:
        return self._to_points("BT", self._x, self.geometry.window[2], band)

    def _to_points(self, name: str, x: Map, before: tuple[int, int], band: int | None = None) -> Map:
        """x at the points, all of it or one band."""
        maps, *size = x.shape
        bands, (top, left) = self._bands, before
        if band is not None:
            bands, top = 1, top - band * self._band[0] * STEP
        at_points = (self.work.scratch if self.work.keep else self.work.map)((bands, N * N, self._plane(maps)))
        rest = (*size, top, left, bands, *self._band, self._plane(maps))
        self.work.call(kernels.to_points(name, TAPS), x, at_points, self._space, *rest, tasks=maps)
        return at_points

    def _plane(self, maps: int) -> int:
        """Vectors from one point to the next: an odd number, as those of a tile would be in a few places of the cache
        otherwise."""
        return maps * math.prod(self._band) | 1

    def _weights(self, starts: Array) -> Array:
        return weights_at_points(self.work, kernels.weights_to_points(TAPS), self.weight, starts, TAPS, 2)

    def _products(self, x: Map, band: int, u: Array, maps: int, y: Map, outs: int) -> None:
        """y[p, o, t] = sum over c of u[p, c, o] x[band, p, c, t], for all points p."""
        groups, tiles, plane = self.geometry.groups, math.prod(self._band), self._plane(maps)
        group_outs, group_maps, size = outs // groups, maps // groups, u.size // (N * N)
        panels = [
            (
                ((band * N * N + p) * plane + g * group_maps * tiles) * LANES,
                p * size + g * group_maps * group_outs,
                (p * outs + g * group_outs) * tiles * LANES,
                -1,
                0,
                group_maps,
            )
            for p in range(N * N)
            for g in range(groups)
        ]
        table = np.arange(group_maps) * tiles * LANES
        sizes = {"outs": group_outs, "width": tiles, "y_row": tiles * LANES}
        product(self.work.call, x, u, None, y, panels, table, **sizes)

    def weight_gradient(self, dy: Map, dweight: Array) -> None:
        outs, channels, _, _, groups = self.geometry
        self._dy_points = self._to_points("A", dy, (0, 0))
        x_points = self._x_points or self._points_of_x()
        tiles, dy_plane, x_plane = math.prod(self._band), self._plane(outs), self._plane(channels)
        group_outs, group_channels = outs // groups, channels // groups
        count = self._starts.size
        plane = LANES * (-(-count // LANES) | 1)
        panels = [
            (
                (p * dy_plane + g * group_outs * tiles) * LANES,
                (p * x_plane + g * group_channels * tiles) * LANES,
                p * plane + g * group_outs * group_channels,
            )
            for p in range(N * N)
            for g in range(groups)
        ]
        du = self.work.scratch((N * N * plane // LANES,))
        table = np.arange(group_channels) * tiles * LANES
        dy_steps = (tiles * LANES, self._bands, tiles, N * N * dy_plane * LANES)
        x_steps = (N * N * x_plane * LANES, LANES)
        tap_gradient(self.work.call, self._dy_points, x_points, du, panels, table, group_outs, *dy_steps, *x_steps)
        sums = self.work.numbers(dweight.size)
        starts = np.ascontiguousarray(self._starts.ravel(), np.int64)
        kernel, tasks = kernels.weights_from_points(TAPS), -(-count // LANES)
        self.work.call(kernel, du, starts, self._g, sums, self._space, count, plane, tasks=tasks)
        sum_rows(self.work, sums, dweight)

    def input_gradient(self, dy: Map, dx: Map) -> None:
        outs, channels, (_, _, padding, _), *_ = self.geometry
        _, height, width = dx.shape
        rows, columns = self._band
        # (group, out, channel)
        u = self._weights(self._starts)
        dv = self.work.scratch((N * N, channels, rows * columns))
        for band in range(self._bands):
            self._products(self._dy_points, band, u, outs, dv, channels)
            rest = (channels, height, width, *padding, band * rows, rows, columns)
            self.work.call(kernels.inputs(TAPS), dv, dx, self._space, *rest, tasks=channels)
