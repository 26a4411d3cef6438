"""Augmentation of byte images: each is moved by a random map of its own, which `minicnn.data.augmentation` describes.

The random numbers are those of SplitMix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators,
2014, figure 16), whose output number n is a hash of seed + n: no generator has a state. Each image has a seed that
follows from (run's seed, epoch, image) and each purpose its own n, so that a picture depends on nothing else.
"""

import math

import numpy as np

from minicnn.kernels import LANES, SMOOTHED

from .compile import inlined
from .tiles import fill_tile, load_tile, outer, splat_tile, store_tile
from .vectors import fma, load, store

#: Which random number of an image is for what; from NOISE on, one for each pixel. ERASE and GRAIN are seeds of more.
SHIFT_Y, SHIFT_X, ROTATION, SCALE, SHEAR, FLIP, CROP_Y, CROP_X, CUT_Y, CUT_X = range(10)
ERASE, BRIGHTNESS, CONTRAST, GRAIN = range(10, 14)
NOISE = 16

#: Of torchvision's RandomErasing: the share of the image, and the logarithm of height / width, between two ends, which
#: are those of 0.3 and 3.3.
AREA, ASPECT = (0.02, 0.33), (-1.2039728043259361, 1.1939224684724346)
ATTEMPTS = 10
#: What red, green and blue have in grey, in thousandths (ITU-R BT.601).
GREY = (299, 587, 114)

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@inlined
def bits(seed, n):
    """Output number n = 0, 1, 2, ... of SplitMix64 for a seed: 64 random bits."""
    z = seed + np.uint64(n + 1) * GOLDEN
    z = (z ^ (z >> np.uint64(30))) * MIX_1
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    return z ^ (z >> np.uint64(31))


@inlined
def _draw(key, n):
    """Random number n of an image, from 0 to below 1."""
    return np.float64(bits(key, n) >> np.uint64(11)) * 2.0**-53


@inlined
def _smooth(workspace, source, target, size, taps, count, step):
    """workspace[target + k] = sum over v of taps[v] workspace[source + k + (v - r) step] for k < size and some more."""
    r = count // 2
    for k in range(0, size, SMOOTHED * LANES):
        tile = fill_tile(workspace, 0.0, SMOOTHED)
        for v in range(count):
            x = load_tile(workspace, source + k + (v - r) * step, LANES, SMOOTHED)
            tile = outer(tile, splat_tile(taps, v, 1, 1), x)
        store_tile(workspace, target + k, LANES, LANES, tile, 1)


@inlined
def _draw_fields(workspace, size, seed, height, width, alpha, taps, count):
    """Both displacement fields in `workspace`; returns where their first pixels are.

    `workspace` has six fields of `size` elements: noise, rows smoothed, and both smoothed, each for down and right.
    A field lies in zeros: r rows above and below it, r columns behind each row, which are also those before the next.
    """
    r = count // 2
    row, next_pixel = width + r, 1
    start = r * row  # of the first pixel in its field
    for i in range(height):
        for j in range(width):
            z = bits(seed, NOISE + i * width + j)
            at = start + i * row + j
            workspace[at] = np.float32(np.int32(z >> np.uint64(32))) * (alpha * np.float32(2.0**-31))
            workspace[size + at] = np.float32(np.int32(z)) * (alpha * np.float32(2.0**-31))
    for field in range(2):
        noise, halfway = field * size + start, (2 + field) * size + start
        _smooth(workspace, noise, halfway, height * row, taps, count, row)
        _smooth(workspace, halfway, (4 + field) * size + start, height * row, taps, count, next_pixel)
    return 4 * size + start, 5 * size + start


@inlined
def _copy(images, image, out, to, channels, height, width, down, right, turned, fill):
    """out[c, i, j] = image[c, i + down, j + right], or of column W - 1 - j if turned; fill[c] from outside."""
    for c in range(channels):
        colour = fill[c]
        for i in range(height):
            for j in range(width):
                y, x = i + down, (width - 1 - j if turned else j) + right
                inside = 0 <= y < height and 0 <= x < width
                pixel = images[image + (c * height + y) * width + x] if inside else colour
                out[to + (c * height + i) * width + j] = pixel


