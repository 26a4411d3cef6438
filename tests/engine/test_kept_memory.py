"""What a network keeps of what it has done: little, however much that was."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from networks import labels, numbers, sha, small, tiny
from processes import run_script

from minicnn import SGD, SoftmaxCrossEntropy, evaluate, train_step
from minicnn.layers import programs as kept_programs
from minicnn.layers.programs import FEW, MANY, MOST_MEMORY, Programs


def held(network):
    """Bytes of the programs of a network that nobody runs."""
    programs = [program for free in network.programs._free.values() for program in free]
    return sum(map(kept_programs._memory, programs))


EVALUATE = """
import gc, tracemalloc
import numpy as np
from networks import labels, lenet
from minicnn import Model, SoftmaxCrossEntropy, evaluate
from minicnn.layers import programs as kept_programs

network, loss = lenet(), SoftmaxCrossEntropy()
images = np.zeros((10_000, 28, 28), np.uint8)
images[:, ::3] = np.arange(10_000)[:, None, None] % 256
model = Model(network, (1, 28, 28))
x = images[:, None].astype(np.float32) / 255
y = labels(len(x), 10, 1)
gc.collect()
tracemalloc.start()
scores = evaluate(network, loss, [(x, y)]).scores
assert scores.shape == (10_000, 10)
model.predict(images)
network.forward(x)
kept, peak = tracemalloc.get_traced_memory()
tracemalloc.stop()
programs = [program for free in network.programs._free.values() for program in free]
parts = [evaluate(network, loss, [(x[k : k + 50], y[k : k + 50])]).scores for k in (0, 5000)]
np.testing.assert_array_equal(np.concatenate(parts), np.r_[scores[:50], scores[5000:5050]])
print(sum(map(kept_programs._memory, programs)) >> 20, kept >> 20, peak >> 20)
"""


def test_evaluating_many_images_at_once_takes_and_keeps_little():
    """Maps of 10,000 images would be some 900 MB; memory is that of each of two threads."""
    held, kept, peak = map(int, run_script(EVALUATE, NUMBA_NUM_THREADS="2").split())
    assert held < 20 and kept < 20 and peak < 60


@pytest.mark.parametrize("what", ["train", "evaluate", "forward"])
def test_batches_of_ever_new_sizes(what):
    """Programs are kept for some of them, and what is dropped is given back."""
    network, loss = small(), SoftmaxCrossEntropy()
    optimizer = SGD(network.parameters(), 0.01)
    x, target = numbers((16 * 60, 2, 9, 8), 1), labels(16 * 60, 5, 1)
    before = None
    for blocks in (*range(1, 60), 1):
        batch = x[: 16 * blocks], target[: 16 * blocks]
        if what == "train":
            train_step(network, loss, optimizer, batch)
        elif what == "evaluate":
            found = evaluate(network, loss, [batch])
            scores = sha(found.scores[:16])
            assert before in (None, scores)
            before = scores
        else:
            network.forward(batch[0], training=True)
        assert len(network.programs._free) <= MANY


def test_large_programs_are_fewer(monkeypatch):
    network = small()
    x = numbers((16 * 40, 2, 9, 8), 1)
    network.forward(x, training=True)
    network.forward(x[:16], training=True)
    one = held(network)
    assert 0 < one < MOST_MEMORY
    monkeypatch.setattr(kept_programs, "MOST_MEMORY", 3 * one)
    for blocks in range(1, 40):
        network.forward(x[: 16 * blocks], training=True)
        assert len(network.programs._free) <= FEW or held(network) <= 3 * one
    kinds = list(network.programs._free)
    assert FEW <= len(kinds) < 12  # the last ones, which were large
    assert [key[1] for key in kinds] == list(range(39 - len(kinds), 39))


def test_what_is_used_in_turn_is_kept():
    """Two kinds of batches and two of evaluation are made once."""
    network, loss = small(), SoftmaxCrossEntropy()
    optimizer = SGD(network.parameters(), 0.01)
    x, target = numbers((100, 2, 9, 8), 1), labels(100, 5, 1)
    made = []
    real = Programs.take

    def take(programs, key, make):
        return real(programs, key, lambda: (made.append(key), make())[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Programs, "take", take)
        patch.setattr(kept_programs, "MOST_MEMORY", 0)
        for _ in range(5):
            for count in (100, 40):
                train_step(network, loss, optimizer, (x[:count], target[:count]))
                evaluate(network, loss, [(x[:count], target[:count])])
    assert len(made) == 4


def test_programs_are_given_back_with_their_network():
    network = tiny()
    network.forward(numbers((5, 3), 1), training=True)
    program = weakref.ref(network._own.last.program)
    del network
    gc.collect()
    assert program() is None


def test_passes_of_a_thread_end_with_it():
    network = tiny()

    def work(_):
        network.forward(numbers((5, 3), 1), training=True)
        return weakref.ref(network._own.last.program)

    with ThreadPoolExecutor(1) as pool:
        program = pool.submit(work, 0).result()
    gc.collect()
    assert program() is None
    assert network._own.last is None
