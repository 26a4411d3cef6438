"""Children of a process that has used the engine: there are no helper threads in them, and yet they work."""

import multiprocessing
import os

import pytest
from processes import run_script

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

HEAD = """
import os, sys, threading, time
import numpy as np
from networks import numbers, sha, small, threads, train
from minicnn.engine import driver
driver.set_threads(3)
driver.PATIENCE = 50_000  # helpers are amid a program, or close to
SHAPE = (2, 9, 8)
X = numbers((100, *SHAPE), 1)

def bits(number=0):
    network = small()
    weights = train(network, SHAPE, 5, steps=3, count=70)[1]
    return sha(weights, network.forward(X), network.forward(X, training=True))
"""

FORK = """
def in_child(task):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(write, repr(task()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with open(read) as pipe:
        text = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return eval(text)
"""


@needs_fork
def test_a_child_trains_and_predicts_with_the_same_bits():
    run_script(
        HEAD
        + FORK
        + """
expected = bits()
for _ in range(5):
    assert in_child(bits) == expected
    assert bits() == expected
assert in_child(lambda: (in_child(bits), bits())) == (expected, expected)
# programs that the parent has made, run in the child
network = small()
y = network.forward(X, training=True)
dx = network.backward(y)
def again():
    return sha(network.forward(X, training=True), network.backward(y), network.gradients)
assert in_child(again) == sha(y, dx, network.gradients) == again()
assert in_child(driver.get_threads) == 3

def helpers():
    bits()
    return sorted(thread.name for thread in threading.enumerate() if "minicnn" in thread.name)
assert in_child(helpers) == ["minicnn-1", "minicnn-2"]
"""
    )


@needs_fork
def test_a_child_of_a_parent_whose_helpers_are_amid_a_program():
    run_script(
        HEAD
        + FORK
        + """
expected, done, errors = bits(), threading.Event(), []

def keep_busy():
    try:
        while not done.is_set():
            assert bits() == expected
    except BaseException as error:
        errors.append(error)

others = [threading.Thread(target=keep_busy) for _ in range(2)]
for other in others:
    other.start()
try:
    for k in range(30):
        assert in_child(bits) == expected
        time.sleep(0.001 * k / 3)
finally:
    done.set()
for other in others:
    other.join()
assert not errors, errors
"""
    )


@needs_fork
def test_a_child_of_a_parent_that_trains_its_network_in_another_thread():
    """Its copy of the network is nobody's in the child; the weights are of some moment."""
    run_script(
        HEAD
        + FORK
        + """
network, done, errors = small(), threading.Event(), []

def keep_busy():
    try:
        while not done.is_set():
            train(network, SHAPE, 5, steps=1)
    except BaseException as error:
        errors.append(error)

other = threading.Thread(target=keep_busy)
other.start()
try:
    for _ in range(20):
        assert in_child(lambda: bool(np.isfinite(train(network, SHAPE, 5, steps=1)[1]).all()))
finally:
    done.set()
other.join()
assert not errors, errors
"""
    )


@needs_fork
def test_a_child_of_a_parent_that_compiles_in_another_thread(tmp_path):
    """The fork waits for it, so that no lock is held by a thread that is not in the child."""
    run_script(
        HEAD
        + FORK
        + """
from minicnn.engine.cache import Kernels, addresses, announced
kernels, begun = Kernels("activation"), threading.Event()

def compile_some():
    requests = [(getattr(kernels, f"{name}_backward"), "ff") for name in ("relu", "sigmoid")]
    with announced(lambda *what: begun.set()):
        addresses(requests)

other = threading.Thread(target=compile_some)
other.start()
assert begun.wait(60)
assert in_child(lambda: len(addresses([(kernels.relu_forward, "ff"), (kernels.relu_backward, "ff")]))) == 2
other.join()
""",
        MINICNN_CACHE_DIR=tmp_path,
    )


