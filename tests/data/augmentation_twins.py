"""Augmentation of one image, in NumPy and written for the eye.

Its random numbers are SplitMix64 in Python's own integers.
"""

import numpy as np


def random_bits(seed, n):
    mask = 2**64 - 1
    z = (seed + (n + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def smoothing(size, sigma):
    """The matrix whose row i is a Gaussian about i, cut off at 3 sigma: G u G^T smooths a square field u."""
    distance = np.abs(np.arange(size)[:, None] - np.arange(size))
    tail = np.arange(-np.ceil(3 * sigma), np.ceil(3 * sigma) + 1)
    weights = np.exp(-(distance**2) / (2 * sigma**2)) * (distance <= np.ceil(3 * sigma))
    return weights / np.exp(-(tail**2) / (2 * sigma**2)).sum()


def interpolate(image, y, x):
    """image (C, H, W) at the points (y, x), arrays of one shape: each pixel is a tent as wide as two pixels."""
    height, width = image.shape[1:]
    rows = np.maximum(0, 1 - np.abs(y[..., None] - np.arange(height)))
    columns = np.maximum(0, 1 - np.abs(x[..., None] - np.arange(width)))
    return np.einsum("cyx,...y,...x->c...", image.astype(float), rows, columns)


def augmented(image, a, seed, epoch, number):
    """The variant of image (C, H, W), not yet rounded."""
    height, width = image.shape[1:]
    key = random_bits(random_bits(seed, epoch), number)
    unit = [(random_bits(key, n) >> 11) / 2**53 for n in range(10)]
    signed = [2 * u - 1 for u in unit]

    # Forward, as matrices on (y, x, 1): move the centre to the origin, shear, scale, turn, move back and shift.
    def moved(y, x):
        return np.array([[1, 0, y], [0, 1, x], [0, 0, 1.0]])

    turn, lean = np.radians(a.rotation) * signed[2], np.radians(a.shear) * signed[4]
    sheared = np.array([[1, 0, 0], [np.tan(lean), 1, 0], [0, 0, 1]])
    scaled = np.diag([1 + a.scale * signed[3]] * 2 + [1])
    cos, sin = np.cos(turn), np.sin(turn)
    turned = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    cy, cx = (height - 1) / 2, (width - 1) / 2
    forward = moved(cy, cx) @ turned @ scaled @ sheared @ moved(-cy, -cx)
    forward = moved(a.shift * signed[0], a.shift * signed[1]) @ forward

    i, j = np.mgrid[:height, :width]
    y, x, _ = np.tensordot(np.linalg.inv(forward), np.stack([i, j, np.ones_like(i)]), 1)
    if unit[5] < a.flip:
        x = width - 1 - x
    y = y + int(unit[6] * (2 * a.crop_padding + 1)) - a.crop_padding
    x = x + int(unit[7] * (2 * a.crop_padding + 1)) - a.crop_padding
    if a.elastic_alpha:
        z = [random_bits(key, 16 + n) for n in range(height * width)]
        for half, coordinate in ((32, y), (0, x)):
            u = np.array([n >> half & (2**32 - 1) for n in z], np.uint32).view(np.int32) / 2**31
            u = u.reshape(height, width)
            g, h = smoothing(height, a.elastic_sigma), smoothing(width, a.elastic_sigma)
            coordinate += a.elastic_alpha * (g @ u @ h.T)
    fill = np.reshape(a.fill, (-1, 1, 1))
    return covered(interpolate(image - fill, y, x) + fill, a, key)


def covered(image, a, key):
    """The image with the square of cutout and the rectangle of erasing."""
    image, (height, width) = image.copy(), image.shape[1:]
    erase = random_bits(key, 10)

    def unit(seed, n):
        return (random_bits(seed, n) >> 11) / 2**53

    def cover(top, left, rows, columns):
        image[:, max(top, 0) : top + rows, max(left, 0) : left + columns] = np.reshape(a.fill, (-1, 1, 1))

    for n in range(0, 40, 4) if unit(erase, 40) < a.erasing else ():
        area, aspect = height * width * (0.02 + 0.31 * unit(erase, n)), 0.3 * 11 ** unit(erase, n + 1)
        rows, columns = (round(np.sqrt(area * ratio)) for ratio in (aspect, 1 / aspect))
        if rows < height and columns < width:
            places = (int(unit(erase, n + 2) * (height - rows + 1)), int(unit(erase, n + 3) * (width - columns + 1)))
            cover(*places, rows, columns)
            break
    if a.cutout:
        top, left = (int(unit(key, 8 + n) * side) - a.cutout // 2 for n, side in enumerate((height, width)))
        cover(top, left, a.cutout, a.cutout)
    return image


def coloured(image, a, key):
    """The bytes (C, H, W) with other brightness, contrast and noise."""

    def rounded(values):
        return np.floor(np.clip(values, 0, 255) + 0.5)

    def factor(n, most):
        low = max(0, 1 - most)
        return low + (random_bits(key, n) >> 11) / 2**53 * (1 + most - low)

    image = rounded(factor(11, a.brightness) * image)
    weights = [0.299, 0.587, 0.114] if len(image) == 3 else np.full(len(image), 1 / len(image))
    mean = np.dot(weights, image.reshape(len(image), -1).mean(axis=1))
    image = rounded(mean + factor(12, a.contrast) * (image - mean))
    z = [random_bits(random_bits(key, 13), n) for n in range(image.size)]
    normal = [(n & 2**48 - 1).bit_count() + ((n >> 48) + 0.5) / 2**16 - 24.5 for n in z]
    return rounded(image + 255 * a.noise / np.sqrt(12 + 1 / 12) * np.reshape(normal, image.shape))
