"""A user's own images: one sub-folder a class."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from data_files import error_of, files_below
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from minicnn.cli import main
from minicnn.data import Dataset, find_spec, folder, load_dataset

pytestmark = pytest.mark.usefixtures("isolated")
COLOUR, GREY = (8, 6, 3), (8, 6)  # height, width, channels

SETTINGS = """\
network:
  layers: [Flatten, Dense: {out_features: 2}]
data: {name: folder, path: images, validation: 0.25}
optimizer: {lr: 0.01}
training: {epochs: 1, threads: 1}
output: {pictures: false}
"""


def write(path: Path, seed: int = 0, shape: tuple[int, ...] = COLOUR) -> np.ndarray:
    """An image of noise, at a path that names its format."""
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def write_all(folder: Path, counts: Mapping[str, int], shape: tuple[int, ...] = COLOUR) -> None:
    for name, count in counts.items():
        for number in range(count):
            write(folder / name / f"{number}.png", number, shape)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eight images of two classes."""
    write_all(tmp_path / "images", {"cat": 4, "dog": 4})
    return tmp_path / "images"


def load(path: Path, **options: object) -> Dataset:
    return load_dataset("folder", path=path, **{"validation": 0.25, **options})  # type: ignore[arg-type]


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
    assert folder.EXTENSIONS == IMG_EXTENSIONS
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
    assert find_spec("folder", images, 5, True).input_shape == (1, 5, 5)
    assert find_spec("folder", images, (2, 3)).input_shape == (3, 2, 3)


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
    write_all(tmp_path, {"cat": 2, "dog": 2}, (6, 8))
    pixels = write(tmp_path / "cat" / "0.png", 5, (8, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be seen upright, it must be turned by 90 degrees, clockwise
    Image.fromarray(pixels).save(tmp_path / "cat" / "0.png", exif=exif)
    dataset = load(tmp_path, validation=0.5)
    every = [*dataset.train_images[:, 0], *dataset.test_images[:, 0]]
    assert any(np.array_equal(image, np.rot90(pixels, -1)) for image in every)
    assert find_spec("folder", tmp_path).input_shape == (1, 6, 8)


# The cache


def test_decoded_images_are_kept_until_a_file_or_an_option_changes(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_below(images)
    first = load(images)
    [cached] = files_below(tmp_path / "user-cache")
    assert cached.startswith("folder-cache-")
    decoded = []
    decode = folder._decode
    monkeypatch.setattr(folder, "_decode", lambda *a: (decoded.append(a[0]), decode(*a))[1])

    def decodes(**options: object) -> int:
        decoded.clear()
        load(images, **options)
        return len(decoded)

    assert decodes() == 1  # the first image, for the spec
    np.testing.assert_array_equal(load(images).train_images, first.train_images)
    assert load(images).mean == first.mean
    assert decodes(resize=4) > 8
    assert decodes(resize=4) == 1
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


# Bad input, each with one line that names the place


def test_no_such_folder(tmp_path: Path) -> None:
    message = error_of(lambda: load(tmp_path / "none"))
    assert message == (
        f"{tmp_path / 'none'}: expected a folder with one sub-folder of images a class, "
        "received No such file or directory"
    )


def test_no_path() -> None:
    message = error_of(lambda: load_dataset("folder"))
    assert message == "data set folder: expected a path with it, received none"
    message = error_of(lambda: load_dataset("mnist-subset", resize=3))
    assert message == "data set mnist-subset: expected no resize with it, received 3"


@pytest.mark.parametrize(("names", "received"), [((), "none"), (("cat",), r"one \(cat\)")])
def test_fewer_than_two_classes(tmp_path: Path, names: tuple[str, ...], received: str) -> None:
    write(tmp_path / "lies here.png")
    write_all(tmp_path, dict.fromkeys(names, 2))
    with pytest.raises(ValueError, match=f"two or more sub-folders, .*, received {received}$"):
        load(tmp_path)


def test_a_class_without_images(images: Path) -> None:
    (images / "emu").mkdir()
    (images / "emu" / "notes.txt").write_text("to do")
    message = error_of(lambda: load(images))
    assert message.startswith(f"{images / 'emu'}: expected at least one image (.jpg ")
    assert message.endswith("received none")


@pytest.mark.parametrize(
    ("names", "watched"),
    [
        (("train", "validation"), "validation"),
        (("train", "valid", "test"), "validation"),
        (("Train", "Test"), "test"),
        (("training", "testing"), "test"),
        (("TRAIN", "Dev"), "validation"),
    ],
)
def test_names_of_splits(tmp_path: Path, names: tuple[str, ...], watched: str) -> None:
    for count, name in enumerate(reversed(names), 1):
        write_all(tmp_path / name, {"cat": count, "dog": count})
    dataset = load(tmp_path, validation=None)
    assert (dataset.classes, dataset.held_out) == (("cat", "dog"), watched)
    assert len(dataset.train_labels) == 2 * len(names)
    assert len(dataset.test_labels) == 2 * (len(names) - 1)


HALF_SPLITS = {
    "a stray class": (("train/cat", "train/dog", "test/cat", "test/dog", "cow"), "and cow beside"),
    "a class of both": (("train/cat", "train/dog", "cat"), "classes in train and cat beside them"),
    "no train": (("val/cat", "val/dog", "test/cat", "test/dog"), "received test, val without train"),
    "no classes": (("train", "test"), "received none in test"),
    "two of one kind": (("train/cat", "Train/cat", "train/dog", "Train/dog"), "two of one kind"),
}


@pytest.mark.parametrize("kind", HALF_SPLITS)
def test_half_a_split(tmp_path: Path, kind: str) -> None:
    names, expected = HALF_SPLITS[kind]
    if kind == "two of one kind" and (tmp_path.parent / tmp_path.name.upper()).exists():
        pytest.skip("upper and lower case are the same here")
    write_all(tmp_path, dict.fromkeys(names, 1))
    message = error_of(lambda: load(tmp_path))
    assert expected in message
    assert message.startswith(f"{tmp_path}: expected a sub-folder for each class, or train and")


def test_hidden_files_are_passed_over(images: Path) -> None:
    expected = load(images)
    for name in (".DS_Store", "Thumbs.db", "cat/.DS_Store", "cat/Thumbs.db", "cat/._0.png"):
        (images / name).write_bytes(b"\0\5\x16\7")
    for name in ("__MACOSX/cat/._0.png", ".git/0.png", "cat/.thumbnails/0.png", "dog/@eaDir/0.png"):
        write(images / name, 7)
    found = load(images)
    assert found.classes == expected.classes
    np.testing.assert_array_equal(found.train_images, expected.train_images)


@pytest.mark.parametrize("there", ["train", "test"])
def test_a_class_that_one_half_lacks(tmp_path: Path, there: str) -> None:
    write_all(tmp_path / "train", {"cat": 1, "dog": 1})
    write_all(tmp_path / "test", {"cat": 1, "dog": 1})
    write_all(tmp_path / there, {"emu": 1})
    message = error_of(lambda: load(tmp_path, validation=None))
    lacking = {"train": "test", "test": "train"}[there]
    assert message.startswith(f"{tmp_path / 'test'}: expected the classes of {tmp_path / 'train'}")
    assert message.endswith(f"emu is in {tmp_path / there}, not in {tmp_path / lacking}")


def test_nothing_to_test_with(images: Path) -> None:
    message = error_of(lambda: load(images, validation=None))
    assert message.startswith(f"{images}: expected images that are not trained on")
    assert "data.validation=0.2" in message
    tested = load(images, validation=None, test_on_all=True)
    np.testing.assert_array_equal(tested.test_images, tested.train_images)
    assert tested.held_out == "test"


@pytest.mark.parametrize("share", [0, 1, -0.5, 0.01])
def test_a_share_that_holds_out_nothing_or_everything(images: Path, share: float) -> None:
    assert error_of(lambda: load(images, validation=share)).startswith("validation: expected a share")


@pytest.mark.parametrize("damage", ["text", "empty", "cut"])
@pytest.mark.parametrize("file", ["cat/0.png", "dog/2.png"])
def test_a_file_that_is_no_image(images: Path, file: str, damage: str) -> None:
    path = images / file
    content = {"text": b"no image", "empty": b"", "cut": path.read_bytes()[:-60]}[damage]
    path.write_bytes(content)
    message = error_of(lambda: load(images))
    assert message.startswith(f"{path}: expected an image ")


@pytest.mark.parametrize("link", ["pipe", "device"])
def test_a_pipe_or_a_device_is_no_image(images: Path, link: str) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs here")
    path = images / "dog" / "0.png"
    path.unlink()
    if link == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    message = error_of(lambda: load(images))
    assert message == f"{path}: expected a file, received a pipe, a socket or a device"


@pytest.mark.parametrize("name", ["cat/0.png", "dog/3.png"])
def test_an_image_of_too_many_pixels_is_not_decoded(images: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    write(images / name, shape=(40, 30, 3))
    message = error_of(lambda: load(images))
    assert message.startswith(f"{images / name}: expected at most 1,000 pixels, received more")


def test_an_image_of_16_bits(images: Path) -> None:
    path = images / "dog" / "0.png"
    Image.fromarray(np.zeros((8, 6), np.uint16)).save(path)
    assert f"{path}: " in error_of(lambda: load(images))
    assert "more than 8 bits" in error_of(lambda: load(images))


def test_images_of_two_sizes_without_resize(images: Path) -> None:
    write(images / "dog" / "1.png", shape=(6, 8, 3))
    message = error_of(lambda: load(images))
    assert message == (
        f"{images / 'dog' / '1.png'}: expected 8 x 6 pixels (height x width) like "
        f"{images / 'cat' / '0.png'}, received 6 x 8; "
        "resize: [height, width] brings all to one size"
    )
    assert load(images, resize=4).train_images.shape == (6, 3, 4, 4)


def test_grey_and_colour_together(images: Path) -> None:
    write(images / "dog" / "1.png", shape=GREY)
    message = error_of(lambda: load(images))
    assert message == (
        f"{images / 'dog' / '1.png'}: expected a colour image like {images / 'cat' / '0.png'}, "
        "received a grey one; grey: true makes all of them grey, false all colour"
    )


def test_images_without_anything_in_them(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("L", (4, 4), 7).save(tmp_path / name / f"{number}.png")
    assert "one value in all pixels of channel 0" in error_of(lambda: load(tmp_path, validation=0.5))


def test_a_link_to_nowhere(images: Path) -> None:
    path = images / "dog" / "5.png"
    path.symlink_to("nowhere.png")
    message = error_of(lambda: load(images))
    assert message == f"{path}: expected an image that can be read, received No such file or directory"


def test_links_that_lead_back_add_no_images(images: Path) -> None:
    """Followed without end, the same images would be trained on and held out."""
    for name, target in (("cat/self", "."), ("cat/all", ".."), ("dog/cat", "../cat")):
        (images / name).symlink_to(target)
    found = [path.relative_to(images).as_posix() for path, _ in folder.list_folder(images).train]
    folders = ("cat", "cat/all/dog", "dog", "dog/cat")
    assert found == [f"{name}/{number}.png" for name in folders for number in range(4)]


def test_more_images_than_memory(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(shape: tuple[int, ...], dtype: type) -> None:
        raise MemoryError

    monkeypatch.setattr(folder.np, "empty", empty)
    message = error_of(lambda: load(images))
    assert message.startswith(f"{images}: expected images that fit into memory, received 8 of 3 x 8")


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


@pytest.mark.parametrize(
    ("override", "code", "expected"),
    [
        ("data.path=nothing", 1, "nothing: expected a folder"),
        ("data.validation=", 1, "images: expected images that are not trained on"),
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
