"""What a user sees while kernels are compiled, which takes seconds, once per machine."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from minicnn.console import leads
from minicnn.kernels.jit import cache_is_warm
from minicnn.layers.sequential import Sequential

NOTICE = "compiling kernels, once per machine"


@contextmanager
def compiling(
    network: Sequential, passes: int, announce: Callable[[str], None] | None = None
) -> Iterator[None]:
    """For a block that takes `network` through its first `passes` forward and backward passes.

    At a terminal, a line on standard error says which layer is at work, how many are to come, and for how long this
    has lasted; it disappears at the end. Elsewhere `announce` is called with one line. Where the kernels are only
    loaded, within a second, there is neither.
    """
    # Also a warm cache may lack the kernels of a layer that no run has had before.
    delay = 1.0 if cache_is_warm() else 0.0
    total, terminal = passes * len(network), leads() and sys.stderr.isatty()
    notice = threading.Timer(delay, announce or str, [f"{NOTICE} ..."])
    if announce and not terminal:
        notice.start()
    with tqdm(
        total=total,
        desc=NOTICE,
        bar_format="{desc}: {n_fmt} of {total_fmt}{postfix}, {elapsed}",
        leave=False,
        delay=delay,
        mininterval=0,
        miniters=1,
        disable=not terminal,
    ) as bar:

        def show(i: int, direction: str) -> None:
            if bar.n < total:  # a large batch passes in pieces, of which the first compiles
                bar.set_postfix_str(f"layer {i} {type(network[i]).__name__}, {direction}", False)
                bar.update()

        network.watch = None if bar.disable else show
        try:
            yield
        finally:
            network.watch = None
            notice.cancel()
