"""Scripts that tests run in processes of their own, and kernels that are compiled soon."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from minicnn.engine.cache import Kernels
from minicnn.engine.work import Work

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

kernels = Kernels("activation")
RELU, NEGATED = kernels.relu_forward, kernels.leaky_relu_forward


#: Seconds after which a script hangs: far more than any takes, as other programs may need the cores.
LIMIT = 300


def run_script(script, *arguments, fails=False, **environment):
    """Standard output of a script in Python, a text or a file, which can import modules of this folder.

    Standard error, if it `fails`. An environment variable of None is left out.
    """
    variables = dict(os.environ) | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}
    for name, value in environment.items():
        variables.pop(name, None)
        if value is not None:
            variables[name] = str(value)
    done = subprocess.run(
        [sys.executable, *([script] if isinstance(script, Path) else ["-c", script]), *arguments],
        env=variables,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == (1 if fails else 0), f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stderr if fails else done.stdout


#: In a process of its own: the kernels that were compiled, and where they are kept.
SCRIPT = """
import os, sys
sys.executable = ""  # four small kernels are compiled sooner here than in processes
from processes import relu
from minicnn.engine import cache
assert relu()
print(cache.compiled, cache.folder())
"""


def relu():
    """Whether a program of two kernels does what it should."""
    work = Work(1, np.float32, False, False)
    x, y, z = work.rows(1), work.rows(1), work.rows(1)
    x.array[...] = np.arange(-8, 8, dtype=np.float32).reshape(16, 1)
    work.call(RELU, x, y)
    work.call(NEGATED, x, z, -1.0)
    work.finish().run(16)
    return (y.array == np.maximum(x.array, 0)).all() and (z.array == np.abs(x.array)).all()


def in_process(**options):
    """(how many kernels were compiled, the folder) for the script above, see `run_script`."""
    compiled, _, folder = run_script(SCRIPT, **options).strip().partition(" ")
    return int(compiled), folder
