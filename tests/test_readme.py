"""The README is short, and its Python examples run as they stand. (test_docs.py tests its commands and links.)"""

import re

import numpy as np
from markdown_pages import ROOT, python_blocks

from minicnn import load, load_dataset

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIT, LOOP = python_blocks(README)


def test_it_is_a_screen_and_a_half():
    assert len(README.splitlines()) <= 110


def test_the_commands_are_those_of_continuous_integration():
    install, test = re.findall(r"^python3 -m venv .*$", README, flags=re.MULTILINE)
    assert install.endswith("-e .         && .venv/bin/python train.py configs/lenet.yaml")
    commands = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("install -q", "install")
    assert f"\n{test} " in commands


def test_a_model_and_its_fit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(FIT, {})
    *_, accuracy, predictions = capsys.readouterr().out.splitlines()
    assert float(accuracy.removeprefix("accuracy: ").removesuffix("%")) > 95
    images = load_dataset("mnist-subset").test_images[:5]
    assert str(load("digits.safetensors").predict(images)) == predictions


def test_the_loop_written_out(capsys):
    exec(LOOP, {})
    lines = capsys.readouterr().out.splitlines()
    accuracies = [float(re.search(r"accuracy ([\d.]+)%", line)[1]) for line in lines]
    assert len(accuracies) == 5 and np.diff(accuracies).sum() > 0 and accuracies[-1] > 95
