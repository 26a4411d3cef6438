"""Folders of images with something wrong in them, each with one line that names the place."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from data_files import error_of
from folders_of_images import GREY, load, write, write_all
from PIL import Image

from minicnn.data import folder, image_list, load_dataset
from minicnn.errors import DataError

pytestmark = pytest.mark.usefixtures("isolated")


def test_no_such_folder(tmp_path: Path) -> None:
    message = error_of(lambda: load(tmp_path / "none"))
    assert message == (
        f"{tmp_path / 'none'}: expected a folder with one sub-folder of images per class, "
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
    expected = (
        rf"two or more sub-folders, .*, received {received}, and 1 image\(s\) beside; .* data.name=csv reads them$"
    )
    with pytest.raises(ValueError, match=expected):
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
    assert message.startswith(f"{path}: expected a file, received a pipe, a socket or a device; ")


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
        "data.resize=[8, 6] brings all to one size"
    )
    assert load(images, resize=4).train_images.shape == (6, 3, 4, 4)


def test_grey_and_colour_together(images: Path) -> None:
    write(images / "dog" / "1.png", shape=GREY)
    message = error_of(lambda: load(images))
    assert message == (
        f"{images / 'dog' / '1.png'}: expected a colour image like {images / 'cat' / '0.png'}, "
        "received a grey one; data.grey=true makes all of them grey, false all colour"
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
    assert message.startswith(f"{path}: expected an image file, received nothing: no such file; ")


def test_links_that_lead_back_add_no_images(images: Path) -> None:
    """Followed without end, the same images would be trained on and held out."""
    for name, target in (("cat/self", "."), ("cat/all", ".."), ("dog/cat", "../cat")):
        (images / name).symlink_to(target)
    found = [path.relative_to(images).as_posix() for path, _ in folder.list_folder(images).samples["train"]]
    folders = ("cat", "cat/all/dog", "dog", "dog/cat")
    assert found == [f"{name}/{number}.png" for name in folders for number in range(4)]


def test_more_images_than_memory(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(shape: tuple[int, ...], dtype: type) -> None:
        raise MemoryError

    monkeypatch.setattr(image_list.np, "empty", empty)
    message = error_of(lambda: load(images))
    assert message.startswith(f"{images}: expected images that fit into memory, received 8 of 3 x 8")


def test_all_files_that_cannot_be_read_are_told_at_once_or_left_out(images: Path) -> None:
    whole = load(images)
    write_all(images, {"dog": 6})
    (images / "cat" / "a.png").write_bytes(b"no image")
    (images / "dog" / "4.png").write_bytes((images / "dog" / "5.png").read_bytes()[:-60])
    (images / "dog" / "5.png").unlink()
    (images / "dog" / "5.png").symlink_to("nowhere.png")
    with pytest.raises(DataError) as caught:
        load(images)
    first, *lines = str(caught.value).splitlines()
    assert first == "3 of 11 images cannot be read; data.skip_unreadable=true goes on without them"
    names = ["cat/a.png", "dog/4.png", "dog/5.png"]
    assert [line.split(": expected an image")[0] for line in lines] == [str(images / name) for name in names]
    told: list[str] = []
    for _ in range(2):  # the second time from the cache
        left = load(images, skip_unreadable=True, warn=told.append)
        np.testing.assert_array_equal(left.train_images, whole.train_images)
        np.testing.assert_array_equal(left.test_labels, whole.test_labels)
    summary = f"{images}: going on without 3 of 11 images, which cannot be read"
    assert told == ["\n".join([summary, *(str(images / name) for name in names)])] * 2
    assert left.test_files is not None
    assert [Path(file).parent.name for file in left.test_files] == [left.classes[k] for k in left.test_labels]
    for path in (images / "dog").iterdir():
        path.unlink()
    (images / "dog" / "0.png").write_bytes(b"")
    assert "expected images of dog that can be read" in error_of(lambda: load(images, skip_unreadable=True))
    (images / "cat").rename(images / ".cat")
    (images / "dog").rename(images / "cow")
    (images / "ant").mkdir()
    (images / "ant" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"^2 of 2 images cannot be read"):
        load(images, skip_unreadable=True)


DOUBTS = {
    "other names": (
        ("training_set/cat", "training_set/dog", "test_set/cat"),
        "rename test_set to test, training_set to",
    ),
    "names within": (("seg_train/seg_train/cat", "seg_test/seg_test/cat"), "looks like a split, seg_test, seg_train;"),
    "a folder around": (("pets/cat", "pets/dog"), r"received one \(pets\); should data.path be .*pets\?$"),
}


@pytest.mark.parametrize("kind", DOUBTS)
def test_a_split_that_is_none(tmp_path: Path, kind: str) -> None:
    names, expected = DOUBTS[kind]
    write_all(tmp_path / "own", dict.fromkeys(names, 1))
    assert re.search(expected, error_of(lambda: load(tmp_path / "own")))


def test_what_is_perhaps_not_meant_is_told(images: Path) -> None:
    write_all(images, {"cat/young": 1, "cat/old": 1, "dog/young": 1, "dog/old": 1})
    write(images / "group.png")
    told: list[str] = []
    assert load(images, warn=told.append).classes == ("cat", "dog")
    assert told[0] == f"{images}: 1 image(s) beside the folders of the classes, in none of them, are left out"
    assert told[1].startswith(f"{images}: cat, dog count as classes, though all have the same sub-folders, old, young;")
    assert len(told) == 2


def test_errors_say_where_a_relative_folder_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one" / "cat").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name, path in (("folder", "one"), ("folder", "none"), ("csv", "none.csv"), ("arrays", "none.npz")):
        assert error_of(lambda n=name, p=path: load_dataset(n, path=p)).startswith(f"{tmp_path / path}: ")