#: What is sent to other processes: a network, a model and a loss that this one has used.
USED = """
from minicnn import Model, SGD, SoftmaxCrossEntropy
from minicnn.engine import driver
from networks import integers, labels, lenet, numbers, sha, train
driver.set_threads(3)
NETWORK = lenet()
train(NETWORK, (1, 28, 28), 10, steps=2, count=40)
MODEL = Model(NETWORK, (1, 28, 28))
IMAGES = (integers(64 * 784, 1) % 256).astype("uint8").reshape(64, 28, 28)
SCORES = MODEL.scores(IMAGES)
X = numbers((40, 1, 28, 28), 2)
EXPECTED = sha(NETWORK.forward(X, training=True), NETWORK.backward(numbers((40, 10), 3)))

def work(arguments):
    network, model, loss = arguments
    loss.forward(network.forward(X, training=True), labels(40, 10, 1))
    return sha(network.forward(X, training=True), network.backward(numbers((40, 10), 3)))
"""


def methods(*names):
    return [name for name in names if name in multiprocessing.get_all_start_methods()]


def test_pools_of_processes(tmp_path):
    """They train networks of their own, and use those that this process has used and sends."""
    script = tmp_path / "script.py"
    script.write_text(
        USED
        + """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from networks import small
driver.PATIENCE = 50_000

def bits(number):
    return sha(train(small(), (2, 9, 8), 5, steps=3, count=70)[1])

if __name__ == "__main__":
    things = NETWORK, MODEL, SoftmaxCrossEntropy()
    work(things)
    expected = bits(0)
    for method in sys.argv[1:]:
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            assert list(pool.map(bits, range(4))) == [expected] * 4, method
            assert list(pool.map(work, [things] * 3)) == [EXPECTED] * 3, method
            found = list(pool.map(MODEL.scores, IMAGES[:6]))
            assert sha(*found) == sha(SCORES[:6]), method
        with context.Pool(2) as pool:
            assert pool.map(bits, range(4)) == [expected] * 4, method
            assert pool.map(work, [things] * 3) == [EXPECTED] * 3, method
        assert work(things) == EXPECTED and bits(0) == expected, method
"""
    )
    run_script(script, *methods("fork", "spawn", "forkserver"))


def test_workers_of_a_torch_data_loader(tmp_path):
    """A model in the data set, asked in the parent before and meanwhile."""
    script = tmp_path / "script.py"
    script.write_text(
        USED
        + """
import sys, warnings
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
warnings.simplefilter("ignore")

class Scored(Dataset):
    def __len__(self):
        return len(IMAGES)
    def __getitem__(self, k):
        return MODEL.scores(IMAGES[k])[0]

if __name__ == "__main__":
    for method in sys.argv[1:]:
        loader = DataLoader(Scored(), 8, num_workers=1, multiprocessing_context=method, persistent_workers=True)
        for _ in range(2):
            found = []
            for batch in loader:
                found.append(batch.numpy())
                assert sha(MODEL.scores(IMAGES[:8])) == sha(SCORES[:8]), method
            assert sha(np.concatenate(found)) == sha(SCORES), method
"""
    )
    run_script(script, *methods("fork", "spawn"))  # a server that forks sends them what a new process gets


@needs_fork
def test_children_of_a_thread_that_is_one_of_several():
    """A pool of processes that is made in a thread, while others predict."""
    run_script(
        USED
        + """
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

def in_processes(_):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return sha(*pool.map(MODEL.scores, IMAGES[:8]))

with ThreadPoolExecutor(4) as threads:
    predicting = [threads.submit(MODEL.scores, IMAGES) for _ in range(40)]
    assert in_processes(0) == sha(SCORES[:8])
    predicting += [threads.submit(MODEL.scores, IMAGES) for _ in range(40)]
    assert threads.submit(in_processes, 0).result() == sha(SCORES[:8])
    assert {sha(one.result()) for one in predicting} == {sha(SCORES)}
"""
    )
