"""The commands that show a network: what they print, write and refuse."""

import json
from pathlib import Path

import pytest

from minicnn import Conv2d, Dense, Flatten, MaxPool, Model, ReLU, Sequential
from minicnn.cli import main

ROOT = Path(__file__).parents[1]
LENET = str(ROOT / "configs" / "lenet.yaml")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with a model in it, as a training leaves it."""
    layers = [Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool(2), Conv2d(6, 16, 5), Flatten()]
    network = Sequential([*layers, Dense(1600, 10)]).initialize("kaiming", rng=0)
    folder = tmp_path / "run"
    folder.mkdir()
    Model(network, (1, 28, 28), classes=list("0123456789")).save(folder / "model.safetensors")
    return folder


def test_summary_of_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", LENET]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "429,342" in out and "5   MaxPool(2)" in out


def test_summary_as_json_with_settings_behind_the_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["network.layers.7.Dense.out_features=100", "data.name=fashion_mnist"]
    assert main(["summary", LENET, "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["input_shape"] == [1, 28, 28]
    assert found["layers"][7]["output_shape"] == [100]
    assert found["layers"][3]["receptive_field"] == [14, 14]
    assert found["total"]["parameters"] == sum(layer["parameters"] for layer in found["layers"])


def test_summary_of_a_trained_network(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(run)]) == 0
    of_run = capsys.readouterr().out
    assert main(["summary", str(run / "model.safetensors")]) == 0
    assert capsys.readouterr().out == of_run
    assert "Dense(1600, 10)" in of_run


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["summary"], 2, ["expected CONFIG or RUN"]),
        (["summary", "none.yaml"], 2, ["none.yaml"]),
        (["summary", "none.safetensors"], 1, ["none.safetensors", "there is none"]),
        (["summary", "."], 1, ["expected a run's folder"]),
        (["summary", ".", "data.name=mnist"], 2, ["expected no settings", "data.name=mnist"]),
        (["summary", LENET, "network.depth=3"], 2, ["network.depth", "unknown"]),
        (["summary", LENET, "--jsn"], 2, ["--jsn"]),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else str(value),
)
def test_wrong_usage_is_one_line(
    words: list[str],
    code: int,
    parts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    for part in parts:
        assert part in err
    assert list(tmp_path.iterdir()) == []
