"""Several threads of Python at work at once: each gets what it would get alone."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from networks import labels, lenet, numbers, sha, small, threads, tiny, train

from minicnn.errors import MinicnnError
from minicnn.layers.layer import Layer
from minicnn.layers.sequential import Sequential
from minicnn.losses import SoftmaxCrossEntropy
from minicnn.optim import SGD
from minicnn.training import evaluate, train_step

pytestmark = pytest.mark.usefixtures("awake")

SHAPE = (2, 9, 8)


@pytest.fixture(params=[1, 3], autouse=True)
def several(request):
    with threads(request.param):
        yield


def in_threads(count, task):
    """[task(0), task(1), ...], all begun at once."""
    barrier = threading.Barrier(count)

    def run(number):
        barrier.wait(60)
        return task(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_four_train_networks_of_their_own():
    def task(seed):
        losses, weights = train(small(), SHAPE, 5, steps=60, count=40, seed=seed)
        return losses, sha(weights)

    expected = [task(seed) for seed in range(4)]
    assert in_threads(4, task) == expected


def test_four_train_networks_of_several_sizes():
    def task(seed):
        if seed % 2:
            return sha(train(tiny(), (3,), 2, steps=400, count=20 + 16 * seed)[1])
        return sha(train(lenet(), (1, 28, 28), 10, steps=4, count=40)[1])

    expected = [task(seed) for seed in range(4)]
    assert in_threads(4, task) == expected


def test_four_share_a_network():
    network = small()
    x = [numbers((20 + 9 * seed, *SHAPE), seed) for seed in range(4)]
    network.forward(x[0], training=True)  # its program is given back once, whoever is first
    expected = [sha(network.forward(x[seed])) for seed in range(4)]

    def task(seed):
        return {sha(network.forward(x[seed])) for _ in range(100)}

    assert in_threads(4, task) == [{found} for found in expected]


def test_four_evaluate_a_network():
    network, loss = small(), SoftmaxCrossEntropy()
    x, target = numbers((70, *SHAPE), 1), labels(70, 5, 1)
    expected = evaluate(network, loss, [(x, target)])

    def task(_):
        found = [evaluate(network, loss, [(x, target)]) for _ in range(50)]
        return {(one.loss, one.accuracy, sha(one.scores)) for one in found}

    assert in_threads(4, task) == [{(expected.loss, expected.accuracy, sha(expected.scores))}] * 4


class _Meeting(Layer):
    """y = x; in training it waits until somebody has seen that it is there."""

    def __init__(self):
        self.there, self.seen = threading.Event(), threading.Event()

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False):
        if training:
            self.there.set()
            assert self.seen.wait(60)
        return x

    def backward(self, dy):
        return dy


def test_two_that_train_one_network_are_told():
    meeting = _Meeting()
    network = Sequential([*tiny(), meeting])
    optimizer, loss = SGD(network.parameters(), lr=0.1), SoftmaxCrossEntropy()
    batch = numbers((20, 3), 1), labels(20, 2, 1)
    first = threading.Thread(target=train_step, args=(network, loss, optimizer, batch))
    first.start()
    assert meeting.there.wait(60)
    before = network.values.copy()
    with pytest.raises(MinicnnError, match="train_step: expected a network that one thread trains"):
        train_step(network, SoftmaxCrossEntropy(), optimizer, batch)
    assert sha(network.values) == sha(before)
    other = tiny()
    train_step(other, loss, SGD(other.parameters(), lr=0.1), batch)  # another one can be trained
    meeting.seen.set()
    first.join()
    assert optimizer.steps == 1
    train_step(network, loss, optimizer, batch)
    assert optimizer.steps == 2


def test_a_step_that_fails_leaves_the_network_free():
    network = tiny()
    optimizer, loss = SGD(network.parameters(), lr=0.1), SoftmaxCrossEntropy()
    batch = numbers((20, 3), 1), labels(20, 2, 1)
    with pytest.raises(MinicnnError, match="expected classes 0 to 1"):
        train_step(network, loss, optimizer, (batch[0], batch[1] + 5))
    train_step(network, loss, optimizer, batch)


def test_one_predicts_with_a_network_that_another_trains():
    """What it sees is of no step in particular, but these are scores, and training is not disturbed."""
    expected = train(small(), SHAPE, 5, steps=80)
    network, done = small(), threading.Event()
    x, target = numbers((33, *SHAPE), 1), labels(33, 5, 1)

    def predict():
        passes = 0
        while not done.is_set() or passes == 0:
            assert np.isfinite(network.forward(x)).all()
            assert np.isfinite(evaluate(network, SoftmaxCrossEntropy(), [(x, target)]).loss)
            passes += 1

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(predict) for _ in range(2)]
        try:
            losses, weights = train(network, SHAPE, 5, steps=80)
        finally:
            done.set()
        for future in running:
            future.result()
    assert (losses, sha(weights)) == (expected[0], sha(expected[1]))


def test_copies_are_trained_beside_each_other():
    network = small()
    networks = [copy.deepcopy(network) for _ in range(4)]
    expected = sha(train(network, SHAPE, 5, steps=20)[1])
    assert in_threads(4, lambda k: sha(train(networks[k], SHAPE, 5, steps=20)[1])) == [expected] * 4
