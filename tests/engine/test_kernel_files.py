"""Files of machine code: whatever has happened to them, the right kernel runs."""

import errno
import os
import stat
import subprocess
import sys

import pytest
from processes import NEGATED, RELU, SCRIPT, in_process, relu, run_script

from minicnn.engine import cache
from minicnn.engine.cache import MAGIC, Kernel
from minicnn.kernels.compile import compile_kernel


@pytest.fixture
def fresh(monkeypatch, tmp_path, warm):
    """The cache of this process as it is after a start, in a warm folder of its own."""
    place = tmp_path / "cache"
    (place / "kernels").mkdir(parents=True, mode=0o700)
    place.chmod(0o700)
    for file in (warm / "kernels").iterdir():
        (place / "kernels" / file.name).write_bytes(file.read_bytes())
        (place / "kernels" / file.name).chmod(0o600)
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(place))
    monkeypatch.setattr(cache, "_addresses", {})
    for function in (cache.folder, cache._path):
        function.cache_clear()
    yield place / "kernels"
    for function in (cache.folder, cache._path):
        function.cache_clear()


def compiled_by(action):
    before = cache.compiled
    assert action()
    return cache.compiled - before


def one(folder, name="relu_forward"):
    (found,) = (file for file in folder.iterdir() if file.name.startswith(f"activation.{name}-"))
    return found


def test_a_warm_folder_needs_no_compiling(fresh):
    assert compiled_by(relu) == 0


def test_a_warm_process_does_not_import_numba(warm):
    text = SCRIPT + "assert 'numba' not in sys.modules and 'minicnn.kernels.activation' not in sys.modules"
    assert run_script(text, MINICNN_CACHE_DIR=warm).startswith("0 ")


DAMAGE = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "only magic": lambda content: MAGIC,
    "one byte less": lambda content: content[:-1],
    "one byte more": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"hello\n" * 100,
}


def flipped(place):
    def flip(content):
        at = place if place >= 0 else len(content) + place
        return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]

    return flip


