"""MNIST: parsing, caches and the shipped subset. Nothing here needs a network."""

import hashlib
import os
import runpy
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import (
    CACHE,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    assert_holds,
    error_of,
    files_below,
    raw_arrays,
    raw_folder,
    remove_raw,
    write_raw,
)

from minicnn.data import SPECS, cache, datasets, find_spec, load_dataset, mnist
from minicnn.data.base import check_arrays, statistics
from minicnn.errors import DataError

pytestmark = pytest.mark.usefixtures("isolated")
REPOSITORY = Path(__file__).parents[2]
SIZES = dict(zip(mnist.RAW_FILES, (47_040_016, 60_008, 7_840_016, 10_008), strict=True))


# Names


def test_specs_are_known_before_loading() -> None:
    spec = find_spec("mnist")
    assert spec is SPECS["mnist"]
    assert spec.input_shape == (1, 28, 28)
    assert spec.classes == tuple("0123456789")
    assert (spec.mean, spec.std) == ((0.1307,), (0.3081,))


@pytest.mark.parametrize("use", [find_spec, load_dataset])
def test_unknown_name_gets_the_nearest(use: Callable[[str], object]) -> None:
    message = error_of(lambda: use("mnist_subset"))
    assert "'mnist_subset'" in message
    assert "did you mean mnist-subset?" in message


def test_unknown_fallback_is_refused_even_where_it_is_not_needed(root: Path) -> None:
    assert "'ignore'" in error_of(lambda: load_dataset("mnist", root, if_unavailable="ignore"))


