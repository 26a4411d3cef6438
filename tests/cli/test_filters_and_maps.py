"""What filters let pass, against waves sent through a real layer; and the pictures of filters and feature maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_figures import check, record, words
from matplotlib.figure import Figure
from matplotlib.image import imread

from minicnn import Conv2d
from minicnn.inspect.frequency import frequency_response, passing
from minicnn.inspect.plots.filters import plot_responses
from minicnn.inspect.plots.maps import Panel, plot_maps, plot_overview

SOBEL = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]], float)
LAPLACE = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], float)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    return record(monkeypatch)


def test_response_is_the_gain_of_waves_through_the_layer() -> None:
    layer = Conv2d(1, 6, 5, padding=2, bias=False)
    rows, columns = np.mgrid[:52, :52]
    for fy, fx in ((0.0, 0.0), (4 / 13, 0.0), (0.0, -5 / 13), (2 / 13, 6 / 13)):
        phase = 2 * np.pi * (fy * rows + fx * columns)
        waves = np.stack([np.cos(phase), np.sin(phase)])[:, None].astype(np.float32)
        real, imaginary = layer.forward(waves)[:, :, 2:-2, 2:-2]
        gain = np.hypot(real, imaginary)
        expected = frequency_response(layer.weight.value, 13)[:, 0, round(6 + 13 * fy), round(6 + 13 * fx)]
        np.testing.assert_allclose(gain, np.broadcast_to(expected[:, None, None], gain.shape), atol=1e-5)


def test_response_is_the_transform_of_the_kernel_with_zeros_around_it(rng: Any) -> None:
    kernel = rng.normal(size=(3, 4, 7))
    expected = np.abs(np.fft.fftshift(np.fft.fft2(kernel, (65, 65)), axes=(1, 2)))
    np.testing.assert_allclose(frequency_response(kernel), expected, atol=1e-12)


def test_low_share_is_that_of_a_fine_grid_of_frequencies(rng: Any) -> None:
    kernels = rng.normal(size=(2, 5, 3))
    energy = np.square(frequency_response(kernels, 801)).sum(axis=0)
    low = energy[200:601, 200:601].sum()  # from -200/801 to 200/801 cycles per pixel
    assert passing(kernels).low == pytest.approx(low / energy.sum(), abs=2e-3)


@pytest.mark.parametrize(
    ("kernel", "low", "gain", "kind"),
    [
        (np.ones((3, 3)), (1 / 2 + 4 / (3 * np.pi)) ** 2, 1.0, "low-pass"),
        ([[1.0]], 0.25, 1.0, "broad"),
        ([[1.0, -1.0]], 0.5 * (0.5 - 1 / np.pi), 0.0, "high-pass"),
        (SOBEL, None, 0.0, "band-pass"),
        (LAPLACE, None, 0.0, "high-pass"),
        (np.zeros((3, 3)), np.nan, 0.0, "zero"),
    ],
    ids=["mean", "one", "difference", "sobel", "laplace", "nothing"],
)
def test_kinds_of_known_filters(kernel: Any, low: float | None, gain: float, kind: str) -> None:
    found = passing(np.asarray(kernel, float)[None])
    assert found.kind == kind and found.mean_gain == pytest.approx(gain, abs=1e-12)
    if low is not None:
        assert found.low == pytest.approx(low, nan_ok=True)


def test_dilation_repeats_the_low_frequencies_at_high_ones() -> None:
    assert passing(np.ones((1, 3, 3))).kind == "low-pass"
    assert passing(np.ones((1, 3, 3)), (2, 2)).low == pytest.approx(0.25)


@pytest.mark.parametrize("shape", [(6, 1, 5, 5), (1, 1, 1, 1), (30, 1, 3, 7), (64, 32, 3, 3), (2, 3, 11, 11)], ids=str)
def test_responses(tmp_path: Path, drawn: list[Figure], shape: tuple[int, ...]) -> None:
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    plot_responses(tmp_path / "filters.png", weight, "Layer 3: Conv2d")
    check(drawn[0], tmp_path / "filters.png")
    shown = [text for text in words(drawn[0]) if text.endswith("% low")]
    assert len(shown) == min(shape[0], 24 if shape[1] == 1 else 16)
    first = passing(weight[0])
    if shape[0] <= 16:
        assert shown[0] == f"{first.low:.0%} low" and first.kind in words(drawn[0])
    strongest = any("strongest" in text for text in words(drawn[0]))
    assert strongest == (shape[0] > 24 or shape[1] > 6)


def test_a_response_has_frequency_0_in_the_middle(tmp_path: Path) -> None:
    plot_responses(tmp_path / "f.png", np.ones((1, 1, 5, 5)), "Mean")
    picture = imread(tmp_path / "f.png")[..., :3]
    tile = picture[190 + 123 + 20 :, 130:][:111, :111].sum(axis=-1)
    assert tile[55, 55] == tile[40:71, 40:71].max()
    assert tile[55, 55] > 2.4 and tile[2, 55] < 1 and tile[55, 2] < 1


def test_kernels_that_do_not_exist_or_are_zero(tmp_path: Path, drawn: list[Figure]) -> None:
    weight = np.ones((3, 2, 3, 3))
    weight[1, 0] = np.nan
    weight[2] = 0
    plot_responses(tmp_path / "f.png", weight, "Some")
    check(drawn[0], tmp_path / "f.png")
    assert words(drawn[0]).count("zero") == 1 and words(drawn[0]).count("low-pass") == 2
    picture = imread(tmp_path / "f.png")[..., :3]
    assert (picture[190:301, 130 + 123 : 130 + 123 + 111] == 1).all()  # nothing is drawn there
    assert (picture[190 + 2 * 123 + 20 :, 130 + 123 :][:111, :111] == 1).all()


@pytest.mark.parametrize("shape", [(6, 28, 28), (1, 5, 5), (100, 4, 9), (3, 500, 300), (120,), (2000,), (120, 1, 1)])
@pytest.mark.parametrize("low", [0.0, -1.0])
def test_maps(tmp_path: Path, drawn: list[Figure], shape: tuple[int, ...], low: float) -> None:
    y = np.random.default_rng(0).uniform(low, 2, size=shape).astype(np.float32)
    plot_maps(tmp_path / "maps.png", Panel("2", "MaxPool", y), "Layer 2: MaxPool(2)")
    check(drawn[0], tmp_path / "maps.png")
    assert any(text.startswith(f"from {y.min():.3g} to {y.max():.3g}") for text in words(drawn[0]))
    limit = 32 if len(shape) == 3 and shape[1:] != (1, 1) else 320
    assert any(f"strongest {limit} of" in text for text in words(drawn[0])) == (shape[0] > limit)


def test_maps_share_one_scale(tmp_path: Path) -> None:
    y = np.stack([np.full((4, 4), 1.0), np.full((4, 4), 0.5), np.zeros((4, 4))])
    plot_maps(tmp_path / "maps.png", Panel("", "", y), "Positive")
    dark, middle, light = imread(tmp_path / "maps.png")[150 + 100, [40 + 100, 40 + 314, 40 + 528], :3].sum(axis=1)
    assert light == 3 and dark < 0.3 * 3 and dark < middle < light
    plot_maps(tmp_path / "maps.png", Panel("", "", y - 0.5), "Signed")
    red, _, blue = imread(tmp_path / "maps.png")[150 + 100, [40 + 100, 40 + 314, 40 + 528], :3].T
    assert red[0] > 2 * blue[0] and blue[2] > 2 * red[2] and red[1] == blue[1] == 1


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], [-5.0, -1e-3, 7.0], [0.0, 0.0, 0.0], [-3.0, -2.0, -1.0]])
def test_scores_are_bars_with_names(tmp_path: Path, drawn: list[Figure], values: list[float]) -> None:
    names = ("cat", "dog", "a bird of a long name")
    plot_maps(tmp_path / "scores.png", Panel("", "", np.array(values), names), "Scores", "predicted as dog")
    check(drawn[0], tmp_path / "scores.png")
    assert {*names, *(f"{value:.3g}" for value in values)} <= set(words(drawn[0]))
    assert any("predicted as dog" in text for text in words(drawn[0]))


def test_of_many_maps_the_strongest_are_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    y = np.full((40, 3, 3), 0.1)
    y[35] = 2
    plot_maps(tmp_path / "maps.png", Panel("", "", y), "Many")
    numbers = [int(text) for text in words(drawn[0]) if text.isdigit() and text != "2"]
    assert 35 in numbers and len(numbers) in (31, 32)


@pytest.mark.parametrize(("tones", "inside"), [("ink", 0.0), ("photograph", 1.0)])
def test_pixels_are_drawn_as_ink_or_as_they_are(tmp_path: Path, tones: str, inside: float) -> None:
    pixels = np.zeros((1, 4, 4))
    pixels[0, 0, 0] = 1
    plot_maps(tmp_path / "input.png", Panel("", "input", pixels, tones=tones), "Input")
    picture = imread(tmp_path / "input.png")[150:, 40:, :3]
    assert (picture[25, 25] == inside).all() and (picture[125, 125] == 1 - inside).all()


def test_a_colour_image_is_one_picture(tmp_path: Path) -> None:
    pixels = np.zeros((3, 4, 4))
    pixels[1] = 1
    plot_maps(tmp_path / "input.png", Panel("", "input", pixels, tones="photograph"), "Input")
    np.testing.assert_allclose(imread(tmp_path / "input.png")[250, 140, :3], (0, 1, 0), atol=0.01)


def layers_of(count: int) -> list[Panel]:
    rng, shapes = np.random.default_rng(0), [(6, 28, 28), (64, 5, 5), (120,), (700,), (120, 1, 1), (1, 300, 200)]
    middle = [Panel(f"{k}.layers.0", "BatchNorm2d", rng.normal(size=shapes[k % len(shapes)])) for k in range(count - 2)]
    names = ("aeroplane with two wings", *map(str, range(9)))
    first = Panel("", "input", rng.uniform(size=(3, 32, 32)), tones="photograph")
    return [first, *middle, Panel(str(count), "Dense", rng.normal(size=10), names)]


@pytest.mark.parametrize("count", [2, 12, 24])
def test_an_overview_is_a_slide_of_all_layers(tmp_path: Path, drawn: list[Figure], count: int) -> None:
    assert plot_overview(tmp_path / "overview.png", layers_of(count), "An image") == [tmp_path / "overview.png"]
    check(drawn[0], tmp_path / "overview.png")
    assert imread(tmp_path / "overview.png").shape[:2] == (1080, 1920)
    assert {"input", f"{count} Dense", "An image"} <= set(words(drawn[0]))
    assert ("64 x 5 x 5, 16 shown" in words(drawn[0])) == (count > 3)


def test_the_overview_of_a_deep_network_has_several_slides(tmp_path: Path, drawn: list[Figure]) -> None:
    files = plot_overview(tmp_path / "overview.png", layers_of(30), "An image")
    assert files == [tmp_path / "overview-1.png", tmp_path / "overview-2.png"]
    assert "An image (2 of 2)" in words(drawn[1]) and "30 Dense" in words(drawn[1]) and "input" in words(drawn[0])
