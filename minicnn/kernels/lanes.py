"""Between NumPy's layout, one image after the other, and the lane layout (features, LANES) of a block.

A tile of LANES images x LANES features is transposed in registers.
"""

from minicnn.kernels import LANES

from .tiles import fill_tile, load_images, load_pixels, load_tile, outer, store_tile, transpose


def pack(task, x, lanes, features, remaining):
    """lanes[f, l] = x[l, f], zero beyond the `remaining` images."""
    count = min(LANES, remaining)
    whole = features // LANES * LANES if count == LANES else 0
    for f in range(0, whole, LANES):
        tile = transpose(load_tile(x, f, features, LANES))
        store_tile(lanes, f * LANES, LANES, LANES, tile, 1)
    for f in range(whole, features):
        for lane in range(LANES):
            lanes[f * LANES + lane] = x[lane * features + f] if lane < count else 0.0


def unpack(task, lanes, x, features, row, remaining):
    """x[l, f] = lanes[f, l] for the `remaining` images; the rows of x have `row` elements."""
    count = min(LANES, remaining)
    whole = features // LANES * LANES if count == LANES else 0
    for f in range(0, whole, LANES):
        tile = transpose(load_tile(lanes, f * LANES, LANES, LANES))
        store_tile(x, f, row, 0, tile, LANES)
    for f in range(whole, features):
        for lane in range(count):
            x[lane * row + f] = lanes[f * LANES + lane]


def gather(task, images, order, lanes, channels, pixels, scale, shift):
    """lanes[c, k, l] = images[order[l], c, k] scale[c] + shift[c] for bytes `images`."""
    size = channels * pixels
    whole = pixels // LANES * LANES
    for c in range(channels):
        factor = fill_tile(lanes, scale[c], 1)
        for k in range(0, whole, LANES):
            raw = transpose(load_images(images, order, 0, size, c * pixels + k, lanes))
            tile = outer(fill_tile(lanes, shift[c], LANES), factor, raw)
            store_tile(lanes, (c * pixels + k) * LANES, LANES, LANES, tile, 1)
        for k in range(whole, pixels):
            tile = load_pixels(images, order, size, c * pixels + k, lanes)
            tile = outer(fill_tile(lanes, shift[c], 1), factor, tile)
            store_tile(lanes, (c * pixels + k) * LANES, LANES, LANES, tile, 1)
