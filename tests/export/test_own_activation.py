"""The activation of tests/softsign.py: what follows from its class."""

from pathlib import Path

import numpy as np
import pytest
from against_torch import compare_passes
from c_programs import FLAGS, found, scores_of
from markdown_pages import blocks
from softsign import Softsign
from torch import nn

from minicnn import Dense, Flatten, Model, ReLU, Sequential, check_gradients, quantize
from minicnn.errors import MinicnnError
from minicnn.export.c.steps import chain
from minicnn.inspect.trace import trace
from minicnn.layers import registry
from minicnn.losses import SoftmaxCrossEntropy
from minicnn.optimizers import SGD
from minicnn.page import formulas


def test_it_is_the_example_in_contributing():
    root = Path(__file__).parents[2]
    [block] = [b.text for b in blocks((root / "CONTRIBUTING.md").read_text("utf-8")) if b.language == "python"]
    assert block in (root / "tests" / "softsign.py").read_text("utf-8")


def test_an_activation_of_ones_own(rng, tmp_path, monkeypatch):
    for dtype in (np.float32, np.float64):
        compare_passes(Softsign(), nn.Softsign(), rng.standard_normal((17, 5, 3)).astype(dtype))
    assert check_gradients(Softsign(), (2, 3))["input"] <= 1e-6
    network = Sequential([Flatten(), Dense(6, 4), Softsign(), Dense(4, 3)]).initialize(rng=0)
    x = rng.standard_normal((1, 1, 2, 3)).astype(np.float32)
    assert "x / (1 + |x|) = " in trace(network, SoftmaxCrossEntropy(), SGD(network.parameters(), 0.1), x, 1)

    model, compiler = Model(network, (1, 2, 3), 0.5, 0.25), next(iter(FLAGS))
    images = rng.integers(0, 256, (9, 1, 2, 3), dtype=np.uint8)
    scores = model.scores(images)
    models = {"soft": model, "soft_int8": quantize(model, images)}
    np.testing.assert_allclose(models["soft_int8"].scores(images), scores, atol=0.05)
    monkeypatch.setitem(registry.LAYERS, "Softsign", Softsign)
    assert ", (x, y) => x > 0 ? (1 - y) * (1 - y) : (1 + y) * (1 + y), " in formulas.formulas()
    found(compiler)  # or the test is skipped here
    results = scores_of(compiler, FLAGS[compiler], models, [images, images], tmp_path)
    np.testing.assert_allclose(results["soft"], scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(results["soft_int8"], models["soft_int8"].scores(images))


def test_what_another_activation_says_of_its_kernels_does_not_hold():
    class Other(ReLU):
        there = Softsign.there

    assert (Other.code, Other.formula, Other.onnx) == (None, None, None)
    with pytest.raises(MinicnnError, match=r"layer 0 Other\(\): .*without an operation"):
        chain(Model(Sequential([Other()]), (1, 2, 3)))
