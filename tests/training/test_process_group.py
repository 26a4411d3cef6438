"""Several processes on one network: shards whose gradients add up, and real ranks under torchrun."""

import copy
import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from time import sleep

import numpy as np
import pytest
from against_torch import assert_same
from safetensors.numpy import load_file

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
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.process_group import ProcessGroup
from minicnn.training.step import train_step

# Without processes: the ranks of a step one after the other.


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


# Real ranks.

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "2"}
TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
    *("--max-restarts=1",),
]

CONFIG = """\
network:
  layers:
    - Conv2d: {out_channels: 3, kernel_size: 3}
    - ReLU
    - MaxPool: {kernel_size: 2}
    - Flatten
    - Dense: {out_features: 10}
data:
  name: arrays
  path: data.npz
optimizer:
  lr: 0.02
  momentum: 0.9
training:
  epochs: 3
  batch_size: 50
checkpoint:
  every: 4
output:
  pictures: false
  step_log: true
"""

STOP = "stop={train_accuracy: 0.2, patience: 1}"

# Runs the command line, but rank 1 kills itself before its step 11, unless it has been restarted.
KILLED = """\
import os, signal, sys
import minicnn.training.trainer
from minicnn.cli import main

steps, original = 0, minicnn.training.trainer.train_step

def train_step(*arguments, **options):
    global steps
    steps += 1  # the first is for the kernels
    if steps == 12 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

minicnn.training.trainer.train_step = train_step
sys.exit(main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """small.yaml, and data of which the last batch of an epoch has one sample: none for rank 1."""
    path = tmp_path_factory.mktemp("ranks")
    rng = np.random.default_rng(0)
    labels = np.arange(401) % 10
    images = rng.integers(0, 128, (401, 8, 8)) + 12 * labels[:, None, None]
    images = images.astype(np.uint8)
    np.savez(
        path / "data.npz",
        **{"train_images": images[:301], "train_labels": labels[:301]},
        **{"test_images": images[301:], "test_labels": labels[301:]},
    )
    (path / "small.yaml").write_text(CONFIG)
    (path / "killed.py").write_text(KILLED)
    return path


def start(folder, command):
    return subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    """What it has printed, and the end of it."""
    try:
        return process.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends its ranks, too
        print(*process.communicate())
        raise


def the_run(parent):
    [run] = parent.glob("small-*")
    return run


@pytest.fixture(scope="module")
def runs(folder):
    """The same run by one process, by two ranks, by two of which one is killed, and by two that a rule ends: (folder,
    output, errors) each.
    """
    arguments = ["train", "small.yaml"]
    commands = {
        "alone": [sys.executable, "-m", "minicnn", *arguments],
        "ranks": [*TORCHRUN, "-m", "minicnn", *arguments],
        "killed": [*TORCHRUN, "killed.py", *arguments],
        "stopped": [*TORCHRUN, "-m", "minicnn", *arguments, STOP],
    }
    started = {name: start(folder, [*command, f"output.dir={name}"]) for name, command in commands.items()}
    results = {}
    for name, process in started.items():
        out, err = finish(process)
        assert process.returncode == 0, out + err
        results[name] = the_run(folder / name), out, err
    return results


def metrics(run):
    with (run / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_two_ranks_have_the_curve_and_the_weights_of_one_process(runs):
    alone, ranks = runs["alone"][0], runs["ranks"][0]
    for row, expected in zip(metrics(ranks), metrics(alone), strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
    assert metrics(ranks)[-1]["train_loss"] < 0.7 * metrics(ranks)[0]["train_loss"]
    weights, expected = (load_file(run / "model.safetensors") for run in (ranks, alone))
    assert_same(list(weights.values()), list(expected.values()), rtol=1e-4)


def test_only_rank_0_prints(runs):
    out, err = runs["ranks"][1:]
    assert out.count("epoch 3/3") == out.count("test accuracy") == 1
    assert "Error" not in err and "error" not in err


def test_a_rule_ends_all_ranks_in_the_same_epoch(runs):
    whole, (run, out, err) = metrics(runs["ranks"][0]), runs["stopped"]
    epochs = next(k for k, row in enumerate(whole, 1) if row["train_accuracy"] >= 0.2)
    assert 1 < epochs < 3 and metrics(run) == whole[:epochs]
    assert out.count(f"stopped after epoch {epochs} of 3: train accuracy") == 1
    assert out.count(f"the model is that of epoch {epochs}, ") == 1
    assert "rror" not in err and "resumed" not in out
    state = Checkpoint.from_bytes((run / "checkpoints/last.safetensors").read_bytes()).state
    assert state["complete"]


def test_a_killed_rank_costs_a_restart_and_changes_nothing(runs):
    whole, (run, out, err) = runs["ranks"][0], runs["killed"]
    assert "error: another process of this run has ended" in err
    assert f"--resume {run.relative_to(run.parents[1])}" in err
    assert "Traceback" not in err.partition("torch.distributed.elastic")[0]
    assert "resumed after step 8, in epoch 2 of 3" in out
    for name in ("metrics.csv", "steps.csv", "model.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


# What ranks say to each other: run by two processes, each of which checks what it gets.
TALK = """\
import os
import numpy as np
from minicnn import BatchNorm2d, Batches, Dropout, Flatten, Dense, Sequential, SoftmaxCrossEntropy
from minicnn.training.process_group import join
from minicnn.errors import ConfigError, DataError
from minicnn.training.step import evaluate

