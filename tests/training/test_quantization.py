"""Training with weights of 8 bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minicnn import SGD, Callback, Conv2d, Dense, Flatten, Model, ReLU, Sequential, quantize
from minicnn.cli import main
from minicnn.training.callbacks.quantization import FakeQuantization, quantized

CONFIG = """\
network:
  layers: [Conv2d: {out_channels: 3, kernel_size: 3}, ReLU, Flatten, Dense: {out_features: 4}]
data: {name: arrays, path: data.npz, validation: 0.25}
optimizer: {lr: 0.05, momentum: 0.9}
training: {epochs: 4, batch_size: 16, quantize: true, ema: 0.5}
output: {pictures: false, lint: false}
"""
IMAGES = np.random.default_rng(0).integers(0, 256, (64, 1, 6, 6), np.uint8)
LABELS = np.arange(64) % 4


def network() -> Sequential:
    layers = [Conv2d(1, 3, 3), ReLU(), Flatten(), Dense(48, 4)]
    return Sequential(layers).initialize(rng=1)


@pytest.mark.parametrize("shape", [(3, 2, 5, 5), (4, 7), (1, 1), (2, 3, 1, 1)])
def test_weights_of_eight_bits(shape: tuple[int, ...]) -> None:
    weight = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    weight[0] *= 100
    found = quantized(weight)
    for channel, original in zip(found, weight, strict=True):
        scale = np.abs(original).max() / 127
        levels = channel / scale
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
        assert np.abs(levels).max() == pytest.approx(127)
        assert np.abs(channel - original).max() <= scale / 2 * 1.0001
    np.testing.assert_array_equal(quantized(np.zeros(shape, np.float32)), 0)


def test_they_are_those_of_the_model_in_integers() -> None:
    model = Model(network(), (1, 6, 6), 0.5, 0.3)
    steps = quantize(model, IMAGES).steps
    levels = [step.arrays["weight"] for step in steps if "weight" in step.arrays]
    for layer, found in zip((model.network[0], model.network[3]), levels, strict=True):
        weight = layer.weight.value
        scale = np.abs(weight).reshape(len(weight), -1).max(axis=1) / 127
        expected = np.rint(quantized(weight).reshape(len(weight), -1) / scale[:, None])
        np.testing.assert_array_equal(found.reshape(len(weight), -1), expected)


def test_a_step_uses_them_and_updates_the_others() -> None:
    """The gradients are those at the weights of 8 bits; the update goes to those of 32."""
    one, twin = network(), network()
    weights = [twin[0].weight.value, twin[3].weight.value]
    before = [weight.copy() for weight in weights]
    for weight in weights:
        weight[...] = quantized(weight)
    used = [weight.copy() for weight in weights]
    options: dict[str, Any] = {"epochs": 1, "batch_size": 64, "verbose": False}
    Model(twin, (1, 6, 6), 0.5, 0.3).fit(IMAGES, LABELS, optimizer=SGD(lr=0.1), **options)
    Model(one, (1, 6, 6), 0.5, 0.3).fit(
        IMAGES, LABELS, optimizer=SGD(lr=0.1), callbacks=[FakeQuantization()], **options
    )
    for place, weight, start, in_step in zip((0, 3), weights, before, used, strict=True):
        np.testing.assert_allclose(one[place].weight.value, start + (weight - in_step), rtol=1e-5, atol=1e-7)
        assert not np.array_equal(one[place].weight.value, quantized(one[place].weight.value))


def test_an_exception_leaves_the_weights_of_32_bits() -> None:
    class Failing(Callback):
        def on_step_begin(self, trainer: Any) -> None:
            if trainer.progress.step == 1:
                raise RuntimeError

    one = network()
    with pytest.raises(RuntimeError):
        Model(one, (1, 6, 6), 0.5, 0.3).fit(
            IMAGES, LABELS, batch_size=32, callbacks=[FakeQuantization(), Failing()], verbose=False
        )
    assert not np.array_equal(one[0].weight.value, quantized(one[0].weight.value))


def test_a_run_takes_it_as_a_setting_and_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", images=IMAGES[:, 0], labels=LABELS)
    Path("small.yaml").write_text(CONFIG)
    for name, steps in (("whole", 4), ("parts", 2)):
        assert main(["train", "small.yaml", f"output.dir={name}", f"training.epochs={steps}"]) == 0
    [whole], [parts] = (list(Path(name).iterdir()) for name in ("whole", "parts"))
    assert main(["train", "--resume", str(parts), "training.epochs=4"]) == 0
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert main(["train", "small.yaml", "output.dir=without", "training={epochs: 4, batch_size: 16}"]) == 0
    [without] = Path("without").iterdir()
    assert (without / "model.safetensors").read_bytes() != (whole / "model.safetensors").read_bytes()
