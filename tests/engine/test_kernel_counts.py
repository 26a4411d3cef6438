"""How many kernels are compiled: whoever has trained one network waits for next to nothing with others of its kind."""

from benchmarks import compiling
from benchmarks.harness import Worker


def test_ten_networks(tmp_path):
    worker = Worker("minicnn", compiling.Compiler, 2, {"MINICNN_CACHE_DIR": str(tmp_path / "cache")})
    try:
        numbers = range(len(compiling.NETWORKS))
        first, *others = [worker.call("train", number)["kernels"] for number in numbers]
    finally:
        worker.end()
    assert len(others) == 9
    assert 20 < first <= 40
    # The first with small kernels has another of Winograd's ways, and two take what the first had no use for.
    assert sum(others) <= 8
    assert sum(count > 0 for count in others) <= 3