with join() as ranks:
    rank = ranks.rank
    assert ranks.all_gather({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    assert ranks.broadcast(b"from 0" if rank == 0 else None) == b"from 0"
    assert ranks.broadcast(b"" if rank == 0 else b"not this") == b""
    assert ranks.broadcast(None if rank == 0 else b"not this") is None

    # The wish of one rank to stop is known to both after the next sum.
    assert not ranks.stop_requested(rank == 1)
    numbers = np.arange(3, dtype=np.float32) + rank
    assert ranks.all_reduce(numbers, [1.0, rank]) == [2.0, 1.0] and numbers.tolist() == [1, 3, 5]
    assert ranks.stop_requested(False)

    with ranks.in_turn():
        if rank == 0:
            open("made", "x").close()
        assert os.path.exists("made")

    # Evaluation: of one part each, with the statistics of rank 0.
    network = Sequential([BatchNorm2d(1), Dropout(0.5), Flatten(), Dense(64, 10)]).initialize(rng=0)
    ranks.separate_generators(network)
    network[0].running_mean[...] = rank
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (5, 1, 8, 8), np.uint8), np.arange(5)
    batches = Batches(images, labels, 2)
    test = ranks.evaluate(network, SoftmaxCrossEntropy(), batches)
    assert network[0].running_mean == 0
    whole = evaluate(network, SoftmaxCrossEntropy(), batches)
    np.testing.assert_allclose(test.loss, whole.loss, rtol=1e-6)
    assert test.accuracy == whole.accuracy
    np.testing.assert_array_equal(test.scores, whole.scores)

    # Masks: other ones on each rank, and those of rank 1 follow from those of rank 0, whenever they part.
    generator = network.generators()[0]
    before = ranks.all_gather(generator.random(4).tolist())
    assert before[0] != before[1]
    shared = ranks.all_gather(generator.bit_generator.state)[0]
    own = generator.random(4, np.float32)
    generator.bit_generator.state = shared
    ranks.separate_generators(network)
    np.testing.assert_array_equal(generator.random(4, np.float32), own)

    with ranks.together():
        pass
    try:
        with ranks.together():
            if rank == 1:
                raise DataError("no data here")
    except DataError:
        raise
    except ValueError as error:
        assert rank == 0 and str(error) == "rank 1: no data here"
    except SystemExit as end:
        assert rank == 1 and end.code == 1
    try:
        with ranks.together():
            raise ConfigError("wrong everywhere")
    except ConfigError as error:
        assert rank == 0 and str(error) == "wrong everywhere"
    except SystemExit as end:
        assert rank == 1 and end.code == 2
    print("checked", flush=True)
"""


def test_what_ranks_say_to_each_other(folder):
    (folder / "talk.py").write_text(TALK)
    process = start(folder, [*TORCHRUN, "--max-restarts=0", "talk.py"])
    out, err = finish(process)
    assert process.returncode == 0 and out.count("checked") == 2, out + err


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of the end of a parent")
def test_a_rank_does_not_outlive_its_torchrun_at_the_start(tmp_path):
    """The other rank never comes, and what has started this one is killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rank = "import minicnn.training.process_group as d, os, torch.distributed; print(os.getpid(), flush=True); d.join()"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {rank!r}])"
    environment = {
        **os.environ,
        **{"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        [sys.executable, "-c", start], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        number = int(parent.stdout.readline())
        sleep(3)
        parent.kill()
        _, err = parent.communicate(timeout=60)  # until the rank, too, has closed its streams
    assert b"Traceback" not in err
    for _ in range(50):
        if not alive(number):
            return
        sleep(0.1)
    pytest.fail("the rank is still there")


def alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    try:  # one that nobody waits for, in a container without init
        return ") Z " not in Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
