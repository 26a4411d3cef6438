"""Image files: decoded and upright, whatever they hold, as Pillow images of one of two kinds."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from minicnn.data.picture import WHITE, Source, is_picture, quiet
from minicnn.errors import DataError
from minicnn.files import open_file, write_whole

MOST_BYTES = 512 * 1024**2  # of a file
LARGEST = 4096  # pixels: the longer side of what is worked on; a photo that is longer is shrunk
DEEP = ("I", "F")  # modes of more than 8 bits; those of 16 bits start with "I;16"


def open_image(source: Source) -> Image.Image:
    """An image file, Pillow image or array as a Pillow image of mode F, RGB or RGBA.

    F is grey from 0 (black) to 1 (white); RGBA only where something is transparent. A camera's note on orientation is
    followed. Files: whatever Pillow decodes, of any depth; arrays: uint8 (H, W), (H, W, 3) or (H, W, 4).

    Raises DataError: no such file, a folder, a pipe, not an image, damaged, an animation, or of more pixels than
    PIL.Image.MAX_IMAGE_PIXELS, 89 million unless that is set.
    """
    with _image_of(source) as image:
        if not isinstance(source, Image.Image) and frames_of(image) > 1:
            raise DataError(f"{source}: expected one image, received {frames_of(image)} frames")
        return _as_known_mode(image)


def longer_side(source: Source) -> int:
    """The longer side in pixels of an image that `open_image` can open, which may have shrunk it."""
    with _image_of(source) as image:
        return int(max(image.size))


@contextlib.contextmanager
def _image_of(source: Source) -> Iterator[Image.Image]:
    """A file, opened, or an array as a Pillow image."""
    if isinstance(source, Image.Image):
        yield source
    elif isinstance(source, np.ndarray):
        if not is_picture(source) or 0 in source.shape:
            raise DataError(
                "image: expected uint8 (H, W), (H, W, 3) or (H, W, 4) with pixels, "
                f"received {source.dtype} {source.shape}"
            )
        yield Image.fromarray(source)
    else:
        with quiet(), opened_image(Path(source)) as image:
            yield image


@contextlib.contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """The image in a regular file, not decoded yet and of no more than PIL.Image.MAX_IMAGE_PIXELS.

    Raises DataError, one line, for whatever is wrong with the file, also while it is decoded in the block.
    """
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST_BYTES:
                raise DataError(f"{path}: expected an image of at most {MOST_BYTES:,} bytes, received {size:,}")
            with Image.open(file) as image:
                if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                    raise Image.DecompressionBombError
                yield image
    except DataError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error ...
        raise DataError(f"{path}: {_wrong(error)}") from None


def _wrong(error: Exception) -> str:
    """What was expected of an image file, and what whoever raised this has met with."""
    match error:
        case FileNotFoundError():
            return "expected an image file, received nothing: no such file"
        case IsADirectoryError():
            return "expected an image file, received a folder"
        case UnidentifiedImageError():
            return "expected an image such as PNG or JPEG, received a file of another kind"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return (
                f"expected at most {Image.MAX_IMAGE_PIXELS:,} pixels, received more; shrink the image (in Python, "
                "PIL.Image.MAX_IMAGE_PIXELS is the limit)"
            )
        case MemoryError():
            return "expected an image that fits into memory; shrink it"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"expected an image that can be read: {reason or type(error).__name__}"


def frames_of(image: Image.Image) -> int:
    """How many frames an opened image has; a photo with a preview behind it (MPO) has one."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def is_deep(image: Image.Image) -> bool:
    """Whether it has more than 8 bits per pixel and channel."""
    return image.mode in DEEP or image.mode.startswith("I;16")


def _as_known_mode(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if is_deep(image):
        pixels = np.asarray(image, np.float32)
        if not np.isfinite(pixels).all():
            raise DataError("image: expected finite numbers, received NaN or infinity")
        top = float(pixels.max())
        white = 1.0 if top <= 1 else 255.0 if image.mode == "F" and top <= 255 else 65535.0
        grey = (pixels / max(white, top)).clip(0, 1)
        return _shrunk(Image.fromarray(grey))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        solid = bool((np.asarray(image.getchannel("A")) == 255).all())
        return _shrunk(image.convert("RGB") if solid else image)
    if image.mode in ("1", "L"):
        return _shrunk(Image.fromarray(np.asarray(image.convert("L"), np.float32) / 255))
    return _shrunk(image.convert("RGB"))


def _shrunk(image: Image.Image) -> Image.Image:
    factor = -(-max(image.size) // LARGEST)
    return image.reduce(factor) if factor > 1 else image


def to_pixels(
    image: Image.Image, channels: int, size: tuple[int, int] | None = None, background: int | Sequence[int] = WHITE
) -> NDArray[np.uint8]:
    """An image of 8 bits as uint8 (C, H, W), with C 1 or 3: upright, laid over a background, made grey or colour, and
    stretched to `size`, (H, W), with antialiasing.

    Grey is 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601). Training and prediction both go through here.
    """
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        colour = (background,) * 3 if isinstance(background, int) else tuple(background)
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*colour, 255)), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[np.newaxis] if channels == 1 else pixels.transpose(2, 0, 1)


def fit_image(source: Source, shape: tuple[int, ...], background: int | Sequence[int] = WHITE) -> NDArray[np.uint8]:
    """The image as uint8 of `shape` (C, H, W), brought into it as training on a folder of images does it.

    Of an animation it is the first frame. Of more than 8 bits per channel, 8 are left. Raises DataError like
    `open_image`, and for a number of channels other than 1 and 3.
    """
    channels, *size = shape
    if channels not in (1, 3):
        raise DataError(f"input: expected 1 or 3 channels to make of an image, received {channels}")
    with _image_of(source) as image:
        if is_deep(image):
            grey = np.asarray(_as_known_mode(image))
            image = Image.fromarray(np.round(grey * 255).astype(np.uint8))
        return np.ascontiguousarray(to_pixels(image, channels, (size[0], size[1]), background))


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes uint8 (C, H, W), C 1 or 3, as a PNG file of that size, whole or not at all."""
    content = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(content, "PNG")
    write_whole(path, content.getvalue())
