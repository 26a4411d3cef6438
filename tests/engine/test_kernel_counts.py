"""How many kernels are compiled: whoever has trained one network waits for next to nothing with others of its kind."""

import json
from itertools import pairwise

from processes import run_script

#: (channels, size, [(outs, kernel, stride, padding, dilation, groups)], [features]); ReLU everywhere, a pool behind
#: the first.
NETWORKS = [
    (1, 28, [(6, 5, 1, 2, 1, 1), (16, 5, 1, 0, 1, 1)], [120, 84, 10]),
    (1, 28, [(5, 3, 1, 0, 1, 1), (7, 3, 1, 0, 1, 1)], [33, 10]),
    (3, 32, [(32, 3, 1, 1, 1, 1), (64, 3, 1, 1, 1, 1)], [128, 10]),
    (1, 20, [(8, 4, 1, 0, 1, 1), (8, 2, 1, 0, 1, 1)], [17, 3]),
    (3, 24, [(16, (1, 7), 1, 0, 1, 1), (4, (7, 1), 1, 0, 1, 1)], [50, 100]),
    (2, 15, [(1, 3, 1, 0, 1, 1), (1, 1, 1, 0, 1, 1)], [2]),
    (4, 21, [(4, 3, 2, 1, 1, 1), (6, 3, (1, 2), 1, 1, 1)], [64, 10]),
    (4, 26, [(8, 3, 1, 1, 1, 4), (12, 3, 1, 0, 1, 2)], [31, 10]),
    (2, 30, [(6, 3, 1, 0, 2, 1), (10, 3, 1, 2, (1, 3), 1)], [20, 10]),
    (6, 17, [(6, 5, 3, 2, 1, 6), (9, 2, 1, 0, 2, 3)], [47, 20, 7]),
]

SCRIPT = """
import json, sys, time
from networks import train
from minicnn.engine import cache
from minicnn.layers.activation import ReLU
from minicnn.layers.conv import Conv2d
from minicnn.layers.dense import Dense, Flatten
from minicnn.layers.pooling import MaxPool
from minicnn.layers.sequential import Sequential

known = []
for channels, size, convolutions, features in json.loads(sys.argv[1]):
    begin, layers, shape = time.perf_counter(), [], (channels, size, size)
    def add(layer):
        global shape
        layers.append(layer)
        shape = layer.output_shape(shape)
    for number, (outs, *rest) in enumerate(convolutions):
        window = [tuple(one) if isinstance(one, list) else one for one in rest]
        add(Conv2d(shape[0], outs, *window))
        add(ReLU())
        if number == 0:
            add(MaxPool(2))
    add(Flatten())
    for outs in features:
        add(Dense(shape[0], outs))
        add(ReLU())
    layers.pop()
    train(Sequential(layers).initialize(rng=0), (channels, size, size), features[-1], steps=1)
    seconds, kernels = time.perf_counter() - begin, sorted(str(k) for k, _ in cache._addresses)
    print(json.dumps([cache.compiled, seconds, [k for k in kernels if k not in known]]))
    known = kernels
"""


def test_ten_networks(tmp_path):
    told = run_script(SCRIPT, json.dumps(NETWORKS), seconds=300, MINICNN_CACHE_DIR=tmp_path / "cache")
    print(told)
    counts = [json.loads(line)[0] for line in told.splitlines()]
    assert counts[0] <= 40
    # The first with small kernels has another of Winograd's ways, and two take what the first had no use for.
    assert counts[-1] - counts[0] <= 8
    assert sum(a != b for a, b in pairwise(counts)) <= 3
