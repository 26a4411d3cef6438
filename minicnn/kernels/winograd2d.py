"""Minimal filtering in both directions, for kernels of 3 x 3 that move by one.

The formulas of `winograd` along rows and along columns, one within the other, with * element by element:

    y = A^T (G g G^T * B^T x B) A    dg = G^T (A dy A^T * B^T x B) G    dx = B (G g G^T * A dy A^T) B^T

A tile of m x m outputs takes n x n multiplications instead of m m r r: 36 instead of 144 for r = 3. Summed over
channels, the middle is a matrix product for each of the n x n points, with tiles as columns. Rounding errors are about
four times those of a plain sum.

Maps "at the points" are (bands, n n, plane): a band is some rows of tiles, a plane (maps, tiles of the band), and more
if need be. Between the two directions a tile lies in `space`, n x n vectors that stay in the first-level cache.

Source: Lavin and Gray, Fast algorithms for convolutional neural networks (2016), section 4.1.
"""

from typing import Any

from minicnn.kernels import LANES

from .points import OUTPUTS, matrices, points
from .tiles import add_tiles, fill_tile, load_tile, outer, splat_tile, store_tile
from .vectors import load, pick, splat, store
from .winograd import load_columns, load_scattered, multiply, repeat, store_columns


def to_points(name: str, taps: int) -> Any:
    """The kernel for B^T x B, of tiles of n x n, or A dy A^T, of m x m; both move by m."""
    n, step = points(taps), OUTPUTS[taps]
    size = matrices(taps)[name].shape[1]

    def kernel(task, x, y, space, height, width, top, left, bands, rows, columns, plane):
        """y[b, p n + q, c, t] = element (p, q) of B^T x B, with the window of tile t in x[c] for x, and c = task.

        Tile t of band b is number (b rows + t // columns, t % columns), and its window begins at m times that, less
        (top, left). x is zero beyond its edge. Before that, space[k, q] = row k of the window times B, likewise A^T.
        """
        for i in range(bands * rows):
            for j in range(columns):
                first = j * step - left
                inside = first >= 0 and first + size <= width
                for k in range(size):
                    row = i * step - top + k
                    if row < 0 or row >= height:
                        tile = fill_tile(space, 0.0, n)
                    elif inside:
                        tile = load_tile(x, ((task * height + row) * width + first) * LANES, LANES, size)
                        tile = multiply(name, taps, tile)
                    else:
                        tile = load_columns(x, (task * height + row) * width * LANES, first, width, size)
                        tile = multiply(name, taps, tile)
                    store_tile(space, k * n * LANES, LANES, 0, tile, n)
                t = i % rows * columns + j
                at = (i // rows * n * n * plane + task * rows * columns + t) * LANES
                for q in range(n):
                    tile = multiply(name, taps, load_tile(space, q * LANES, n * LANES, size))
                    store_tile(y, at + q * plane * LANES, n * plane * LANES, 0, tile, n)

    return kernel


def outputs(taps: int) -> Any:
    """The kernel for y = A^T v A + bias."""
    n, step = points(taps), OUTPUTS[taps]

    def kernel(task, v, bias, y, space, has_bias, maps, height, width, first, rows, columns):
        """y[o, m i + k, m j + l] = element (k, l) of A^T v[:, o, t] A + bias[o] for o = task and all tiles t of a band.

        Tile t is number (i, j) = (first + t // columns, t % columns). Before that, space[k, q] = row k of A^T v.
        """
        level = splat_tile(bias, task, 1, 1)[0] if has_bias else splat(y, 0.0)
        tiles = rows * columns
        between = maps * tiles * LANES
        for t in range(tiles):
            row = (first + t // columns) * step
            for q in range(n):
                tile = load_tile(v, (task * tiles + t) * LANES + q * between, n * between, n)
                store_tile(space, q * LANES, n * LANES, 0, multiply("AT", taps, tile), step)
            for k in range(min(step, height - row)):
                tile = multiply("AT", taps, load_tile(space, k * n * LANES, LANES, n))
                at = (task * height + row + k) * width * LANES
                store_columns(y, at, t % columns * step, width, add_tiles(tile, repeat(level, step)))

    return kernel


def inputs(taps: int) -> Any:
    """The kernel for dx = B dv B^T, where tiles are added that overlap."""
    n, step = points(taps), OUTPUTS[taps]

    def kernel(task, dv, dx, space, maps, height, width, top, left, first, rows, columns):
        """dx[c, m i + k - top, m j + l - left] (+)= element (k, l) of B dv[:, c, t] B^T for c = task, tiles as above.

        For the first band, dx[c] = 0 at first. Before that, space[k, q] = row k of B dv.
        """
        tiles = rows * columns
        between = maps * tiles * LANES
        if first == 0:
            for at in range(task * height * width, (task + 1) * height * width):
                store(dx, at * LANES, splat(dx, 0.0))
        for t in range(tiles):
            row, column = (first + t // columns) * step - top, t % columns * step - left
            inside = column >= 0 and column + n <= width
            for q in range(n):
                tile = load_tile(dv, (task * tiles + t) * LANES + q * between, n * between, n)
                store_tile(space, q * LANES, n * LANES, 0, multiply("B", taps, tile), n)
            for k in range(max(0, -row), min(n, height - row)):
                tile = multiply("B", taps, load_tile(space, k * n * LANES, LANES, n))
                at = (task * height + row + k) * width * LANES
                if inside:
                    tile = add_tiles(tile, load_tile(dx, at + column * LANES, LANES, n))
                    store_tile(dx, at + column * LANES, LANES, 0, tile, n)
                else:
                    tile = add_tiles(tile, load_columns(dx, at, column, width, n))
                    store_columns(dx, at, column, width, tile)

    return kernel


def weights_to_points(taps: int) -> Any:
    """The kernel for G g G^T."""
    n = points(taps)

    def kernel(task, weight, starts, g, u, count):
        """u[p n + q, k] = sum over r, v of g[p, r] g[q, v] weight[starts[k] + r taps + v] for LANES of the `count` k.

        It is 0 where starts[k] < 0. Sums over v alone lie in the place of the first p meanwhile.
        """
        first = task * LANES
        for r in range(taps):
            tile = fill_tile(u, 0.0, n)
            for v in range(taps):
                row = load_scattered(weight, starts, first, r * taps + v)
                tile = outer(tile, splat_tile(g, v, taps, n), repeat(row, 1))
            store_tile(u, r * n * count + first, count, 0, tile, n)
        for q in range(n):
            tile = fill_tile(u, 0.0, n)
            for r in range(taps):
                tile = outer(tile, splat_tile(g, r, taps, n), repeat(load(u, (r * n + q) * count + first), 1))
            store_tile(u, q * count + first, n * count, 0, tile, n)

    return kernel


def weights_from_points(taps: int) -> Any:
    """The kernel for dg = G^T du G."""
    n = points(taps)

    def kernel(task, du, starts, g, dweight, space, count, plane):
        """dweight[starts[k] + r taps + v] = sum over p, q of g[p, r] g[q, v] du[p n + q, k].

        For the LANES k from task LANES on, except where starts[k] < 0. Before that, space[r, q] = the sum over p alone.
        """
        first = min(task * LANES, count - LANES) if count >= LANES else 0
        for q in range(n):
            tile = fill_tile(du, 0.0, taps)
            for p in range(n):
                row = load(du, (p * n + q) * plane + first)
                tile = outer(tile, repeat(row, 1), splat_tile(g, p * taps, 1, taps))
            store_tile(space, q * LANES, n * LANES, 0, tile, taps)
        for r in range(taps):
            tile = fill_tile(du, 0.0, taps)
            for q in range(n):
                tile = outer(tile, repeat(load(space, (r * n + q) * LANES), 1), splat_tile(g, q * taps, 1, taps))
            for lane in range(min(LANES, count)):
                start = starts[first + lane]
                if start >= 0:
                    for v in range(taps):
                        dweight[start + r * taps + v] = pick(tile[v], lane)

    return kernel
