"""Checkpoint files: what is written comes back, and what is damaged is noticed."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter
from safetensors.numpy import save

import minicnn.files
from minicnn import SGD, Batches, Callback, Dense, Flatten, MinicnnError, Sequential, SoftmaxCrossEntropy, Trainer
from minicnn.model import Model
from minicnn.model.formats import CheckpointState
from minicnn.training.checkpoint import FORMAT, Checkpoint, Checkpoints
from minicnn.training.state import restore, take


@pytest.fixture
def checkpoint(rng: np.random.Generator) -> Checkpoint:
    return numbered(1, rng)


def numbered(number: int, rng: np.random.Generator) -> Checkpoint:
    arrays = {
        "weights.0.weight": rng.standard_normal((5, 7)).astype(np.float32),
        "weights.1.num_batches_tracked": np.array(3),
        "velocity": rng.standard_normal(9),
        "empty": np.empty(0, np.float32),
    }
    state = {
        "number": number,
        "loss": 0.1 + 0.2,
        "tiny": 5e-324,
        "generators": [[np.random.default_rng(3).bit_generator.state]],
        "name": "größer",
    }
    return Checkpoint(arrays, state)


def test_what_is_written_comes_back(checkpoint: Checkpoint) -> None:
    again = Checkpoint.from_bytes(checkpoint.to_bytes())
    assert again.state == checkpoint.state
    assert again.arrays.keys() == checkpoint.arrays.keys()
    for name, array in checkpoint.arrays.items():
        assert again.arrays[name].dtype == array.dtype
        assert again.arrays[name].shape == array.shape
        assert again.arrays[name].tobytes() == array.tobytes()


def test_equal_states_are_equal_bytes(checkpoint: Checkpoint) -> None:
    turned = Checkpoint(dict(reversed(checkpoint.arrays.items())), checkpoint.state)
    assert turned.to_bytes() == checkpoint.to_bytes()


def test_any_flipped_bit_is_noticed(checkpoint: Checkpoint, rng: np.random.Generator) -> None:
    whole = checkpoint.to_bytes()
    # All bits of a part of the header, and some of everything.
    bits = [*range(400 * 8), *rng.integers(0, len(whole) * 8, 2000).tolist()]
    for bit in bits:
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        try:
            found = Checkpoint.from_bytes(bytes(content))
        except MinicnnError:
            continue
        # A bit in the header that means nothing, such as that of a space.
        assert found.to_bytes() == whole, f"bit {bit}"


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(checkpoint: Checkpoint, part: float) -> None:
    content = checkpoint.to_bytes()
    with pytest.raises(MinicnnError, match="expected a"):
        Checkpoint.from_bytes(content[: int(part * len(content))])


def metadata(value: object) -> bytes:
    return save({"x": np.zeros(3)}, {"minicnn": json.dumps(value)})


FOREIGN = {
    "text": b"# LeNet-5\n" * 100,
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "a huge header": struct.pack("<Q", 2**63) + bytes(1000),
    "weights of another program": save({"x": np.zeros(3)}),
    "a list": metadata([1]),
    "no JSON": save({"x": np.zeros(3)}, {"minicnn": "{"}),
    "no state": metadata({"format": FORMAT, "kind": "checkpoint"}),
    "no format": metadata({"kind": "checkpoint"}),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_file(what: str) -> None:
    with pytest.raises(MinicnnError, match=r"expected a .*checkpoint, received"):
        Checkpoint.from_bytes(FOREIGN[what])


def test_a_model_is_no_checkpoint() -> None:
    content = Model(Sequential([Dense(7, 5)]), (7,)).to_bytes()
    with pytest.raises(MinicnnError, match="expected a checkpoint, received a model file"):
        Checkpoint.from_bytes(content)


@pytest.mark.parametrize(("number", "age"), [(99, "a newer"), (2, "an older")])
def test_another_format(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, age: str
) -> None:
    """Never the one before it instead: what the newer minicnn has done would be lost."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.write(checkpoint)
    with monkeypatch.context() as patch:
        patch.setattr("minicnn.training.checkpoint.FORMAT", number)
        checkpoints.write(checkpoint)
    with pytest.raises(MinicnnError) as caught:
        checkpoints.read()
    for part in (str(checkpoints.last), f"format {FORMAT}, received {number}", f"of {age} minicnn"):
        assert part in str(caught.value)


# ---- the folder


