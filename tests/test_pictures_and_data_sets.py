"""A model on pictures as users have them: files, Pillow images and arrays of any size, and data sets to fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from minicnn import Dense, Flatten, MinicnnError, Model, Sequential, load, load_dataset, to_mnist
from minicnn.cli import main

CLASSES = ("cat", "dog", "emu")


def make(shape: tuple[int, ...] = (3, 6, 5), **options: Any) -> Model:
    network = Sequential([Flatten(), Dense(int(np.prod(shape)), 3)]).initialize("kaiming", rng=0)
    return Model(network, shape, mean=0.4, std=0.3, **options)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos of several sizes, a turned one and a transparent one among them."""
    rng = np.random.default_rng(0)
    for number in range(12):
        place = tmp_path / "photos" / CLASSES[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20 + number, 30, 3 + number % 2), np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(place / f"{number}.png", **({"exif": exif} if number == 4 else {}))
    return tmp_path / "photos"


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("grey", [True, False])
def test_a_file_is_seen_as_in_training(photos: Path, tmp_path: Path, grey: bool) -> None:
    options = {"resize": (6, 5), "grey": grey, "background": [0, 99, 200]}
    trained = load_dataset("folder", path=photos, test_on_all=True, **options).train_images
    files = sorted(photos.glob("*/*.png"), key=str)
    model = make(trained.shape[1:], background=(0, 99, 200))
    model.save(tmp_path / "model.safetensors")
    for one in (model, load(tmp_path / "model.safetensors")):
        np.testing.assert_array_equal(one.as_batch(files), trained)
    scores = model.scores(trained)
    images = [Image.open(file) for file in files]
    for pictures in (list(map(str, files)), np.array(list(map(str, files))), images, [files[0], *images[1:]]):
        np.testing.assert_array_equal(model.scores(pictures), scores)
    np.testing.assert_array_equal(model.scores(images[1]), scores[1:2])
    upright = [n for n, file in enumerate(files) if file.stem != "4"]
    arrays = [np.asarray(images[n]) for n in upright]
    np.testing.assert_array_equal(model.scores(arrays), scores[upright])
    np.testing.assert_array_equal(model.scores(arrays[0]), scores[upright[0]][np.newaxis])
    np.testing.assert_array_equal(model.network.forward(model.transform(files)), scores)


def test_a_grey_array_of_another_size_and_a_digit() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (40, 30), np.uint8)
    resized = Image.fromarray(grey).resize((5, 6), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(make((1, 6, 5)).as_batch(grey)[0, 0], np.asarray(resized))
    digit = np.zeros((60, 60), np.uint8)
    digit[10:50, 28:34] = 255
    reader = make((1, 28, 28), data_set="mnist")
    np.testing.assert_array_equal(reader.as_batch(Image.fromarray(digit))[0, 0], to_mnist(digit))
    assert not np.array_equal(reader.look_at(digit, raw=True)[0], to_mnist(digit))


def test_the_best_classes_and_their_names() -> None:
    images = np.random.default_rng(2).integers(0, 256, (7, 3, 6, 5), np.uint8)
    model = make(classes=CLASSES)
    order = np.argsort(-model.scores(images), axis=1)
    np.testing.assert_array_equal(model.predict(images, top=2), order[:, :2])
    assert model.predict(images, names=True).tolist() == [CLASSES[k] for k in order[:, 0]]
    assert model.predict(images, top=3, names=True).tolist() == [[CLASSES[k] for k in row] for row in order]
    for options, message in (({"top": 4}, "at most the 3 classes, received 4"), ({"top": 0}, "top: expected")):
        with pytest.raises(MinicnnError, match=message):
            model.predict(images, **options)
    with pytest.raises(MinicnnError, match="a model with names of its classes"):
        make().predict(images, names=True)


class Dicts:
    """A data set as Hugging Face's package has them."""

    def __init__(self, images: list[Any], labels: list[Any], keys: tuple[str, str], names: Any = None) -> None:
        self.items = [dict(zip((*keys, "id"), (*pair, 0), strict=True)) for pair in zip(images, labels, strict=True)]
        self.features = {keys[1]: type("ClassLabel", (), {"names": names})} if names else {}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        return self.items[number]


def test_data_sets_fit_as_their_arrays_do(photos: Path) -> None:
    (photos / "dog" / "4.png").unlink()  # torchvision does not turn it
    folder = ImageFolder(str(photos))
    images = [image.resize((5, 6), Image.Resampling.BILINEAR) for image, _ in folder]
    labels = folder.targets
    pixels = np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])
    options: dict[str, Any] = {"batch_size": 4, "validation": 0.25, "verbose": False}
    expected = make()
    expected.fit(pixels, labels, **options)
    named = list(CLASSES)
    for dataset in (
        ImageFolder(str(photos)),  # photos of several sizes
        Dicts([np.asarray(image).transpose(2, 0, 1) for image, _ in folder], labels, ("pixels", "label"), named),
        ImageFolder(str(photos), lambda image: ToTensor()(image.resize((5, 6), Image.Resampling.BILINEAR))),
        Dicts(images, labels, ("image", "label"), named),
        Dicts([np.asarray(image) for image in images], labels, ("img", "labels"), named),
        Dicts(images, [CLASSES[label] for label in labels], ("image", "class")),
        list(zip(images, labels, strict=True)),
    ):
        model = make()
        model.fit(dataset, **options)
        np.testing.assert_allclose(model.network.values, expected.network.values, rtol=2e-4, atol=1e-6)
        assert model.classes == (None if isinstance(dataset, list) else CLASSES)
        assert model.evaluate(dataset).accuracy == expected.evaluate(pixels, labels).accuracy
    fresh = Model(expected.network)
    fresh.fit(
        Dicts(images, labels, ("image", "label")), validation=Dicts(images, labels, ("image", "label")), verbose=False
    )
    assert fresh.input_shape == (3, 6, 5)


