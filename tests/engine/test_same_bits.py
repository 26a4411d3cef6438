"""The same training gives the same bits on this machine and compiled for others, see `golden`."""

import json
import platform
from pathlib import Path

import llvmlite.binding as llvm
import pytest
from golden import GOLDEN
from networks import threads
from numpy._core._multiarray_umath import __cpu_dispatch__
from processes import HERE, run_script

EXPECTED = json.loads((HERE / "golden.json").read_text())

HASWELL = "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+sse4.2,+ssse3,-avx512f"
NEHALEM = "+sse4.2,+ssse3,-avx,-avx2,-fma,-f16c,-avx512f"
#: What NumPy and the C library choose on a processor that has none of it.
PLAIN = {
    "NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__),
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-FMA,-FMA_Usable,-AVX512F",
}


def here_is(feature):
    return platform.machine() in ("x86_64", "AMD64") and llvm.get_host_cpu_features().get(feature)


def elsewhere(names, **environment):
    return json.loads(run_script(HERE / "golden.py", *names, **environment))


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", GOLDEN)
def test_here(name, number):
    with threads(number):
        assert GOLDEN[name]() == EXPECTED[name]


@pytest.mark.skipif(not here_is("fma"), reason="this processor cannot run it")
def test_compiled_for_haswell():
    """Half as wide, and other tiles."""
    found = elsewhere([], NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES=HASWELL)
    assert found == EXPECTED


@pytest.mark.skipif(not here_is("sse4.2"), reason="this processor cannot run it")
def test_compiled_for_a_machine_without_multiply_add():
    """Each is the call of a function there."""
    found = elsewhere(["small"], NUMBA_CPU_NAME="nehalem", NUMBA_CPU_FEATURES=NEHALEM, **PLAIN)
    assert found == {"small": EXPECTED["small"]}


def test_all_are_there():
    assert list(EXPECTED) == list(GOLDEN)
    assert all(len(digest) == 64 for digest in EXPECTED.values())
    assert len(set(EXPECTED.values())) == len(EXPECTED)
    assert Path(HERE / "golden.json").read_text() == json.dumps(EXPECTED, indent=2) + "\n"