@inlined
def _interpolate(
    images, image, out, to, channels, height, width, matrix, workspace, down_at, right_at, row, frame, fill
):
    """out[c, i, j] = image[c] at (y, x) = matrix (i, j, 1) + the fields there, bilinearly; fill[c] outside."""
    y_i, y_j, y_0, x_i, x_j, x_0 = matrix
    stride = width + 3
    for c in range(channels):
        # With a frame of that colour, no pixel has to be asked whether its four neighbours exist.
        colour = fill[c]
        for k in range((height + 3) * stride):
            frame[k] = colour
        for i in range(height):
            for j in range(width):
                pixel = images[image + (c * height + i) * width + j]
                frame[(i + 1) * stride + j + 1] = pixel
        for i in range(height):
            y_row, x_row = np.float32(y_i * i + y_0 + 1.0), np.float32(x_i * i + x_0 + 1.0)
            at = i * row
            for j in range(width):
                y = y_row + np.float32(y_j) * np.float32(j) + workspace[down_at + at + j]
                x = x_row + np.float32(x_j) * np.float32(j) + workspace[right_at + at + j]
                y = min(max(y, np.float32(0.0)), np.float32(height + 1))
                x = min(max(x, np.float32(0.0)), np.float32(width + 1))
                above, left = np.int32(y), np.int32(x)
                down, right = y - np.float32(above), x - np.float32(left)
                k = above * stride + left
                upper, lower = np.float32(frame[k]), np.float32(frame[k + stride])
                upper += right * (np.float32(frame[k + 1]) - upper)
                lower += right * (np.float32(frame[k + stride + 1]) - lower)
                value = np.uint8(upper + down * (lower - upper) + np.float32(0.5))
                out[to + (c * height + i) * width + j] = value


@inlined
def _sine(x):
    """sin(x) for |x| <= pi, as its Taylor series up to x^27: unlike the C library's, the same on every machine."""
    z, total = x * x, 1.0
    for k in range(13, 0, -1):
        total = 1.0 - total * z / (2 * k * (2 * k + 1))
    return x * total


@inlined
def _cosine(x):
    """cos(x) for |x| <= pi, likewise."""
    z, total = x * x, 1.0
    for k in range(14, 0, -1):
        total = 1.0 - total * z / ((2 * k - 1) * 2 * k)
    return total


@inlined
def _matrix(height, width, key, shift, rotation, scale, shear, down, right, turned):
    """(y_i, y_j, y_0, x_i, x_j, x_0): where in the image the pixel (i, j) comes from, by y = y_i i + y_j j + y_0.

    The inverse of: shear, scale and turn about the image's centre, then shift. Angles in radians.
    """
    angle = (2 * _draw(key, ROTATION) - 1) * rotation
    size = 1.0 / (1.0 + (2 * _draw(key, SCALE) - 1) * scale)
    lean = (2 * _draw(key, SHEAR) - 1) * shear
    slope = _sine(lean) / _cosine(lean)
    cos, sin = size * _cosine(angle), size * _sine(angle)
    y_i, y_j, x_i, x_j = cos, sin, -sin - slope * cos, cos - slope * sin
    i_0 = 0.5 * (height - 1) + (2 * _draw(key, SHIFT_Y) - 1) * shift
    j_0 = 0.5 * (width - 1) + (2 * _draw(key, SHIFT_X) - 1) * shift
    y_0 = 0.5 * (height - 1) - y_i * i_0 - y_j * j_0
    x_0 = 0.5 * (width - 1) - x_i * i_0 - x_j * j_0
    if turned:
        x_i, x_j, x_0 = -x_i, -x_j, width - 1 - x_0
    return y_i, y_j, y_0 + down, x_i, x_j, x_0 + right


@inlined
def _uniform(key, n, low, high):
    return low + _draw(key, n) * (high - low)


@inlined
def _exponential(x):
    """exp(x) for |x| <= 2, as its Taylor series up to x^25."""
    total = 1.0
    for k in range(25, 0, -1):
        total = 1.0 + total * x / k
    return total


@inlined
def _cover(out, to, channels, height, width, top, left, rows, columns, fill):
    """out[c] = fill[c] in a rectangle, as far as it lies in the image."""
    for c in range(channels):
        for i in range(max(top, 0), min(top + rows, height)):
            for j in range(max(left, 0), min(left + columns, width)):
                out[to + (c * height + i) * width + j] = fill[c]


@inlined
def _erase(out, to, channels, height, width, key, fill):
    """Covers a random rectangle smaller than the image, which may take some attempts."""
    for attempt in range(ATTEMPTS):
        n = 4 * attempt
        area = height * width * _uniform(key, n, AREA[0], AREA[1])
        aspect = _exponential(_uniform(key, n + 1, ASPECT[0], ASPECT[1]))
        rows, columns = int(math.sqrt(area * aspect) + 0.5), int(math.sqrt(area / aspect) + 0.5)
        if rows < height and columns < width:
            top = int(_draw(key, n + 2) * (height - rows + 1))
            left = int(_draw(key, n + 3) * (width - columns + 1))
            _cover(out, to, channels, height, width, top, left, rows, columns, fill)
            return


