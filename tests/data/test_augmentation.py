"""Augmentation: every pixel against its twin, the random numbers, and what it must not depend on."""

from dataclasses import replace
from typing import get_type_hints

import augmentation_twins as twins
import numba
import numpy as np
import pytest

from minicnn import Augmentation, Batches, ConfigError, DataError, Flatten, Sequential, SoftmaxCrossEntropy, evaluate
from minicnn.data.augmentation import gaussian
from minicnn.engine import driver
from minicnn.kernels import LANES
from minicnn.kernels import augment as kernel

AFFINE = Augmentation(shift=2, rotation=15, scale=0.2, shear=10)
ELASTIC = Augmentation(elastic_alpha=34)
MOVES = Augmentation(flip=0.5, crop_padding=3)
ALL = replace(AFFINE, elastic_alpha=20, elastic_sigma=3, flip=0.5, crop_padding=2, cutout=3)


def pictures(n, channels=1, height=28, width=28):
    shape = (n, channels, height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def fed(images, batch_size, augmentation, epoch=0, seed=1):
    """What a network is fed in an epoch, in the order of the images."""
    batches = Batches(images, np.arange(len(images)), batch_size, 0.3, 0.7, seed, augmentation)
    x = np.empty(images.shape, np.float32)
    for batch in batches.epoch(epoch):
        x[batch.labels] = batch.arrays()[0]
    return x


# Pixels.


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(shift=2.5),
        Augmentation(rotation=180),
        Augmentation(scale=0.5),
        Augmentation(shear=60),
        AFFINE,
        ELASTIC,
        Augmentation(elastic_alpha=300, elastic_sigma=9.7),
        Augmentation(elastic_alpha=3, elastic_sigma=0.1),
        Augmentation(flip=1),
        MOVES,
        Augmentation(cutout=9),
        Augmentation(erasing=1),
        replace(AFFINE, fill=200),
        Augmentation(),
        ALL,
    ],
    ids=repr,
)
@pytest.mark.parametrize("size", [(1, 28, 28), (3, 9, 14), (2, 11, 5), (1, 4, 50)])
def test_each_pixel_is_that_of_the_twin(augmentation, size):
    for name in ("shift", "crop_padding", "cutout"):
        limit = min(getattr(augmentation, name), min(size[1:]) - 1)
        augmentation = replace(augmentation, **{name: limit})
    images = pictures(5, *size)
    if augmentation is ALL or augmentation.erasing:
        augmentation = replace(augmentation, fill=[10, 200, 90][: size[0]])
    y = augmentation.apply(images, seed=2**63 - 1, epoch=4)
    for n, image in enumerate(images):
        expected = twins.augmented(image, augmentation, 2**63 - 1, 4, n)
        np.testing.assert_allclose(y[n], expected, atol=0.51)  # a rounded byte


@pytest.mark.parametrize("augmentation", [replace(MOVES, fill=9), Augmentation(erasing=0.6), replace(MOVES, cutout=5)])
def test_whole_pixel_moves_are_exact(augmentation):
    images = pictures(40)
    y = augmentation.apply(images)
    for n, image in enumerate(images):
        np.testing.assert_array_equal(y[n], twins.augmented(image, augmentation, 0, 0, n))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_colours_are_those_of_the_twin(channels):
    """On what the moves have made of the images, before something is covered."""
    colours = {"brightness": 1.5, "contrast": 0.8, "noise": 0.1}
    images = pictures(5, channels, 9, 14)
    moved = replace(AFFINE, fill=30).apply(images, 7, 2)
    keys = [twins.random_bits(twins.random_bits(7, 2), n) for n in range(5)]
    for some in (*([name] for name in colours), colours):
        augmentation = replace(AFFINE, fill=30, cutout=3, erasing=1, **{name: colours[name] for name in some})
        y = augmentation.apply(images, 7, 2)
        for n, image in enumerate(moved):
            expected = twins.covered(twins.coloured(image, augmentation, keys[n]), augmentation, keys[n])
            np.testing.assert_array_equal(y[n], expected)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 20)])
