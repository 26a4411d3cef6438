"""The README's Python examples run as they stand."""

import re

import numpy as np
import pytest
from markdown_pages import ROOT, blocks, python_blocks
from PIL import Image

from minicnn.config.experiment import build_network, load_data
from minicnn.config.settings import load_settings
from minicnn.inspect.gradient_check import GradientError

README = (ROOT / "README.md").read_text()
EXAMPLES = python_blocks(README)


def test_train_on_your_own_arrays(capsys):
    lines = [line for line in EXAMPLES[0].splitlines() if line.strip()]
    assert len(lines) <= 25
    exec(EXAMPLES[0], {})
    accuracy = re.search(r"not trained on: ([\d.]+)%", capsys.readouterr().out)
    assert accuracy is not None
    assert float(accuracy[1]) > 90


def test_a_layer_of_your_own(capsys):
    exec(EXAMPLES[1], {})
    assert capsys.readouterr().out == "(2, 10)\n"
    definition = EXAMPLES[1][EXAMPLES[1].index("class ") : EXAMPLES[1].index("check_gradients(")]
    assert len(definition.splitlines()) <= 30


def test_a_model_in_a_file_in_pytorch_and_in_onnx_runtime(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(EXAMPLES[2], {})
    shapes, *differences = capsys.readouterr().out.splitlines()
    assert shapes.endswith("(100, 10)")
    assert [line.partition(" by ")[0] for line in differences] == ["PyTorch differs", "ONNX Runtime differs"]
    assert all(float(line.rpartition(" ")[2]) < 1e-5 for line in differences)


def test_a_wrong_gradient_in_it_is_found():
    assert "dy, self.slope.value * dy" in EXAMPLES[1]
    wrong = EXAMPLES[1].replace("dy, self.slope.value * dy", "dy, dy")
    with pytest.raises(GradientError, match="PReLU: gradient of input"):
        exec(wrong, {})


def test_settings_for_images_of_your_own(tmp_path):
    [text] = [block.text for block in blocks(README) if block.language == "yaml"]
    classes, images = ("heron", "owl", "wren"), np.random.default_rng(0).random((3, 60, 50, 3))
    for name, image in zip(classes, images, strict=True):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.fromarray((255 * image).astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    config = tmp_path / "birds.yaml"
    config.write_text(text.replace("~/pictures/birds", str(tmp_path)))
    settings = load_settings(config)
    assert build_network(settings).output_shape((3, 48, 48)) == (3,)
    assert len(load_data(settings, print).test_images) == 3
