"""What Windows, or a container, does not have: nothing needs it to be imported, to train and to predict."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minicnn.engine import cache

ROOT = Path(__file__).parents[1]

TRAIN = """
import pkgutil
import minicnn
for module in pkgutil.walk_packages(minicnn.__path__, "minicnn."):
    if not module.name.startswith("minicnn.kernels") and not module.name.endswith("__main__"):
        __import__(module.name)
import numpy as np
from minicnn import Dense, Model, Sequential, SGD, SoftmaxCrossEntropy, train_step
network = Sequential([Dense(3, 2)])
x, labels = np.ones((4, 3), np.float32), np.zeros(4, np.int64)
optimizer = SGD(network.parameters(), 0.1)
losses = [train_step(network, SoftmaxCrossEntropy(), optimizer, (x, labels)).loss for _ in range(3)]
assert losses == sorted(losses, reverse=True)
assert len(Model(network, (3,)).predict(x)) == 4
from minicnn.engine import cache
print(cache.folder())
"""

#: What is taken away before minicnn is imported. What goes together has nothing to do with one another. platformdirs
#: asks for the system's name, and is not to be deceived.
WITHOUT = {
    "Unix": """
import os, sys, platformdirs
for name in "getuid geteuid getgid getegid fork register_at_fork sched_getaffinity mkfifo O_NONBLOCK chown".split():
    if hasattr(os, name):
        delattr(os, name)
for name in "fcntl pwd grp resource termios pty".split():
    sys.modules[name] = None
""",
    "a home, or a number of cores": """
import os
os.cpu_count = lambda: None
if hasattr(os, "sched_getaffinity"):
    del os.sched_getaffinity
os.path.expanduser = lambda path: path
for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "MINICNN_CACHE_DIR"):
    os.environ.pop(name, None)
""",
    "a folder for temporary files": """
import tempfile
def none(): raise FileNotFoundError("No usable temporary directory found")
tempfile.gettempdir = none
""",
}


def run(script, **environment):
    variables = {k: v for k, v in os.environ.items() if k not in ("COVERAGE_PROCESS_START",)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=variables | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture
def last_resort(tmp_path):
    """A folder for temporary files, and in it the one for kernels, with those that this process has."""
    place = tmp_path / f"minicnn-{os.getuid()}" / "kernels"
    place.mkdir(mode=0o700, parents=True)
    for name in ("lanes", "loop", "loss", "optimizer", "product", "gradients"):
        for kernel in cache.folder().glob(f"{name}.*"):
            shutil.copy(kernel, place)
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to take away here")
@pytest.mark.parametrize("what", WITHOUT)
def test_without(what, last_resort):
    place = run(f"{WITHOUT[what]}\n{TRAIN}", TMPDIR=str(last_resort))
    assert place.startswith(str(last_resort)) == (what == "a home, or a number of cores")


@pytest.mark.parametrize("path", ["~nobody-of-this-name/data", "~/data"])
def test_a_home_that_nobody_knows_is_a_folder_of_that_name(path, tmp_path):
    """And the error that there is none names it."""
    script = f"""
import os
os.path.expanduser = lambda path: path
from minicnn import DataError, load_dataset
for arguments in (dict(name="folder", path={path!r}), dict(name="arrays", path={path!r})):
    try:
        load_dataset(**arguments)
    except DataError as error:
        assert {path!r} in str(error), error
    else:
        raise AssertionError
print("done")
"""
    assert run(script, TMPDIR=str(tmp_path)) == "done"
