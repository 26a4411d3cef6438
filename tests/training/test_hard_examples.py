"""Epochs that take only the images that erred most: what they take, their errors, and runs that go on."""

from pathlib import Path

import numpy as np
import pytest
from stopped_runs import CONFIG, assert_same, before_step, interrupt, resume, the_run, train, write_files

from minicnn import (
    SGD,
    Batches,
    Conv2d,
    Dense,
    Flatten,
    MaxPool,
    MeanSquaredError,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
)
from minicnn.config.build import build_schedule, total_steps
from minicnn.config.settings import load_settings
from minicnn.errors import ConfigError
from minicnn.training.callbacks.hard_examples import HardExamples
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.process_group import ProcessGroup
from minicnn.training.step import StepResult, train_step
from minicnn.training.trainer import Trainer

CONFIG_FILE = Path(__file__).parents[2] / "configs/lenet.yaml"


def batches(count: int, size: int, seed: int | None = None) -> Batches:
    return Batches(np.zeros((count, 1, 2, 2), np.uint8), np.zeros(count, int), size, seed=seed)


def test_errors_are_distances_of_probabilities_from_labels(rng):
    network = Sequential([Conv2d(1, 3, 3), ReLU(), MaxPool(2), Flatten(), Dense(27, 10)])
    network.initialize(rng=1)
    x = rng.standard_normal((300, 1, 8, 8)).astype(np.float32)  # more than a piece
    labels = rng.integers(0, 10, 300)
    scores = network.forward(x).astype(np.float64)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = np.linalg.norm(probabilities - np.eye(10)[labels], axis=1)
    optimizer = SGD(network.parameters(), lr=0.0)
    result = train_step(network, SoftmaxCrossEntropy(), optimizer, (x, labels), errors=True)
    np.testing.assert_allclose(result.errors, expected, rtol=1e-5)
    assert train_step(network, SoftmaxCrossEntropy(), optimizer, (x, labels)).errors is None


def test_errors_of_squared_differences(rng):
    network = Sequential([Dense(7, 5)]).initialize(rng=1)
    x, target = rng.standard_normal((19, 7)), rng.standard_normal((19, 5))
    x = x.astype(np.float32)
    own_gradients = 2 * (network.forward(x) - target) / 5  # of each sample's own mean
    result = train_step(network, MeanSquaredError(), SGD(network.parameters(), lr=0.1), (x, target), errors=True)
    np.testing.assert_allclose(result.errors, np.linalg.norm(own_gradients, axis=1), rtol=1e-5)


def test_whole_batches_of_those_that_erred_most():
    hard_examples = HardExamples(0.5, batches(50, 10))  # 5 batches, then 3
    assert [hard_examples.steps(epoch) for epoch in range(3)] == [5, 3, 3]
    assert hard_examples.chosen(0) is None
    errors = 1 + np.random.default_rng(0).permutation(50).astype(np.float32)
    for batch in batches(50, 10, seed=3).epoch(0):
        hard_examples.on_step_end(None, batch, StepResult(0.0, 0, len(batch), len(batch), 1.0, errors[batch.numbers]))
    hard_examples.on_epoch_end(None, {})
    assert hard_examples.chosen(1).tolist() == sorted(np.argsort(errors)[-30:])
    for batch in batches(50, 10, seed=3).epoch(1, hard_examples.chosen(1)):
        hard_examples.on_step_end(
            None, batch, StepResult(0.0, 0, len(batch), len(batch), 1.0, np.zeros(len(batch), np.float32))
        )
    np.testing.assert_array_equal(hard_examples.chosen(1), np.sort(np.argsort(errors)[-30:]))
    hard_examples.on_epoch_end(None, {})  # now those 30 have no error, and the 20 others come first
    assert set(np.argsort(errors)[:20]) < set(hard_examples.chosen(2))
    assert len(hard_examples.chosen(2)) == 30


def test_images_that_err_alike_come_in_their_order():
    hard_examples = HardExamples(0.4, batches(20, 4))
    hard_examples.errors[0] = 1
    hard_examples.errors[0, 17] = 2
    assert hard_examples.chosen(1).tolist() == [0, 1, 2, 3, 4, 5, 6, 17]


def test_a_share_that_is_all():
    assert HardExamples(1.0, batches(50, 16)).chosen(1) is None
    assert HardExamples(0.99, batches(50, 16)).chosen(1) is None  # 4 batches again


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_out_of_range(share):
    with pytest.raises(ConfigError, match="hard_examples: expected a share above 0, at most 1, received"):
        HardExamples(share, batches(5, 2))


def test_an_epoch_of_some_images_is_a_shuffle_of_them():
    numbers = np.array([3, 5, 8, 13, 21, 34, 40])
    source = batches(50, 3, seed=1)
    seen = [batch.numbers.tolist() for batch in source.epoch(2, numbers)]
    assert [len(part) for part in seen] == [3, 3, 1]
    order = [number for part in seen for number in part]
    assert sorted(order) == numbers.tolist() != order
    assert seen == [batch.numbers.tolist() for batch in source.epoch(2, numbers)]


def test_the_schedule_ends_with_the_last_of_the_fewer_steps():
    settings = load_settings(
        CONFIG_FILE, ["training.hard_examples=0.25", "training.epochs=5", "schedule.name=one-cycle"]
    )
    assert total_steps(settings, 938) == 938 + 4 * 235
    schedule = build_schedule(settings, 938)
    lowest = settings.optimizer.lr / 25 / 1e4
    assert schedule(938 + 4 * 235 - 1) == pytest.approx(lowest)
    assert schedule(938) == pytest.approx(settings.optimizer.lr, rel=1e-4)  # warmup: 1


def test_several_processes_are_refused():
    class Two(ProcessGroup):
        world_size = 2

    network = Sequential([Flatten(), Dense(4, 3)])
    images = batches(50, 10)
    arguments = network, SoftmaxCrossEntropy(), SGD(network.parameters(), lr=0.1), images, None, 1
    with pytest.raises(ConfigError, match=r"training\.hard_examples: expected null with several processes"):
        Trainer(*arguments, sampler=HardExamples(0.25, images), group=Two())


FOCUSED = CONFIG.replace("epochs: 3", "epochs: 4\n  hard_examples: 0.06")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody stopped: 100 steps, then 6 in each epoch, with a checkpoint every 7."""
    folder = tmp_path_factory.mktemp("whole")
    write_files(folder, FOCUSED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train() == 0
    return the_run(folder)


@pytest.mark.parametrize("step", [60, 103, 112])
def test_a_run_that_is_stopped_ends_as_one_that_is_not(tmp_path, monkeypatch, step, whole):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, FOCUSED)
    with monkeypatch.context() as patch:
        before_step(patch, {step + 1: interrupt})
        assert train() == 130
    stopped = the_run(tmp_path)
    assert resume(stopped) == 0
    assert_same(stopped, whole)
    rows = (whole / "steps.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == [*"1" * 100, *"2" * 6, *"3" * 6, *"4" * 6]
    errors = Checkpoint.from_bytes((whole / "checkpoints/last.safetensors").read_bytes()).arrays["HardExamples.errors"]
    assert np.isfinite(errors).all()
