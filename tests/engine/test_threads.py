"""Programs give the same bits with any number of threads, however their jobs are dealt out."""

import time

import numpy as np
import pytest
from networks import labels, lenet, numbers, sha, small, threads, tiny, train

from minicnn.engine import driver
from minicnn.engine.cache import Kernels
from minicnn.engine.work import Work
from minicnn.layers.activation import ReLU
from minicnn.layers.conv import Conv2d
from minicnn.layers.normalization import BatchNorm2d
from minicnn.layers.sequential import Sequential
from minicnn.losses import SoftmaxCrossEntropy
from minicnn.optimizers import SGD
from minicnn.training.step import evaluate, train_step

pytestmark = pytest.mark.usefixtures("awake")

COUNTS = [1, 15, 16, 17, 70]
SHAPE = (2, 9, 8)


def passes(network, x):
    """Bits of y, dx and all gradients, in NumPy's layout."""
    y = network.forward(x, training=True)
    dx = network.backward(numbers(y.shape, 3, x.dtype))
    return sha(y, dx, network.gradients)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", COUNTS)
def test_forward_and_backward(count, dtype):
    network, x = small().astype(dtype), numbers((count, *SHAPE), 2, dtype)
    found = []
    for number in (1, 2, 3):
        with threads(number):
            found += [passes(network, x) for _ in range(3)]
    assert len(set(found)) == 1


@pytest.mark.parametrize("count", [*COUNTS, 200])
def test_training(count):
    found = []
    for number in (1, 2, 3):
        with threads(number):
            losses, weights = train(small(), SHAPE, 5, count=count, steps=5)
        found.append((losses, sha(weights)))
    assert found[0] == found[1] == found[2]


def test_training_of_lenet():
    found = []
    for number in (1, 2, 3):
        with threads(number):
            losses, weights = train(lenet(), (1, 28, 28), 10, count=100)
        found.append((losses, sha(weights)))
    assert found[0] == found[1] == found[2]


def test_dropout_drops_the_same():
    found = []
    for number in (1, 3):
        with threads(number):
            found.append(sha(train(small(dropout=True), SHAPE, 5)[1]))
    assert found[0] == found[1]


def test_clipped_gradients_have_the_same_norm():
    x, target = numbers((64, 1, 28, 28), 1), labels(64, 10, 1)
    found = []
    for number in (1, 2, 3):
        with threads(number):
            network = lenet()
            optimizer = SGD(network.parameters(), 0.1, 0.9, True, 1e-3, clip_norm=0.1)
            for _ in range(3):
                train_step(network, SoftmaxCrossEntropy(), optimizer, (x, target))
            found.append(sha(network.values))
    assert len(set(found)) == 1


def test_evaluation():
    network, x, target = small(), numbers((5000, *SHAPE), 4), labels(5000, 5, 4)
    found = []
    for number in (1, 2, 3):
        with threads(number):
            result = evaluate(network, SoftmaxCrossEntropy(), [(x, target), (x[:33], target[:33])])
        found.append((result.loss, result.accuracy, sha(result.scores)))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("gap", [0.0, 0.002], ids=["helpers awake", "helpers asleep"])
def test_thousands_of_tiny_programs(gap, monkeypatch):
    """Jobs of a microsecond, so that threads come late, to phases that are over and programs that are others."""
    rounds = 3000 if gap == 0 else 200
    if gap:
        monkeypatch.setattr(driver, "PATIENCE", 100)
    x = {count: numbers((count, 3), count) for count in (17, 33, 64)}
    network = tiny()
    with threads(1):
        expected = {count: sha(network.forward(x[count])) for count in x}
    with threads(3):
        for k in range(rounds):
            count = (17, 33, 64)[k % 3]
            assert sha(network.forward(x[count])) == expected[count], k
            if gap:
                time.sleep(gap)


def test_thousands_of_tiny_steps():
    found = []
    for number in (1, 2, 3):
        with threads(number):
            losses, weights = train(tiny(), (3,), 2, steps=1500, count=40)
        found.append((losses[-1], sha(weights)))
    assert found[0] == found[1] == found[2]


