"""Downloads of data sets, from a server on this machine, and what happens where there is none."""

import gzip
import hashlib
import http.server
import io
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from data_files import (
    CACHE,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    assert_holds,
    cifar10_files,
    emnist_files,
    error_of,
    files_below,
    idx,
    made_up,
    raw_arrays,
    raw_folder,
    trust_cifar10,
)
from torchvision.datasets import CIFAR10, EMNIST, MNIST

from minicnn.data import SPECS, download, load_dataset, mnist
from minicnn.data.datasets import SOURCES

pytestmark = pytest.mark.usefixtures("isolated")


class Server(http.server.BaseHTTPRequestHandler):
    """Offers `files`; with `short` it hangs up before the end of the second of them."""

    files: dict[str, bytes]
    short: bool

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        name = self.path.removeprefix("/")
        content = self.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[:-20] if self.short and "labels" in name else content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    """A mirror on this machine."""
    files = {f"{name}.gz": gzip.compress(idx(array)) for name, array in raw_arrays().items()}
    handler = type("Handler", (Server,), {"files": files, "short": False})
    digests = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    monkeypatch.setattr(MNIST, "resources", digests)
    with serving(handler) as mirror:
        monkeypatch.setattr(MNIST, "mirrors", [*MNIST.mirrors, mirror])
        yield handler


@contextmanager
def serving(handler: type[Server]) -> Iterator[str]:
    """The address of a server with the handler's files."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/"
        listening.shutdown()
        thread.join()


def test_download_takes_the_first_mirror_that_answers(
    server: type[Server], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "new" / "data"
    assert_holds(load_dataset("mnist", root), raw_arrays())
    assert files_below(root) == {*mnist.RAW_FILES, CACHE}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mistake", ["hangs up", "damaged"])
def test_failed_download_leaves_only_whole_files(server: type[Server], tmp_path: Path, mistake: str) -> None:
    if mistake == "hangs up":
        server.short = True
    else:
        server.files[f"{TRAIN_LABELS}.gz"] = b"damaged"
    message = error_of(lambda: load_dataset("mnist", tmp_path / "data"))
    assert "nor downloadable" in message
    assert files_below(tmp_path / "data") == {TRAIN_IMAGES}
    assert len(list(raw_folder(tmp_path / "data").iterdir())) == 1


def test_archives_put_there_by_hand_need_no_network(server: type[Server], root: Path) -> None:
    """Two files lie there unpacked and two as archives, and the mirror has none."""
    raw = raw_folder(root)
    for name in (TRAIN_IMAGES, TEST_LABELS):
        (raw / name).unlink()
        (raw / f"{name}.gz").write_bytes(server.files[f"{name}.gz"])
    server.files.clear()
    assert_holds(load_dataset("mnist", root), raw_arrays())


def test_damaged_archive_is_named(server: type[Server], root: Path) -> None:
    (raw_folder(root) / TEST_LABELS).unlink()
    archive = raw_folder(root) / f"{TEST_LABELS}.gz"
    archive.write_bytes(server.files.pop(archive.name)[:-1])
    assert f"{archive.name} fails its checksum" in error_of(lambda: load_dataset("mnist", root))


def test_unavailable_goes_on_with_the_subset_after_a_warning(tmp_path: Path) -> None:
    root = tmp_path / "data"
    messages: list[str] = []
    dataset = load_dataset("mnist", root, if_unavailable="mnist-subset", warn=messages.append)
    assert dataset.name == "mnist-subset"
    (message,) = messages
    assert "Connection refused" in message
    assert str(raw_folder(root)) in message
    assert all(name in message for name in mnist.RAW_FILES)
    assert "using mnist-subset instead (10,000 training and 2,000 test images)" in message
    assert not root.exists()


def test_unavailable_is_an_error_by_default(tmp_path: Path) -> None:
    root = tmp_path / "data"
    message = error_of(lambda: load_dataset("mnist", root))
    assert "Connection refused" in message
    assert str(raw_folder(root)) in message
    assert "instead" not in message
    assert not root.exists()


def test_root_that_cannot_be_made_is_unavailable(server: type[Server], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    message = error_of(lambda: load_dataset("mnist", tmp_path / "data"))
    assert "Not a directory" in message


def test_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{port}/"])
        start = time.monotonic()
        message = error_of(lambda: load_dataset("mnist", tmp_path))
        assert time.monotonic() - start < 3
    assert "127.0.0.1" in message


# Archives

Archive = tuple[str, Path, type[Server], dict[str, np.ndarray]]


def archive_of(kind: str, files: dict[str, bytes]) -> bytes:
    """EMNIST's zip of .gz files, or CIFAR-10's .tar.gz."""
    stream = io.BytesIO()
    if kind == "emnist-letters":
        with zipfile.ZipFile(stream, "w") as pack:
            for name, content in files.items():
                pack.writestr(f"gzip/{name}.gz", gzip.compress(content))
    else:
        with tarfile.open(fileobj=stream, mode="w:gz") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture(params=["emnist-letters", "cifar10"])
def archive(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """The name of a data set, the place of its archive below the root, a server that offers it, its arrays."""
    name = str(request.param)
    arrays = made_up(SPECS[name].input_shape, len(SPECS[name].classes))
    if name == "cifar10":
        files = cifar10_files(arrays)
        trust_cifar10(monkeypatch, files)
        known, md5, place = CIFAR10, "tgz_md5", Path("cifar-10-python.tar.gz")
    else:
        files = {"readme": b"more than what is needed", **emnist_files("letters", arrays)}
        known, md5, place = EMNIST, "md5", Path("EMNIST/raw/gzip.zip")
    content = archive_of(name, files)
    monkeypatch.setattr(known, md5, hashlib.md5(content).hexdigest())
    handler = type("Handler", (Server,), {"files": {place.name: content}, "short": False})
    with serving(handler) as address:
        monkeypatch.setattr(known, "url", address + place.name)
        yield name, place, handler, arrays


def test_an_archive_is_downloaded_once_and_stays(archive: Archive, tmp_path: Path) -> None:
    name, place, server, arrays = archive
    root = tmp_path / "data"
    np.testing.assert_array_equal(load_dataset(name, root).train_images, arrays["train_images"])
    assert (root / place).read_bytes() == server.files[place.name]
    raw = {path.name for path in SOURCES[name].raw_files(root)}
    assert files_below(root) == raw | {place.name, f"{name}-cache-v2.npy"}
    server.files.clear()
    for path in (*SOURCES[name].raw_files(root)[1:], root / f"{name}-cache-v2.npy"):
        path.unlink()
    np.testing.assert_array_equal(load_dataset(name, root).test_labels, arrays["test_labels"])
    assert not list(root.rglob(".download-*"))


def test_a_damaged_archive_is_named_and_a_failed_download_leaves_nothing(archive: Archive, tmp_path: Path) -> None:
    name, place, server, _ = archive
    server.files[place.name] = b"damaged"
    message = error_of(lambda: load_dataset(name, tmp_path / "data"))
    assert "nor downloadable" in message and "checksum" not in message
    assert files_below(tmp_path / "data") == set()
    (tmp_path / "data" / place).write_bytes(b"by hand")
    message = error_of(lambda: load_dataset(name, tmp_path / "data"))
    assert f"{place.name} fails its checksum" in message
    assert files_below(tmp_path / "data") == {place.name}
