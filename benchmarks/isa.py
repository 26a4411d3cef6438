"""The instructions that all rivals may use: those of this processor, or of those only AVX2 and what came before it."""

import sys

ISAS = ("native", "avx2")

#: What LLVM knows of a Haswell, the first processor with AVX2.
HASWELL = (
    *("sse", "sse2", "sse3", "ssse3", "sse4.1", "sse4.2", "avx", "avx2", "fma", "f16c"),
    *("bmi", "bmi2", "lzcnt", "popcnt", "movbe", "pclmul", "crc32", "cmov", "cx8", "cx16"),
    *("mmx", "fxsr", "xsave", "xsaveopt", "sahf", "fsgsbase", "rdrnd", "invpcid"),
)


def limits(isa: str) -> dict[str, str]:
    """Environment variables of a process that is to keep to `isa`; they count if set before it starts.

    Numba reads the first two, PyTorch's own kernels and its oneDNN one each of the others.
    """
    if isa == "native":
        return {}
    import llvmlite.binding as llvm

    host = llvm.get_host_cpu_features()
    if not (host.get("avx2") and host.get("fma")):
        sys.exit(f"--isa {isa}: this processor has no AVX2")
    features = [("+" if host[name] else "-") + name for name in HASWELL if name in host]
    return {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": ",".join(features),
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    }