HEAD = len(MAGIC) + 32
DAMAGE |= {
    f"bit in {name}": flipped(place)
    for name, place in {
        "magic": 3,
        "checksum": len(MAGIC) + 5,
        "symbol": HEAD + 3,
        "head of the code": HEAD + 140,
        "code": HEAD + 500,
        "last byte": -1,
    }.items()
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_compiled_again(fresh, damage):
    file = one(fresh)
    content = file.read_bytes()
    file.write_bytes(DAMAGE[damage](content))
    assert file.read_bytes() != content
    assert compiled_by(relu) == 1
    assert cache._read((RELU, "ff")) is not None  # and whole again
    cache._addresses.clear()
    assert compiled_by(relu) == 0


def test_swapped_files_are_noticed(fresh):
    first, second = one(fresh), one(fresh, "leaky_relu_forward")
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert compiled_by(relu) == 2


def test_something_else_in_a_file_s_place(fresh):
    file = one(fresh)
    file.unlink()
    file.mkdir()
    assert compiled_by(relu) == 1
    file.rmdir()
    file.symlink_to(file)  # a link to itself
    cache._addresses.clear()
    assert compiled_by(relu) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_in_a_file_s_place(fresh):
    """Nobody waits for what will never come."""
    file = one(fresh)
    file.unlink()
    os.mkfifo(file, 0o600)
    assert compiled_by(relu) == 1
    assert stat.S_ISREG(file.lstat().st_mode)


@pytest.mark.parametrize("mode", [0o606, 0o660, 0o666])
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no modes here")
def test_a_file_that_others_can_write(fresh, mode):
    """Whole as it is, who knows who has written it: others can make checksums, too."""
    one(fresh).chmod(mode)
    assert compiled_by(relu) == 1
    assert stat.S_IMODE(one(fresh).stat().st_mode) == 0o600
    cache._addresses.clear()
    assert compiled_by(relu) == 0


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners here")
def test_a_file_of_another_user(fresh, monkeypatch):
    """It has got into the folder after that was looked at: it, or the folder, was exchanged."""
    cache.folder()
    owner = one(fresh).stat().st_uid
    if owner == 0:
        os.chown(one(fresh), 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert compiled_by(relu) == (1 if owner == 0 else 4)


#: How the system says that it cannot be.
ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EMFILE]
#: What of it is done to keep a kernel or to find it, and whether the folder can be had then.
FAILING = {
    "making the folder": ("pathlib.Path.mkdir", False),
    "looking at the folder": ("pathlib.Path.lstat", False),
    "a temporary file": ("tempfile.NamedTemporaryFile", True),
    "writing": ("tempfile._TemporaryFileWrapper.write", True),
    "the last bytes": ("tempfile._TemporaryFileWrapper.__exit__", True),
    "its name": ("os.replace", True),
    "its name, and taking it away": ("os.replace os.unlink", True),
    "opening": ("minicnn.engine.cache._open", True),
    "its owner": ("os.fstat", True),
}


@pytest.fixture(scope="module")
def code():
    """{request: machine code} of two kernels."""
    return {request: compile_kernel(*request[0], request[1]) for request in TWO}


TWO = [(RELU, "ff"), (NEGATED, "ffr")]


@pytest.mark.parametrize("what", FAILING)
@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
def test_a_disk_that_fails(tmp_path, monkeypatch, code, what, number):
    """Full, read-only, broken: kernels live in memory, and nobody is told."""
    names, kept = FAILING[what]

    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    def forget():
        cache._addresses.clear()
        cache.folder.cache_clear()
        cache._path.cache_clear()

    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(cache, "_addresses", {})
    monkeypatch.setattr(
        "minicnn.kernels.compile.compile_kernel",
        lambda module, name, statics, kinds: code[(Kernel(module, name, statics), kinds)],
    )
    forget()
    try:
        with monkeypatch.context() as patch:
            for name in names.split():
                patch.setattr(name, fail, raising=False)
            assert all(cache.addresses(TWO))
            assert (cache.folder() is not None) == kept
        for _ in range(2):  # and when there is room again, they are kept
            forget()
            assert all(cache.addresses(TWO))
        assert len(list((tmp_path / "cache/kernels").iterdir())) >= 2
    finally:
        cache.folder.cache_clear()
        cache._path.cache_clear()


def test_nothing_is_left_lying_about(fresh):
    """Neither of a file that is written nor of one that cannot be."""
    count = len(list(fresh.iterdir()))
    one(fresh).unlink()
    assert compiled_by(relu) == 1
    assert len(list(fresh.iterdir())) == count
    file = one(fresh)
    file.unlink()
    file.mkdir()
    cache._addresses.clear()
    assert compiled_by(relu) == 1
    assert len(list(fresh.iterdir())) == count


def test_a_folder_that_vanishes_while_kernels_are_compiled(fresh, monkeypatch):
    for file in fresh.iterdir():
        file.unlink()

    def announce(done, total, kernel):
        if fresh.exists():
            fresh.rmdir()

    requests = [(RELU, "ff"), (NEGATED, "ffr")]
    with cache.announced(announce):
        assert len(cache.addresses(requests)) == 2
    assert compiled_by(relu) <= 2 and not fresh.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no limits of files here")
def test_no_room_on_the_disk(tmp_path):
    """A limit on the size of files: they cannot be written to their end."""
    text = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n" + SCRIPT
    place = tmp_path / "cache"
    assert run_script(text, MINICNN_CACHE_DIR=place).split() == ["4", f"{place}/kernels"]
    assert list((place / "kernels").iterdir()) == []


def test_two_processes_that_compile_at_once(tmp_path):
    place = tmp_path / "cache"
    environment = dict(os.environ) | {"MINICNN_CACHE_DIR": str(place)}
    paths = [os.path.dirname(__file__), os.path.dirname(os.path.dirname(os.path.dirname(__file__)))]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    both = [subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=120)[0].decode().split()[1] == f"{place}/kernels"
        assert process.returncode == 0
    assert len(list((place / "kernels").iterdir())) == 4
    assert in_process(MINICNN_CACHE_DIR=place)[0] == 0


# Which folder it is.


@pytest.fixture
def choose(monkeypatch, tmp_path):
    """The folder that is chosen with these variables; the one of last resort lies in tmp_path / "tmp"."""
    (tmp_path / "tmp").mkdir()

    def choose(**environment):
        for name in ("MINICNN_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))
        cache.folder.cache_clear()
        return cache.folder()

    yield choose
    cache.folder.cache_clear()


@pytest.fixture
def last_resort(tmp_path):
    return tmp_path / "tmp" / f"minicnn-{os.getuid()}" / "kernels"


def test_the_folder_by_environment(choose, tmp_path, monkeypatch):
    assert choose(MINICNN_CACHE_DIR=tmp_path / "own") == tmp_path / "own/kernels"
    assert choose(XDG_CACHE_HOME=tmp_path / "xdg") == tmp_path / "xdg/minicnn/kernels"
    home = {"HOME": tmp_path / "home"}
    assert choose(**home) == tmp_path / "home/.cache/minicnn/kernels"
    assert choose(MINICNN_CACHE_DIR="~/mine", **home) == tmp_path / "home/mine/kernels"
    monkeypatch.chdir(tmp_path)
    assert choose(MINICNN_CACHE_DIR="here") == tmp_path / "here/kernels"
    for folder in (tmp_path / "own/kernels", tmp_path / "own"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_in_the_folder_s_place(choose, tmp_path, last_resort):
    (tmp_path / "file").write_text("")
    assert choose(MINICNN_CACHE_DIR=tmp_path / "file") == last_resort
    assert choose(MINICNN_CACHE_DIR=tmp_path / "file/below") == last_resort
    assert choose(MINICNN_CACHE_DIR=tmp_path / ("long" * 100)) == last_resort


def test_a_home_that_nobody_knows(choose, last_resort):
    assert choose(MINICNN_CACHE_DIR="~nobody-of-that-name/x") == last_resort


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
@pytest.mark.parametrize("inner", [False, True])
def test_a_folder_that_others_can_write(choose, tmp_path, last_resort, mode, inner):
    (tmp_path / "open/kernels").mkdir(parents=True, mode=0o700)
    (tmp_path / "open").chmod(0o700)
    (tmp_path / "open/kernels" if inner else tmp_path / "open").chmod(mode)
    assert choose(MINICNN_CACHE_DIR=tmp_path / "open") == last_resort


def test_a_folder_that_is_a_link(choose, tmp_path, last_resort):
    (tmp_path / "real/kernels").mkdir(parents=True, mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "outer").mkdir(mode=0o700)
    (tmp_path / "outer/kernels").symlink_to(tmp_path / "real/kernels")
    for name in ("link", "outer"):
        assert choose(MINICNN_CACHE_DIR=tmp_path / name) == last_resort


def test_a_folder_of_another_user(choose, tmp_path, monkeypatch):
    (tmp_path / "theirs/kernels").mkdir(parents=True, mode=0o700)
    (tmp_path / "theirs").chmod(0o700)
    mine = os.getuid() + 1
    owner = (tmp_path / "theirs").stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: mine)
    found = choose(MINICNN_CACHE_DIR=tmp_path / "theirs")
    # The one of last resort is this process's, and so not that user's either; root's may be used by all.
    assert found == (tmp_path / "theirs/kernels" if owner == 0 else None)


def test_no_folder_at_all(choose, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file"))
    assert choose(MINICNN_CACHE_DIR=tmp_path / "file") is None

    def no_folder():
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("tempfile.gettempdir", no_folder)
    assert choose(MINICNN_CACHE_DIR=tmp_path / "file") is None
    monkeypatch.setattr(cache, "_addresses", {})
    cache._path.cache_clear()
    try:
        assert compiled_by(relu) == 4  # in memory
        assert compiled_by(relu) == 0
    finally:
        cache._path.cache_clear()