def test_colours_are_those_of_torchvision(shape):
    """For the factors that images in two greys give away."""
    functional = pytest.importorskip("torchvision.transforms.functional")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    image = rng.integers(40, 80, shape).astype(np.uint8)
    for name, adjust in (("brightness", functional.adjust_brightness), ("contrast", functional.adjust_contrast)):
        variants = Augmentation(**{name: 0.7}).apply(np.repeat(image[None], 40, axis=0))
        factors = variants.std(axis=(1, 2, 3)) / image.std()
        assert factors.min() > 0.28 and factors.max() < 1.72
        for y, factor in zip(variants, factors, strict=True):
            expected = adjust(torch.tensor(image), float(factor)).numpy()
            np.testing.assert_allclose(y.astype(int), expected, atol=1)


def test_noise_and_erasing_are_distributed_as_documented():
    grey = np.full((40, 1, 50, 50), 128, np.uint8)
    noise = (Augmentation(noise=0.1).apply(grey) - 128.0) / 255
    z = noise.ravel() / 0.1
    assert z.mean() == pytest.approx(0, abs=4.5 / np.sqrt(z.size))
    assert z.std() == pytest.approx(1, abs=0.01)
    for edge, share in ((-2, 0.02275), (-1, 0.15866), (1, 0.84134), (2, 0.97725)):  # of a Gaussian
        assert np.mean(z < edge) == pytest.approx(share, abs=0.006)
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 4.5 / np.sqrt(z.size)
    covered = (Augmentation(erasing=0.5, fill=255).apply(grey.repeat(25, axis=0)) == 255).sum(axis=(1, 2, 3))
    assert np.mean(covered > 0) == pytest.approx(0.5, abs=0.07)
    areas = covered[covered > 0] / 2500
    assert areas.min() > 0.018 and areas.max() < 0.34
    assert areas.mean() == pytest.approx(0.175, abs=0.02)


def test_channels_move_alike():
    images = pictures(20)
    y = ALL.apply(images.repeat(3, axis=1))
    for c in range(3):
        np.testing.assert_array_equal(y[:, c], ALL.apply(images)[:, 0])


def test_directions():
    """In the picture, not only in the formulas: what `shift` and the others can do with a cross."""
    image = np.zeros((2000, 1, 15, 15), np.uint8)
    image[:, :, 7, 3:12] = image[:, :, 3:12, 7] = 255
    i, j = np.mgrid[:15, :15] - 7

    def mean(y, what):  # over the white of each picture
        return (y[:, 0] * what.astype(float)).sum(axis=(1, 2)) / y[:, 0].sum(axis=(1, 2))

    shifted = Augmentation(shift=2).apply(image)
    for axis in (i, j):
        centre = mean(shifted, axis)
        assert -2 <= centre.min() < -1.95 and 1.95 < centre.max() <= 2
        assert abs(centre.mean()) < 0.1
        assert centre.std() == pytest.approx(2 / np.sqrt(3), rel=0.05)
    size = mean(Augmentation(scale=0.3).apply(image), np.abs(i) + np.abs(j))
    assert size.min() / size.max() == pytest.approx(0.7 / 1.3, rel=0.1)
    bar = np.zeros((2000, 1, 15, 15), np.uint8)
    bar[:, :, 3:12, 7] = 255
    for option, axes in (("rotation", (i, j)), ("shear", (i, j))):
        y = Augmentation(**{option: 20}).apply(bar)
        lean = mean(y, axes[0] * axes[1]) / mean(y, axes[0] ** 2)
        assert lean.max() == pytest.approx(np.tan(np.radians(20)), rel=0.1)
        assert lean.min() == pytest.approx(-np.tan(np.radians(20)), rel=0.1)
        height = mean(y, np.abs(i))
        shrinks = height.min() < 0.97 * height.max()
        assert shrinks == (option == "rotation")


def test_probability_of_a_flip():
    left = np.zeros((4000, 1, 4, 4), np.uint8)
    left[..., 0] = 255
    for flip in (0.0, 0.25, 1.0):
        y = Augmentation(flip=flip, cutout=1).apply(left)
        turned = y[:, 0, :, 3].max(axis=1) > 0
        assert turned.mean() == pytest.approx(flip, abs=0.03 if 0 < flip < 1 else 0)


