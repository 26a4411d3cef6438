"""How fast this machine is, in two seconds: multiply-adds at their peak, a convolution, and training steps."""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import numpy as np

from minicnn.engine import driver
from minicnn.engine.cache import Kernels, vector_registers
from minicnn.engine.work import Work
from minicnn.kernels import LANES, blocks_of
from minicnn.layers import Conv2d
from minicnn.losses import SoftmaxCrossEntropy
from minicnn.optimizers import SGD
from minicnn.training.step import train_step
from minicnn.zoo import lenet5

kernels = Kernels("peak")

BATCH_SIZE = 64
STEPS = 100_000  # of the loop of multiply-adds in one call: some milliseconds


class Speeds(NamedTuple):
    """GFLOP/s, and images/s of training LeNet-5; those without a number of threads are of all threads."""

    peak_of_one_thread: float
    peak: float
    convolution: float
    """Of C3's forward pass, counted by the layer's definition."""
    images_per_second: float
    share_of_peak: float
    """What the training steps' multiply-adds are of the peak, from 0 to 1."""


def peak(seconds: float) -> float:
    """GFLOP/s of all threads together in multiply-adds that wait neither for memory nor for each other."""
    # Sums in 12 registers: more than the latency of a multiply-add (4 or 5 cycles) times those that begin in
    # a cycle (2), and few enough for 16 registers.
    chains, threads = 12 if vector_registers() == 32 else 6, driver.get_threads()
    work = Work(threads, np.float32, False, False)
    start, sums = work.shared(chains * LANES), work.numbers(chains * LANES)
    work.call(kernels.multiply_adds(chains), start, 0.5, STEPS, sums)
    program = work.finish()
    times = call_times([lambda: program.run(threads * LANES)], seconds)[0]
    return 2 * LANES * chains * STEPS * threads / min(times) / 1e9


def call_times(calls: list[Callable[[], object]], seconds: float) -> list[list[float]]:
    """The seconds that each of the calls took, which alternate for `seconds`; the first of each is not counted."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    end = time.perf_counter() + seconds
    while not times[0] or time.perf_counter() < end:
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return times


def self_test(seconds: float = 2.0) -> Speeds:
    """Takes `seconds` and the time that kernels take to compile or to load. Uses the threads that are set."""
    threads = driver.get_threads()
    rng = np.random.default_rng(0)
    driver.set_threads(1)
    try:
        alone = peak(seconds / 8)
    finally:
        driver.set_threads(threads)
    together = peak(seconds / 8)

    c3 = Conv2d(6, 16, 5)
    work = Work(blocks_of(BATCH_SIZE), np.float32, False, False)
    c3.declare(work, work.map((6, 14, 14)))
    program = work.finish()
    [times] = call_times([lambda: program.run(BATCH_SIZE)], seconds / 4)
    convolution = 2 * c3.multiply_adds((6, 14, 14)) * BATCH_SIZE / median(times) / 1e9

    network, loss = lenet5(), SoftmaxCrossEntropy()
    optimizer = SGD(network.parameters(), lr=0.01, momentum=0.9)
    batch = rng.standard_normal((BATCH_SIZE, 1, 28, 28), np.float32), np.arange(BATCH_SIZE) % 10
    [times] = call_times([lambda: train_step(network, loss, optimizer, batch)], seconds / 2)
    rate = BATCH_SIZE / median(times)
    # Forward, dweight and dx take the same multiply-adds each, but nobody needs dx of the first layer.
    first = network[0].multiply_adds((1, 28, 28))
    flop = 2 * (3 * network.multiply_adds((1, 28, 28)) - first)
    return Speeds(alone, together, convolution, rate, rate * flop / 1e9 / together)
