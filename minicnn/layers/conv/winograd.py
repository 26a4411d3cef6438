"""The passes of a convolution with fewer multiplications (see `kernels.winograd`), where that is faster."""

import numpy as np

from minicnn.engine.cache import Kernels
from minicnn.engine.program import Map, Work
from minicnn.kernels import LANES
from minicnn.kernels.points import OUTPUTS, matrices, points

from ..arguments import Shape
from ..parameter import Array
from ..products import product
from .direct import Direct, Geometry, declare_tap_gradient

kernels = Kernels("winograd")


def pays(geometry: Geometry, x_shape: Shape, y_shape: Shape) -> bool:
    """Whether it can be used, and saves more multiplications than the way to the points and back costs."""
    (rows, taps), stride, padding, dilation = geometry.window
    if taps not in OUTPUTS or stride != (1, 1) or dilation != (1, 1):
        return False
    return padding[0] < rows and _saved(geometry, x_shape, y_shape) > 4  # measured


def gradients_pay(geometry: Geometry, x_shape: Shape, y_shape: Shape) -> bool:
    """The same for the gradients, after such a forward pass."""
    return _saved(geometry, x_shape, y_shape) > 9  # measured


def _saved(geometry: Geometry, x_shape: Shape, y_shape: Shape) -> float:
    """Multiplications saved in a pass for each vector that goes to the points or comes from there."""
    (channels, height, _), (outs, out_rows, width) = x_shape, y_shape
    rows, taps = geometry.window[0]
    vectors = points(taps) * -(-width // OUTPUTS[taps])  # of a row
    saved = outs * (channels // geometry.groups) * rows * out_rows * (taps * width - vectors)
    return saved / (vectors * (channels * height + outs * out_rows))


class Winograd(Direct):
    """A convolution of one map, and its gradients, each a product for every point."""

    def __init__(
        self, work: Work, geometry: Geometry, weight: Array, numbers: Array | None = None
    ) -> None:
        super().__init__(work, geometry, weight, numbers)
        self._taps = geometry.window[0][1]
        self._g = np.ascontiguousarray(matrices(self._taps)["G"], work.dtype)
        #: Where each kernel row begins in the weight: (groups, outs, channels, kernel rows), of a group.
        outs, groups = geometry.outs, geometry.groups
        shape = (groups, outs // groups, geometry.channels // groups, geometry.window[0][0])
        self._starts = np.ascontiguousarray(self.numbers[..., 0]).reshape(shape)

    def forward(self, x: Map, bias: Array | None, y: Map) -> None:
        outs, channels, (kernel, _, padding, _), groups = self.geometry
        n, step = points(self._taps), OUTPUTS[self._taps]
        _, height, width = x.shape
        _, out_rows, out_columns = y.shape
        self._tiles = tiles = -(-out_columns // step)
        rows = height + 2 * padding[0]
        self._x, self._pays = x, gradients_pay(self.geometry, x.shape, y.shape)
        self._points = at_points = self.work.map((tiles, n, channels, rows))
        size = (channels, height, width, padding[1], tiles, padding[0], rows)
        self.work.call(
            kernels.to_points("BT", self._taps), x, at_points, *size, tasks=channels
        )
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
        """The kernel rows at all points, in the order of `starts`: remade before each run."""
        starts = np.ascontiguousarray(starts.ravel(), np.int64)
        n = points(self._taps)
        u = self.work.shared(n * starts.size)
        arguments = (self.weight, starts, self._g, u, starts.size, self._taps)
        self.work.before(kernels.weights_to_points, *arguments, tasks=n)
        return u

    def _table_of(self, maps: int, rows: int, order: range) -> Array:
        """Where the vectors of k = (map, kernel row) lie in a map at a point; kernel rows in that order."""
        return np.array([(c * rows + k) * LANES for c in range(maps) for k in order])

    def _products(
        self,
        x: Map,
        tile: int,
        u: Array,
        table: Array,
        y: Map,
        maps: int,
        outs: int,
        rows: int,
        out_rows: int,
    ) -> None:
        """y[p, o, i] = sum over k of u[p, k, o] x[tile, p, k, i], for all points p."""
        n, groups = points(self._taps), self.geometry.groups
        group_outs, group_maps, size = outs // groups, maps // groups, u.size // points(self._taps)
        panels = [
            (
                ((tile * n + p) * maps + g * group_maps) * rows * LANES,
                p * size + g * (size // groups),
                (p * outs + g * group_outs) * out_rows * LANES,
                -1,
                0,
                len(table),
            )
            for p in range(n)
            for g in range(groups)
        ]
        steps = {"x_step": LANES, "y_row": out_rows * LANES, "y_step": LANES}
        sizes = {"outs": group_outs, "w_step": group_outs, "width": out_rows}
        product(self.work.call, x, u, None, y, panels, table, **sizes, **steps)

    def _gradient_at_points(self, dy: Map) -> tuple[Map, int]:
        """A dy, with as many rows of zeros above and below as the kernel can reach; and that number."""
        (kernel, *_), edge = self.geometry.window, self.geometry.window[0][0] - 1
        outs, out_rows, out_columns = dy.shape
        n, rows = points(self._taps), out_rows + 2 * edge
        at_points = self.work.map((self._tiles, n, outs, rows))
        size = (outs, out_rows, out_columns, 0, self._tiles, edge, rows)
        self.work.call(kernels.to_points("A", self._taps), dy, at_points, *size, tasks=outs)
        self._dy_points = at_points
        return at_points, edge

    def weight_gradient(self, dy: Map, dweight: Array) -> None:
        if not self._pays:
            # Both ways want x with its padding; only this one has it so.
            self.prepare(self._x)
            super().weight_gradient(dy, dweight)
            return
        outs, channels, (kernel, _, padding, _), groups = self.geometry
        n, (_, out_rows, _) = points(self._taps), dy.shape
        at_points, edge = self._gradient_at_points(dy)
        dy_rows, x_rows = out_rows + 2 * edge, self._points.shape[3]
        group_outs, group_channels = outs // groups, channels // groups
        taps = group_channels * kernel[0]
        table = self._table_of(group_channels, x_rows, range(kernel[0]))
        panels = [
            (
                ((p * outs + g * group_outs) * dy_rows + edge) * LANES,
                (p * channels + g * group_channels) * x_rows * LANES,
                (p * groups + g) * group_outs * taps,
            )
            for p in range(n)
            for g in range(groups)
        ]
        count = outs * taps
        sums = self.work.numbers(n * count)
        declare_tap_gradient(
            self.work,
            at_points,
            self._points,
            sums,
            panels,
            table,
            outs=group_outs,
            dy_map=dy_rows * LANES,
            height=self._tiles,
            width=out_rows,
            dy_line=n * outs * dy_rows * LANES,
            x_line=n * channels * x_rows * LANES,
            x_step=LANES,
        )
        starts = np.ascontiguousarray(self._starts.ravel(), np.int64)
        rest = (count, n * count, self.work.blocks)
        kernel_of = kernels.weights_from_points(self._taps)
        self.work.after(
            kernel_of, sums, starts, self._g, dweight, *rest, tasks=-(-count // LANES)
        )

    def input_gradient(self, dy: Map, dx: Map) -> None:
        if not self._pays:
            super().input_gradient(dy, dx)
            return
        outs, channels, (kernel, _, padding, _), groups = self.geometry
        n, step = points(self._taps), OUTPUTS[self._taps]
        _, height, width = dx.shape
        rows = self._dy_points.shape[3]
        # (group, k = (out, kernel row), channel); row h of dx meets row h + padding - kernel row of dy.
        u = self._weights(self._starts.transpose(0, 1, 3, 2))
        edge = kernel[0] - 1
        order = range(padding[0] + edge, padding[0] - 1, -1)
        table = self._table_of(outs // groups, rows, order)
        dv = self.work.scratch((n, channels, height))
        for t in range(self._tiles):
            self._products(self._dy_points, t, u, table, dv, outs, channels, rows, height)
            rest = (channels, height, width, t * step - padding[1], int(t > 0))
            self.work.call(kernels.inputs(self._taps), dv, dx, *rest, tasks=channels)