def test_statistics_are_exact() -> None:
    """Also where float32 sums would have lost digits: one bright pixel in a million dark ones."""
    images = np.zeros((1100, 2, 30, 32), np.uint8)
    images[1099, 0, 29, 31] = 255
    images[:, 1] = np.random.default_rng(0).integers(0, 256, images[:, 1].shape)
    figures = statistics(images)
    pixels = images.astype(np.float64) / 255
    np.testing.assert_allclose(figures["mean"], pixels.mean((0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(figures["std"], pixels.std((0, 2, 3)), rtol=1e-12)


@pytest.mark.skipif(not (REPOSITORY / "data" / "MNIST").is_dir(), reason="needs MNIST in the folder data")
def test_mean_and_std_of_mnist_are_those_that_everybody_uses() -> None:
    figures = statistics(load_dataset("mnist", REPOSITORY / "data").train_images)
    assert (round(figures["mean"][0], 4), round(figures["std"][0], 4)) == (0.1307, 0.3081)


# The raw files and their cache


def test_second_load_maps_the_cache_without_importing_torch(root: Path) -> None:
    arrays = raw_arrays()
    assert_holds(load_dataset("mnist", root), arrays)
    program = (
        "import sys; from minicnn.data import load_dataset; "
        f"data = load_dataset('mnist', {str(root)!r}); "
        "print('torch' in sys.modules, data.train_images.sum())"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", str(arrays[TRAIN_IMAGES].sum())]
    assert CACHE in files_below(root)


def test_cached_arrays_may_be_written_to_and_the_file_stays(root: Path) -> None:
    arrays = raw_arrays()
    load_dataset("mnist", root)
    cached = load_dataset("mnist", root)
    assert cached.train_images.flags.c_contiguous
    cached.train_images[:] = 0
    assert_holds(load_dataset("mnist", root), arrays)


def test_cache_outlives_the_raw_files(root: Path) -> None:
    load_dataset("mnist", root)
    remove_raw(root)
    assert_holds(load_dataset("mnist", root), raw_arrays())


def test_other_raw_files_make_the_cache_stale_even_older_ones(root: Path) -> None:
    load_dataset("mnist", root)
    others = write_raw(root, raw_arrays(seed=1))
    for name in mnist.RAW_FILES:
        os.utime(raw_folder(root) / name, (1e9, 1e9))
    assert_holds(load_dataset("mnist", root), others)
    assert_holds(load_dataset("mnist", root), others)


def test_unwritable_root_is_cached_in_the_user_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / CACHE).mkdir()  # permissions would not stop a superuser, a folder in the way does
    load_dataset("mnist", root)
    (user_cache,) = files_below(tmp_path / "user-cache")
    assert user_cache.startswith("mnist-cache-v2-")
    monkeypatch.delattr(mnist.Mnist, "read")
    assert_holds(load_dataset("mnist", root), raw_arrays())
    assert files_below(root) == set(mnist.RAW_FILES)


def test_user_cache_belongs_to_one_root(root: Path, tmp_path: Path) -> None:
    others = write_raw(tmp_path / "other", raw_arrays(seed=1))
    for folder in (root, tmp_path / "other"):
        (folder / CACHE).mkdir()
        load_dataset("mnist", folder)
        remove_raw(folder)
    assert_holds(load_dataset("mnist", root), raw_arrays())
    assert_holds(load_dataset("mnist", tmp_path / "other"), others)


def test_no_writable_folder_means_no_cache(root: Path, tmp_path: Path) -> None:
    (root / CACHE).mkdir()
    (tmp_path / "user-cache").write_text("a file where the folder should be")
    assert_holds(load_dataset("mnist", root), raw_arrays())
    assert_holds(load_dataset("mnist", root), raw_arrays())
    assert files_below(root) == set(mnist.RAW_FILES)


def test_a_cache_is_numpys_file_and_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2000, 3, 32, 32), np.uint8)
    arrays = {"images": images, "labels": np.arange(2000), "mean": np.array([0.5, 0.25, 0.125])}
    tracemalloc.start()
    cache.save_arrays(tmp_path / "cache.npy", arrays)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < images.nbytes / 10
    record = np.load(tmp_path / "cache.npy")
    assert record.dtype.names == ("images", "labels", "mean", "crc32")
    for name, array in arrays.items():
        np.testing.assert_array_equal(record[name], array)


def truncate(content: bytes) -> bytes:
    return content[:-1000]


def cut_header(content: bytes) -> bytes:
    return content[:50]


def empty(content: bytes) -> bytes:
    return b""


def change_one_pixel(content: bytes) -> bytes:
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


def change_header(content: bytes) -> bytes:
    return content.replace(b"'descr'", b"'(escr'")


DAMAGES = [truncate, cut_header, empty, change_one_pixel, change_header]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_cache_is_built_again(root: Path, damage: Callable[[bytes], bytes]) -> None:
    load_dataset("mnist", root)
    whole = (root / CACHE).read_bytes()
    (root / CACHE).write_bytes(damage(whole))
    assert_holds(load_dataset("mnist", root), raw_arrays())
    assert (root / CACHE).read_bytes() == whole


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_cache_without_raw_files_is_an_error(root: Path, damage: Callable[[bytes], bytes]) -> None:
    load_dataset("mnist", root)
    remove_raw(root)
    (root / CACHE).write_bytes(damage((root / CACHE).read_bytes()))
    message = error_of(lambda: load_dataset("mnist", root, if_unavailable="mnist-subset"))
    assert str(root / CACHE) in message
    assert "expected a whole cache file" in message
    assert "delete it" in message


@pytest.mark.parametrize("name", mnist.RAW_FILES)
@pytest.mark.parametrize("kept", [0, 3, 16, -1])
def test_truncated_raw_file_is_named(root: Path, name: str, kept: int) -> None:
    path = raw_folder(root) / name
    content = path.read_bytes()[:kept]
    path.write_bytes(content)
    message = error_of(lambda: load_dataset("mnist", root, if_unavailable="mnist-subset"))
    assert str(path) in message
    assert f"{SIZES[name]:,} bytes" in message
    assert f"received {len(content):,} bytes" in message
    assert "delete it to have it downloaded again" in message
    assert CACHE not in files_below(root)


def test_raw_file_of_another_format_is_named(root: Path) -> None:
    path = raw_folder(root) / TEST_IMAGES
    path.write_bytes(b"<html>a login page</html>")
    assert str(path) in error_of(lambda: load_dataset("mnist", root))


def test_unreadable_raw_file_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("torchvision.datasets.mnist.read_label_file", refuse)
    message = error_of(lambda: load_dataset("mnist", root))
    assert str(raw_folder(root) / TRAIN_LABELS) in message
    assert "Permission denied" in message


@pytest.mark.parametrize(
    ("name", "array", "expected"),
    [
        (TRAIN_LABELS, np.zeros(19, np.uint8), "train split: .* 20 images and 19 labels"),
        (TEST_LABELS, np.full(10, 10, np.uint8), "test split: .* labels from 0 to 9, received 10"),
        (TEST_IMAGES, np.zeros((10, 27, 28), np.uint8), r"test split: .* received \(1, 27, 28\)"),
    ],
)
def test_inconsistent_files_are_refused_and_not_cached(root: Path, name: str, array: np.ndarray, expected: str) -> None:
    write_raw(root, {name: array})
    with pytest.raises(DataError, match=f"data set mnist, {expected}"):
        load_dataset("mnist", root)
    assert CACHE not in files_below(root)


def test_empty_split_is_refused() -> None:
    arrays = {"train_images": np.zeros((0, 1, 28, 28), np.uint8), "train_labels": np.zeros(0, np.uint8)}
    message = error_of(lambda: check_arrays("mnist", SPECS["mnist"], arrays))
    assert message == "data set mnist, train split: expected at least one image, received none"


# The subset


def test_subset_is_balanced() -> None:
    dataset = load_dataset("mnist-subset")
    assert dataset.name == "mnist-subset"
    assert dataset.train_images.shape == (10_000, 1, 28, 28)
    assert dataset.test_images.shape == (2_000, 1, 28, 28)
    assert dataset.train_images.dtype == dataset.test_images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(dataset.train_labels), [1000] * 10)
    np.testing.assert_array_equal(np.bincount(dataset.test_labels), [200] * 10)
    images = np.concatenate([dataset.train_images, dataset.test_images])
    assert len({image.tobytes() for image in images}) == len(images)
    mean, std = np.mean(images / 255), np.std(images / 255)
    assert (mean, std) == (pytest.approx(dataset.mean[0], rel=0.02), pytest.approx(dataset.std[0], rel=0.02))