@inlined
def _normal(z):
    """A number of mean 0 and deviation 1 from 64 random bits: 48 coins and a uniform number, almost a Gaussian one."""
    ones = z & np.uint64(0xFFFFFFFFFFFF)
    ones -= (ones >> np.uint64(1)) & np.uint64(0x5555555555555555)
    ones = (ones & np.uint64(0x3333333333333333)) + ((ones >> np.uint64(2)) & np.uint64(0x3333333333333333))
    ones = (ones + (ones >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    ones = (ones * np.uint64(0x0101010101010101)) >> np.uint64(56)
    between = (np.float64(z >> np.uint64(48)) + 0.5) * 2.0**-16
    return (np.float64(ones) + between - 24.5) * (1 / math.sqrt(12 + 1 / 12))


@inlined
def _byte(value):
    return np.uint8(min(max(value, 0.0), 255.0) + 0.5)


@inlined
def _colour(out, to, channels, pixels, key, brightness, contrast, noise):
    """Multiplies bytes, then their distances from the mean grey, and adds noise."""
    if brightness > 0:
        factor = _uniform(key, BRIGHTNESS, max(0.0, 1.0 - brightness), 1.0 + brightness)
        for k in range(to, to + channels * pixels):
            out[k] = _byte(factor * out[k])
    if contrast > 0:
        factor = _uniform(key, CONTRAST, max(0.0, 1.0 - contrast), 1.0 + contrast)
        grey, weights = 0, 0
        for c in range(channels):
            weight = GREY[c] if channels == 3 else 1
            total = 0
            for k in range(to + c * pixels, to + (c + 1) * pixels):
                total += np.int64(out[k])
            grey += weight * total
            weights += weight
        mean = grey / (weights * pixels)
        for k in range(to, to + channels * pixels):
            out[k] = _byte(mean + factor * (out[k] - mean))
    if noise > 0:
        grain = bits(key, GRAIN)
        for k in range(channels * pixels):
            out[to + k] = _byte(out[to + k] + 255.0 * noise * _normal(bits(grain, k)))


def augment(
    task,
    images,
    order,
    seed,
    epoch,
    channels,
    height,
    width,
    shift,
    rotation,
    scale,
    shear,
    alpha,
    taps,
    count,
    flip,
    padding,
    cutout,
    erasing,
    brightness,
    contrast,
    noise,
    fill,
    alike,
    out,
    workspace,
    field,
    frame,
):
    """out[l] = a random variant of images[order[l]] for l = task; both are bytes, (images, C, H, W).

    workspace = six displacement fields of `field` elements, zeros at first; frame = a channel with one more row and
    column before and two behind. `taps` has `count` elements, `fill` a byte for each channel. With `alike`, all images
    get the same draws.
    """
    number, size = order[task], channels * height * width
    image, to = number * size, task * size
    key = bits(bits(np.uint64(seed), epoch), 0 if alike else number)
    turned = _draw(key, FLIP) < flip
    down = int(_draw(key, CROP_Y) * (2 * padding + 1)) - padding
    right = int(_draw(key, CROP_X) * (2 * padding + 1)) - padding
    if shift > 0 or rotation > 0 or scale > 0 or shear > 0 or alpha > 0:
        matrix = _matrix(height, width, key, shift, rotation, scale, shear, down, right, turned)
        down_at, right_at = 0, 0
        if alpha > 0:
            down_at, right_at = _draw_fields(workspace, field, key, height, width, np.float32(alpha), taps, count)
        row = width + count // 2
        _interpolate(
            images, image, out, to, channels, height, width, matrix, workspace, down_at, right_at, row, frame, fill
        )  # fmt: skip
    else:
        _copy(images, image, out, to, channels, height, width, down, right, turned, fill)
    _colour(out, to, channels, height * width, key, brightness, contrast, noise)
    erase = bits(key, ERASE)
    if _draw(erase, 4 * ATTEMPTS) < erasing:
        _erase(out, to, channels, height, width, erase, fill)
    top = int(_draw(key, CUT_Y) * height) - cutout // 2
    left = int(_draw(key, CUT_X) * width) - cutout // 2
    _cover(out, to, channels, height, width, top, left, cutout, cutout, fill)


def mix(task, lanes, others, shares, vectors):
    """lanes = share lanes + (1 - share) others, with a share for each image."""
    share = load(shares, 0)
    for k in range(0, vectors * LANES, LANES):
        other = load(others, k)
        store(lanes, k, fma(load(lanes, k) - other, share, other))
