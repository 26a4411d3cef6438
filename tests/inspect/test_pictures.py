"""The pictures: complete files, the right words and marks in them, and no text over another."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_figures import check, record, texts, words
from matplotlib.figure import Figure
from matplotlib.image import imread

from minicnn.errors import DataError, ShapeError
from minicnn.inspect.plots import figures as pictures
from minicnn.inspect.plots.figures import plot_augmentation, plot_confusion, plot_curves, plot_errors
from minicnn.inspect.plots.filters import plot_filters

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Ankle boot with a long name")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    return record(monkeypatch, pictures)


# Turned by 45 degrees they pass each other, although the upright boxes around them do not.
TILTED = {name if len(name) <= 18 else name[:17] + "…" for name in CLOTHES}


def metrics(test_accuracies: list[Any], train_accuracies: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 0.3 / epoch,
            "train_accuracy": train,
            "test_loss": 0.2 / epoch,
            "test_accuracy": test,
        }
        for epoch, (test, train) in enumerate(zip(test_accuracies, train_accuracies, strict=True), start=1)
    ]


@pytest.mark.parametrize(
    ("test", "train"),
    [
        ([0.95], [0.93]),
        ([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]),
        ([0.96, 0.98, 0.99, 0.992], [0.95, 0.985, 0.9985, 1.0]),
        ([1.0, 1.0], [1.0, 1.0]),
        ([0.0, 0.5], [0.0, 1.0]),
        ([None, 0.3, None, 0.4], [0.1, 0.3, 0.35, float("nan")]),
        (list(np.linspace(0.1, 0.9, 200)), list(np.linspace(0.1, 0.91, 200))),
    ],
    ids=["one-epoch", "flat", "usual", "perfect", "zero", "gaps", "long"],
)
def test_curves(tmp_path: Path, drawn: list[Figure], test: list[Any], train: list[Any]) -> None:
    plot_curves(tmp_path / "curves.png", metrics(test, train))
    check(drawn[0], tmp_path / "curves.png")
    last, epoch = max((value, -epoch) for epoch, value in enumerate(test, 1) if value is not None)
    assert f"best on test: {100 * last:.2f} % after epoch {-epoch}" in words(drawn[0])
    assert f"test\n{100 * next(v for v in test[::-1] if v is not None):.2f} %" in words(drawn[0])


def test_curves_of_validation(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [
        {key.replace("test", "validation"): value for key, value in row.items()}
        for row in metrics([0.96, 0.98], [0.95, 0.99])
    ]
    plot_curves(tmp_path / "curves.png", rows)
    check(drawn[0], tmp_path / "curves.png")
    assert "best on validation: 98.00 % after epoch 2" in words(drawn[0])
    assert "validation\n98.00 %" in words(drawn[0])


def test_curves_keep_99_percent_readable(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = metrics([0.9, 0.98, 0.990, 0.992], [0.5, 0.97, 0.99, 1.0])
    plot_curves(tmp_path / "curves.png", rows)
    axes = drawn[0].axes[1]
    train, test = (np.asarray(axes.transData.transform(line.get_xydata()))[:, 1] for line in axes.lines)
    assert test[3] - test[2] > 12  # pixels between 99.0 % and 99.2 %
    assert train[3] == max(train) and np.all(np.diff(test) > 0)  # better is higher, 100 % on top
    tick = dict(zip(axes.get_yticks(), [t.get_text() for t in axes.get_yticklabels()], strict=True))
    assert tick[np.asarray(axes.lines[0].get_ydata())[-1]] == "100 %"


def test_curves_before_the_first_epoch_ends(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_curves(tmp_path / "curves.png", [])
    check(drawn[0], tmp_path / "curves.png")
    assert words(drawn[0]).count("nothing measured yet") == 2


@pytest.mark.parametrize(
    "shape", [(6, 1, 5, 5), (1, 1, 5, 5), (1, 1, 28, 28), (4, 2, 1, 1), (16, 6, 5, 5), (32, 3, 7, 3)], ids=str
)
def test_filters(tmp_path: Path, drawn: list[Figure], shape: tuple[int, ...]) -> None:
    weight = np.random.default_rng(0).normal(size=shape)
    plot_filters(tmp_path / "filters.png", weight)
    check(drawn[0], tmp_path / "filters.png")
    title = drawn[0].texts[0].get_text()
    plural = "" if shape[0] == 1 else "s"
    assert title.startswith(f"First layer: {shape[0]} filter{plural} of {shape[2]}x{shape[3]}")
    assert not any("strongest" in text for text in words(drawn[0]))


def test_many_filters_are_a_named_selection(tmp_path: Path, drawn: list[Figure]) -> None:
    weight = np.random.default_rng(0).normal(size=(64, 32, 3, 3)).astype(np.float32)
    weight[37] *= 3
    weight[:, 21] *= 3
    weight[38], weight[:, 22] = 0, 0
    plot_filters(tmp_path / "filters.png", weight)
    check(drawn[0], tmp_path / "filters.png")
    assert "shown: the strongest (by norm) 16 of the 64 filters and 8 of the 32 inputs" in words(drawn[0])
    assert {"37", "21"} <= set(words(drawn[0])) and not {"38", "22"} & set(words(drawn[0]))


def test_filter_colours_follow_the_sign(tmp_path: Path) -> None:
    weight = np.array([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
    plot_filters(tmp_path / "filters.png", weight)
    picture = imread(tmp_path / "filters.png")[..., :3]
    red, green, blue = np.moveaxis(picture[95 + 60, [100, 232, 364]], -1, 0)
    assert blue[0] > 2 * red[0] and red[2] > 2 * blue[2]
    assert red[1] == green[1] == blue[1] == 1


def test_filters_all_zero(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_filters(tmp_path / "filters.png", np.zeros((2, 1, 3, 3)))
    check(drawn[0], tmp_path / "filters.png")


@pytest.mark.parametrize("shape", [(6, 25), (0, 1, 5, 5)])
def test_filters_need_a_weight_of_a_convolution(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected weight \(out, in, kh, kw\), received"):
        plot_filters(tmp_path / "filters.png", np.zeros(shape))
    assert not list(tmp_path.iterdir())


def test_confusion_names_the_worst(tmp_path: Path, drawn: list[Figure]) -> None:
    labels = np.repeat([4, 4, 9, 1, 3], [7, 93, 2, 1000, 1])
    predictions = np.repeat([9, 4, 5, 1, 8], [7, 93, 2, 1000, 1])
    plot_confusion(tmp_path / "confusion.png", labels, predictions, DIGITS)
    check(drawn[0], tmp_path / "confusion.png")
    found = [text.get_text() for axes in drawn[0].axes for text in axes.texts]
    named = ["4 predicted as 9: 7 times", "9 predicted as 5: 2 times", "3 predicted as 8: 1 time"]
    assert [text for text in found if "predicted as " in text] == named
    assert "10 of 1,103 images (0.91 %) misclassified" in words(drawn[0])
    assert {"93", "1000", "93.0 %", "100.0 %"} <= set(found)
    assert found.count("unseen") == 6
    place_of = {text: [t.get_position() for t in texts(drawn[0]) if t.get_text() == text] for text in ("93", "4")}
    [(x, y)], [row, column] = place_of["93"], place_of["4"]
    assert row[0] < x and (x, y) == (column[0], row[1])  # counts stand at (predicted, true)


@pytest.mark.parametrize("classes", [2, 6, 47])
def test_confusion_of_any_size(tmp_path: Path, drawn: list[Figure], classes: int) -> None:
    rng = np.random.default_rng(0)
    names = CLOTHES if classes == 6 else [chr(65 + i) for i in range(classes)]
    labels = rng.integers(classes, size=2000)
    predictions = np.where(rng.random(2000) < 0.9, labels, rng.integers(classes, size=2000))
    plot_confusion(tmp_path / "c.png", labels.astype(np.uint8), predictions, names)
    check(drawn[0], tmp_path / "c.png", TILTED)
    counts = [int(text) for text in words(drawn[0]) if text.isdigit()]
    assert sum(counts) == 2000


def test_confusion_without_any(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_confusion(tmp_path / "c.png", np.arange(10), np.arange(10), DIGITS)
    check(drawn[0], tmp_path / "c.png", TILTED)
    assert "No confusions" in words(drawn[0])


def captions_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def sheet(n: int, channels: int = 1, size: tuple[int, int] = (28, 28)) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    labels = rng.integers(6, size=n)
    return {
        "images": rng.integers(256, size=(n, channels, *size), dtype=np.uint8),
        "labels": labels,
        "predictions": (labels + rng.integers(2, size=n)) % 6,
        "probabilities": rng.uniform(0.3, 1.0, size=n).astype(np.float32),
    }


@pytest.mark.parametrize(
    ("n", "channels", "size", "classes"),
    [(500, 1, (28, 28), DIGITS), (500, 3, (32, 32), CLOTHES), (20, 1, (8, 16), DIGITS), (60, 3, (500, 400), CLOTHES)],
)
def test_errors(
    tmp_path: Path, drawn: list[Figure], n: int, channels: int, size: tuple[int, int], classes: tuple[str, ...]
) -> None:
    data = sheet(n, channels, size)
    plot_errors(tmp_path / "errors.png", **data, classes=classes)
    check(drawn[0], tmp_path / "errors.png")
    captions = [t for t in captions_of(drawn[0]) if t.startswith("predicted as ")]
    confidences = [float(text.split("(")[1].split()[0]) for text in captions]
    wrong = data["labels"] != data["predictions"]
    assert confidences == sorted(confidences, reverse=True) and captions
    assert confidences[0] == pytest.approx(100 * data["probabilities"][wrong].max(), abs=0.11)
    assert all(t.startswith("true: ") for t in captions_of(drawn[0])[1::2])
    assert any(f"{wrong.sum()} of {n} images" in text for text in words(drawn[0]))


def test_errors_show_the_image_itself(tmp_path: Path, drawn: list[Figure]) -> None:
    data = sheet(3, channels=3, size=(4, 4))
    data |= {"labels": np.array([1, 2, 3]), "predictions": np.array([1, 5, 4])}
    data["probabilities"] = np.array([0.9, 0.6, 0.99999])
    plot_errors(tmp_path / "errors.png", **data, classes=DIGITS)
    assert captions_of(drawn[0]) == ["predicted as 4 (99.9 %)", "true: 3", "predicted as 5 (60.0 %)", "true: 2"]
    mosaic = np.asarray(drawn[0].axes[0].images[0].get_array())[130:-100]
    zoom, left = len(mosaic) // 4, int(np.argmax((mosaic < 255).any(axis=(0, 2))))
    centres = np.arange(4) * zoom + zoom // 2
    tile = mosaic[np.ix_(centres, left + centres)][..., :3]
    np.testing.assert_array_equal(tile, np.moveaxis(data["images"][2], 0, -1))


def test_no_errors(tmp_path: Path, drawn: list[Figure]) -> None:
    data = sheet(40)
    data["predictions"] = data["labels"]
    plot_errors(tmp_path / "errors.png", **data, classes=DIGITS)
    check(drawn[0], tmp_path / "errors.png")
    assert [text.get_text() for text in drawn[0].texts] == [
        "No misclassified images",
        "40 images, and every prediction is right",
    ]


@pytest.mark.parametrize("shape", [(10, 9, 1, 28, 28), (3, 1, 3, 32, 20), (2, 4, 3, 500, 700)])
def test_augmentation(tmp_path: Path, drawn: list[Figure], shape: tuple[int, ...]) -> None:
    n, _, *image = shape
    rng = np.random.default_rng(0)
    variants = rng.integers(256, size=shape, dtype=np.uint8)
    originals = rng.integers(256, size=(n, *image), dtype=np.uint8)
    plot_augmentation(tmp_path / "augmentation.png", originals, variants)
    check(drawn[0], tmp_path / "augmentation.png")
    assert {"Augmentation", "image", "variants"} < set(words(drawn[0]))
    page = np.asarray(drawn[0].axes[0].images[0].get_array())[:-40]
    zoom, step = max(1, round(112 / max(image[1:]))), -(-max(image[1:]) // 224)
    y, x = (-(-side // step) for side in image[1:])
    # where the last image ends, in a row for each and 30 pixels between originals and variants
    ends = (40 + x * zoom, 40 + x * zoom + 30 + shape[1] * (12 + x * zoom))
    for end, last in zip(ends, (originals[-1], variants[-1, -1]), strict=True):
        tile = page[-y * zoom :, end - x * zoom : end][zoom // 2 :: zoom, zoom // 2 :: zoom, :3]
        expected = np.moveaxis(last[:, ::step, ::step], 0, -1)
        inner = np.s_[1:-1, 1:-1]
        np.testing.assert_array_equal(tile[inner], np.broadcast_to(expected, (*expected.shape[:2], 3))[inner])


def test_augmentation_of_other_images(tmp_path: Path) -> None:
    images, variants = np.zeros((2, 1, 8, 8), np.uint8), np.zeros((2, 3, 1, 8, 8), np.uint8)
    for wrong in ((images[:1], variants), (images, variants[..., 1:]), (images.repeat(2, 1),) * 2):
        with pytest.raises(ShapeError, match="plot_augmentation: expected images"):
            plot_augmentation(tmp_path / "a.png", *wrong)
    assert not list(tmp_path.iterdir())


def test_arrays_that_do_not_belong_together(tmp_path: Path) -> None:
    data = sheet(10)
    with pytest.raises(ShapeError, match="one length"):
        plot_confusion(tmp_path / "c.png", np.zeros(3, int), np.zeros(4, int), DIGITS)
    with pytest.raises(ShapeError, match="one length"):
        plot_errors(tmp_path / "e.png", **data | {"probabilities": np.ones(9)}, classes=DIGITS)
    with pytest.raises(ShapeError, match="expected images"):
        plot_errors(tmp_path / "e.png", **data | {"images": np.zeros((10, 28, 28))}, classes=DIGITS)
    with pytest.raises(DataError, match="expected predictions from 0 to 9, received 0 to 10"):
        plot_confusion(tmp_path / "c.png", np.array([0, 1]), np.array([0, 10]), DIGITS)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_picture_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"the old picture")

    def half(figure: Figure, name: Path, **options: Any) -> None:
        name.write_bytes(b"\x89PNG")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(KeyboardInterrupt):
        plot_curves(path, metrics([0.9], [0.9]))
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"the old picture"]
