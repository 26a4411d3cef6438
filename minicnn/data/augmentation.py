"""Augmentation: each time an image is trained on it looks a little different, and its class stays the same."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from minicnn.errors import ConfigError, DataError
from minicnn.kernels import augment as kernel
from minicnn.kernels.vector import LANES
from minicnn.layers.base import Array, aligned_zeros

#: The lowest and the highest value of each setting.
RANGES: dict[str, tuple[float, float]] = {
    "shift": (0, 1000),
    "rotation": (0, 180),
    "scale": (0, 0.9),
    "shear": (0, 80),
    "elastic_alpha": (0, 10_000),
    "elastic_sigma": (0.1, 100),
    "flip": (0, 1),
    "crop_padding": (0, 1000),
    "cutout": (0, 1000),
}


def check_range(name: str, value: Any) -> None:
    """Raises ConfigError for a value that the setting `name` of an augmentation cannot have."""
    low, high = RANGES[name]
    whole = name in ("crop_padding", "cutout")
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "an integer" if whole else "a number"
        raise ConfigError(f"expected {kind} from {low:g} to {high:g}, received {value!r}")


@dataclass(frozen=True)
class Augmentation:
    """Random variants of images; everything is off by default. All draws are uniform and independent.

    - shift: pixels by which an image moves at most, down or up and right or left, also by parts of a pixel;
    - rotation: degrees by which it turns at most, either way, about its centre;
    - scale: the share by which it grows or shrinks at most, 0.1 standing for factors from 0.9 to 1.1;
    - shear: degrees by which upright lines lean at most, either way;
    - elastic_alpha, elastic_sigma: elastic distortion. Pixel (i, j) moves by alpha (G * u)[i, j] pixels, down and
      right, where u is uniform in [-1, 1) for each pixel and G a Gaussian of standard deviation sigma pixels and sum 1,
      cut off at 3 sigma. Far from the edges that is 0.163 alpha / sigma pixels in the quadratic mean;
    - flip: the probability that right and left are exchanged;
    - crop_padding: pixels of black that are put around the image before a part of its old size is cut out;
    - cutout: the side, in pixels, of a black square about a random pixel, cut off at the edges.

    An image is read once, through all of these together, by bilinear interpolation and rounded to whole bytes; with
    flip, crop_padding and cutout alone, pixels are copied. What lies outside an image is 0: black, as bytes are before
    they are normalised. All channels of an image move alike.

    The variant is a pure function of (seed, epoch, number of the image): batches and threads make no difference.

    Sources: Simard, Steinkraus and Platt, Best practices for convolutional neural networks (2003), section 2;
    DeVries and Taylor, Improved regularization of convolutional neural networks with cutout (2017).
    Raises ConfigError for a value that is out of range.
    """

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic_alpha: float = 0.0
    elastic_sigma: float = 4.0
    flip: float = 0.0
    crop_padding: int = 0
    cutout: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            try:
                check_range(field.name, getattr(self, field.name))
            except ConfigError as error:
                raise ConfigError(f"Augmentation: {field.name}: {error}") from None

    def __bool__(self) -> bool:
        """Whether anything is on."""
        return any(value for name, value in asdict(self).items() if name != "elastic_sigma")

    def apply(self, images: NDArray[np.uint8], seed: int = 0, epoch: int = 0) -> NDArray[np.uint8]:
        """The variants that training with that seed sees of images uint8 (N, C, H, W) in epoch 0, 1, ...

        Raises DataError for other arrays, ConfigError for moves as large as the images.
        """
        images = np.ascontiguousarray(images).view()
        images.flags.writeable = False
        if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
            raise DataError(
                f"images: expected uint8 (N, C, H, W), N > 0, received {images.dtype} {images.shape}"
            )
        order = np.arange(len(images))
        variants = Augmenter(self, images, seed).variants(order, 0, len(images), epoch)
        return variants[: len(images)].reshape(images.shape).copy()


class Augmenter:
    """An augmentation of one array of images, uint8 (N, C, H, W), with the memory that it needs.

    Raises ConfigError where shift, crop_padding or cutout is as large as the images.
    """

    def __init__(self, augmentation: Augmentation, images: NDArray[np.uint8], seed: int) -> None:
        height, width = images.shape[2:]
        for name in ("shift", "crop_padding", "cutout"):
            value = getattr(augmentation, name)
            if value and value >= min(height, width):
                raise ConfigError(
                    f"augmentation.{name}: expected less than {min(height, width)}, the size of "
                    f"the images ({height} x {width} pixels), received {value:g}"
                )
        self._images, self._seed = images, np.uint64(seed)
        elastic = augmentation.elastic_alpha > 0
        sigma = augmentation.elastic_sigma
        self._taps = gaussian(sigma, max(height, width)) if elastic else np.ones(1, np.float32)
        self._options = (
            float(augmentation.shift),
            math.radians(augmentation.rotation),
            float(augmentation.scale),
            math.radians(augmentation.shear),
            float(augmentation.elastic_alpha),
            self._taps,
            float(augmentation.flip),
            int(augmentation.crop_padding),
            int(augmentation.cutout),
        )
        self._out = np.zeros((0, *images.shape[1:]), np.uint8)
        self._workspaces: list[Array] = [np.empty((0, 0))]

    def variants(
        self, order: NDArray[np.int64], first: int, count: int, epoch: int
    ) -> NDArray[np.uint8]:
        """Those of the `count` images order[first], order[first + 1], ... in that epoch, as (n, C, H W).

        n is `count` rounded up to whole blocks. The array is valid until the next call.
        """
        room = -(-count // LANES) * LANES
        if len(self._out) < room:
            self._out = np.zeros((room, *self._images.shape[1:]), np.uint8)
        threads = numba.get_num_threads()
        if len(self._workspaces[0]) != threads:
            height, width = self._images.shape[2:]
            field = kernel.field_size(height, width, len(self._taps))
            self._workspaces = [
                aligned_zeros(threads * size, dtype).reshape(threads, size)
                for size, dtype in (
                    (6 * field, np.float32),
                    ((height + 3) * (width + 3), np.uint8),
                    (kernel.DRAWS, np.float64),
                )
            ]
        kernel.augment(
            self._images,
            order,
            first,
            self._seed,
            epoch,
            *self._options,
            self._out[:count],
            *self._workspaces,
        )
        result = self._out[:room].reshape(room, self._images.shape[1], -1)
        result.flags.writeable = False
        return result


def gaussian(sigma: float, size: int) -> Array:
    """g[r + v] = exp(-v^2 / (2 sigma^2)) / their sum for |v| <= 3 sigma; those with |v| < size of them."""
    r = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-r, r + 1) / sigma) ** 2)
    weights /= weights.sum()
    spare = max(r - size + 1, 0)
    return weights[spare : len(weights) - spare].astype(np.float32)
