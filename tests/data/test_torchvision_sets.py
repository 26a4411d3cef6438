"""Fashion-MNIST, KMNIST, EMNIST and CIFAR-10, made up in the files that the real ones come in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import cifar10_files, emnist_files, error_of, files_below, made_up, trust_cifar10, write_idx_set
from torchvision.datasets import CIFAR10, EMNIST, KMNIST, FashionMNIST

from minicnn.cli import main
from minicnn.data import SPECS, load_dataset

pytestmark = pytest.mark.usefixtures("isolated")
REPOSITORY = Path(__file__).parents[2]

Write = Callable[[Path, dict[str, np.ndarray]], None]


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> dict[str, Write]:
    """For each data set, what writes its files below a data root."""

    def write_emnist(part: str) -> Write:
        def write(root: Path, arrays: dict[str, np.ndarray]) -> None:
            (root / "EMNIST" / "raw").mkdir(parents=True)
            for name, content in emnist_files(part, arrays).items():
                (root / "EMNIST" / "raw" / name).write_bytes(content)

        return write

    def write_cifar10(root: Path, arrays: dict[str, np.ndarray]) -> None:
        files = cifar10_files(arrays)
        trust_cifar10(monkeypatch, files)
        (root / "cifar-10-batches-py").mkdir(parents=True)
        for name, content in files.items():
            (root / "cifar-10-batches-py" / name).write_bytes(content)

    return {
        "fashion_mnist": lambda root, arrays: write_idx_set(root, "FashionMNIST", arrays),
        "kmnist": lambda root, arrays: write_idx_set(root, "KMNIST", arrays),
        "emnist-letters": write_emnist("letters"),
        "emnist-balanced": write_emnist("balanced"),
        "cifar10": write_cifar10,
    }


@pytest.fixture(params=["fashion_mnist", "kmnist", "emnist-letters", "emnist-balanced", "cifar10"])
def name(request: pytest.FixtureRequest) -> str:
    """The name of a data set."""
    return str(request.param)


def arrays_for(name: str) -> dict[str, np.ndarray]:
    return made_up(SPECS[name].input_shape, len(SPECS[name].classes))


def test_what_was_written_is_read_first_from_the_files_and_then_from_the_cache(
    name: str, write: dict[str, Write], tmp_path: Path
) -> None:
    arrays = arrays_for(name)
    write[name](tmp_path, arrays)
    first = load_dataset(name, tmp_path)
    assert f"{name}-cache-v2.npy" in files_below(tmp_path)
    for path in tmp_path.glob("*/**/*"):  # the cache is all there is
        if path.is_file():
            path.unlink()
    for dataset in (first, load_dataset(name, tmp_path)):
        assert (dataset.name, dataset.held_out) == (name, "test")
        for field, expected in arrays.items():
            received = getattr(dataset, field)
            np.testing.assert_array_equal(received, expected)
            assert received.dtype == (np.uint8 if "images" in field else np.int64)
            assert received.flags.c_contiguous
        pixels = arrays["train_images"] / 255
        np.testing.assert_allclose(dataset.mean, pixels.mean((0, 2, 3)), rtol=1e-13)
        np.testing.assert_allclose(dataset.std, pixels.std((0, 2, 3)), rtol=1e-13)


def test_classes_are_torchvisions() -> None:
    assert SPECS["fashion_mnist"].classes == tuple(FashionMNIST.classes)
    assert SPECS["kmnist"].classes == tuple(KMNIST.classes)
    letters = [letter.upper() for letter in EMNIST.classes_split_dict["letters"][1:]]
    assert SPECS["emnist-letters"].classes == tuple(letters)
    assert SPECS["emnist-balanced"].classes == tuple(EMNIST.classes_split_dict["balanced"])
    assert len(SPECS["emnist-balanced"].classes) == 47


def test_images_of_emnist_stand_upright(write: dict[str, Write], tmp_path: Path) -> None:
    """A T in the file's own order of pixels, columns first."""
    letter = np.zeros((28, 28), np.uint8)
    letter[4:8, 4:24] = letter[4:24, 12:16] = 255
    arrays = arrays_for("emnist-letters")
    arrays["train_images"][0, 0] = letter
    write["emnist-letters"](tmp_path, arrays)
    raw = (tmp_path / "EMNIST" / "raw" / "emnist-letters-train-images-idx3-ubyte").read_bytes()
    np.testing.assert_array_equal(np.frombuffer(raw[16 : 16 + 784], np.uint8).reshape(28, 28), letter.T)
    image = load_dataset("emnist-letters", tmp_path).train_images[0, 0]
    assert image[4, 23] == 255 and image[23, 4] == 0