def test_the_last_two_are_kept(tmp_path: Path, rng: np.random.Generator) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in (1, 2, 3):
        checkpoints.write(numbered(number, rng))
    assert Checkpoints(tmp_path).read().state["number"] == 3
    assert Checkpoint.from_bytes(checkpoints.previous.read_bytes()).state["number"] == 2
    assert len(list(checkpoints.folder.iterdir())) == 2


def test_the_one_before_takes_the_place_of_a_damaged_one(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.write(numbered(1, rng))
    checkpoints.write(numbered(2, rng))
    checkpoints.last.write_bytes(checkpoints.last.read_bytes()[:-5])
    again = Checkpoints(tmp_path)
    assert again.read().state["number"] == 1
    err = capsys.readouterr().err
    assert err.startswith(f"warning: {checkpoints.last}: expected a checkpoint, received a damaged")
    assert err.count("\n") == 1
    again.write(numbered(3, rng))  # does not push the whole one out
    assert Checkpoint.from_bytes(again.previous.read_bytes()).state["number"] == 1
    again.write(numbered(4, rng))
    assert Checkpoint.from_bytes(again.previous.read_bytes()).state["number"] == 3
    assert capsys.readouterr().err == ""


def test_a_stop_between_two_renames(tmp_path: Path, rng: np.random.Generator) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.write(numbered(1, rng))
    checkpoints.last.rename(checkpoints.previous)
    assert Checkpoints(tmp_path).read().state["number"] == 1


def test_both_damaged(tmp_path: Path, rng: np.random.Generator) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in (1, 2):
        checkpoints.write(numbered(number, rng))
    checkpoints.last.write_bytes(b"")
    checkpoints.previous.write_bytes(b"\0" * 50)
    with pytest.raises(MinicnnError) as caught:
        checkpoints.read()
    first, second = str(caught.value).splitlines()
    assert first.startswith(str(checkpoints.last))
    assert second.startswith(str(checkpoints.previous))


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_both_as_they_were(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in (1, 2):
        checkpoints.write(numbered(number, rng))
    before = {path: path.read_bytes() for path in checkpoints.folder.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if failing == "fsync":
            patch.setattr(minicnn.files.os, "fsync", fail)
        else:
            patch.setattr(Path, "replace", fail)
        with pytest.raises(MinicnnError, match="cannot be written: No space left on device"):
            checkpoints.write(numbered(3, rng))
    assert {path: path.read_bytes() for path in checkpoints.folder.iterdir()} == before


class Counter(Callback):
    """Its state is empty until an epoch is over."""

    epochs = 0

    def on_epoch_end(self, trainer: Trainer, row: dict[str, object]) -> None:
        self.epochs += 1

    def state(self) -> dict[str, int]:
        return {"epochs": self.epochs} if self.epochs else {}

    def load_state(self, state: Mapping[str, int]) -> None:
        self.epochs = state["epochs"]


def trainer(callback: Callback) -> Trainer:
    batches = Batches(np.zeros((3, 4, 1, 1), np.uint8), np.zeros(3, int), 3)
    network = Sequential([Flatten(), Dense(4, 2)]).initialize(rng=0)
    optimizer = SGD(network.parameters(), lr=0.1)
    return Trainer(network, SoftmaxCrossEntropy(), optimizer, batches, None, 2, callbacks=[callback])


def test_a_state_that_is_empty_at_first_comes_back() -> None:
    for before in (0, 2):
        one, other = Counter(), Counter()
        first = trainer(one)
        if before:
            first.fit()
        restore(trainer(other), take(first))
        assert other.epochs == one.epochs == before


class Keeper(Callback):
    """What it keeps begins as something of another type."""

    kept = ("best", "last", "seen", "_words", "never")

    def __init__(self) -> None:
        self.best: float = 0
        self.last: float | None = None
        self.seen, self._words, self.never = False, "", None


def test_what_a_callback_keeps_comes_back_as_it_was() -> None:
    one, other = Keeper(), Keeper()
    first = trainer(one)
    one.best, one.last, one.seen, one._words = 0.75, 1e-3, True, "abc"
    content = json.dumps(take(first).state["callbacks"])
    kinds = TypeAdapter(CheckpointState.model_fields["callbacks"].annotation)
    assert kinds.validate_json(content, strict=True) == json.loads(content)
    restore(trainer(other), take(first))
    assert vars(other) == vars(one)
    assert other.seen is True


def test_text_for_a_number_that_is_kept_is_refused() -> None:
    one = Keeper()
    first = trainer(one)
    setattr(one, "best", "high")  # noqa: B010 # which its type forbids
    with pytest.raises(MinicnnError, match=r"Keeper\.best: expected one like 0, received 'high'"):
        restore(trainer(Keeper()), take(first))
