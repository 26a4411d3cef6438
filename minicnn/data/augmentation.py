"""Augmentation: an image looks a little different each time, and its class stays the same."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import Annotated, Any, get_type_hints

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import NDArray

from minicnn.checks import checked, fits, plain_array, words
from minicnn.engine.arrays import Array, address
from minicnn.engine.cache import Kernels
from minicnn.engine.memory import Map
from minicnn.engine.program import Program
from minicnn.engine.work import Argument, Input, Work
from minicnn.errors import ConfigError, DataError
from minicnn.kernels import LANES, SMOOTHED, blocks_of

kernels = Kernels("augment")

Byte = Annotated[int, Interval(ge=0, le=255)]


def check_range(name: str, value: Any) -> None:
    """Raises ConfigError for a value that the setting `name` of an augmentation cannot have."""
    hint = get_type_hints(Augmentation, include_extras=True)[name]
    if not fits(value, hint):
        raise ConfigError(f"expected {words(hint)}, received {value!r}")


@dataclass(frozen=True)
class Augmentation:
    """Random variants of images; everything is off by default. All draws are uniform and independent.

    - shift: how many pixels an image moves at most, up or down and left or right, also by fractions of a pixel;
    - rotation: how many degrees it turns at most, in either direction, about its centre;
    - scale: by which share it grows or shrinks at most; 0.1 stands for factors from 0.9 to 1.1;
    - shear: by how many degrees upright lines lean at most, in either direction;
    - elastic_alpha, elastic_sigma: elastic distortion. Pixel (i, j) moves by alpha (G * u)[i, j] pixels, down and
      right, where u is uniform in [-1, 1) for each pixel and G a Gaussian of standard deviation sigma pixels and sum 1,
      cut off at 3 sigma. Far from the edges that is 0.163 alpha / sigma pixels in the quadratic mean;
    - flip: the probability that right and left are exchanged;
    - crop_padding: how many pixels are put around the image before a part of its old size is cut out;
    - cutout: the side, in pixels, of a square around a random pixel, cut off at the edges, that is covered;
    - erasing: the probability that a rectangle is covered. It has 0.02 to 0.33 of the image's area, and is 0.3 to 3.3
      times as high as it is wide, like that of torchvision's RandomErasing;
    - brightness: 0.2 multiplies all pixels by a factor from 0.8 to 1.2; of 1 and more, from 0 on;
    - contrast: a factor likewise, for the distance of each pixel from the mean of the image (the mean of its grey, if
      it has three channels);
    - noise: the standard deviation of Gaussian noise, added to each pixel of each channel, for pixels from 0 to 1;
    - fill: the colour of what comes from outside of the image and of what is covered, from 0 to 255: a number, or one
      for each channel;
    - mixup: alpha > 0 blends each image with another one, as x = share x1 + (1 - share) x2, and their labels likewise,
      with shares from the distribution Beta(alpha, alpha). With 0.2, most blends are nearly one of the two images; with
      1, all shares are as likely. `Batches` does this, with the images that all else has been done to.

    All of these are applied together: moves, brightness, contrast, noise, erasing, cutout, mixup. The image is read
    once, by bilinear interpolation; flip and crop_padding alone copy pixels. Each step but mixup rounds to whole bytes
    and cuts off what lies outside of 0 to 255. All channels of an image move alike.

    A variant depends on (seed, epoch, number of the image) alone, not on batches and threads.

    Sources: Simard, Steinkraus and Platt, Best practices for convolutional neural networks (2003), section 2;
    DeVries and Taylor, Improved regularization of convolutional neural networks with cutout (2017); Zhong et al.,
    Random erasing data augmentation (2020); Zhang et al., mixup: beyond empirical risk minimization (2018); brightness
    and contrast as in torchvision's ColorJitter.
    Raises ConfigError for a value that is out of range.
    """

    shift: Annotated[float, Interval(ge=0, le=1_000)] = 0.0
    rotation: Annotated[float, Interval(ge=0, le=180)] = 0.0
    scale: Annotated[float, Interval(ge=0, le=0.9)] = 0.0
    shear: Annotated[float, Interval(ge=0, le=80)] = 0.0
    elastic_alpha: Annotated[float, Interval(ge=0, le=10_000)] = 0.0
    elastic_sigma: Annotated[float, Interval(ge=0.1, le=100)] = 4.0
    flip: Annotated[float, Interval(ge=0, le=1)] = 0.0
    crop_padding: Annotated[int, Interval(ge=0, le=1_000)] = 0
    cutout: Annotated[int, Interval(ge=0, le=1_000)] = 0
    erasing: Annotated[float, Interval(ge=0, le=1)] = 0.0
    brightness: Annotated[float, Interval(ge=0, le=100)] = 0.0
    contrast: Annotated[float, Interval(ge=0, le=100)] = 0.0
    noise: Annotated[float, Interval(ge=0, le=1)] = 0.0
    fill: Byte | Sequence[Byte] = 0
    mixup: Annotated[float, Interval(ge=0, le=1_000)] = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            try:
                check_range(field.name, getattr(self, field.name))
            except ConfigError as error:
                raise ConfigError(f"Augmentation: {field.name}: {error}") from None
        if not isinstance(self.fill, int):
            object.__setattr__(self, "fill", tuple(map(int, self.fill)))  # which has a hash

    def __bool__(self) -> bool:
        """Whether anything is on."""
        return any(value for name, value in asdict(self).items() if name not in ("elastic_sigma", "fill"))

    @property
    def alone(self) -> "Augmentation":
        """What is done to each image alone."""
        return replace(self, mixup=0.0)

    @checked(ConfigError)
    def apply(
        self, images: NDArray[np.uint8], seed: Annotated[int, Ge(0)] = 0, epoch: Annotated[int, Ge(0)] = 0
    ) -> NDArray[np.uint8]:
        """The variants that training with that seed sees of images uint8 (N, C, H, W) in epoch 0, 1, ..., before mixup.

        Raises DataError for other arrays, ConfigError for moves as large as the images.
        """
        images = np.ascontiguousarray(plain_array(images, "images", DataError)).view()
        images.flags.writeable = False
        if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
            raise DataError(f"images: expected uint8 (N, C, H, W), N > 0, received {images.dtype} {images.shape}")
        return Augmenter(self, images, seed).variants(np.arange(len(images)), epoch)


class Augmenter:
    """An augmentation of one array of images, uint8 (N, C, H, W), with the memory that it needs.

    With `alike`, all images are changed alike. Raises ConfigError where shift, crop_padding or cutout is as large as
    the images, and for a fill of other channels.
    """

    def __init__(self, augmentation: Augmentation, images: NDArray[np.uint8], seed: int, alike: bool = False) -> None:
        height, width = images.shape[2:]
        for name in ("shift", "crop_padding", "cutout"):
            value = getattr(augmentation, name)
            if value and value >= min(height, width):
                raise ConfigError(
                    f"augmentation.{name}: expected less than {min(height, width)}, the size of "
                    f"the images ({height} x {width} pixels), received {value:g}"
                )
        self._images, self._seed = images, int(np.uint64(seed).astype(np.int64))
        #: What programs with it depend on.
        self.key: Hashable = astuple(augmentation)
        channels, fill = images.shape[1], np.atleast_1d(augmentation.fill)
        if len(fill) not in (1, channels):
            raise ConfigError(
                f"augmentation.fill: expected a number, or one for each of the {channels} channels, "
                f"received {list(augmentation.fill)}"  # type: ignore[arg-type]
            )
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
            len(self._taps),
            float(augmentation.flip),
            int(augmentation.crop_padding),
            int(augmentation.cutout),
            float(augmentation.erasing),
            float(augmentation.brightness),
            float(augmentation.contrast),
            float(augmentation.noise),
            np.ascontiguousarray(np.broadcast_to(fill, channels).astype(np.uint8)),
            int(alike),
        )

    def declare(self, work: Work, images: Argument, order: Argument) -> tuple[Map, Array]:
        """Declares the variants of a block's images; returns them, and the order that they are in now."""
        channels, height, width = self._images.shape[1:]
        out = work.scratch((channels, height, width), np.uint8)
        self._declare(work, images, order, out)
        return out, np.arange(LANES)

    def _declare(self, work: Work, images: Argument, order: Argument, out: Argument) -> None:
        channels, height, width = self._images.shape[1:]
        r = len(self._taps) // 2
        field = (height + 2 * r) * (width + r) + SMOOTHED * LANES + r  # with zeros around it
        workspace = work.scratch((-(-6 * field // LANES),), np.float32, True)
        frame = work.scratch((-(-(height + 3) * (width + 3) // LANES),), np.uint8, True)
        seed, epoch = Input("seed", "n"), Input("epoch", "n")
        options = (seed, epoch, channels, height, width, *self._options)
        arguments = (images, order, *options, out, workspace, field, frame)
        work.call(kernels.augment, *arguments, tasks=LANES)

    def set_inputs(self, program: Program, epoch: int) -> None:
        program.set("seed", self._seed)
        program.set("epoch", epoch)

    def variants(self, numbers: NDArray[np.int64], epoch: int) -> NDArray[np.uint8]:
        """Those of the images of these numbers in that epoch, as (n, C, H, W)."""
        blocks, shape = blocks_of(len(numbers)), self._images.shape[1:]
        order = np.zeros(blocks * LANES, np.int64)
        order[: len(numbers)] = numbers
        found = np.zeros((len(order), *shape), np.uint8)
        work = Work(blocks, np.float32, True, False)
        size = LANES * math.prod(shape)
        self._declare(work, Input("images", "b"), Input("order", "i", LANES * 8), Input("out", "b", size))
        program = work.finish()
        self.set_inputs(program, epoch)
        for name, array in (("images", self._images), ("order", order), ("out", found)):
            program.set(name, address(array))
        program.run(len(numbers))
        return found[: len(numbers)]


def gaussian(sigma: float, size: int) -> Array:
    """g[r + v] = exp(-v^2 / (2 sigma^2)) / their sum for |v| <= 3 sigma; those with |v| < size of them."""
    r = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-r, r + 1) / sigma) ** 2)
    weights /= weights.sum()
    spare = max(r - size + 1, 0)
    return weights[spare : len(weights) - spare].astype(np.float32)
