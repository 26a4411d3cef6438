"""`minicnn trace` of runs, of images in files, and of classes that are asked for."""

from pathlib import Path

import pytest
from PIL import Image

from minicnn import load, load_dataset
from minicnn.cli import main

LENET = str(Path(__file__).parents[2] / "configs" / "lenet.yaml")


def test_a_file_is_told_as_the_most_probable_class_or_another(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "seven.png"
    pixels = load_dataset("mnist-subset").test_images[0]
    Image.fromarray(pixels[0]).save(path)
    likely = int(load(run).predict(pixels)[0])
    assert main(["trace", str(run), "--image", str(path), "--raw"]) == 0
    assert f"on seven.png alone, a {likely} (class {likely}, the most probable one;" in capsys.readouterr().out
    assert main(["trace", str(run), "--image", str(path), "--raw", "--class", "4"]) == 0
    out = capsys.readouterr().out
    assert "a 4 (class 4, as it was asked for)" in out and "loss = -ln p[4]" in out
    assert main(["trace", str(run), "--class", "cat"]) == 2
    assert "--class: expected one of 0, 1, 2" in capsys.readouterr().err


def test_a_run_is_told_with_its_loss_and_its_optimizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["data.name=mnist-subset", "training.epochs=1", "training.threads=1", "training.hard_examples=null"]
    words += ["network.layers.0.Conv2d.out_channels=2", "output.pictures=false", "loss.label_smoothing=0.1"]
    assert main(["train", LENET, *words, "optimizer.lr=0.03", "optimizer.weight_decay=0.001"]) == 0
    [run] = (tmp_path / "runs").iterdir()
    capsys.readouterr()
    assert main(["trace", str(run), "--image", "5"]) == 0
    out = capsys.readouterr().out
    assert "test image 5 of mnist-subset" in out and "Weights: as trained." in out
    assert "Learning rate: 0.03, the highest rate of the run" in out
    assert "velocity: v = 0.9 v + g + 0.001 w" in out and "label smoothing 0.1" in out
