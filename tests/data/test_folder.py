"""A user's own images, one sub-folder a class: what is read, kept and held out, and a training on them."""

import os
from pathlib import Path

import numpy as np
import pytest
from data_files import files_below
from folders_of_images import GREY, load, write, write_all
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from minicnn.cli import main
from minicnn.config.build import load_data
from minicnn.config.settings import load_settings
from minicnn.data import find_spec, folder, image_list

pytestmark = pytest.mark.usefixtures("isolated")

# What is read


def test_images_labels_and_classes_are_those_of_torchvisions_image_folder(tmp_path: Path) -> None:
    """Upper and lower case, folders in folders, other files: whatever ImageFolder makes of them."""
    for split in ("train", "test"):
        for number, name in enumerate(["b/2.png", "b/10.png", "b/deep/er/1.bmp", "B/x.PNG", "a 1/y.tif", "a 1/z.webp"]):
            write(tmp_path / split / name, number)
        (tmp_path / split / "b" / "notes.txt").write_text("no image")
        (tmp_path / split / "list.csv").write_text("no class")
        (tmp_path / split / ".thumbnails").mkdir()
    dataset = load(tmp_path, validation=None)
    (tmp_path / "train" / ".thumbnails").rmdir()
    theirs = ImageFolder(tmp_path / "train")
    assert dataset.classes == tuple(theirs.classes) == ("B", "a 1", "b")
    assert dataset.train_labels.tolist() == theirs.targets
    expected = [np.asarray(image).transpose(2, 0, 1) for image, _ in theirs]
    np.testing.assert_array_equal(dataset.train_images, expected)
    np.testing.assert_array_equal(dataset.test_images, dataset.train_images)
    assert (dataset.name, dataset.held_out) == ("folder", "test")
    assert (*IMG_EXTENSIONS, ".gif") == folder.EXTENSIONS
    pixels = dataset.train_images / 255
    np.testing.assert_allclose(dataset.mean, pixels.mean((0, 2, 3)))
    np.testing.assert_allclose(dataset.std, pixels.std((0, 2, 3)))