def test_subset_is_the_file_that_its_licence_describes() -> None:
    text = datasets.SUBSET_FILE.with_suffix(".txt").read_text()
    assert hashlib.sha256(datasets.SUBSET_FILE.read_bytes()).hexdigest() in text
    for words in ("Yann LeCun, Corinna Cortes, Christopher J. C. Burges", "CC BY-SA 3.0"):
        assert words in text


@pytest.mark.parametrize("kept", [None, 0, 1000, -1000])
def test_missing_or_damaged_subset_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int | None) -> None:
    path = tmp_path / "subset.npz"
    if kept is not None:
        path.write_bytes(datasets.SUBSET_FILE.read_bytes()[:kept])
    monkeypatch.setattr(datasets, "SUBSET_FILE", path)
    message = error_of(lambda: load_dataset("mnist-subset"))
    assert str(path) in message
    assert "install minicnn again" in message


def test_subset_script_draws_each_image_from_its_split_and_repeats_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = raw_arrays(train=10_500, test=2_100)
    arrays[TRAIN_IMAGES] &= 127
    arrays[TEST_IMAGES] |= 128
    write_raw(tmp_path, arrays)
    drawn = []
    for out in (tmp_path / "first.npz", tmp_path / "second.npz"):
        arguments = ["make_mnist_subset.py", "--root", str(tmp_path), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", arguments)
        runpy.run_path(str(REPOSITORY / "scripts" / "make_mnist_subset.py"), run_name="__main__")
        drawn.append(out.read_bytes())
    assert drawn[0] == drawn[1]
    with np.load(tmp_path / "first.npz") as subset:
        np.testing.assert_array_equal(np.bincount(subset["train_labels"]), [1000] * 10)
        np.testing.assert_array_equal(np.bincount(subset["test_labels"]), [200] * 10)
        assert subset["train_images"].max() < 128 <= subset["test_images"].min()


@pytest.mark.parametrize(
    "change",
    [
        {"train_labels": None},
        {"raw_stamp": None},
        {"test_images": None},
        {"std": None},
        {"other": np.zeros(3)},
        {"train_labels": np.array(["a", "b"])},
        {"train_images": np.zeros((2, 1, 4, 4), np.float32)},
        {"train_images": np.zeros((2, 4), np.uint8)},
        {"mean": np.zeros((1, 1))},
    ],
)
def test_a_whole_cache_of_something_else_is_damaged(tmp_path: Path, change: dict[str, np.ndarray | None]) -> None:
    images, labels = np.zeros((2, 1, 4, 4), np.uint8), np.arange(2)
    arrays: dict[str, np.ndarray | None] = {"raw_stamp": np.zeros((1, 2), np.int64)}
    for split in ("train", "test"):
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    arrays |= {"mean": np.zeros(1), "std": np.ones(1)}
    path = tmp_path / "cache.npy"
    for changes, good in (({}, True), (change, False)):
        kept = {key: value for key, value in (arrays | changes).items() if value is not None}
        cache.save_arrays(path, kept)
        found, damaged = cache.find_arrays([path], None)
        assert (found is not None, damaged is None) == (good, good)
