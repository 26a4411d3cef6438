"""Kernels are compiled wherever Python runs: with no process to be had, no home, no user, and odd environments."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from processes import NEGATED, RELU, SCRIPT, in_process, run_script

from minicnn.engine import cache, driver
from minicnn.engine.cache import Kernels
from minicnn.errors import ConfigError

kernels = Kernels("activation")
THREE = [(RELU, "ff"), (NEGATED, "ffr"), (kernels.relu_backward, "ff")]


@pytest.fixture
def in_memory(monkeypatch):
    """No kernel is known, there is no folder to keep one, and three are enough to start processes."""
    monkeypatch.setattr(cache, "_addresses", {})
    monkeypatch.setattr(cache, "FEW", 2)
    monkeypatch.setattr(cache, "folder", lambda: None)
    cache._path.cache_clear()
    yield
    cache._path.cache_clear()


def executable(path, text):
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o700)
    return str(path)


MUTE = "import sys; sys.stdin.read()"
CUT = f"""
import os, struct, sys
out = sys.stdout.buffer
out.write({cache.READY!r}); out.flush()
sys.stdin.readline()
out.write(struct.pack("<II", 4, 1000) + b"name" + b"half"); out.flush()
"""
CUT_EARLY = CUT.replace("struct.pack", "b'123' or struct.pack").replace(' + b"name" + b"half"', "")
CHATTY = """
import os, sys
print("hello\\nfrom sitecustomize, without an end of line", end="", flush=True)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize("kind", ["", None, "missing", "folder", "ends", "cut", "cut early"])
def test_without_processes(in_memory, monkeypatch, tmp_path, kind):
    path = {
        "missing": str(tmp_path / "none"),
        "folder": str(tmp_path),
        "ends": executable(tmp_path / "ends", ""),
        "cut": executable(tmp_path / "cut", CUT),
        "cut early": executable(tmp_path / "early", CUT_EARLY),
    }.get(kind, kind)
    monkeypatch.setattr(sys, "executable", path)
    before, announced = cache.compiled, []
    with cache.announced(lambda *what: announced.append(what)):
        assert all(cache.addresses(THREE))
    assert cache.compiled == before + 3
    kernels = [None, *(kernel for kernel, _ in THREE)]
    assert announced == [(done, 3, kernel) for done, kernel in enumerate(kernels)]


