"""The machine code of kernels: from memory, from a file of an earlier run, or compiled now, by several processes.

A kernel is named by its module, its function, compile-time values and the kinds of its arguments. Its file is named
after a hash of all that its code depends on: the sources, the versions of Numba and LLVM, and the processor.
"""

import hashlib
import json
import logging  # noqa: F401 # see _lock
import os
import re
import stat
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm

from minicnn.errors import DataError
from minicnn.files import open_file, user_cache

PACKAGE = Path(__file__).parents[1]
MAGIC = b"minicnn kernel 1\n"
READY = b"ready to compile\n"  # the first line of a process that compiles
#: That many kernels are compiled sooner here than in processes, which take half a second to start, if Numba is there.
FEW = 8


class Kernel(NamedTuple):
    """A kernel function, by the full name of its module and its own.

    Called with compile-time values, it is that of the kernel for these.
    """

    module: str
    name: str
    statics: tuple[Any, ...] = ()

    def __call__(self, *statics: Any) -> "Kernel":
        return self._replace(statics=statics)

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.statics))
        return f"{self.module.rpartition('.')[2]}.{self.name}{' ' if sizes else ''}{sizes}"


class Kernels:
    """The kernels of one module in minicnn.kernels, by name; the module itself is imported only to compile them.

    For kernels of your own, `package` is that of the module, "" if it is in none.
    """

    def __init__(self, module: str, package: str = "minicnn.kernels") -> None:
        self._module = f"{package}.{module}".lstrip(".")

    def __getattr__(self, name: str) -> Kernel:
        if name.startswith("_"):
            raise AttributeError(name)
        return Kernel(self._module, name)


#: (kernel, kinds of its arguments)
Request = tuple[Kernel, str]
#: Called with how many kernels are compiled, of how many, and the last of them: at first with 0 and none.
Announce = Callable[[int, int, Kernel | None], None]

_addresses: dict[Request, int] = {}
_lock = threading.RLock()
_announce: Announce = lambda done, total, kernel: None  # noqa: E731
if hasattr(os, "register_at_fork"):
    # Nobody is amid compiling or loading then, who would not be there in the child. What compiles may want the lock of
    # `logging`, which a fork also takes, and in the order opposite to that of the imports: so that module comes first.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
#: How many kernels this process has had compiled.
compiled = 0
#: The values on the menu of a kernel with compile-time values: who needs one of them gets all, and never waits again.
menus: dict[Kernel, Callable[[], Sequence[tuple[Any, ...]]]] = {}


@contextmanager
def announced(announce: Announce) -> Iterator[None]:
    """Within the block, `announce` is called while kernels are compiled, in whatever thread that is asked for."""
    global _announce
    before, _announce = _announce, announce
    try:
        yield
    finally:
        _announce = before


def addresses(requests: Sequence[Request]) -> list[int]:
    """Where the entries of these kernels are in memory; what has to be compiled is compiled, and kept."""
    with _lock:
        missing = [r for r in dict.fromkeys(requests) if not _find(r)]
        wanted = dict.fromkeys(other for request in missing for other in _menu(request))
        missing += [r for r in wanted if r not in missing and not _find(r)]
        if missing:
            _compile_all(missing)
        return [_addresses[request] for request in requests]


def _find(request: Request) -> bool:
    """Whether it is in memory now, perhaps from a file."""
    if request not in _addresses:
        found = _read(request)
        if found is not None:
            _addresses[request] = _load(*found)
    return request in _addresses


def _menu(request: Request) -> list[Request]:
    kernel, kinds = request
    values = menus.get(kernel(), tuple)()
    return [(kernel(*chosen), kinds) for chosen in values]


# --- compiling -----------------------------------------------------------------------------------


def _compile_all(wanted: Sequence[Request]) -> None:
    ready: dict[Request, tuple[str, bytes]] = {}
    results = threading.Lock()

    def keep(request: Request, symbol: str, content: bytes) -> None:
        global compiled
        with results:
            ready[request] = symbol, content
            compiled += 1
            _announce(len(ready), len(wanted), request[0])
        _write(request, symbol, content)

    _announce(0, len(wanted), None)
    few = FEW if "minicnn.kernels.compile" in sys.modules else 2
    if len(wanted) > few and sys.executable:
        _compile_in_processes(wanted, keep)
    for request in wanted:
        if request not in ready:
            from minicnn.kernels.compile import compile_kernel  # late, as this imports Numba

            kernel, kinds = request
            keep(request, *compile_kernel(*kernel, kinds))
        _addresses[request] = _load(*ready[request])


