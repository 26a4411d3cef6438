"""How many kernels are compiled: whoever has trained one network waits for next to nothing with others of its kind."""

from benchmarks.compiling import NETWORKS, Compiler
from minicnn.engine import cache, driver


def test_ten_networks(monkeypatch):
    """As with an empty cache; but kernels that are there are not compiled again."""
    read, compile_all = cache._read, cache._compile_all
    wanted = []

    def counted(requests):
        wanted.extend(requests)
        known = {request: read(request) for request in requests}
        cache._addresses.update({request: cache._load(*code) for request, code in known.items() if code})
        missing = [request for request, code in known.items() if not code]
        if missing:
            compile_all(missing)

    monkeypatch.setattr(cache, "_addresses", {})
    monkeypatch.setattr(cache, "_read", lambda request: None)
    monkeypatch.setattr(cache, "_compile_all", counted)
    cache.addresses(driver.REQUESTS)  # which this process has already
    compiler, counts = Compiler(), []
    for number in range(len(NETWORKS)):
        compiler.train(number)
        counts.append(len(wanted))
    assert len(set(wanted)) == len(wanted)
    assert 20 < counts[0] <= 40
    # The first with small kernels has another of Winograd's ways, and two take what the first had no use for.
    assert counts[-1] - counts[0] <= 8
    assert len(set(counts)) <= 1 + 3