def test_a_letter_with_label_0_is_none(write: dict[str, Write], tmp_path: Path) -> None:
    arrays = arrays_for("emnist-letters")
    arrays["test_labels"][3] = 255  # one more is 0
    write["emnist-letters"](tmp_path, arrays)
    message = error_of(lambda: load_dataset("emnist-letters", tmp_path))
    assert "test split: expected labels from 0 to 25, received 255" in message


def test_truncated_file_of_emnist_is_named(write: dict[str, Write], tmp_path: Path) -> None:
    write["emnist-balanced"](tmp_path, arrays_for("emnist-balanced"))
    path = tmp_path / "EMNIST" / "raw" / "emnist-balanced-test-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    message = error_of(lambda: load_dataset("emnist-balanced", tmp_path))
    assert message.startswith(f"{path}: expected a whole IDX file (EMNIST's has 18,808 bytes), ")


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_pickle_with_another_checksum_is_not_opened(write: dict[str, Write], tmp_path: Path, file: str) -> None:
    write["cifar10"](tmp_path, arrays_for("cifar10"))
    path = tmp_path / "cifar-10-batches-py" / file
    path.write_bytes(b"cos\nabort\n(tR.")  # would end the process
    message = error_of(lambda: load_dataset("cifar10", tmp_path))
    assert message.startswith(f"{path}: expected the file with MD5 ")
    assert "received another of 14 bytes" in message


def test_unavailable_is_an_error_that_says_what_to_put_where(name: str, tmp_path: Path) -> None:
    message = error_of(lambda: load_dataset(name, tmp_path / "data", "mnist-subset"))
    assert "Connection refused" in message
    place, file = {
        "fashion_mnist": ("FashionMNIST/raw", "t10k-labels-idx1-ubyte"),
        "kmnist": ("KMNIST/raw", "t10k-labels-idx1-ubyte"),
        "emnist-letters": ("EMNIST/raw", f"gzip.zip from {EMNIST.url}"),
        "emnist-balanced": ("EMNIST/raw", f"gzip.zip from {EMNIST.url}"),
        "cifar10": ("", f"cifar-10-python.tar.gz from {CIFAR10.url}"),
    }[name]
    assert f"is neither in {tmp_path / 'data' / place} nor downloadable" in message
    assert f"{file} there" in message
    assert not (tmp_path / "data").exists()


def test_training_on_cifar10_through_the_command_line(
    write: dict[str, Write], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """configs/cifar10.yaml with a network that has less to compile."""
    monkeypatch.chdir(tmp_path)
    write["cifar10"](tmp_path / "data", arrays_for("cifar10"))
    config = str(REPOSITORY / "configs" / "cifar10.yaml")
    layers = "network.layers=[MaxPool: {kernel_size: 4}, Flatten, Dense: {out_features: 10}]"
    options = ["training.epochs=1", "output.pictures=false", layers]
    assert main(["train", config, "data.validation=0.2", *options]) == 0
    out = capsys.readouterr().out
    assert "cifar10: 80 training and 20 validation images of 3 x 32 x 32, 10 classes" in out
    assert "   validation loss " in out and "\nvalidation accuracy " in out
    assert "test" not in out
    [metrics] = tmp_path.glob("runs/cifar10-*/metrics.csv")
    assert ",validation_loss,validation_accuracy," in metrics.read_text().splitlines()[0]