def test_every_job_is_done_once():
    """Calls that add 1: a job that is done twice or not at all is a number that is not 1."""
    kernels = Kernels("optimizer")
    average, value = np.zeros(300 * 4096, np.float32), np.ones(300 * 4096, np.float32)
    blocks = np.zeros((300, 16), np.float32)
    with threads(3):
        work = Work(300, np.float32, True, False)
        work.after(kernels.move_towards, average, value, 1.0, average.size, tasks=300)
        rows = work.numbers(16)
        rows.array[...] = blocks
        work.call(kernels.move_towards, rows, np.ones(16, np.float32), 0.5, 16)
        program = work.finish()
        for k in range(1, 101):
            average[...] = 0
            program.run(1)
            assert (average == 1).all()
            assert (rows.array == np.float32(1 - 0.5**k)).all()


def test_other_numbers_of_threads_between_runs():
    network, x = small(), numbers((100, *SHAPE), 5)
    with threads(1):
        expected = passes(network, x)
    for number in (3, 1, 5, 2, 9, 4, 1):
        with threads(number):
            assert passes(network, x) == expected
            assert sha(train(small(), SHAPE, 5)[1]) == sha(train(small(), SHAPE, 5)[1])


def test_a_program_for_fewer_threads_than_there_are_is_made_anew():
    network, x = Sequential([BatchNorm2d(1), Conv2d(1, 2, 3), ReLU()]), numbers((200, 1, 6, 6), 6)
    more = driver.capacity() + 1
    y = network.forward(x, training=True)
    dx = network.backward(y)
    with threads(more):
        assert network._own.last.program.is_stale
        assert sha(network.backward(y)) == sha(dx)  # what forward has kept counts
        assert network.forward(x, training=True).tobytes() == y.tobytes()
        assert network._own.last.program.threads >= more
        assert sha(network.backward(y)) == sha(dx)


@pytest.mark.parametrize("jobs", [2, 3, 8])
def test_as_many_threads_as_jobs(jobs):
    """More than cores, so that they lose them at any point: when they are about to ask for a job that others take."""
    kernel = Kernels("optimizer").move_towards  # 0 becomes 1, and what is 1 already does not stay so
    high, share = np.full((jobs, 4096), 2.0**20, np.float32), 2.0**-20
    with threads(jobs):
        work = Work(jobs, np.float32, True, False)
        counts = [work.numbers(16), work.numbers(16), np.zeros((jobs, 4096), np.float32)]
        work.call(kernel, counts[0], high, share, 16)
        work.together(kernel, counts[2], high, share, counts[2].size, tasks=jobs)
        work.call(kernel, counts[1], high, share, 16)
        program = work.finish()
        program.run(16 * jobs)
        time.sleep(0.01)  # in which helpers come
        arrays = [counts[0].array, counts[1].array, counts[2]]
        for _ in range(5000):
            for array in arrays:
                array[...] = 0
            program.run(16 * jobs)
            assert all((array == 1).all() for array in arrays)


def test_a_program_for_fewer_threads_than_there_are_does_no_harm(monkeypatch):
    """One that another thread took a moment before more threads were allowed."""
    work = Work(64, np.float32, True, False)
    kernels = Kernels("activation")
    rows, out = work.rows(1), work.rows(1)
    rows.array[...] = numbers(rows.array.shape, 1)
    y = work.map((1,))
    work.call(kernels.relu_forward, rows, y)
    work.call(kernels.relu_forward, y, out)
    program = work.finish()
    with threads(program.threads + 2):
        train(tiny(), (3,), 2, count=200)  # so that there are as many helpers
        states, (run, work_loop) = [], driver._entries()

        def watched(*arguments):
            states.append(arguments[2])
            return run(*arguments)

        monkeypatch.setattr(driver, "_entries", lambda: (watched, work_loop))
        for _ in range(100):
            out.array[...] = -1
            program.run(1024)
            assert (out.array == np.maximum(rows.array, 0)).all()
        assert driver._pool.address not in states  # where helpers without memory look for jobs


def test_numbers_of_threads_out_of_range():
    for number in (0, -1, driver.MOST + 1):
        with pytest.raises(ValueError, match=f"threads: expected 1 to {driver.MOST}"):
            driver.set_threads(number)
