"""minicnn doctor: facts of this machine, advice for others."""

import copy
import json

import pytest

from minicnn.cli import main
from minicnn.engine import driver
from minicnn.inspect import doctor
from minicnn.inspect.selftest import Speeds, self_test
from minicnn.kernels import LANES

QUIET = {
    "cores": {"all": 2, "allowed": 2, "quota": None},
    "threads": 2,
    "threads_at_most": 2,
    "variables": {},
    "simd": "avx512f",
    "simd_bits": 512,
    "lanes": 16,
    "cache_folder": "/home/me/.cache/minicnn",
    "load": 0.1,
    "self_test": Speeds(250, 490, 220, 120_000, 0.55)._asdict(),
}


def advice(**changes):
    facts = copy.deepcopy(QUIET)
    for key, value in changes.items():
        if isinstance(facts[key], dict):
            facts[key].update(value)
        else:
            facts[key] = value
    return doctor.advise(facts)


@pytest.fixture
def short_test(monkeypatch):
    monkeypatch.setattr(doctor, "self_test", lambda: self_test(0.01))


def test_doctor_prints_facts_figures_and_advice_as_text(short_test, capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name in ("processor", "cores", "vectors", "threads", "versions", "kernel cache", "load"):
        assert f"\n{name}  " in f"\n{text}"
    assert f"{LANES} lanes" in text
    assert "images/s in training" in text
    assert "\nadvice: " in text


def test_doctor_prints_the_same_as_json(short_test, capsys):
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["lanes"] == LANES
    assert facts["threads"] == driver.get_threads()
    speeds = facts["self_test"]
    assert min(speeds.values()) > 0
    assert facts["advice"] == doctor.advise(facts)


def test_the_self_test_leaves_the_number_of_threads_alone():
    before = driver.get_threads()
    driver.set_threads(1)
    try:
        self_test(0.001)
        assert driver.get_threads() == 1
    finally:
        driver.set_threads(before)


def test_nothing_to_advise_on_a_good_quiet_machine():
    assert advice() == []
    assert "advice: none needed" in doctor.as_text(
        QUIET
        | dict.fromkeys(("cpu", "machine", "minicnn", "python", "numpy", "numba", "llvmlite"), "x")
        | {"platform": "x", "cache_was_warm": True, "advice": []}
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cores": {"all": 8}}, "may use 2 of 8 cores"),
        ({"cores": {"quota": 1.5}, "threads_at_most": 1}, "1.5 cores' time"),
        (
            {"threads_at_most": 8, "variables": {"NUMBA_NUM_THREADS": "8"}},
            "NUMBA_NUM_THREADS=8 is more than the 2 usable cores",
        ),
        ({"cores": {"quota": 1.0}}, "2 threads are more than the 1 usable cores"),
        ({"threads_at_most": 1}, "only 1 of 2 usable cores"),
        ({"cores": {"all": 1, "allowed": 1}, "threads": 1, "threads_at_most": 1}, "one core, so one thread"),
        ({"variables": {"OMP_NUM_THREADS": "16"}}, "OMP_NUM_THREADS=16 is more than the 2"),
        ({"simd": "sse2", "simd_bits": 128}, "no AVX"),
        ({"cache_folder": None}, "set MINICNN_CACHE_DIR"),
        ({"load": 3.2}, "other programs are running (load 3.2)"),
        ({"self_test": {"peak": 260.0}}, "2 threads do 1.0 times the work of one: cores that"),
        ({"self_test": {"peak": 260.0}, "load": 2.0}, "work of one: others use the cores"),
    ],
)
def test_advice(changes, expected):
    assert any(expected in line for line in advice(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"simd": "neon", "simd_bits": 128},
        {"simd": "avx2", "simd_bits": 256, "lanes": 8},
        {"variables": {"NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}},
        {"load": None},
    ],
)
def test_no_advice_where_nothing_is_off(changes):
    assert advice(**changes) == []


@pytest.mark.parametrize(
    ("features", "machine", "expected"),
    [
        ({"sse2": True, "avx": True, "avx2": True, "avx512f": True}, "x86_64", ("avx512f", 512)),
        ({"sse2": True, "avx": True, "avx2": True, "avx512f": False}, "x86_64", ("avx2", 256)),
        ({"sse2": True, "avx": False}, "AMD64", ("sse2", 128)),
        ({"neon": True, "fp-armv8": True}, "aarch64", ("neon", 128)),
        ({}, "arm64", ("neon", 128)),
        ({}, "riscv64", ("none known", 0)),
    ],
)
def test_the_widest_vector_instructions_by_llvms_names(features, machine, expected):
    assert doctor.simd(features, machine) == expected


def test_the_limit_of_a_container(tmp_path):
    assert doctor.cgroup_quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert doctor.cgroup_quota(tmp_path) is None
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("50000\n")
    assert doctor.cgroup_quota(tmp_path) == 0.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert doctor.cgroup_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert doctor.cgroup_quota(tmp_path) == 1.5
    assert doctor.Cores(4, 4, 1.5).usable == doctor.Cores(4, 1, None).usable == 1
    assert doctor.Cores(4, 4, 0.5).usable == 1
