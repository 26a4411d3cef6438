"""A user's own arrays, in a .npz file or in .npy files."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data_files import error_of
from numpy.lib import format as npy

from minicnn.cli import main
from minicnn.data import Dataset, arrays, find_spec, load_dataset

Arrays = dict[str, np.ndarray]


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def split_arrays() -> Arrays:
    return {
        "train_images": images(6, 5, 7),
        "train_labels": np.array([0, 1, 2, 0, 1, 2]),
        "test_images": images(2, 5, 7, seed=1),
        "test_labels": np.array([2, 0]),
    }


def write(place: Path, arrays: Arrays) -> Path:
    """A .npz file, or a folder of .npy files, by the name of `place`."""
    if place.suffix == ".npz":
        np.savez_compressed(place, **arrays)
    else:
        place.mkdir()
        for name, array in arrays.items():
            np.save(place / f"{name}.npy", array)
    return place


@pytest.fixture(params=["own.npz", "own"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def load(path: Path, validation: float | None = None) -> Dataset:
    return load_dataset("arrays", path=path, validation=validation)


def test_arrays_with_test_images(place: Path) -> None:
    arrays = split_arrays()
    spec = find_spec("arrays", write(place, arrays))
    assert (spec.input_shape, spec.classes) == ((1, 5, 7), ("0", "1", "2"))
    dataset = load(place)
    for name, array in arrays.items():
        expected = array[:, np.newaxis] if "images" in name else array
        np.testing.assert_array_equal(getattr(dataset, name), expected)
    assert (dataset.name, dataset.held_out, dataset.classes) == ("arrays", "test", spec.classes)
    np.testing.assert_allclose(dataset.mean, np.mean(arrays["train_images"] / 255))
    assert dataset.train_labels.dtype == np.int64


def test_arrays_of_which_a_share_is_held_out(place: Path) -> None:
    write(place, {"images": images(20, 5, 7), "labels": np.arange(20, dtype=np.uint8) % 2})
    dataset = load(place, 0.2)
    assert dataset.held_out == "validation"
    assert dataset.test_labels.tolist().count(1) == dataset.test_labels.tolist().count(0) == 2
    assert dataset.train_images.shape == (16, 1, 5, 7)
    assert f"{place}: expected images that are not trained on" in error_of(lambda: load(place))


@pytest.mark.parametrize(
    ("shape", "axes"), [((6, 3, 5, 7), (0, 1, 2, 3)), ((6, 5, 7, 3), (0, 3, 1, 2)), ((6, 5, 7, 1), (0, 3, 1, 2))]
)
def test_channels_may_be_first_or_last(tmp_path: Path, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    given = images(*shape)
    write(tmp_path / "own", {"images": given, "labels": np.array([0, 1, 0, 1, 0, 1])})
    dataset = load(tmp_path / "own", 0.4)
    every = {image.tobytes() for image in [*dataset.train_images, *dataset.test_images]}
    assert every == {image.tobytes() for image in given.transpose(axes)}
    spec = find_spec("arrays", tmp_path / "own")
    assert spec.input_shape == dataset.train_images.shape[1:]


# Bad input


def changed(**arrays: np.ndarray) -> Arrays:
    return {**split_arrays(), **arrays}


BAD = {
    "pixels of another type": (
        changed(train_images=np.zeros((6, 5, 7))),
        "received float64; floats from 0 to 1 become such by (images * 255).astype(numpy.uint8)",
    ),
    "pixels of 64 bits": (
        changed(train_images=np.zeros((6, 5, 7), int)),
        "train_images: expected uint8 (pixels from 0 to 255), received int64; "
        "convert it with images.astype(numpy.uint8)",
    ),
    "channels on either side": (
        changed(train_images=images(6, 3, 5, 3)),
        "train_images: expected images (N, H, W), (N, C, H, W) or (N, H, W, C) of at most 4 "
        "channels, received (6, 3, 5, 3); axes 1 and 3 may both be channels",
    ),
    "too many channels": (changed(train_images=images(6, 5, 5, 5)), "received (6, 5, 5, 5)"),
    "rows only": (changed(train_images=images(6, 35)), "received (6, 35)"),
    "other test images": (
        changed(test_images=images(2, 7, 5)),
        "test split: expected images of shape (1, 5, 7), received (1, 7, 5)",
    ),
    "a label too few": (
        changed(train_labels=np.array([0, 1, 2, 0, 1])),
        "train split: expected one label per image, received 6 images and 5 labels",
    ),
    "labels with a point": (
        changed(train_labels=np.arange(6.0) % 3),
        "train_labels: expected integers (N,), received float64 (6,); labels.astype(int) makes them integers",
    ),
    "one-hot labels": (
        changed(test_labels=np.eye(3, dtype=int)[:2]),
        "test_labels: expected integers (N,), received int64 (2, 3); "
        "one-hot rows become class numbers by labels.argmax(axis=1)",
    ),
    "labels from 1 on": (
        changed(train_labels=np.array([1, 2, 3, 1, 2, 3])),
        "train_labels: expected labels from 0 on, each at least once, received 1 to 3 without 0; they count "
        "from 0: labels - 1",
    ),
    "a negative label": (changed(train_labels=np.array([-1, 0, 1, 2, 0, 1])), "received -1 to 2 without 0"),
    "a class that is not trained": (
        changed(test_labels=np.array([0, 3])),
        "test split: expected labels from 0 to 2, received 3",
    ),
    "one class": (changed(train_labels=np.zeros(6, int)), "train_labels: expected two or more classes, received 1"),
    "no image": (
        changed(train_images=images(0, 5, 7), train_labels=np.zeros(0, int)),
        "train_labels: expected two or more classes, received 0",
    ),
    "Python objects": (
        changed(train_labels=np.array([0, 1, 2, 0, 1, None], object)),
        "train_labels: expected a whole array of numbers",
    ),
    "half of the test arrays": (
        {name: array for name, array in split_arrays().items() if name != "test_labels"},
        "expected arrays called train_images, train_labels, test_images, test_labels, or images "
        "and labels, received test_images, train_images, train_labels",
    ),
    "other names": ({"x": images(2, 5, 7), "y": np.arange(2)}, "received x, y"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_arrays_that_do_not_fit(place: Path, mistake: str) -> None:
    arrays, expected = BAD[mistake]
    write(place, arrays)
    message = error_of(lambda: load(place))
    assert expected in message
    assert str(place) in message or message.startswith("data set arrays, ")


def test_no_such_file(tmp_path: Path) -> None:
    message = error_of(lambda: load(tmp_path / "none.npz"))
    assert message == (
        f"{tmp_path / 'none.npz'}: expected a .npz file or a folder of .npy files, received no such path"
    )
    (tmp_path / "none").mkdir()
    assert error_of(lambda: load(tmp_path / "none")).endswith("received none")


@pytest.mark.parametrize("kept", [0, 10, -30])
def test_truncated_file(place: Path, kept: int) -> None:
    write(place, split_arrays())
    path = place if place.is_file() else place / "train_images.npy"
    path.write_bytes(path.read_bytes()[:kept])
    message = error_of(lambda: load(place))
    assert message.startswith(str(place)) and "expected a whole " in message


def test_training_on_arrays_through_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = {"train_labels": np.arange(20) % 10, "test_labels": np.arange(10)}
    write(Path("own.npz"), {"train_images": images(20, 5, 7), "test_images": images(10, 5, 7), **labels})
    Path("own.yaml").write_text(
        "network: {layers: [Flatten, Dense: {out_features: 10}]}\n"
        "data: {name: arrays, path: own.npz}\n"
        "optimizer: {lr: 0.01}\n"
        "training: {epochs: 1, threads: 1}\n"
        "output: {pictures: false}\n"
    )
    assert main(["train", "own.yaml"]) == 0
    assert "arrays: 20 training and 10 test images of 1 x 5 x 7, 10 classes" in capsys.readouterr().out
    Path("own.npz").write_bytes(b"half a file")
    assert main(["train", "own.yaml"]) == 1
    message = f"error: {tmp_path / 'own.npz'}: expected a whole .npz file, received File is not a zip file\n"
    assert capsys.readouterr().err == message
    assert len(list(Path("runs").iterdir())) == 1


@pytest.mark.parametrize("shape", [(40, 20_000, 25_000), (20 * 1024**3,), (10**18, 10**18), (3, 7)])
def test_a_declared_size_is_not_believed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    for name in ("images", "labels"):
        with (tmp_path / f"{name}.npy").open("wb") as file:
            head = {"descr": "|u1", "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(file, head)
            file.write(bytes(20))
    for path in (tmp_path, tmp_path / "all.npz"):
        if path != tmp_path:
            with zipfile.ZipFile(path, "w") as archive:
                for name in ("images.npy", "labels.npy"):
                    archive.write(tmp_path / name, name)
        message = error_of(lambda path=path: load_dataset("arrays", path=path, validation=0.5))
        assert message.startswith(f"{path}, images: expected a whole array of numbers, ")
        assert "bytes by its head, 20 in the file" in message


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "UNSUSPICIOUS", 100_000)
    images, labels = np.zeros((10, 200, 200), np.uint8), np.arange(10) % 2
    images[0, 0, 0] = 1
    np.savez_compressed(tmp_path / "all.npz", images=images, labels=labels)
    message = error_of(lambda: load_dataset("arrays", path=tmp_path / "all.npz", validation=0.5))
    assert "400,128 bytes packed into" in message
    np.savez(tmp_path / "all.npz", images=images, labels=labels)
    load_dataset("arrays", path=tmp_path / "all.npz", validation=0.5)


def test_pipes_are_no_arrays(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs here")
    for name in ("images", "labels"):
        os.mkfifo(tmp_path / f"{name}.npy")
    message = error_of(lambda: load_dataset("arrays", path=tmp_path, validation=0.5))
    assert "expected a file, received a pipe" in message
    assert "expected" in error_of(lambda: load_dataset("arrays", path=tmp_path / "images.npy"))


@pytest.mark.parametrize("shape", [(4, 0, 8), (4, 8, 0), (4, 1, 0, 8), (4, 8, 8, 0)])
def test_images_without_pixels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "all.npz"
    np.savez(path, images=np.zeros(shape, np.uint8), labels=np.arange(4) % 2)
    message = error_of(lambda: load_dataset("arrays", path=path, validation=0.5))
    assert message == f"{path}, images: expected images with pixels, received {shape}"