def test_val_is_watched_and_test_is_left_alone(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        write_all(tmp_path / split, {"cat": count, "dog": count})
    dataset = load(tmp_path, validation=None)
    assert (len(dataset.train_images), len(dataset.test_images)) == (6, 4)
    assert dataset.held_out == "validation"


def test_train_and_test_may_be_names_of_classes(tmp_path: Path) -> None:
    write_all(tmp_path, {"train": 4, "plane": 4})
    assert load(tmp_path).classes == ("plane", "train")
    write_all(tmp_path / "2", {"train": 4, "bus": 4, "train/steam": 2})
    assert load(tmp_path / "2").classes == ("bus", "train")


def test_the_spec_needs_one_image_only(images: Path) -> None:
    (images / "dog" / "0.png").write_bytes(b"no image")
    spec = find_spec("folder", images)
    assert (spec.input_shape, spec.classes) == ((3, 8, 6), ("cat", "dog"))
    assert find_spec("folder", images, resize=5, grey=True).input_shape == (1, 5, 5)
    assert find_spec("folder", images, resize=(2, 3)).input_shape == (3, 2, 3)


def test_grey_images_have_one_channel_unless_colour_is_wanted(tmp_path: Path) -> None:
    write_all(tmp_path / "own", {"cat": 4, "dog": 4}, GREY)
    grey, colour = load(tmp_path / "own"), load(tmp_path / "own", grey=False)
    assert grey.train_images.shape == (6, 1, 8, 6)
    np.testing.assert_array_equal(colour.train_images, grey.train_images.repeat(3, axis=1))
    assert len(grey.mean) == 1 and len(colour.std) == 3


def test_colour_becomes_grey_as_pillow_does_it(images: Path) -> None:
    with Image.open(images / "cat" / "0.png") as image:
        expected = np.asarray(image.convert("L"))
    write_all(images, {"dog": 4}, GREY)  # also those that are grey already
    grey = load(images, grey=True, validation=0.5)
    assert any(np.array_equal(image[0], expected) for image in [*grey.train_images, *grey.test_images])


def test_resized_images_are_smoothed_and_of_that_height_and_width(images: Path) -> None:
    """Pillow's bilinear filter spans all pixels that fall together, so a chessboard becomes grey."""
    board = np.indices((40, 60)).sum(axis=0).astype(np.uint8) % 2 * 255
    Image.fromarray(board).convert("RGB").save(images / "cat" / "0.png")
    dataset = load(images, resize=[4, 6], validation=0.25)
    assert dataset.train_images.shape == (6, 3, 4, 6)
    every = np.concatenate([dataset.train_images, dataset.test_images])
    assert (abs(every - 127.5) < 8).all(axis=(1, 2, 3)).sum() == 1
    assert load(images, resize=5).train_images.shape == (6, 3, 5, 5)


def test_an_image_is_turned_as_its_exif_orientation_says(tmp_path: Path) -> None:
    tmp_path /= "own"
    write_all(tmp_path, {"cat": 2, "dog": 2}, (6, 8))
    pixels = write(tmp_path / "cat" / "0.png", 5, (8, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be seen upright, it must be turned by 90 degrees, clockwise
    Image.fromarray(pixels).save(tmp_path / "cat" / "0.png", exif=exif)
    dataset = load(tmp_path, validation=0.5)
    every = [*dataset.train_images[:, 0], *dataset.test_images[:, 0]]
    assert any(np.array_equal(image, np.rot90(pixels, -1)) for image in every)
    assert find_spec("folder", tmp_path).input_shape == (1, 6, 8)


def test_transparent_images_lie_on_the_background_and_of_animations_the_first_frame_counts(images: Path) -> None:
    clear = Image.new("RGBA", (6, 8), (200, 0, 0, 0))
    half = Image.new("LA", (6, 8), (200, 128))
    palette = Image.new("P", (6, 8), 1)
    palette.putpalette([9, 9, 9, 0, 0, 255])
    palette.save(images / "dog" / "0.png", transparency=1)
    clear.save(images / "cat" / "0.png")
    half.save(images / "dog" / "1.png")
    frames = [Image.new("RGB", (6, 8), colour) for colour in ((0, 128, 0), (0, 0, 255))]
    frames[0].save(images / "cat" / "1.gif", save_all=True, append_images=frames[1:])
    (images / "cat" / "1.png").unlink()
    told: list[str] = []
    options = {"grey": False, "validation": None, "test_on_all": True, "warn": told.append}
    found = load(images, background=[10, 20, 30], **options)
    assert told == [f"of animated images, the first frame is taken: {images / 'cat' / '1.gif'}"]
    first = found.train_images[:, :, 0, 0]
    mixed = [round((200 * 128 + level * 127) / 255) for level in (10, 20, 30)]
    np.testing.assert_array_equal(first[[0, 1, 4]], [[10, 20, 30], [0, 128, 0], [10, 20, 30]])
    np.testing.assert_allclose(first[5].astype(int), mixed, atol=1)
    white = load(images, **options)
    np.testing.assert_array_equal(white.train_images[[0, 4], :, 0, 0], np.full((2, 3), 255))


# The cache


def test_decoded_images_are_kept_until_a_file_or_an_option_changes(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_below(images)
    first = load(images)
    [cached] = files_below(tmp_path / "user-cache")
    assert cached.startswith("folder-cache-")
    decoded = []
    read = image_list._read
    monkeypatch.setattr(image_list, "_read", lambda *a: (decoded.append(a[0]), read(*a))[1])

    def decodes(**options: object) -> int:
        decoded.clear()
        load(images, **options)
        return len(decoded)

    assert decodes() == 0
    np.testing.assert_array_equal(load(images).train_images, first.train_images)
    assert load(images).mean == first.mean
    assert decodes(resize=4) > 8
    assert decodes(resize=4) == decodes(resize=[4, 4]) == 0
    monkeypatch.chdir(images.parent)
    load(Path(images.name), resize=4)
    assert decoded == []
    os.utime(images / "dog" / "3.png", (1e9, 1e9))
    assert decodes(resize=4) > 8
    (images / "dog" / "3.png").rename(images / "dog" / "4.png")
    assert decodes(resize=4) > 8
    assert files_below(tmp_path / "user-cache") == {cached}
    (tmp_path / "user-cache" / "minicnn" / cached).write_bytes(b"damaged")
    assert decodes(resize=4) > 8
    assert files_below(images) == before ^ {"4.png"} | {"3.png"}


# The share for validation


def test_the_share_is_one_of_each_class_and_depends_on_the_seed_only(tmp_path: Path) -> None:
    path = tmp_path / "own"
    write_all(path, {"cat": 12, "dog": 5, "emu": 1})
    dataset = load(path, validation=0.3)
    assert dataset.held_out == "validation"
    assert np.bincount(dataset.test_labels, minlength=3).tolist() == [4, 2, 0]
    assert np.bincount(dataset.train_labels).tolist() == [8, 3, 1]
    assert load(path, validation=0.9).train_labels.tolist() == [0, 1, 2]  # one of each at least
    again, other = load(path, validation=0.3), load(path, validation=0.3, seed=1)
    np.testing.assert_array_equal(dataset.test_images, again.test_images)
    assert not np.array_equal(dataset.test_images, other.test_images)
    seen = [image.tobytes() for image in [*dataset.train_images, *dataset.test_images]]
    assert len(set(seen)) == 12  # 0.png ... 11.png, the same ones in each class
    assert dataset.mean == other.mean == again.mean


SETTINGS = """\
network:
  layers: [Flatten, Dense: {out_features: 2}]
data: {name: folder, path: images, validation: 0.25}
optimizer: {lr: 0.01}
training: {epochs: 1, threads: 1}
output: {pictures: false}
"""


# Through the command line


@pytest.fixture
def settings(images: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Settings beside the images, in the current folder."""
    monkeypatch.chdir(images.parent)
    Path("own.yaml").write_text(SETTINGS)
    return "own.yaml"


def test_training_on_own_images(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(Path("ten"), dict.fromkeys("abcdefghij", 4))  # ten classes have a compiled kernel
    ten = ["data.path=ten", "network.layers.1.Dense.out_features=10"]
    assert main(["train", settings, *ten]) == 0
    out = capsys.readouterr().out
    assert "folder: 30 training and 10 validation images of 3 x 8 x 6, 10 classes" in out
    [run] = Path("runs").iterdir()
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert ",validation_loss,validation_accuracy," in header


def test_training_seeds_share_the_split_and_the_split_has_its_own(settings: str) -> None:
    first, other, split = (
        load_data(load_settings(settings, [change]))
        for change in ("training.seed=0", "training.seed=1", "data.split_seed=1")
    )
    np.testing.assert_array_equal(first.test_images, other.test_images)
    assert not np.array_equal(first.test_images, split.test_images)
    assert first.test_files is not None
    for file, pixels in zip(first.test_files, first.test_images, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(file)).transpose(2, 0, 1), pixels)


@pytest.mark.parametrize(
    ("override", "code", "expected"),
    [
        ("data.path=nothing", 1, "nothing: expected a folder"),
        ("data.validation=", 1, "images: expected images that are not trained on"),
        ("data={name: mnist-subset, skip_unreadable: true}", 2, "expected false with mnist-subset, received true"),
        ("data.background=[0, 300, 0]", 2, "data.background.1: expected "),
        ("data.mean=[0, 0]", 2, "data.mean: expected one number for each of the 3 channels"),
        ("network.layers.1.Dense.out_features=3", 2, "a number for each class of folder"),
        ("data={name: folder, path: images, validation: 2}", 2, "data.validation: expected a"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(
    settings: str, capsys: pytest.CaptureFixture[str], override: str, code: int, expected: str
) -> None:
    assert main(["train", settings, override]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and expected in err and err.count("\n") == 1
    assert not list(Path().glob("runs/*"))
