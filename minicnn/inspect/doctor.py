"""`minicnn doctor`: what a report about speed needs, and advice where this machine could do better."""

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from minicnn.console import table
from minicnn.engine import cache, driver
from minicnn.inspect.selftest import BATCH_SIZE, Speeds, self_test
from minicnn.training.run_folder import environment

BUSY = 0.5  # programs that wanted a core in the last minute, besides this one
GROUPS = Path("/sys/fs/cgroup")

#: Bits of a register, by the names that LLVM has for what a processor can do.
WIDTHS = {"avx512f": 512, "avx2": 256, "avx": 256, "sse2": 128, "sve": 128, "neon": 128}

Facts = dict[str, Any]


@dataclass(frozen=True)
class Cores:
    """Those of the machine, and what this process may use of them."""

    all: int
    allowed: int
    """By affinity (taskset, a batch system)."""
    quota: float | None
    """Cores' worth of time that a container may use; None: no limit."""

    @property
    def usable(self) -> int:
        return max(1, min(self.allowed, int(self.quota or self.allowed)))


def examine() -> Facts:
    """The facts, as JSON can hold them. Takes two seconds, and on the first time those of compiling LeNet's kernels."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    folder, compiled = cache.folder(), cache.compiled
    speeds = self_test()
    name, bits = simd(dict(llvm.get_host_cpu_features()), platform.machine())
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
    return {
        **environment(),
        "llvmlite": version("llvmlite"),
        "machine": platform.machine(),
        "simd": name,
        "simd_bits": bits,
        "cores": asdict(cores()),
        "threads_at_most": driver.most_threads(),
        "variables": {name: os.environ[name] for name in names if name in os.environ},
        "load": load,
        "cache_folder": None if folder is None else str(folder.parent),
        "cache_was_warm": cache.compiled == compiled,
        "self_test": speeds._asdict(),
    }


def simd(features: dict[str, bool], machine: str) -> tuple[str, int]:
    """The widest vector instructions, and their bits, by LLVM's features; ("none known", 0) where those say nothing."""
    for name, bits in WIDTHS.items():
        if features.get(name):
            return name, bits
    if machine.lower() in ("arm64", "aarch64"):  # every such processor has them, even where LLVM lists nothing
        return "neon", 128
    return "none known", 0


def cores() -> Cores:
    everything = os.cpu_count() or 1
    affinity = getattr(os, "sched_getaffinity", None)
    return Cores(everything, len(affinity(0)) if affinity else everything, cgroup_quota(GROUPS))


def cgroup_quota(root: Path) -> float | None:
    """How many cores' time the control group of a container allows; None without a limit, or a control group."""
    try:
        limit, period = (root / "cpu.max").read_text("ascii").split()
    except (OSError, ValueError):
        try:
            names = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
            limit, period = ((root / name).read_text("ascii").strip() for name in names)
        except OSError:
            return None
    return float(limit) / float(period) if limit.isdigit() else None


def advise(facts: Facts) -> list[str]:
    """What could be better, a line each: what is, what it costs, what to do."""
    machine = Cores(**facts["cores"])
    threads, most = facts["threads"], facts["threads_at_most"]
    speeds, variables = Speeds(**facts["self_test"]), facts["variables"]
    lines = []
    if machine.allowed < machine.all:
        lines.append(
            f"this process may use {machine.allowed} of {machine.all} cores: taskset, a batch system or a container "
            "says so"
        )
    if machine.quota is not None and machine.quota < machine.allowed:
        lines.append(
            f"the container may use {machine.quota:g} cores' time (cgroup): raise that limit (docker --cpus), or set "
            f"NUMBA_NUM_THREADS={machine.usable}"
        )
    if most > machine.usable:
        cause = f"NUMBA_NUM_THREADS={most} is" if "NUMBA_NUM_THREADS" in variables else f"{most} threads are"
        lines.append(
            f"{cause} more than the {machine.usable} usable cores: the threads wait for each other; "
            f"set NUMBA_NUM_THREADS={machine.usable}"
        )
    elif most < machine.usable:
        lines.append(
            f"only {most} of {machine.usable} usable cores: unset NUMBA_NUM_THREADS, or set it to {machine.usable}"
        )
    elif threads == 1:
        lines.append("one core, so one thread: two cores train nearly twice as fast")
    omp = variables.get("OMP_NUM_THREADS", "")
    if omp.isdigit() and int(omp) > machine.usable:
        lines.append(
            f"OMP_NUM_THREADS={omp} is more than the {machine.usable} usable cores: libraries with OpenMP (PyTorch) "
            "get in each other's way and in minicnn's; unset it"
        )
    if facts["simd"] in ("sse2", "none known"):
        lines.append(
            f"vector instructions: {facts['simd']}, no AVX: a fraction of the speed of newer processors; in a virtual "
            "machine, let it have the host's processor (QEMU: -cpu host)"
        )
    if facts["cache_folder"] is None:
        lines.append(
            "compiled kernels cannot be kept, so that every start compiles anew: set MINICNN_CACHE_DIR to a folder "
            "that can be written"
        )
    gain = speeds.peak / speeds.peak_of_one_thread
    busy = facts["load"] is not None and facts["load"] > BUSY
    if busy:
        lines.append(
            f"other programs are running (load {facts['load']:.1f}): figures are not to be quoted, and threads wait "
            "for their cores"
        )
    if threads > 1 and gain < 0.75 * threads:
        cause = "others use the cores" if busy else "cores that share a unit, a limit, or other virtual machines"
        lines.append(f"{threads} threads do {gain:.1f} times the work of one: {cause}")
    return lines


def as_text(facts: Facts) -> str:
    machine, speeds = Cores(**facts["cores"]), Speeds(**facts["self_test"])
    quota = "" if machine.quota is None else f", {machine.quota:g} cores' time"
    variables = "".join(f", {name}={value}" for name, value in facts["variables"].items())
    state = "warm" if facts["cache_was_warm"] else "cold before this command"
    load = "not known" if facts["load"] is None else f"{facts['load']:.1f} in the last minute"
    rows = [
        ("processor", f"{facts['cpu']} ({facts['machine']})"),
        ("cores", f"{machine.all}, usable {machine.usable}{quota}"),
        ("vectors", f"{facts['simd']}, {facts['simd_bits']} bits; {facts['lanes']} lanes"),
        ("threads", f"{facts['threads']}{variables}"),
        (
            "versions",
            f"minicnn {facts['minicnn']}, Python {facts['python']}, NumPy {facts['numpy']}, "
            f"Numba {facts['numba']}, llvmlite {facts['llvmlite']}",
        ),
        ("system", facts["platform"]),
        ("kernel cache", f"{facts['cache_folder'] or 'none'}, {state}"),
        ("load", load),
        (
            "multiply-adds",
            f"{speeds.peak_of_one_thread:.0f} GFLOP/s with one thread, {speeds.peak:.0f} with {facts['threads']}",
        ),
        ("convolution", f"{speeds.convolution:.0f} GFLOP/s (6 -> 16, 5x5, on 14x14, forward)"),
        (
            f"LeNet-5, batch {BATCH_SIZE}",
            f"{speeds.images_per_second:,.0f} images/s in training, {speeds.share_of_peak:.0%} of that peak",
        ),
    ]
    return "\n".join([table(rows, "<<"), "", *(f"advice: {line}" for line in facts["advice"] or ["none needed"])])
