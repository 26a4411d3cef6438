"""Photos, scans and drawings of digits come out in MNIST's form."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from minicnn import DataError, load_dataset, to_mnist
from minicnn.handwriting.ink import closing, pieces, stroke_width, thickened

DIGITS = load_dataset("mnist-subset").test_images[:2000:40, 0]


def enlarged(digit: np.ndarray, zoom: int, angle: float = 0, margin: int = 2) -> np.ndarray:
    """A digit of MNIST's as ink from 0 to 1, larger, with `margin` of its own pixels around it."""
    image = Image.fromarray(np.pad(digit, margin))
    image = image.resize((zoom * image.width, zoom * image.height), Image.Resampling.BICUBIC)
    return np.asarray(image.rotate(angle, Image.Resampling.BICUBIC)) / 255


def as_jpeg(pixels: np.ndarray, quality: int = 75) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return Image.open(file)


def photo(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Coloured ink on cream paper, half in shadow, brighter on one side, blurred, with noise."""
    ink = enlarged(digit, int(rng.integers(8, 14)), rng.uniform(-5, 5), margin=4)[..., None]
    colour = np.array([(30, 30, 40), (20, 40, 140), (170, 30, 40)][rng.integers(3)])
    height, width = ink.shape[:2]
    y, x = np.mgrid[:height, :width]
    light = 1 - 0.4 * x / width
    light[y > (0.3 + 0.3 * rng.random()) * height + 0.2 * x] *= 0.7
    paper = ((235, 230, 215) * (1 - ink) + colour * ink) * light[..., None]
    image = Image.fromarray(paper.astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    return as_jpeg(np.asarray(image) + rng.normal(0, 10, paper.shape))


def alike(a: np.ndarray, b: np.ndarray) -> float:
    """The highest correlation of two images over shifts by one pixel: centring is to whole pixels."""
    shifted = (np.roll(a, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
    return max(float(np.corrcoef(image.ravel(), b.ravel())[0, 1]) for image in shifted)


@pytest.mark.parametrize("zoom", [1, 3, 12])
@pytest.mark.parametrize("dark", [True, False])
def test_clean_scans_are_their_originals(zoom: int, dark: bool) -> None:
    likeness = []
    for digit in DIGITS[::5]:
        ink = enlarged(digit, zoom)
        likeness.append(alike(to_mnist(np.uint8(255 * (1 - ink if dark else ink))), digit))
    assert np.median(likeness) > 0.97
    assert min(likeness) > 0.9


def test_photos_are_nearly_their_originals(rng: np.random.Generator) -> None:
    likeness = [alike(to_mnist(photo(digit, rng)), digit) for digit in DIGITS[::5]]
    assert np.median(likeness) > 0.92
    assert sorted(likeness)[1] > 0.75


def test_light_and_shadow_leave_nothing_behind(rng: np.random.Generator) -> None:
    for digit in DIGITS[::12]:
        seen = to_mnist(photo(digit, rng))
        near = np.asarray(Image.fromarray(digit).filter(ImageFilter.MaxFilter(9)))
        assert seen[near == 0].sum() == 0


def test_form(rng: np.random.Generator) -> None:
    for digit in DIGITS[::12]:
        seen = to_mnist(photo(digit, rng)).astype(float)
        rows, columns = np.nonzero(seen)
        assert seen.shape == (28, 28)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
        centre = [(seen * axis).sum() / seen.sum() for axis in np.mgrid[:28, :28]]
        np.testing.assert_allclose(centre, 14, atol=0.51)
        assert seen.max() == 255


def test_aspect_ratio_is_kept() -> None:
    image = Image.new("L", (200, 300), 255)
    ImageDraw.Draw(image).rectangle([80, 50, 119, 249], fill=0)
    seen = to_mnist(image)
    assert (seen > 127).any(axis=1).sum() == 20
    assert (seen > 127).any(axis=0).sum() == 4


def test_thin_strokes_of_a_large_photo_do_not_fade(rng: np.random.Generator) -> None:
    image = Image.new("L", (2400, 3200), 225)
    ImageDraw.Draw(image).line([(900, 1000), (1500, 1000), (1100, 2200)], fill=70, width=7)
    seen = to_mnist(as_jpeg(np.asarray(image) + rng.normal(0, 8, (3200, 2400))))
    drawn = Image.new("L", (280, 280))
    ImageDraw.Draw(drawn).line([(90, 40), (190, 40), (123, 240)], fill=255, width=18)
    assert alike(seen, to_mnist(drawn)) > 0.85
    strokes = seen.max(axis=1)[seen.any(axis=1)]
    assert strokes.min() > 100


def colours(ink: np.ndarray, paper: tuple[int, int, int], pen: tuple[int, int, int]) -> np.ndarray:
    return np.uint8(np.array(paper) * (1 - ink[..., None]) + np.array(pen) * ink[..., None])


def test_ink_of_any_colour() -> None:
    digit = DIGITS[10]
    for paper, pen in [
        ((255, 255, 255), (230, 215, 60)),  # yellow
        ((60, 60, 255), (206, 30, 30)),  # red and blue of one brightness
        ((20, 60, 40), (250, 240, 230)),  # chalk
    ]:
        assert alike(to_mnist(colours(enlarged(digit, 6), paper, pen)), digit) > 0.93


@pytest.mark.parametrize("pen", [0, 128, 255])
def test_what_is_transparent_is_paper(pen: int) -> None:
    digit, alpha = DIGITS[20], np.uint8(255 * enlarged(DIGITS[20], 6))
    image = np.dstack([np.full_like(alpha, pen)] * 3 + [alpha])
    assert alike(to_mnist(image), digit) > 0.95
    sticker = np.dstack([colours(alpha / 255, (255, 255, 255), (pen // 2,) * 3), alpha])
    y, x = np.mgrid[: len(alpha), : len(alpha)] / len(alpha) - 0.5
    sticker[..., 3] = 255 * (np.hypot(y, x) < 0.48)
    assert alike(to_mnist(sticker), digit) > 0.95


def test_modes_and_depths(tmp_path: Path) -> None:
    ink = enlarged(DIGITS[15], 4)
    grey = Image.fromarray(np.uint8(255 * (1 - ink)))
    expected = to_mnist(grey)
    deep = Image.fromarray(np.uint16(65535 * (1 - ink)))
    twelve_bits = Image.fromarray(np.uint16(4095 * (1 - ink)))
    others = [grey.convert(m) for m in ("RGB", "P", "LA", "CMYK", "RGBA", "F", "I")]
    for n, image in enumerate([*others, deep, twelve_bits]):
        assert alike(to_mnist(image), expected) > 0.99, image.mode
        if image.mode in ("RGB", "P", "LA", "I;16"):
            image.save(tmp_path / f"{n}.png")
            assert alike(to_mnist(tmp_path / f"{n}.png"), expected) > 0.99, image.mode
    assert alike(to_mnist(grey.convert("1")), expected) > 0.9


def test_orientation_of_a_camera(tmp_path: Path) -> None:
    upright = Image.fromarray(np.uint8(255 * (1 - enlarged(DIGITS[35], 6))))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif)
    assert alike(to_mnist(tmp_path / "turned.jpg"), to_mnist(upright)) > 0.98


def test_specks_are_left_out_and_a_bar_apart_is_kept(rng: np.random.Generator) -> None:
    image = Image.new("L", (300, 300), 240)
    draw = ImageDraw.Draw(image)
    draw.ellipse([100, 130, 200, 230], outline=30, width=14)
    clean = to_mnist(image)
    for x, y in rng.integers(10, 290, (40, 2)).tolist():
        draw.rectangle([x, y, x + 2, y + 2], fill=30)
    assert alike(to_mnist(image), clean) > 0.97
    draw.rectangle([110, 85, 210, 98], fill=30)
    assert (to_mnist(image)[3:6] > 127).any()


@pytest.mark.parametrize("around", ["table", "dark table", "box", "corner"])
def test_only_what_is_on_the_paper_counts(around: str, rng: np.random.Generator) -> None:
    image = Image.new("L", (500, 500), {"table": 120, "dark table": 40}.get(around, 235))
    draw = ImageDraw.Draw(image)
    if "table" in around:
        draw.polygon([(70, 50), (450, 75), (435, 465), (60, 435)], fill=235)
    if around == "box":
        draw.rectangle([40, 40, 460, 460], outline=30, width=6)
    if around == "corner":
        draw.polygon([(0, 0), (180, 0), (0, 120)], fill=20)
    alone = Image.new("L", (500, 500), 235)
    for each in (draw, ImageDraw.Draw(alone)):
        each.line([(200, 170), (310, 170), (240, 340)], fill=40, width=13)
    noisy = as_jpeg(np.asarray(image) + rng.normal(0, 6, (500, 500)))
    assert alike(to_mnist(noisy), to_mnist(alone)) > 0.95


FRAMES = {  # (first, one after the last) of what is inside, in rows and columns, and the tone, of 300 pixels
    "thin": [(4, 296, 4, 296, 10)],
    "thick": [(12, 288, 12, 288, 10)],
    "grey": [(8, 292, 8, 292, 120)],
    "apart from the border": [(14, 286, 14, 286, 10), (10, 290, 10, 290, 240)],
    "two frames": [(12, 288, 12, 288, 10), (9, 291, 9, 291, 240), (4, 296, 4, 296, 10)],
    "two sides, as of a scan": [(8, 300, 6, 300, 10)],
    "three sides": [(8, 295, 6, 300, 10)],
    "of uneven width": [(3, 280, 9, 294, 10)],
}


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("kind", FRAMES)
def test_frames_are_left_out(kind: str, dark: bool) -> None:
    likeness = []
    for digit in DIGITS[::10]:
        ink = Image.fromarray(enlarged(digit, 9)).resize((300, 300))
        drawn = 240 - 220 * np.asarray(ink)
        for top, bottom, left, right, tone in FRAMES[kind]:
            framed = np.full_like(drawn, tone)
            framed[top:bottom, left:right] = drawn[top:bottom, left:right]
            drawn = framed
        likeness.append(alike(to_mnist(np.uint8((drawn if dark else 255 - drawn).clip(0, 255))), digit))
    assert np.median(likeness) > 0.95
    assert min(likeness) > 0.85


def test_digits_that_look_like_frames_are_kept() -> None:
    """A square 0, and a 7 that nearly fills its image: its bars are no frame."""
    for points, margin in (([(0, 0), (0, 99), (99, 99), (99, 0), (0, 0)], 9), ([(0, 4), (95, 4), (30, 99)], 2)):
        image = Image.new("L", (100 + 2 * margin, 100 + 2 * margin), 250)
        ImageDraw.Draw(image).line([(x + margin, y + margin) for x, y in points], 20, 11)
        alone = Image.new("L", (200, 200), 250)
        alone.paste(image, (50, 50))
        assert alike(to_mnist(image), to_mnist(alone)) > 0.9


def test_without_ink(rng: np.random.Generator) -> None:
    blank = np.full((120, 90), 230, np.uint8)
    slope = np.uint8(np.linspace(90, 250, 120 * 90).reshape(120, 90))
    noise = rng.normal(220, 8, (120, 90)).clip(0, 255).astype(np.uint8)
    nothing = np.zeros((30, 30, 4), np.uint8)
    for image in (blank, 0 * blank, slope, noise, nothing, blank[:1, :1]):
        with pytest.raises(DataError, match="expected a digit, received an image"):
            to_mnist(image)


def test_images_of_any_size_have_a_form_or_an_error(rng: np.random.Generator) -> None:
    for _ in range(100):
        height, width = rng.integers(1, 40, 2)
        image = np.full((height, width), rng.integers(256), np.uint8)
        y, x = rng.integers(height), rng.integers(width)
        image[y : y + rng.integers(1, 30), x : x + rng.integers(1, 30)] = rng.integers(256)
        with contextlib.suppress(DataError):
            assert to_mnist(image).shape == (28, 28)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((2, 4, 4, 3), np.uint8), np.zeros((0, 3), np.uint8)])
def test_arrays_that_are_no_images(image: np.ndarray) -> None:
    with pytest.raises(DataError, match="image: expected"):
        to_mnist(image)


def test_closing_follows_slopes_and_edges_but_no_strokes() -> None:
    paper = np.tile(np.linspace(0.5, 1, 60, dtype=np.float32), (60, 1))
    paper[30:] *= 0.5
    drawn = paper.copy()
    drawn[:, 28:32] = 0
    inner = (slice(None), slice(12, 48))
    np.testing.assert_allclose(closing(drawn, 11)[inner], paper[inner], atol=0.05)
    with np.errstate(all="raise"):
        windows = np.lib.stride_tricks.sliding_window_view
        dilated = windows(np.pad(drawn, 10, mode="edge"), (11, 11)).max(axis=(2, 3))
        closed = windows(dilated, (11, 11)).min(axis=(2, 3))
    np.testing.assert_array_equal(closing(drawn, 11), closed)


def test_closing_keeps_a_slope_and_a_shadow_up_to_the_border() -> None:
    y, x = np.mgrid[:60, :60].astype(np.float32)
    np.testing.assert_array_equal(closing(x + 2 * y, 21), x + 2 * y)
    shadow = np.where(y > 33, 0.5, 1).astype(np.float32)
    np.testing.assert_array_equal(closing(shadow, 21), shadow)


def test_pieces_are_connected_over_corners(rng: np.random.Generator) -> None:
    drawing = ["#..#.#", ".#.#.#", "...###", "#.....", "#..#.."]
    mask = np.array([[c == "#" for c in row] for row in drawing])
    boxes = {(p.top, p.left, p.bottom, p.right, int(p.weight(mask))) for p in pieces(mask)}
    assert boxes == {(0, 0, 2, 2, 2), (0, 3, 3, 6, 7), (3, 0, 5, 1, 2), (4, 3, 5, 4, 1)}
    mask = rng.random((40, 30)) < 0.4
    assert sum(int(piece.weight(mask)) for piece in pieces(mask)) == mask.sum()


def test_width_of_strokes() -> None:
    line = np.zeros((100, 100), np.float32)
    line[10:90, 40:46] = 1
    assert stroke_width(line) == pytest.approx(6, rel=0.1)
    assert stroke_width(0 * line) == 0
    wider = thickened(line, 2)
    assert wider[50, 38:48].all() and not wider[50, :38].any() and not wider[50, 48:].any()
    assert wider[8, 43] == 1 and wider[8, 38] == 0  # round, not square