def _compile_in_processes(wanted: Sequence[Request], keep: Callable[..., None]) -> None:
    """Compiles as many of them as there are processes to be had for."""
    waiting = list(reversed(wanted))
    count = min(os.cpu_count() or 1, (len(wanted) + 1) // 2)
    threads: list[threading.Thread] = []
    try:
        with suppress(RuntimeError):  # no thread to be had
            while len(threads) < count:
                thread = threading.Thread(target=_work, args=(waiting, keep), daemon=True)
                thread.start()
                threads.append(thread)
        for thread in threads:
            thread.join()
    finally:
        waiting.clear()  # after an interrupt, nobody waits for the rest


def _work(waiting: list[Request], keep: Callable[..., None]) -> None:
    """Takes kernels from the list, as long as there are any, to a process that compiles them."""
    program = (
        "import gc, sys; gc.disable()\n"  # a tenth of the time, for some megabytes
        f"sys.path.insert(0, {str(PACKAGE.parent)!r}); sys.path += {sys.path!r}\n"  # where kernels may be
        f"from minicnn.kernels.compile import serve; serve({READY!r})"
    )
    with (
        suppress(OSError),  # no process to be had, or it has ended
        subprocess.Popen(
            [sys.executable, "-P", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows opens one for a program without
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        while not (line := process.stdout.readline()).endswith(READY):
            if not line:  # it has ended; other lines are what the start of Python prints here
                return
        with suppress(IndexError):  # another thread took the last kernel
            while True:
                request = waiting.pop()
                process.stdin.write(json.dumps([*request[0], request[1]]).encode() + b"\n")
                process.stdin.flush()
                name, size = struct.unpack("<II", process.stdout.read(8).ljust(8, b"\0"))
                answer = process.stdout.read(name + size)
                if len(answer) < max(1, name + size):
                    return
                keep(request, answer[:name].decode(), answer[name:])


# --- files ---------------------------------------------------------------------------------------


@cache
def folder() -> Path | None:
    """Where kernels are kept between runs; None where there is no place that is the user's alone."""
    chosen = os.environ.get("MINICNN_CACHE_DIR")
    candidates: list[Path | None] = []
    with suppress(RuntimeError):  # no home
        candidates.append(Path(chosen).expanduser() if chosen else user_cache())
    with suppress(OSError):  # no folder for temporary files
        if hasattr(os, "getuid"):
            candidates.append(Path(tempfile.gettempdir()) / f"minicnn-{os.getuid()}")
    for candidate in filter(None, candidates):
        place = candidate.absolute() / "kernels"
        with suppress(OSError):
            if not place.is_dir():
                candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
                place.mkdir(mode=0o700, exist_ok=True)
            facts = candidate.lstat(), place.lstat()
            if all(stat.S_ISDIR(one.st_mode) and _is_ours(one) for one in facts):
                return place
    return None


def _is_ours(facts: os.stat_result) -> bool:
    """Whether nobody but the user (or root) can write a file or folder, as what is there is executed.

    Asked of the folders, and of each file once it is open, so that nobody can exchange it meanwhile.
    """
    if not hasattr(os, "getuid"):  # Windows: a folder in the user's profile is the user's
        return True
    return facts.st_uid in (0, os.getuid()) and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@cache
def _sources(module: str) -> bytes:
    """The sources of a module of kernels and of those that it imports."""
    found = find_spec(module)
    text = Path(found.origin).read_bytes() if found and found.origin else b""
    parent = module.rpartition(".")[0].encode()
    names = re.findall(rb"^from (\.\w+|minicnn\.kernels\.\w+) import", text, re.MULTILINE)
    names = sorted(parent + name if name.startswith(b".") else name for name in names)
    return text + b"".join(_sources(name.decode()) for name in names)


@cache
def _host() -> tuple[str, str]:
    """The name and the features of this machine's processor."""
    with _lock:  # llvmlite has one of its own, which must not be held in a fork
        return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@cache
def _surroundings() -> str:
    """What machine code depends on besides the sources."""
    host = _host()
    forced = [os.environ.get(name, "") for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")]
    versions = version("numba"), llvm.llvm_version_info, sys.version_info[:2]
    sources = [(PACKAGE / name).read_bytes() for name in ("kernels/compile.py", "kernels/__init__.py")]
    return repr((host, forced, versions, sources))


@cache
def vector_registers() -> int:
    """32 where a register holds a whole vector (AVX-512), else 16: a vector takes several registers then."""
    forced = os.environ.get("NUMBA_CPU_FEATURES")
    if forced is not None or os.environ.get("NUMBA_CPU_NAME"):
        return 32 if "+avx512f" in (forced or "").split(",") else 16
    return 32 if _host()[1].split(",").count("+avx512f") else 16


@cache
def _path(request: Request) -> Path | None:
    place = folder()
    if place is None:
        return None
    kernel, kinds = request
    digest = hashlib.sha256(_sources(kernel.module))
    digest.update(repr((kernel, kinds, _surroundings())).encode())
    name = "-".join([str(kernel).replace(" ", "-"), kinds, digest.hexdigest()[:24]])
    return place / name


def _read(request: Request) -> tuple[str, bytes] | None:
    """(symbol, object file) that an earlier run has kept; None if there is none, or a damaged one."""
    path = _path(request)
    if path is None:
        return None
    try:
        with open_file(path) as file:
            if not _is_ours(os.fstat(file.fileno())):
                return None
            content = file.read()
    except (OSError, DataError):
        return None
    rest = content[len(MAGIC) + 32 :]
    if content != MAGIC + _checksum(path, rest) + rest:
        return None
    symbol, _, code = rest.partition(b"\n")
    return symbol.decode(), code


def _checksum(path: Path, rest: bytes) -> bytes:
    """Of a file and its name, as the code of another kernel would be called with wrong arguments."""
    return hashlib.sha256(path.name.encode() + b"\n" + rest).digest()


def _write(request: Request, symbol: str, content: bytes) -> None:
    """Keeps an entry for later runs; whole or not at all, and no harm where that cannot be."""
    path = _path(request)
    if path is None:
        return
    rest = symbol.encode() + b"\n" + content
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            temporary = file.name
            file.write(MAGIC + _checksum(path, rest) + rest)
        os.replace(temporary, path)
    except OSError:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


# --- memory --------------------------------------------------------------------------------------


@cache
def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple()


_engines: list[Any] = []  # what holds the code; never freed, as programs keep addresses


def _load(symbol: str, content: bytes) -> int:
    machine = _machine().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(content))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(symbol))
