"""How every kernel is compiled, and where the machine code is kept.

Numba's own cache looks at one source file only and does not notice that a function in another file, or
the lane count, has changed. Ours has a folder for each source file, named after a hash of that file and all kernel
sources that it imports, and the lane count.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba import njit

from .vector import LANES

# A NaN must survive, so that the training loop can see it: never "nnan" or "ninf".
FAST_MATH = {"contract", "reassoc", "nsz", "arcp", "afn"}

# How long a thread of GNU's OpenMP spins before it sleeps: some 20 us, longer than the gaps between kernels. Its own
# default is so long that on cores which other programs use, too, a step of LeNet takes 30 ms instead of 3.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")


@cache
def cache_folder(module: str) -> Path | None:
    """The folder that keeps the compiled kernels of `module`, or None where the user can write nowhere."""
    digest = hashlib.sha256()
    for path in sorted(_sources(Path(__file__).with_name(f"{module}.py"))):
        digest.update(path.read_bytes())
    key = f"{module}-{digest.hexdigest()[:16]}-{LANES}"
    home = os.environ.get("MINICNN_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    candidates = [Path(home)] if home else []
    candidates += [Path.home() / ".cache", Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"]
    for candidate in candidates:
        folder = candidate / "minicnn" / key
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None


def _sources(path: Path) -> set[Path]:
    """A kernel source file and those that it imports, directly or not."""
    imported = re.findall(r"^from \.(\w+) import", path.read_text(), re.MULTILINE)
    return {path}.union(*(_sources(path.with_name(f"{name}.py")) for name in imported))


def cache_is_warm() -> bool:
    """True when kernels of this version that every training uses have been compiled on this machine before."""
    folder = cache_folder("sgd")
    return folder is not None and any(folder.rglob("*.nbc"))


def _compile(function: Callable[..., Any], parallel: bool) -> Any:
    options = {"fastmath": FAST_MATH, "parallel": parallel, "nogil": True, "error_model": "numpy"}
    folder = cache_folder(function.__module__.rpartition(".")[2])
    if folder is None:
        return njit(**options)(function)
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)  # read once, when the decorator makes the dispatcher
    try:
        return njit(cache=True, **options)(function)
    finally:
        numba.config.CACHE_DIR = before


def parallel_kernel(function: Callable[..., Any]) -> Any:
    """Decorator: a kernel whose `prange` loop is shared out between the threads."""
    return _compile(function, parallel=True)


def serial_kernel(function: Callable[..., Any]) -> Any:
    """Decorator: a kernel for one thread."""
    return _compile(function, parallel=False)


#: Decorator: a function that is called by kernels only and becomes part of them.
inlined = njit(fastmath=FAST_MATH, error_model="numpy")