IMAGE = Image.new("RGB", (5, 6))
WRONG_SETS: dict[str, tuple[Callable[[], Any], str]] = {
    "images alone": (
        lambda: np.zeros((3, 3, 6, 5)),
        "labels: expected one for each image, or a data set, .* received nd",
    ),
    "parts": (lambda: {"train": [(IMAGE, 0)]}, r"expected one of its parts, such as dataset\['train'\]"),
    "nothing": (lambda: Dicts([], [], ("image", "label")), "expected at least one image, received none"),
    "other keys": (
        lambda: Dicts([IMAGE], [0], ("photo", "label")),
        "item 0: expected .*received a dict with photo, label",
    ),
    "no pairs": (lambda: [IMAGE], r"item 0: expected \(image, label\), or a dict"),
    "sizes": (lambda: [(IMAGE, 0), (IMAGE.resize((4, 4)), 1)], r"image 1: expected .*\(C, H, W\)\) resizes pictures"),
    "an order": (
        lambda: Dicts([IMAGE], [0], ("image", "label"), ["dog", "cat", "emu"]),
        "expected classes in the order",
    ),
}


@pytest.mark.parametrize("kind", WRONG_SETS)
def test_what_is_no_data_set(kind: str) -> None:
    dataset, message = WRONG_SETS[kind]
    model = make(classes=CLASSES) if kind == "an order" else Model(Sequential([Flatten(), Dense(90, 3)]))
    with pytest.raises(MinicnnError, match=message):
        model.fit(dataset(), verbose=False)


def test_minicnn_predict_takes_folders_and_writes_tables(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = make(classes=CLASSES)
    model.save("model.safetensors")
    (photos / "dog" / "bad.jpg").write_bytes(b"no image")
    (photos / "dog" / "notes.txt").write_text("no image")
    assert main(["predict", "model.safetensors", "photos", "--csv", "found.csv", "--top", "2"]) == 1
    out, err = capsys.readouterr()
    assert out == "found.csv: 13 images\n" and err.count("bad.jpg") == 1
    header, *lines = Path("found.csv").read_text().splitlines()
    assert header == "image,class,probability,class_2,probability_2,error"
    files = sorted(str(file.relative_to(tmp_path)) for file in photos.glob("*/*.*") if file.suffix != ".txt")
    assert [line.split(",")[0] for line in lines] == files
    bad = files.index("photos/dog/bad.jpg")
    assert lines.pop(bad).startswith('photos/dog/bad.jpg,,,,,"photos/dog/bad.jpg: expected an image')
    files.pop(bad)
    assert [line.split(",")[1:4:2] for line in lines] == model.predict(files, top=2, names=True).tolist()
    assert main(["predict", "model.safetensors", files[0], "--top", "9"]) == 0
    assert len(capsys.readouterr().out.split()) == 1 + 2 * 3
    assert main(["predict", "model.safetensors", files[0], "--top", "0"]) == 2
    assert "--top: expected a number of classes" in capsys.readouterr().err


def test_several_digits_in_a_picture_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make((1, 28, 28), data_set="mnist").save("model.safetensors")
    digits = load_dataset("mnist-subset").test_images[:24:4, 0]
    for number in range(0, 6, 2):
        for name, picture in (("one", digits[number]), ("two", np.hstack(digits[number : number + 2]))):
            scan = Image.fromarray(255 - np.pad(picture, 12))
            scan.resize((4 * scan.width, 4 * scan.height), Image.Resampling.BICUBIC).save(f"{name}-{number}.png")
    assert main(["predict", "model.safetensors", *(f"one-{number}.png" for number in range(0, 6, 2))]) == 0
    assert capsys.readouterr().err == ""
    assert main(["predict", "model.safetensors", "two-*.png"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("warning: two-2.png: seems to hold several characters")
    assert "minicnn read-line two-2.png --run model.safetensors" in lines[1]
    assert main(["predict", "model.safetensors", "two-0.png", "--raw"]) == 0
    assert capsys.readouterr().err == ""
