"""Several threads of Python at work at once: each gets what it would get alone."""

import asyncio
import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from networks import integers, labels, lenet, numbers, sha, small, threads, tiny, train

from minicnn import Model
from minicnn.errors import MinicnnError
from minicnn.layers.layer import Layer
from minicnn.layers.sequential import Sequential
from minicnn.losses import SoftmaxCrossEntropy
from minicnn.optimizers import SGD
from minicnn.training.step import evaluate, train_step

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


@pytest.fixture(scope="module")
def asked():
    """(a trained model, 2,500 images, its scores for each)"""
    network = lenet()
    train(network, (1, 28, 28), 10, steps=3, count=40)
    model = Model(network, (1, 28, 28))
    images = (integers(2500 * 784, 1) % 256).astype(np.uint8).reshape(2500, 28, 28)
    scores = model.scores(images)
    assert len(np.unique(scores[:, 0])) > 2000  # an answer for another image would be noticed
    return model, images, scores


@pytest.mark.parametrize("count", [4, 8])
def test_a_model_is_asked_by_several_one_image_at_a_time(asked, count):
    """With the four cases, 10,000 calls."""
    model, images, scores = asked
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(model.scores, images))
        classes = list(pool.map(model.predict, images[:100]))
    np.testing.assert_array_equal(np.concatenate(answers), scores)
    np.testing.assert_array_equal(np.concatenate(classes), scores[:100].argmax(axis=1))


def test_a_model_is_asked_by_several_many_images_at_a_time(asked):
    model, images, scores = asked
    sizes = [1, 300, 15, 16, 17, 256, 257, 40] * 4
    with ThreadPoolExecutor(8) as pool:
        for size, found in zip(sizes, pool.map(lambda n: model.scores(images[:n]), sizes), strict=True):
            np.testing.assert_array_equal(found, scores[:size])


def test_a_model_is_asked_with_asyncio(asked):
    model, images, scores = asked

    async def ask():
        tasks = [asyncio.to_thread(model.scores, image) for image in images[:60]]
        return await asyncio.gather(*tasks)

    np.testing.assert_array_equal(np.concatenate(asyncio.run(ask())), scores[:60])


def test_four_that_train_one_network_make_whole_steps():
    """Who comes while another one is at it is told so; each step that is made is one of a single thread's."""
    network, batch = small(), (numbers((40, *SHAPE), 1), labels(40, 5, 1))
    optimizer = SGD(network.parameters(), 0.05, 0.9)

    def task(_):
        made, loss = 0, SoftmaxCrossEntropy()
        for _ in range(100):
            try:
                train_step(network, loss, optimizer, batch)
                made += 1
            except MinicnnError as error:
                assert "expected a network that one thread trains at a time" in str(error)
        return made

    made = sum(in_threads(4, task))
    assert made == optimizer.steps >= 100
    alone, loss = small(), SoftmaxCrossEntropy()
    same = SGD(alone.parameters(), 0.05, 0.9)
    for _ in range(made):
        train_step(alone, loss, same, batch)
    assert sha(network.values) == sha(alone.values)


def test_backward_is_that_of_the_last_forward_of_its_thread():
    """Of a network, of a layer, and of a loss."""
    network, loss = small(), SoftmaxCrossEntropy()
    layer = network[0]
    x = [numbers((10 + 7 * k, *SHAPE), k) for k in range(4)]
    target = [labels(len(one), 5, 3) for one in x]

    def passes(k, other):
        found = []
        for _ in range(20):
            y, z = network.forward(x[k], training=k % 2 == 1), layer.forward(x[k])
            loss.forward(y, target[k])
            other()
            dy = loss.backward()
            found.append(sha(dy, network.backward(dy), layer.backward(z)))
        assert len(set(found)) == 1
        return found[0]

    expected = [passes(k, lambda: None) for k in range(4)]
    meeting = threading.Barrier(4)
    assert in_threads(4, lambda k: passes(k, lambda: meeting.wait(60))) == expected

    def without_forward(_):
        for one in (network, layer, loss):
            with pytest.raises(MinicnnError, match="call forward first, in the same thread"):
                one.backward(*([] if one is loss else [x[0]]))

    in_threads(1, without_forward)