def test_processes_that_print_something_first(in_memory, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", executable(tmp_path / "chatty", CHATTY))
    monkeypatch.setattr("minicnn.kernels.compile.compile_kernel", None)  # it is them who compile
    assert all(cache.addresses(THREE))


def test_a_kernel_that_cannot_be_compiled_says_why(in_memory):
    """Not a process that has ended, but Numba's own words."""
    with pytest.raises(Exception, match=r"loading|relu_forward|No implementation|Invalid use"):
        cache.addresses([(RELU, "nn"), *THREE[:2]])


def test_the_menu_comes_whole(in_memory, monkeypatch):
    monkeypatch.setitem(cache.menus, kernels.relu_forward, lambda: [])
    assert cache._menu((RELU, "ff")) == []
    asked = []
    monkeypatch.setattr(cache, "_compile_all", asked.extend)
    monkeypatch.setitem(cache.menus, RELU, lambda: [(1, 2), (3, 4)])
    known = RELU(3, 4), "ff"
    cache._addresses[known] = 1
    with pytest.raises(KeyError):  # as nothing has been compiled here
        cache.addresses([(RELU(1, 2), "ff"), known])
    assert asked == [(RELU(1, 2), "ff")]
    asked.clear()
    cache.addresses([known])  # needs nothing
    assert asked == []


@pytest.mark.parametrize("given", ["0", "-1", "many", "", "2.5", "1e3", "257", " 2", "²"])
def test_numbers_of_threads_that_are_none(monkeypatch, given):
    monkeypatch.setenv("NUMBA_NUM_THREADS", given)
    with pytest.raises(ConfigError) as caught:
        driver._cores()
    expected = f"NUMBA_NUM_THREADS: expected a whole number from 1 to 256, received {given!r}"
    assert str(caught.value) == expected


def test_numbers_of_threads(monkeypatch):
    for given in ("1", "2", "3", "256"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", given)
        assert driver._cores() == int(given)


def test_a_number_of_threads_that_is_none_is_one_line(warm):
    """Whatever is asked for first, and again if it is asked for again."""
    for text in (
        "from networks import tiny, train; train(tiny(), (3,), 2)",
        "from networks import tiny, numbers; tiny().forward(numbers((3, 3), 1))",
        "from processes import relu; relu()",
        "from minicnn.engine import driver\ntry:\n  driver.get_threads()\nexcept ValueError:\n  driver.get_threads()",
    ):
        told = run_script(text, fails=True, MINICNN_CACHE_DIR=warm, NUMBA_NUM_THREADS="0")
        assert told.splitlines()[-1] == (
            "minicnn.errors.ConfigError: NUMBA_NUM_THREADS: expected a whole number from 1 to 256, received '0'"
        )


@pytest.mark.parametrize("processes", [True, False])
def test_with_numba_switched_off(tmp_path, processes):
    """What NUMBA_DISABLE_JIT is for stays switched off."""
    script = SCRIPT.replace('sys.executable = ""', "") if processes else SCRIPT
    rest = """
import numba
assert type(numba.njit(lambda: 1)).__name__ == "function"
"""
    found = run_script(script + rest, MINICNN_CACHE_DIR=tmp_path / "cache", NUMBA_DISABLE_JIT="1")
    assert found.split() == ["4", f"{tmp_path}/cache/kernels"]


#: What root does before it runs the script as a user without a name, who may not reach Python's own files.
AS_STRANGER = """
import os, sys
from minicnn.engine import cache
from minicnn.engine.cache import Kernels
import networks, processes
folder, cache.folder = cache.folder, lambda: None
cache.addresses([(Kernels("activation").scale, "fff")])
[cache._sources(module) for module in ("minicnn.kernels.activation", "minicnn.engine.loop")]
cache.folder = folder
cache._path.cache_clear()
cache.compiled = 0
os.setgid(54321)
os.setuid(54321)
"""
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)


@pytest.fixture
def common():
    """A folder that all users can reach."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@as_root
def test_a_user_without_name_and_home(common):
    common.chmod(0o1777)
    nothing = {"MINICNN_CACHE_DIR": None, "XDG_CACHE_HOME": None, "HOME": None}
    for more in ({}, {"MINICNN_CACHE_DIR": "~/x"}):
        found = run_script(AS_STRANGER + SCRIPT, TMPDIR=common, **nothing | more)
        expected = "0" if more else "4"
        assert found.split() == [expected, f"{common}/minicnn-54321/kernels"]


@as_root
def test_a_folder_that_can_only_be_read(common, warm):
    """Warm it is used; cold, kernels live in memory."""
    place = common / "cache"
    shutil.copytree(warm, place)
    for path in [place, *place.rglob("*")]:
        path.chmod(0o755)
    found = run_script(AS_STRANGER + SCRIPT, MINICNN_CACHE_DIR=place)
    assert found.split() == ["0", f"{place}/kernels"]
    for file in (place / "kernels").glob("activation.relu*"):
        file.unlink()
    found = run_script(AS_STRANGER + SCRIPT, MINICNN_CACHE_DIR=place)
    assert found.split() == ["1", f"{place}/kernels"]
    assert len(list((place / "kernels").iterdir())) == 3


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is read-only for root")
def test_one_s_own_folder_that_can_only_be_read(tmp_path):
    place = tmp_path / "cache"
    assert in_process(MINICNN_CACHE_DIR=place) == (4, f"{place}/kernels")
    (place / "kernels").chmod(0o500)
    place.chmod(0o500)
    assert in_process(MINICNN_CACHE_DIR=place) == (0, f"{place}/kernels")


def test_threads_that_cannot_be_had(tmp_path, warm):
    """The system refuses: a program runs on this thread, and kernels are compiled in this process."""
    text = """
import threading
def start(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
from networks import small, sha, threads, train
from minicnn.engine import driver
driver.set_threads(3)
assert len({sha(train(small(), (2, 9, 8), 5)[1]) for _ in range(3)}) == 1
from minicnn.engine import cache
from minicnn.engine.cache import Kernels
k = Kernels("activation")
cache._addresses.clear()
cache.folder = lambda: None
cache._path.cache_clear()
assert len(cache.addresses([(k.relu_forward, "ff"), (k.relu_backward, "ff"), (k.scale, "fff")])) == 3
"""
    run_script(text)


def test_programs_at_exit():
    """Helpers are amid a program, asleep, or cannot be made any more, when Python ends."""
    text = """
import atexit, sys
from networks import numbers, tiny
from minicnn.engine import driver
driver.PATIENCE = 10_000_000  # helpers look for work until the very end
driver.set_threads(int(sys.argv[1]))
x, network = numbers((100, 3), 1), tiny()
atexit.register(lambda: network.forward(x))
if sys.argv[2] == "used":
    network.forward(x)
class Last:
    def __del__(self, forward=network.forward, x=x):
        forward(x)
last = Last()
"""
    for used in ("used", "unused"):
        for _ in range(2):
            run_script(text, "3", used)
