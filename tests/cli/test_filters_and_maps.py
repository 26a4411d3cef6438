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
from minicnn.inspect.plots import filters, maps
from minicnn.inspect.plots.filters import plot_responses
from minicnn.inspect.plots.maps import plot_maps

SOBEL = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]], float)
LAPLACE = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], float)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    return record(monkeypatch, filters, maps)


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
    assert len(shown) == min(shape[0], 48 if shape[1] == 1 else 16)
    first = passing(weight[0])
    if shape[0] <= 16:
        assert shown[0] == f"{first.low:.0%} low" and first.kind in words(drawn[0])
    strongest = any("strongest" in text for text in words(drawn[0]))
    assert strongest == (shape[0] > 48 or shape[1] > 8)


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


@pytest.mark.parametrize("shape", [(6, 28, 28), (1, 5, 5), (100, 4, 9), (3, 500, 300), (120,), (2000,)])
@pytest.mark.parametrize("low", [0.0, -1.0])
def test_maps(tmp_path: Path, drawn: list[Figure], shape: tuple[int, ...], low: float) -> None:
    y = np.random.default_rng(0).uniform(low, 2, size=shape).astype(np.float32)
    plot_maps(tmp_path / "maps.png", y, "Layer 2: MaxPool(2)")
    check(drawn[0], tmp_path / "maps.png")
    assert any(text.startswith(f"from {y.min():.3g} to {y.max():.3g}") for text in words(drawn[0]))
    limit = 64 if len(shape) == 3 else 640
    assert any(f"first {limit} of" in text for text in words(drawn[0])) == (shape[0] > limit)


def test_maps_share_one_scale(tmp_path: Path) -> None:
    y = np.stack([np.full((4, 4), 1.0), np.full((4, 4), 0.5), np.zeros((4, 4))])
    plot_maps(tmp_path / "maps.png", y, "Positive")
    grey = imread(tmp_path / "maps.png")[150 + 100, [40 + 100, 40 + 314, 40 + 528], :3]
    np.testing.assert_allclose(grey, [[1] * 3, [0.5] * 3, [0] * 3], atol=0.01)
    plot_maps(tmp_path / "maps.png", y - 0.5, "Signed")
    red, _, blue = imread(tmp_path / "maps.png")[150 + 100, [40 + 100, 40 + 314, 40 + 528], :3].T
    assert red[0] > 2 * blue[0] and blue[2] > 2 * red[2] and red[1] == blue[1] == 1


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], [-5.0, -1e-3, 7.0], [0.0, 0.0, 0.0], [-3.0, -2.0, -1.0]])
def test_scores_are_bars_with_names(tmp_path: Path, drawn: list[Figure], values: list[float]) -> None:
    names = ("cat", "dog", "a bird of a long name")
    plot_maps(tmp_path / "scores.png", np.array(values), "Scores", names, "read as dog")
    check(drawn[0], tmp_path / "scores.png")
    assert {*names, *(f"{value:.3g}" for value in values)} <= set(words(drawn[0]))
    assert any("read as dog" in text for text in words(drawn[0]))
