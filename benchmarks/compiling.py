"""How many kernels are compiled, and how long that takes: for a first network, for others, and for new kinds of layers.

    python -m benchmarks.compiling

One process, whose cache is empty at first, trains one step of each. Sizes are arguments of a kernel, so networks of the
same kinds of layers should find nearly all of theirs there.
"""

import sys
import tempfile
import time
from typing import Any

from benchmarks.harness import Options, Result, Team, run, table
from benchmarks.worker import Worker

TITLE = "Compiling"
DEFAULTS = Options(rounds=1)

#: (channels, size, [(outs, kernel, stride, padding, dilation, groups)], [features]); ReLU everywhere, a pool behind
#: the first.
NETWORKS: tuple[tuple[int, int, list[Any], list[int]], ...] = (
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
)
#: The first network once more, with a layer of a new kind behind its first convolution.
KINDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("BatchNorm2d", (6,)),
    ("MeanPool", (2,)),
    ("Tanh", ()),
    ("Dropout", (0.5,)),
)


class Compiler:
    """minicnn in this process."""

    def __init__(self) -> None:
        import minicnn

        minicnn.Sequential  # noqa: B018  imports all that is imported late

    def use_threads(self, threads: int) -> None:
        from minicnn.engine import driver

        driver.set_threads(min(threads, driver.most_threads()))

    def train(self, number: int, kind: int | None = None) -> dict[str, Any]:
        """One step of network `number`, with a layer of KINDS[kind]: seconds, and the kernels compiled for it."""
        import numpy as np

        import minicnn
        from minicnn.engine import cache
        from minicnn.training.step import train_step

        channels, size, convolutions, features = NETWORKS[number]
        before, start = cache.compiled, time.perf_counter()
        layers: list[Any] = []
        shape: tuple[int, ...] = (channels, size, size)

        def add(layer: Any) -> None:
            nonlocal shape
            layers.append(layer)
            shape = layer.output_shape(shape)

        for place, (outs, *window) in enumerate(convolutions):
            add(minicnn.Conv2d(shape[0], outs, *window))
            if place == 0 and kind is not None:
                name, arguments = KINDS[kind]
                add(getattr(minicnn, name)(*arguments))
            add(minicnn.ReLU())
            if place == 0:
                add(minicnn.MaxPool(2))
        add(minicnn.Flatten())
        for outs in features:
            add(minicnn.Dense(shape[0], outs))
            add(minicnn.ReLU())
        network = minicnn.Sequential(layers[:-1]).initialize(rng=0)
        optimizer = minicnn.SGD(network.parameters(), lr=0.01, momentum=0.9)
        images = np.zeros((64, channels, size, size), np.float32)
        labels = np.arange(64) % features[-1]
        train_step(network, minicnn.SoftmaxCrossEntropy(), optimizer, (images, labels))
        return {"kernels": cache.compiled - before, "seconds": time.perf_counter() - start}


def measure(team: Team, options: Options) -> Result:
    """In a quick look, the cache is the user's, and there are fewer of them."""
    print("compiling ...", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        empty = {} if options.quick else {"MINICNN_CACHE_DIR": folder}
        worker = Worker("minicnn", Compiler, 2, team.environment | empty)
        try:
            numbers = range(2 if options.quick else len(NETWORKS))
            kinds = range(1 if options.quick else len(KINDS))
            return {
                "networks": [worker.call("train", number) for number in numbers],
                "kinds": {KINDS[kind][0]: worker.call("train", 0, kind) for kind in kinds},
            }
        finally:
            worker.end()


def report(result: Result) -> str:
    first, *others = result["networks"]
    changed = sum(one["kernels"] > 0 for one in others)
    together = {key: sum(one[key] for one in others) for key in ("kernels", "seconds")}
    rows = [("first network (LeNet-5)", first)]
    rows += [(f"{len(others)} further networks ({changed} had kernels compiled)", together)]
    rows += [(f"first {name}", one) for name, one in result["kinds"].items()]
    return (
        "One process with an empty cache: kernels compiled, and seconds to the end of a first step with each network. "
        "The further networks have the same kinds of layers with other sizes, channels, kernel sizes, strides, "
        "padding, dilation and groups.\n\n"
        + table(
            ("", "kernels compiled", "seconds"),
            [[name, str(one["kernels"]), f"{one['seconds']:.2f}"] for name, one in rows],
        )
    )


if __name__ == "__main__":
    run(sys.modules[__name__])
