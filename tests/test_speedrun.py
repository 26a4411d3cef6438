"""benchmarks.speedrun: its loop ends in the weights of `minicnn train`, and its report is what was measured."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from stopped_runs import CONFIG, the_run, write_files

from benchmarks import speedrun
from minicnn.cli import main
from minicnn.config.build import load_data
from minicnn.config.settings import load_settings
from minicnn.engine import driver

FOCUSED = CONFIG.replace("epochs: 3", "epochs: 3\n  hard_examples: 0.1")


@pytest.fixture(autouse=True)
def one_thread():
    before = driver.get_threads()
    driver.set_threads(1)
    yield
    driver.set_threads(before)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, FOCUSED)
    return tmp_path / "small.yaml"


def test_the_weights_and_the_accuracy_are_those_of_minicnn_train(config, tmp_path, capsys):
    settings = load_settings(config, ["training.seed=5"])
    network, seconds, accuracy = speedrun.train(settings, load_data(settings, print))
    assert main(["train", str(config), "training.seed=5"]) == 0
    assert f"test accuracy {accuracy:.2%}" in capsys.readouterr().out
    assert 0 < seconds < 60
    trained = load_file(the_run(tmp_path) / "checkpoints/last.safetensors")
    for name, array in network.state_dict().items():
        assert trained[f"network.{name}"].tobytes() == array.tobytes(), name


def test_the_report_and_the_json(config, tmp_path, capsys):
    arguments = ["--seeds", "3", "--config", str(config), "--json", "out.json"]
    speedrun.main([*arguments, "training.epochs=1", "training.ema="])
    out = capsys.readouterr().out
    result = json.loads(Path("out.json").read_text())
    accuracies = [run["accuracy"] for run in result["runs"]]
    assert [run["seed"] for run in result["runs"]] == [0, 1, 2]
    assert len(set(accuracies)) > 1
    assert result["accuracy"] == pytest.approx(
        {
            "mean": np.mean(accuracies),
            "std": np.std(accuracies, ddof=1),
            "min": min(accuracies),
            "max": max(accuracies),
            "standard_error": np.std(accuracies, ddof=1) / np.sqrt(3),
        }
    )
    for run in result["runs"]:
        line = f"seed  {run['seed']}   test accuracy {run['accuracy']:.2%}   {run['seconds']:.3f} s"
        assert line in out.splitlines()
    assert f"test accuracy: mean {result['accuracy']['mean']:.3%} +- " in out
    assert f"small.yaml training.epochs=1 training.ema=, hash {result['hash']}" in out
    assert f"Numba {version('numba')}, NumPy {np.__version__}" in out


def test_the_hash_is_that_of_what_the_weights_follow_from(config):
    def hash_of(*overrides):
        return speedrun.fingerprint(load_settings(config, overrides))

    same = ["training.seed=3", "training.threads=2", "data.root=elsewhere", "output.dir=there"]
    assert hash_of(*same) == hash_of()
    for other in ("training.hard_examples=0.2", "optimizer.lr=0.1", "network.layers.0.Conv2d.padding=1"):
        assert hash_of(other) != hash_of()


def test_wrong_arguments_end_in_one_line(config, capsys):
    with pytest.raises(SystemExit, match=r"error: .*optimizer\.lr"):
        speedrun.main(["--config", str(config), "optimizer.lr=no"])
    with pytest.raises(SystemExit):
        speedrun.main(["--seeds", "0"])
    assert "--seeds: expected at least 1, received 0" in capsys.readouterr().err


def test_the_shipped_settings_fit_together():
    settings = load_settings(speedrun.CONFIG)
    assert settings.data.name == "mnist"
    assert settings.data.validation is None