def test_every_crop_occurs_equally_often():
    point = np.zeros((4500, 1, 9, 9), np.uint8)
    point[..., 4, 4] = 255
    places = Augmentation(crop_padding=1).apply(point).reshape(4500, -1).argmax(axis=1)
    counts = np.unique(places, return_counts=True)[1]
    assert len(counts) == 9
    assert counts.min() > 400 and counts.max() < 600


def test_elastic_displacement_has_the_size_that_is_documented():
    """On a slope, brightness tells how far right each pixel has moved."""
    slope = np.broadcast_to(np.arange(64, dtype=np.uint8) * 4, (50, 1, 64, 64))
    moved = Augmentation(elastic_alpha=34).apply(slope) / 4.0 - np.arange(64)
    middle = moved[..., 16:48, 16:48]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.163 * 34 / 4, rel=0.1)
    assert abs(middle.mean()) < 0.1
    neighbours = np.corrcoef(middle[..., 1:].ravel(), middle[..., :-1].ravel())[0, 1]
    assert neighbours == pytest.approx(np.exp(-1 / (4 * 4**2)), abs=0.01)


def test_gaussian_sums_to_one_and_is_cut_where_an_image_ends():
    for sigma in (0.1, 1.0, 4.0, 9.7):
        assert gaussian(sigma, 1000).sum() == pytest.approx(1, rel=1e-6)
    whole, part = gaussian(9.7, 1000), gaussian(9.7, 11)
    assert len(part) == 21
    np.testing.assert_array_equal(part, whole[len(whole) // 2 - 10 :][:21])


# Random numbers.


def test_splitmix64_gives_the_published_numbers():
    """The first outputs for the seed 1234567, as in the test of the Java and C versions."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [twins.random_bits(1234567, n) for n in range(5)] == published
    inner = kernel.bits  # which cannot be called from Python, as it is a part of kernels
    bits = numba.njit(lambda seed, n: inner(seed, n))
    assert [bits(np.uint64(1234567), n) for n in range(5)] == published


def test_draws_are_uniform_and_independent():
    """Shifts and turns of neighbouring images, epochs and seeds, read off a point's place."""
    draws = np.array(
        [
            [twins.random_bits(twins.random_bits(twins.random_bits(s, e), i), n) for n in range(4)]
            for s in range(4)
            for e in range(10)
            for i in range(50)
        ],
        np.uint64,
    )
    unit = draws.astype(float) / 2**64
    for column in unit.T:
        counts = np.histogram(column, 16, (0, 1))[0]
        chi_square = ((counts - 125) ** 2 / 125).sum()
        assert 4 < chi_square < 37.7  # of 15 degrees of freedom: 0.1 % on the upper side
    table = np.column_stack([unit, np.roll(unit, 1, 0), np.roll(unit, 50, 0), np.roll(unit, 500, 0)])
    correlation = np.corrcoef(table.T) - np.eye(16)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(2000)
    assert len(np.unique(draws)) == draws.size
    each_bit = np.unpackbits(draws.view(np.uint8)).reshape(-1, 64).mean(axis=0)
    np.testing.assert_allclose(each_bit, 0.5, atol=4.5 * 0.5 / np.sqrt(draws.size))


# What a variant depends on.


@pytest.mark.parametrize("augmentation", [Augmentation(), None])
def test_nothing_asked_for_is_nothing_done(augmentation):
    images = pictures(50, 2, 7, 9)
    x = fed(images, 20, augmentation)
    np.testing.assert_array_equal(Augmentation().apply(images), images)
    np.testing.assert_array_equal(x, fed(images, 7, None))


@pytest.mark.parametrize(
    "augmentation", [Augmentation(rotation=1e-30), Augmentation(elastic_alpha=1e-30), Augmentation(flip=1e-30)]
)
def test_settings_that_come_to_nothing_change_no_bit(augmentation):
    """Through interpolation, displacement fields and copies."""
    images = pictures(20, 2, 7, 9)
    np.testing.assert_array_equal(fed(images, 20, augmentation), fed(images, 20, None))


@pytest.mark.parametrize("batch_size", [1, LANES - 1, LANES, 3 * LANES + 1, 1000])
def test_variants_do_not_depend_on_the_batches(batch_size):
    images = pictures(70, 2, 7, 9)
    augmented = ALL.apply(images, seed=1, epoch=3)
    expected = fed(augmented, 70, None)
    np.testing.assert_array_equal(fed(images, batch_size, ALL, epoch=3), expected)


def test_variants_do_not_depend_on_the_number_of_threads():
    images = pictures(70)
    expected = ALL.apply(images)
    threads = driver.get_threads()
    try:
        for number in (1, 2, 3):
            driver.set_threads(number)
            np.testing.assert_array_equal(ALL.apply(images), expected)
    finally:
        driver.set_threads(threads)


def test_one_batch_after_another_with_other_settings():
    """Memory that is used again holds nothing of the images before."""
    images, network = pictures(40), Sequential([Flatten()])
    batches = Batches(images, np.arange(40), 40, augmentation=ALL)
    [batch], [other] = batches.epoch(0), batches.epoch(1)
    first, second, third = (evaluate(network, SoftmaxCrossEntropy(), [one]).scores for one in (batch, other, batch))
    assert not np.array_equal(second, first)
    np.testing.assert_array_equal(third, first)


def test_a_batch_in_pieces_is_the_batch():
    images = pictures(5 * LANES, 2, 7, 9)
    [batch] = Batches(images, np.arange(len(images)), 1000, seed=1, augmentation=ALL).epoch(2)
    whole, labels = batch.arrays()
    for first in range(0, len(images), 2 * LANES):
        end = min(first + 2 * LANES, len(images))
        x, part = batch.cut(first, end).arrays()
        np.testing.assert_array_equal(x, whole[first:end])
        np.testing.assert_array_equal(part, labels[first:end])


def test_seeds_epochs_and_images_differ():
    image = pictures(1).repeat(2, axis=0)
    variants = [ALL.apply(image, seed, epoch)[n] for seed in (0, 1) for epoch in (0, 1) for n in (0, 1)]
    for n, variant in enumerate(variants):
        assert not any(np.array_equal(variant, other) for other in variants[:n])


# Bad input.

RANGES = {
    name: (hint.__metadata__[0].ge, hint.__metadata__[0].le)
    for name, hint in get_type_hints(Augmentation, include_extras=True).items()
    if name != "fill"
}


@pytest.mark.parametrize("name", RANGES)
def test_values_out_of_range(name):
    low, high = RANGES[name]
    for value in (low, high):
        Augmentation(**{name: int(value) if name in ("crop_padding", "cutout") else value})
    for value in (low - 1, high + 1, float("nan"), "1", True, None):
        with pytest.raises(ConfigError, match=f"^Augmentation: {name}: expected an? .* from .* to"):
            Augmentation(**{name: value})


def test_whole_pixels_are_integers():
    with pytest.raises(ConfigError, match=r"cutout: expected an integer from 0 to 1000, received 1\.5"):
        Augmentation(cutout=1.5)


def test_fill_is_a_colour():
    for value in (-1, 256, 1.5, "red", [1, 2, 300], [0.5], True):
        with pytest.raises(ConfigError, match="fill: expected an integer from 0 to 255 or a list of integers from 0"):
            Augmentation(fill=value)
    with pytest.raises(ConfigError, match=r"one for each of the 3 channels, received \[1, 2\]"):
        Augmentation(shift=1, fill=[1, 2]).apply(pictures(2, 3))
    assert hash(Augmentation(fill=[1, 2, 3])) == hash(Augmentation(fill=(1, 2, 3)))
    assert not Augmentation(fill=3)


@pytest.mark.parametrize("name", ["shift", "crop_padding", "cutout"])
def test_moves_larger_than_the_images(name):
    with pytest.raises(ConfigError, match=rf"augmentation.{name}: expected less than 7.*\(7 x 9"):
        Batches(pictures(3, 1, 7, 9), np.arange(3), 2, augmentation=Augmentation(**{name: 7}))


def test_images_that_are_none():
    for images in (pictures(3) / 255, pictures(3)[0], pictures(0)):
        with pytest.raises(DataError, match=r"expected uint8 \(N, C, H, W\), N > 0"):
            ALL.apply(images)
