"""Between NumPy's layout, one sample after the other, and the lane layout (blocks, features, LANES)."""

from numba import prange

from .jit import parallel_kernel
from .simd import LANES, fma, load, splat, sum_lanes
from .tile import fill_tile, load_images, load_tile, outer, store_tile, transpose

# A tile of LANES samples x LANES features is transposed in registers.


@parallel_kernel
def pack(x, lanes, finite):
    """lanes[b, f, l] = x[b LANES + l, f], zero beyond the last sample.

    finite[b] says whether block b holds neither NaN nor infinity.
    """
    samples, features = x.shape
    flat = x.ravel()
    for b in prange(lanes.shape[0]):
        first = b * LANES
        count = min(LANES, samples - first)
        whole = features // LANES * LANES if count == LANES else 0
        nothing = fill_tile(x, 0.0, 1)
        check = fill_tile(x, 0.0, LANES)
        for f in range(0, whole, LANES):
            tile = transpose(load_tile(flat, first * features + f, features, LANES))
            store_tile(lanes, (b * features + f) * LANES, LANES, LANES, tile, 1)
            check = outer(check, nothing, tile)  # NaN and infinity times zero give NaN
        total = splat(x, 0.0)
        for f in range(whole, features):
            for lane in range(LANES):
                lanes[b, f, lane] = x[first + lane, f] if lane < count else 0.0
            total = fma(load(lanes, (b * features + f) * LANES), 0.0, total)
        for n in range(LANES):
            total = total + check[n]
        finite[b] = sum_lanes(total) == 0.0


@parallel_kernel
def unpack(lanes, x):
    """x[b LANES + l, f] = lanes[b, f, l] for as many samples as x has; its rows may be longer."""
    blocks, features, _ = lanes.shape
    samples, row = x.shape
    for b in prange(blocks):
        first = b * LANES
        count = min(LANES, samples - first)
        whole = features // LANES * LANES if count == LANES else 0
        for f in range(0, whole, LANES):
            tile = load_tile(lanes, (b * features + f) * LANES, LANES, LANES)
            store_tile(x, first * row + f, row, 0, transpose(tile), LANES)
        for f in range(whole, features):
            for lane in range(count):
                x[first + lane, f] = lanes[b, f, lane]


@parallel_kernel
def gather(images, order, first, scale, shift, lanes):
    """lanes[b, c, k, l] = images[order[first + b LANES + l], c, k] * scale[c] + shift[c]

    for bytes `images` of shape (samples, channels, pixels); each lane must have its entry in `order`.
    """
    _, channels, pixels = images.shape
    size = channels * pixels
    whole = pixels // LANES * LANES
    for b in prange(lanes.shape[0]):
        start = first + b * LANES
        for c in range(channels):
            factor = fill_tile(lanes, scale[c], 1)
            for k in range(0, whole, LANES):
                raw = transpose(load_images(images, order, start, size, c * pixels + k, lanes))
                tile = outer(fill_tile(lanes, shift[c], LANES), factor, raw)
                store_tile(lanes, ((b * channels + c) * pixels + k) * LANES, LANES, LANES, tile, 1)
            for k in range(whole, pixels):
                for lane in range(LANES):
                    lanes[b, c, k, lane] = images[order[start + lane], c, k] * scale[c] + shift[c]
