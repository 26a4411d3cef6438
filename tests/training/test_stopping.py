"""Runs that a rule ends before their last epoch."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from stopped_runs import assert_same, before_step, checkpoint_of, figures, interrupt

import minicnn.files
from minicnn import SGD, Batches, ConfigError, Dense, Flatten, Sequential, SoftmaxCrossEntropy
from minicnn.cli import main
from minicnn.config.build import build_network
from minicnn.config.settings import load_settings
from minicnn.training.callbacks.stopping import EarlyStopping, StopAtAccuracy
from minicnn.training.callbacks.weights import WeightChange
from minicnn.training.trainer import Callback, Trainer

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]

# Half of the labels are wrong, so that the loss on new images goes up again. Running statistics, masks and averaged
# weights are there because the model of an earlier epoch must not have those of a later one.
CONFIG = """\
network:
  layers:
    - Conv2d: {out_channels: 3, kernel_size: 3}
    - BatchNorm2d
    - ReLU
    - MaxPool: {kernel_size: 2}
    - Flatten
    - Dropout: {p: 0.1}
    - Dense: {out_features: 10}
data: {name: arrays, path: data.npz}
optimizer: {lr: 0.2, momentum: 0.9}
training: {epochs: 30, batch_size: 50, threads: 1, ema: 0.5}
output: {pictures: false, lint: false}
"""
STEPS = 5  # an epoch
ALL = "stop={patience: 3, min_delta: 0.01, weight_change: 1.0e-3, train_accuracy: 0.99}"
COSINE = "schedule={name: cosine, warmup: 1}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: Patch) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(350) % 10
    images = rng.integers(0, 128, (350, 8, 8)) + 12 * labels[:, None, None]
    labels[::2] = rng.integers(0, 10, 175)
    np.savez(
        tmp_path / "data.npz",
        **{"train_images": images[:250].astype(np.uint8), "train_labels": labels[:250]},
        **{"test_images": images[250:].astype(np.uint8), "test_labels": labels[250:]},
    )
    (tmp_path / "small.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(minicnn.files.os, "fsync", lambda handle: None)
    return tmp_path


def train(name: str, *overrides: str, code: int = 0) -> Path:
    """The folder of a run in the folder `name`."""
    assert main(["train", "small.yaml", f"output.dir={name}", *overrides]) == code
    [run] = Path(name).iterdir()
    return run


def resume(run: Path, *overrides: str) -> None:
    assert main(["train", "--resume", str(run), *overrides]) == 0


def rows_of(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        names = next(file).strip().split(",")
        return [dict(zip(names, map(float, line.split(",")), strict=True)) for line in file]


def rows(*losses: float, accuracy: float = 0.5, change: float = 0.1) -> list[dict[str, float]]:
    return [
        {"epoch": k, "train_accuracy": accuracy, "weight_change": change, "test_loss": loss}
        for k, loss in enumerate(losses, 1)
    ]


# ---- the rules


@pytest.mark.parametrize(
    ("stop", "found", "reason"),
    [
        ({}, rows(1, 2, 3, 4, accuracy=1, change=0), None),
        ({"train_accuracy": 0.99}, rows(1, accuracy=0.9899), None),
        ({"train_accuracy": 0.99}, rows(1, accuracy=0.99), "train accuracy 99.00%, at least 99.00%"),
        ({"weight_change": 1e-4}, rows(1, change=1.01e-4), None),
        ({"weight_change": 1e-4}, rows(1, change=9.9e-5), "moved by 9.9e-05 of their length, less"),
        ({"patience": 2}, rows(3, 2, 2.5), None),
        ({"patience": 2}, rows(3, 2, 2.5, 1.9, 1.95), None),
        ({"patience": 2}, rows(3, 2, 2.5, 2.0), "than the 2.0000 of epoch 2 for 2 epochs"),
        ({"patience": 1}, rows(1, 1), "than the 1.0000 of epoch 1 for 1 epoch (stop.patience)"),
        ({"patience": 2, "min_delta": 0.2}, rows(3, 2.9, 2.7), None),
        ({"patience": 2, "min_delta": 0.2}, rows(3, 2.9, 2.85), "lower by more than 0.2 than the 3.0000"),
        ({"patience": 9, "train_accuracy": 0.4}, rows(1, 2), "(stop.train_accuracy)"),
        ({"weight_change": 1.0, "train_accuracy": 0.4}, rows(1), "(stop.train_accuracy); the weig"),
    ],
)
def test_rules(stop: dict[str, float], found: list[dict[str, float]], reason: str | None) -> None:
    accuracy, change, patience = (stop.get(key) for key in ("train_accuracy", "weight_change", "patience"))
    early = EarlyStopping(patience and int(patience), stop.get("min_delta", 0.0))
    rules = [StopAtAccuracy(2.0 if accuracy is None else accuracy), WeightChange(change), early]
    trainer = trainer_with(rules)
    trainer.call("on_train_begin")
    for row in found:
        trainer.network.values[0] = 1.0  # a single weight
        trainer.call("on_epoch_begin")
        trainer.network.values[0] = 1 + row["weight_change"]
        moved = float(trainer.network.values[0]) - 1
        trainer.progress.stopped = ""
        trainer.call("on_epoch_end", row)
        assert row["weight_change"] == moved
    assert (reason or "") in trainer.progress.stopped
    assert bool(trainer.progress.stopped) == bool(reason)


def trainer_with(callbacks: list[Callback]) -> Trainer:
    """One of a network of a single weight that is not 0."""
    network = Sequential([Flatten(), Dense(1, 1, bias=False)]).initialize(rng=0)
    network.values[...] = 0.5
    batches = Batches(np.zeros((4, 1, 1, 1), np.uint8), np.zeros(4, np.int64), 4)
    optimizer = SGD(network.parameters(), lr=0.1)
    return Trainer(network, SoftmaxCrossEntropy(), optimizer, batches, batches, 99, callbacks=callbacks)


def test_the_lowest_loss_is_the_first_of_equal_ones() -> None:
    early = EarlyStopping(9)
    trainer = trainer_with([early])
    for row in rows(3, 1, 2, 1):
        trainer.call("on_epoch_end", row)
    assert early.best_epoch == 2


@pytest.mark.parametrize(("delta", "words"), [(0.0, "no higher test macro F1 than the 0.52"), (0.05, "higher by more")])
def test_any_figure_may_be_watched(delta: float, words: str) -> None:
    """All but the loss should rise; best_epoch counts each rise, however small."""
    early = EarlyStopping(2, delta, monitor="macro_f1")
    trainer = trainer_with([early])
    for epoch, value in enumerate((0.2, 0.5, 0.45, 0.52, 0.3, 0.4), 1):
        assert not trainer.progress.stopped
        trainer.call("on_epoch_end", {"epoch": epoch, "test_macro_f1": value})
        if delta and epoch == 4:
            break
    assert early.best_epoch == 4 and words in trainer.progress.stopped
    state = early.state()
    for monitor, kept in (("macro_f1", 4), ("accuracy", 0)):  # of another figure there is no best yet
        other = EarlyStopping(2, delta, monitor)
        other.load_state(state)
        assert other.best_epoch == kept
    with pytest.raises(
        ConfigError, match="monitor: expected one of loss, accuracy, balanced_accuracy, macro_f1 with these"
    ):
        trainer_with([EarlyStopping(2, monitor="top3_accuracy")])


def test_a_rule_in_the_last_epoch_is_none() -> None:
    trainer = trainer_with([StopAtAccuracy(0.1)])
    trainer.progress.epoch = 100
    trainer.call("on_epoch_end", rows(1)[0])
    assert not trainer.progress.stopped


@pytest.mark.parametrize(("patience", "min_delta"), [(0, 0.0), (-1, 0.0), (1, -0.1), (1, float("nan"))])
def test_arguments_out_of_range(patience: int, min_delta: float) -> None:
    with pytest.raises(ConfigError, match="EarlyStopping: "):
        EarlyStopping(patience, min_delta)


# ---- runs


def test_train_accuracy(folder: Path, capsys: Capture) -> None:
    whole = rows_of(train("whole", "training.epochs=8"))
    limit = whole[3]["train_accuracy"]
    last = next(k for k, row in enumerate(whole) if row["train_accuracy"] >= limit)
    capsys.readouterr()
    run = train("stopped", "training.epochs=8", f"stop.train_accuracy={limit}")
    out = capsys.readouterr().out
    assert rows_of(run) == whole[: last + 1]
    reached = whole[last]["train_accuracy"]
    assert f"stopped after epoch {last + 1} of 8: train accuracy {reached:.2%}, at least" in out
    state = checkpoint_of(run).state
    assert state["complete"] and state["progress"]["stopped"] in out


def test_the_change_of_weights_is_that_of_an_epoch(folder: Path) -> None:
    run = train("a", "training={epochs: 2, batch_size: 50}")
    after = [train("b", "training={epochs: 1, batch_size: 50}"), run]
    start = build_network(load_settings("small.yaml")).initialize("kaiming", 0)
    names = [parameter.name for parameter in start.parameters()]

    def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([arrays[name].ravel() for name in names]).astype(np.float64)

    weights = [flat(start.state_dict()), *(flat(load_file(x / "model.safetensors")) for x in after)]
    for row, old, new in zip(rows_of(run), weights, weights[1:], strict=False):
        expected = np.linalg.norm(new - old) / np.linalg.norm(old)
        assert row["weight_change"] == pytest.approx(expected, rel=1e-6)


def test_a_small_change_of_weights_ends_a_run(folder: Path, capsys: Capture) -> None:
    exponential = "schedule={name: exponential, gamma: 0.3}"
    run = train("a", exponential, "stop.weight_change=0.002")
    *before, last = [row["weight_change"] for row in rows_of(run)]
    assert last < 0.002 <= min(before)
    assert "less than 0.002 (stop.weight_change)" in capsys.readouterr().out


def test_patience_leaves_the_model_of_the_lowest_loss(folder: Path, capsys: Capture) -> None:
    run = train("early", "stop.patience=3")
    out = capsys.readouterr().out
    found = rows_of(run)
    losses = [row["test_loss"] for row in found]
    best = int(np.argmin(losses)) + 1
    assert best > 1 and len(found) == best + 3
    assert f"stopped after epoch {best + 3} of 30: no lower test loss than" in out
    assert f"the model is that of epoch {best}, with the lowest test loss" in out.splitlines()
    assert figures(out)[-1].startswith(f"test accuracy {found[best - 1]['test_accuracy']:.2%} on")
    short = train("short", f"training.epochs={best}")
    for name in ("model.safetensors", "checkpoints/best.safetensors"):
        one, two = (load_file(x / name) for x in (run, short))
        assert one.keys() == two.keys()
        if name == "model.safetensors":
            assert all(np.array_equal(one[key], two[key]) for key in one)


def test_patience_leaves_that_model_also_after_all_epochs(folder: Path, capsys: Capture) -> None:
    run = train("a", "training.epochs=15", "stop.patience=14")
    losses = [row["test_loss"] for row in rows_of(run)]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == 15 and best < 15
    assert f"the model is that of epoch {best}, " in capsys.readouterr().out
    one, two = (load_file(x / "model.safetensors") for x in (run, train("b", f"training.epochs={best}")))
    assert all(np.array_equal(one[key], two[key]) for key in one)


@pytest.fixture
def ended(folder: Path) -> Path:
    """A run that nobody interrupted, with a rise and a fall of the learning rate, ended by a rule."""
    run = train("whole", ALL, COSINE)
    assert checkpoint_of(run).state["progress"]["stopped"]
    return run


@pytest.mark.parametrize("step", [STEPS - 1, STEPS, 4 * STEPS + 2, -1, 0])
def test_an_interrupt_changes_nothing(folder: Path, ended: Path, step: int) -> None:
    """In the middle of an epoch or at its end; before the last step (-1), or after it (0), which is none."""
    steps = STEPS * len(rows_of(ended))
    at = step if step > 0 else steps + step
    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, {at + 1: interrupt})
        run = train("again", ALL, COSINE, code=130 if at < steps else 0)
    if at < steps:
        assert checkpoint_of(run).state["progress"]["step"] == at
        resume(run)
    files = ("model.safetensors", "checkpoints/best.safetensors", "metrics.csv")
    assert_same(run, ended, files)


def test_a_kill_while_the_end_is_drawn(folder: Path, ended: Path, monkeypatch: Patch) -> None:
    def finish(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("minicnn.runs.run.draw_pictures", finish)
        run = train("again", ALL, COSINE, "output.pictures=true", code=130)
    (run / "model.safetensors").unlink()
    resume(run, "output.pictures=false")
    assert_same(run, ended, ("model.safetensors", "metrics.csv"))


def test_a_stopped_run_says_why_and_goes_on_without_the_rule(folder: Path, capsys: Capture) -> None:
    run = train("stopped", "stop.patience=2", "training.epochs=9")
    done = len(rows_of(run))
    assert done < 9
    files = {path: path.read_bytes() for path in run.rglob("*.*")}
    capsys.readouterr()
    resume(run)
    assert capsys.readouterr().out.startswith(f"{run}: stopped after epoch {done} of 9: no lower te")
    assert files == {path: path.read_bytes() for path in run.rglob("*.*")}
    resume(run, "stop={}")
    out = capsys.readouterr().out
    assert "changed: stop.patience from 2 to null" in out
    assert f"resumed after step {done * STEPS}, in epoch {done + 1} of 9" in out
    assert_same(run, train("whole", "training.epochs=9"), ("model.safetensors", "metrics.csv"))


def test_more_patience_goes_on_as_if_it_had_been_there(folder: Path) -> None:
    run = train("stopped", "stop.patience=1")
    resume(run, "stop.patience=4")
    assert_same(run, train("whole", "stop.patience=4"), ("model.safetensors", "metrics.csv"))


def test_more_epochs_ask_the_rule_again(folder: Path, capsys: Capture) -> None:
    run = train("stopped", "stop.train_accuracy=0.2", "training.epochs=9")
    done = len(rows_of(run))
    resume(run, "training.epochs=12")
    assert len(rows_of(run)) > done
    assert f"stopped after epoch {len(rows_of(run))} of 12" in capsys.readouterr().out


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_kill_between_the_last_step_of_an_epoch_and_its_end(folder: Path, monkeypatch: Patch, epoch: int) -> None:
    """The checkpoint of that step says that no step of the epoch is left."""
    options = (f"checkpoint.every={STEPS}", "training.epochs=3", COSINE, "stop.patience=2")
    whole = train("whole", *options)
    original = Trainer._evaluate

    def evaluate(trainer: Trainer) -> object:
        if trainer.progress.step == epoch * STEPS:
            raise KeyboardInterrupt
        return original(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_evaluate", evaluate)
        run = train("killed", *options, code=130)
    assert checkpoint_of(run).state["progress"]["batches"] == STEPS
    resume(run)
    assert_same(run, whole, ("model.safetensors", "checkpoints/best.safetensors", "metrics.csv"))


def test_the_best_epoch_is_known_without_the_tables(folder: Path, capsys: Capture) -> None:
    options = ("training.epochs=12", "stop.patience=11")
    run = train("a", *options)
    losses = [row["test_loss"] for row in rows_of(run)]
    best = int(np.argmin(losses)) + 1
    assert best < 12
    (run / "metrics.csv").unlink()
    capsys.readouterr()
    resume(run, "training.epochs=13")
    assert f"the model is that of epoch {best}, with the lowest test loss" in capsys.readouterr().out
    again = train("b", "training.epochs=13", "stop.patience=11")
    assert (run / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
