"""Real ranks, those of torchrun and of another launcher: what they say, train, and leave when one of them dies."""

import csv
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from time import sleep

import numpy as np
import pytest
from against_torch import assert_same
from safetensors.numpy import load_file

from minicnn.training.checkpoint import Checkpoint

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

#: One rank of two, without torchrun, whose import of torch takes seconds: it talks, and trains twice.
RANKS = f"""\
import os, sys
from contextlib import redirect_stderr, redirect_stdout
from minicnn.cli import main

rank, *ports = sys.argv[1:]
os.environ |= {{"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}}
os.environ["MASTER_ADDR"] = "127.0.0.1"

def talk():
    import talk

tasks = {{
    "talk": talk,
    "ranks": lambda: main(["train", "small.yaml", "output.dir=ranks"]),
    "stopped": lambda: main(["train", "small.yaml", "output.dir=stopped", "{STOP}"]),
}}
for (name, task), port in zip(tasks.items(), ports, strict=True):
    os.environ["MASTER_PORT"] = port
    with open(f"{{name}}-{{rank}}.out", "w") as out, open(f"{{name}}-{{rank}}.err", "w") as err:
        with redirect_stdout(out), redirect_stderr(err):
            assert not task()
"""

# Runs the command line, but rank 1 kills itself before its step 11, unless it has been restarted.
KILLED = """\
import os, signal, sys
import minicnn.training.trainer
from minicnn.cli import main

steps, original = 0, minicnn.training.trainer.accumulated_step

def train_step(*arguments, **options):
    global steps
    steps += 1  # the first is for the kernels
    if steps == 12 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

minicnn.training.trainer.accumulated_step = train_step
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


def free_ports(count):
    with ExitStack() as sockets:
        found = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [str(each.getsockname()[1]) for each in found]


@pytest.fixture(scope="module")
def runs(folder):
    """The same run by one process, by two ranks, by two that a rule ends, and by two of torchrun's of which one is
    killed: (folder, output, errors) each. What the ranks do first is in TALK.
    """
    (folder / "talk.py").write_text(TALK)
    (folder / "ranks.py").write_text(RANKS)
    (folder / "killed.py").write_text(KILLED)
    arguments = ["train", "small.yaml"]
    ports = free_ports(3)
    alone = start(folder, [sys.executable, "-m", "minicnn", *arguments, "output.dir=alone"])
    ranks = [start(folder, [sys.executable, "ranks.py", str(rank), *ports]) for rank in range(2)]
    killed = start(folder, [*TORCHRUN, "killed.py", *arguments, "output.dir=killed"])
    said = {}
    for name, process in (("alone", alone), ("rank 0", ranks[0]), ("rank 1", ranks[1]), ("killed", killed)):
        said[name] = finish(process)
        assert process.returncode == 0, (name, *said[name])
    for name in ("talk", "ranks", "stopped"):
        said[name] = ["".join((folder / f"{name}-{n}.{kind}").read_text() for n in range(2)) for kind in ("out", "err")]
    return {name: (name != "talk" and the_run(folder / name), *said[name]) for name in said if "rank " not in name}


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


def test_what_ranks_say_to_each_other(runs):
    assert runs["talk"][1].count("checked") == 2


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
