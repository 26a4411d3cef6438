"""What may be a picture, told without importing Pillow, which a training does not need until it has ended."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from minicnn.console import at_terminal

if TYPE_CHECKING:
    from PIL.Image import Image

    Source = str | os.PathLike[str] | Image | NDArray[Any]
else:
    Source = Any

T = TypeVar("T")

#: The endings of image files, which are torchvision's and .gif.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
WHITE = 255
_ARRAYS = ((2,), (3, 3), (3, 4))  # axes and channels


def is_picture(value: Any) -> bool:
    """Whether an array is a picture as Pillow and OpenCV have them: uint8 (H, W), (H, W, 3) or (H, W, 4)."""
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and (value.ndim, *value.shape[2:]) in _ARRAYS


def is_pillow_image(value: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A block in which decoders say nothing of odd metadata. It concerns all threads, so it stands around them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def reading_bar(images: Iterable[T], count: int) -> "tqdm[T]":
    """The images, with a bar at a terminal if they take their time."""
    hidden = not at_terminal()
    return tqdm(images, "reading images", count, unit=" images", leave=False, delay=0.5, disable=hidden)
