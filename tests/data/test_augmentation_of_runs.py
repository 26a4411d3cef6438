"""Augmentation in runs, in settings and on the command line."""

import csv
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from drawn_figures import record
from small_config import small_config

from minicnn import Augmentation, load_dataset
from minicnn.cli import main
from minicnn.cli.augment import WORDS
from minicnn.config.build import build_augmentation
from minicnn.config.settings import load_settings

SMALL = small_config("optimizer={lr: 1.0e-30}", "training={epochs: 1, batch_size: 100}")
ALL = Augmentation(
    shift=2, rotation=15, scale=0.2, shear=10, elastic_alpha=20, elastic_sigma=3, flip=0.5, crop_padding=2, cutout=3
)


def test_a_run_augments_its_training_images_only(tmp_path, monkeypatch):
    """At a rate that leaves the weights as they are, so that the losses tell what was read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    losses = []
    for shift in (0, 10):
        assert main(["train", "small.yaml", f"augmentation.shift={shift}", f"output.dir=by{shift}"]) == 0
        [run] = (tmp_path / f"by{shift}").iterdir()
        assert (run / "augmentation.png").exists() == (shift > 0)
        [row] = csv.DictReader((run / "metrics.csv").read_text().splitlines())
        losses.append(row)
    plain, augmented = losses
    assert plain["test_loss"] == augmented["test_loss"]
    assert plain["train_loss"] != augmented["train_loss"]


def test_the_command_shows_what_is_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    drawn = record(monkeypatch)
    (tmp_path / "small.yaml").write_text(SMALL)
    assert set(WORDS) == {field.name for field in fields(Augmentation)} - {"elastic_sigma", "fill"}
    on = replace(ALL, erasing=0.25, brightness=0.2, contrast=0.3, noise=0.1, mixup=0.4)
    settings = [f"augmentation.{name}={value}" for name, value in asdict(on).items()]
    assert main(["augment", "small.yaml", *settings, "data.padding=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:-2]] == list(WORDS)
    assert Path(lines[-1]) == Path("small/augmentation.png")
    assert [p.name for p in tmp_path.rglob("*.png")] == ["augmentation.png"]
    page = np.asarray(drawn[0].axes[0].images[0].get_array())[165:-40]
    side = (len(page) + 12) // 8  # of a tile with the gap beside it
    assert page.shape[1] == 40 + side + 30 + 8 * side - 12 + 40  # the image and its eight variants
    originals = page[:, 40:]
    data = load_dataset("mnist-subset")
    firsts = data.train_images[np.unique(data.train_labels, return_index=True)[1], 0]
    for k, image in enumerate(firsts[:8]):  # in the middle of each pixel, without the padding
        zoom = round(112 / 32)
        tile = originals[k * side + zoom // 2 :: zoom, zoom // 2 :: zoom, 0][2:30, 2:30]
        np.testing.assert_array_equal(tile, image)
    assert main(["augment", "small.yaml"]) == 2
    assert "augmentation: expected something that is on, of shift, rotation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rotation=200", "augmentation.rotation: expected a number from 0 to 180, received 200"),
        ("scale=[0.9, 1.1]", "augmentation.scale: expected a number, received [0.9, 1.1]"),
        ("flip=true", "augmentation.flip: expected a number, received true"),
        ("cutout=1.5", "augmentation.cutout: expected an integer, received 1.5"),
        ("elastic_sigma=0", "augmentation.elastic_sigma: expected a number from 0.1 to 100, received 0"),
        ("fill=[1, 300]", "augmentation.fill: expected an integer from 0 to 255 or a list of integers from 0 to 255"),
        ("mirror=1", "augmentation.mirror: unknown key; known are shift, rotation"),
        ("shift=28", "augmentation.shift: expected less than 28, the size of the images"),
    ],
)
def test_a_wrong_setting_ends_a_run_before_it_starts(override, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    assert main(["train", "small.yaml", f"augmentation.{override}"]) == 2
    _, err = capsys.readouterr()
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
    assert not list(tmp_path.glob("runs/*"))


def test_settings_and_python_have_the_same_options(tmp_path):
    """The same names, defaults and ranges in a settings file as in Python."""
    (tmp_path / "small.yaml").write_text(SMALL)
    settings = load_settings(tmp_path / "small.yaml")
    assert build_augmentation(settings) == Augmentation()
    assert settings.augmentation.model_dump() == asdict(Augmentation())
    overrides = [f"augmentation.{name}={value}" for name, value in asdict(ALL).items()]
    assert build_augmentation(load_settings(tmp_path / "small.yaml", overrides)) == ALL
