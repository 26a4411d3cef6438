"""Several processes on one network, without processes: the ranks of a step one after the other; and settings."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
from against_torch import assert_same

from minicnn import (
    SGD,
    Batches,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    MaxPool,
    MeanSquaredError,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
)
from minicnn.config.settings import load_settings
from minicnn.engine import driver
from minicnn.errors import ConfigError, DivergedError
from minicnn.runs.ranks import NOTE, check_settings, earlier_run
from minicnn.runs.run import check_machine
from minicnn.training.process_group import ProcessGroup
from minicnn.training.step import train_step

ROOT = Path(__file__).parents[2]


def network():
    return Sequential([Conv2d(1, 3, 3), ReLU(), MaxPool(2), Flatten(), Dense(27, 10)]).initialize("kaiming", rng=0)


def batches(n, batch_size):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (n, 1, 8, 8), np.uint8)
    return Batches(images, rng.integers(0, 10, n), batch_size, 0.5, 0.3, seed=2)


class Enough(Exception):  # noqa: N818
    pass


def step_of_ranks(network, loss, optimizer, batch, size):
    """The result of a step of `size` ranks, of which the last makes the update."""
    gradients, numbers = [], []

    def collect(gradient, values):
        gradients.append(gradient.copy())
        numbers.append(values)
        raise Enough

    def reduce(gradient, values):
        gradient += sum(gradients)
        return [float(x) for x in np.sum([*numbers, values], axis=0)]

    for rank in range(size - 1):
        with pytest.raises(Enough):
            train_step(network, loss, optimizer, batch.shard(rank, size), collect)
    return train_step(network, loss, optimizer, batch.shard(size - 1, size), reduce)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("n", [300, 64, 7, 3, 1])
def test_shards_are_parts_of_the_batch(n, size):
    batch = next(iter(batches(n, n).epoch(3)))
    shards = [batch.shard(rank, size) for rank in range(size)]
    lengths = [len(shard) for shard in shards]
    assert sum(lengths) == n and max(lengths) - min(lengths) <= 1 and lengths[0] == max(lengths)
    assert all(shard.total == n for shard in shards)
    np.testing.assert_array_equal(np.concatenate([s.labels for s in shards]), batch.labels)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("samples", [300, 50, 3, 1], ids=lambda n: f"{n}-samples")
def test_ranks_together_make_the_step_of_one_process(samples, size):
    """Also where a shard goes in pieces, shards differ in size, or some ranks have no sample."""
    alone, together = network(), network()
    batch = next(iter(batches(samples, samples).epoch(0)))
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "clip_norm": 1.0}
    loss = SoftmaxCrossEntropy()
    expected = train_step(alone, loss, SGD(alone.parameters(), **settings), batch)
    optimizer = SGD(together.parameters(), **settings)
    result = step_of_ranks(together, loss, optimizer, batch, size)
    np.testing.assert_allclose(result.loss, expected.loss, rtol=1e-5)
    assert (result.correct, result.count) == (expected.correct, expected.count)
    assert_same([together.gradients, together.values], [alone.gradients, alone.values], rtol=1e-5)


def test_ranks_together_with_mean_squared_error():
    alone = Sequential([Flatten(), Dense(64, 10)])
    together = copy.deepcopy(alone)
    batch = next(iter(batches(7, 7).epoch(0)))
    batch.labels = np.eye(10, dtype=np.float32)[batch.labels]
    loss = MeanSquaredError()
    expected = train_step(alone, loss, SGD(alone.parameters(), lr=0.1), batch)
    result = step_of_ranks(together, loss, SGD(together.parameters(), lr=0.1), batch, 2)
    np.testing.assert_allclose(result.loss, expected.loss, rtol=1e-5)
    assert_same([together.values], [alone.values], rtol=1e-5)


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_together_with_weights_of_classes_and_samples(size):
    """The mean is that over the weights of the whole batch; also of shards without a sample or without a weight."""
    for samples, weights in ((50, np.arange(50) % 4), (3, [0, 0, 2.0]), (1, [1.5]), (7, None), (2, [0, 0])):
        alone, together = network(), network()
        source = batches(samples, samples)
        source.weights = None if weights is None else np.asarray(weights, float)
        batch = next(iter(source.epoch(0)))
        loss = SoftmaxCrossEntropy(0.1, 0.1 + np.arange(10))
        expected = train_step(alone, loss, SGD(alone.parameters(), lr=0.1), batch)
        result = step_of_ranks(together, loss, SGD(together.parameters(), lr=0.1), batch, size)
        np.testing.assert_allclose([result.loss, result.weight], [expected.loss, expected.weight], rtol=1e-5)
        assert_same([together.gradients, together.values], [alone.gradients, alone.values], rtol=1e-5)
        if weights is not None:
            assert expected.weight == pytest.approx(np.sum((0.1 + batch.labels) * batch.weights), rel=1e-6)


def test_a_rank_without_a_sample_adds_nothing_and_keeps_its_statistics():
    one = Sequential([BatchNorm2d(1), Flatten(), Dense(64, 10)])
    one.gradients[...] = 7
    before = one.state_dict()
    shard = next(iter(batches(1, 1).epoch(0))).shard(1, 2)
    optimizer = SGD(one.parameters(), lr=0.1)
    result = train_step(one, SoftmaxCrossEntropy(), optimizer, shard, lambda _, numbers: [*numbers])
    assert (result.loss, result.correct, result.count) == (0, 0, 1)
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("bad_here", [True, False])
def test_every_rank_learns_of_a_loss_that_is_not_finite(bad_here):
    """And of the layer, though only one has seen it."""
    one = network()
    before = one.values.copy()
    if bad_here:
        one[4].weight.value[0, 0] = before[0] = np.nan
    calls = []

    def reduce(gradient, values):
        calls.append(gradient.size)
        other = [1.0, 0.0] if bad_here else [np.nan, 0.0]
        if gradient.size == 0:  # where each says which layer it was: here the last
            other = [0.0] * len(values) if bad_here else [0.0, 0.0, 0.0, 0.0, 1.0]
        return [float(a + b) for a, b in zip(values, other, strict=True)]

    before = one.values.copy()
    optimizer = SGD(one.parameters(), lr=0.1)
    batch = next(iter(batches(20, 20).epoch(0))).shard(0, 2)
    with pytest.raises(DivergedError, match=r"step 1: .*layer 4 Dense\(27, 10\)"):
        train_step(one, SoftmaxCrossEntropy(), optimizer, batch, reduce)
    assert calls == [one.gradients.size, 0]
    np.testing.assert_array_equal(one.values, before)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_parts_of_the_test_images_are_all_of_them(size):
    whole = batches(5, 2)
    parts = [whole.part(rank, size) for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate([p.images for p in parts]), whole.images)
    np.testing.assert_array_equal(np.concatenate([p.labels for p in parts]), whole.labels)


class Group(ProcessGroup):
    """Ranks of which the others have the given settings."""

    def __init__(self, *others):
        self.others, self.world_size = others, 1 + len(others)

    def all_gather(self, value):
        self.sent = value
        return [value, *({**value, **other} for other in self.others)]


SETTINGS = {"optimizer": {"lr": 0.1}, "training": {"batch_size": 2, "threads": None}, "output": {"dir": "runs"}}


def test_ranks_with_other_settings_are_refused():
    group = Group({})
    check_settings(group, SETTINGS)
    assert list(group.sent) == ["optimizer.lr", "training.batch_size"]  # the others are a machine's own
    message = r"optimizer\.lr: expected the same on all ranks, received 0.1 on rank 0 and 0.2 on rank 2"
    with pytest.raises(ConfigError, match=message):
        check_settings(Group({}, {"optimizer.lr": 0.2}), {**SETTINGS, "training": {"batch_size": 9}})


def test_a_batch_without_a_sample_for_each_rank_is_refused():
    with pytest.raises(ConfigError, match=r"training\.batch_size: expected at least 3, .* received 2"):
        check_settings(Group({}, {}), SETTINGS)


@pytest.mark.parametrize(("ranks", "expected"), [(1, 8), (2, 4), (3, 2), (20, 1)])
def test_ranks_on_one_machine_share_its_cores(ranks, expected, monkeypatch):
    counts = []
    monkeypatch.setattr(driver, "most_threads", lambda: 8)
    monkeypatch.setattr(driver, "set_threads", counts.append)
    group = ProcessGroup()
    group.local_world_size = ranks
    for threads in ("null", 7):
        check_machine(load_settings(ROOT / "configs/lenet.yaml", [f"training.threads={threads}"]), group)
    assert counts == [expected, 7]


def test_a_restart_goes_on_with_the_newest_run_of_its_torchrun_only(tmp_path, monkeypatch):
    """Another torchrun may have had the same key before, with --rdzv-id or the same process number."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "ours")
    assert earlier_run(tmp_path) is None
    for time, (name, key) in enumerate([("old", "ours"), ("other", "theirs"), ("new", "ours")]):
        note = tmp_path / name / NOTE
        (note.parent / "checkpoints").mkdir(parents=True)
        note.write_text(json.dumps({"run": key}))
        os.utime(note, (time, time))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / NOTE).write_text("{")
    (tmp_path / "old" / "checkpoints" / "last.safetensors").touch()
    assert earlier_run(tmp_path) is None
    (tmp_path / "new" / "checkpoints" / "last.safetensors").touch()
    assert earlier_run(tmp_path) == tmp_path / "new"
