"""Classes of uneven sizes, and images with several labels: what a run and `fit` say, and what weights do."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from uneven_images import COUNTS, uneven_images, write_uneven_folder

from minicnn import (
    SGD,
    BCEWithLogits,
    Callback,
    Conv2d,
    Dense,
    EarlyStopping,
    Flatten,
    MeanPool,
    MeanSquaredError,
    MinicnnError,
    Model,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    load,
)
from minicnn.cli import main

CONFIG = """\
network:
  layers:
    - Conv2d: {out_channels: 6, kernel_size: 3}
    - ReLU
    - MeanPool: {kernel_size: 10}
    - Flatten
    - Dense: {out_features: 3}
data: {name: folder, path: images, validation: 0.25}
optimizer: {lr: 0.05, momentum: 0.9}
training: {epochs: 4, batch_size: 16, threads: 1}
output: {pictures: false}
"""
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_uneven_folder(tmp_path / "images")
    (tmp_path / "small.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(name: str, *overrides: str) -> Path:
    assert main(["train", "small.yaml", f"output.dir={name}", *overrides]) == 0
    [run] = Path(name).iterdir()
    return run


def report_of(run: Path, capsys: Capture) -> dict:
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_tells_of_the_largest_class_and_weights_help_the_smallest(folder: Path, capsys: Capture) -> None:
    run = train("plain")
    out, err = capsys.readouterr()
    lines = out.splitlines()
    head = lines.index("class  training images  share  validation images")
    assert lines[head + 2].split() == ["blue", "150", "66.7%", "50"]
    assert lines[head + 4].split() == ["red", "15", "6.7%", "5"]
    always = "always answering blue would be right in 66.7%"
    assert err == (
        f"warning: loss: blue has 10 times as many training images as red, and {always}; "
        "so that red counts, too, set loss.class_weights: balanced\n"
    )
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert [always in line for line in epochs] == [True, True, True, False]
    assert "the recall is 0 of red (5 validation images); set loss.class_weights: balanced" in lines
    before = report_of(run, capsys)
    rows = list(csv.DictReader((run / "errors.csv").read_text().splitlines()))
    assert list(rows[0]) == ["index", "true", "predicted", "confidence", "file"]
    for row in rows:
        assert Path(row["file"]).parent.name == row["true"]
    assert len(rows) == round(75 * (1 - before["accuracy"]))
    assert sum(row["true"] == "red" for row in rows) == 5
    assert [row["confidence"] for row in rows] == sorted((row["confidence"] for row in rows), reverse=True)

    run = train("weighted", "loss.class_weights=balanced", "stop={patience: 2, watch: balanced_accuracy}")
    out, err = capsys.readouterr()
    assert err == "" and "recall is 0" not in out and "with the highest validation balanced accuracy" in out
    after = report_of(run, capsys)
    assert (before["classes"][2]["recall"], after["classes"][2]["recall"]) == (0, 1)
    metrics = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    best = max(metrics, key=lambda row: float(row["validation_balanced_accuracy"]))
    for name in ("loss", "accuracy", "balanced_accuracy", "macro_f1"):  # the loss with the weights, as in training
        assert after[name] == float(best[f"validation_{name}"])
    assert (run / "checkpoints" / "best.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    lists = train("list", f"loss.class_weights={[0.5, 1.25, 5.0]}", "stop={patience: 2, watch: balanced_accuracy}")
    assert (lists / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_an_accuracy_that_is_that_of_one_answer(folder: Path, capsys: Capture) -> None:
    run = train(
        "flat", "optimizer.lr=1.0e-6", "training.epochs=1", "network.init={uniform: 1.0e-6}", "output.lint=false"
    )
    out, err = capsys.readouterr()
    [line] = [line for line in out.splitlines() if line.startswith("the recall is 0")]
    assert "validation accuracy is" in line and "and always answering blue would be right in 66.7%; set loss." in line
    assert err == ""
    assert report_of(run, capsys)["balanced_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "loss.class_weights=[1, 2]",
            "loss.class_weights: expected 3 numbers, one for each class of folder, received 2",
        ),
        ("loss.class_weights=[1, 2, -1]", "loss.class_weights: expected a list of finite numbers >= 0"),
        ("loss.class_weights=even", "loss.class_weights"),
        ("loss={name: mean-squared-error, class_weights: balanced}", "expected null with mean-squared-error"),
        ("loss.name=binary-cross-entropy", "loss.name: expected"),
        (
            "stop={patience: 2, watch: top3_accuracy}",
            "monitor: expected one of loss, accuracy, balanced_accuracy, macro",
        ),
        ("stop.watch=macro_f1", "stop.watch: expected stop.patience with it, received watch macro_f1 alone"),
        ("stop={patience: 2, watch: f1}", "stop.watch: expected"),
    ],
)
def test_settings_that_do_not_fit(folder: Path, capsys: Capture, setting: str, message: str) -> None:
    assert main(["train", "small.yaml", setting]) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("error: ") and err.count("\n") == 1


# ---- in Python


def arrays(counts: dict[str, int] = COUNTS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    images = uneven_images(counts, seed=seed)
    return np.moveaxis(np.concatenate(list(images.values())), 3, 1), np.repeat(list(images), list(counts.values()))


def network(outputs: int = 3) -> Sequential:
    layers = [Conv2d(3, 6, 3), ReLU(), MeanPool(10), Flatten(), Dense(6, outputs)]
    return Sequential(layers).initialize(rng=0)


def fitted(**options: object) -> Model:
    model = Model(network())
    model.fit(*arrays(), epochs=4, batch_size=16, **{"verbose": False, **options})
    return model


def test_weights_of_classes_in_fit(capsys: Capture) -> None:
    """The same as the loss's own; as numbers, by name, or as weights of samples."""
    test = arrays(dict.fromkeys(COUNTS, 60), seed=1)
    plain = fitted(verbose=True, validation=test)
    out, err = capsys.readouterr()
    assert 'the recall is 0 of red (60 validation images); try class_weight="balanced"' in out and err == ""
    by_class = {"blue": 0.5, "green": 1.25, 2: 5.0}
    samples = np.repeat([0.5, 1.25, 5], list(COUNTS.values()))
    same = [
        fitted(class_weight="balanced"),
        fitted(class_weight=by_class, sample_weight=np.ones(300)),
        fitted(sample_weight=samples),
        fitted(loss=SoftmaxCrossEntropy(class_weights="balanced")),
    ]
    for model in same:
        np.testing.assert_array_equal(model.network.values, same[0].network.values)
    before, after = plain.evaluate(*test), same[0].evaluate(*test)
    assert after.balanced_accuracy > before.balanced_accuracy + 0.2
    assert after.loss == same[3].evaluate(*test).loss  # without weights


def test_weights_of_samples_are_held_out_with_them() -> None:
    """A weight of 0 is as good as no image, whichever are held out."""
    images, labels = arrays()
    weights = np.ones(300)
    weights[::3] = 0
    seen = []
    model = Model(network())

    class Seen(Callback):
        def on_train_begin(self, trainer: object) -> None:
            seen.append(trainer.train_batches)  # type: ignore[attr-defined]

    images[:, 0, 0, 0] = weights  # marks them
    model.fit(images, labels, validation=0.3, sample_weight=weights, callbacks=[Seen()], verbose=False)
    np.testing.assert_array_equal(seen[0].weights, seen[0].images[:, 0, 0])


def test_the_loss_of_an_epoch_is_the_weighted_mean() -> None:
    images, labels = arrays()
    weights = np.random.default_rng(0).random(300) ** 4
    model = Model(network())
    options = {"optimizer": SGD(lr=1e-30), "sample_weight": weights, "batch_size": 16, "verbose": False}
    history = model.fit(images, labels, **options)  # type: ignore[arg-type]
    numbers = np.unique(labels, return_inverse=True)[1]
    expected = SoftmaxCrossEntropy().forward(model.scores(images), numbers, weights)
    assert history[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_probabilities_as_targets_of_fit() -> None:
    images, labels = arrays()
    numbers = np.unique(labels, return_inverse=True)[1]
    soft = np.eye(3)[numbers] * 0.8 + 0.2 / 3
    model, twin = Model(network()), Model(network())
    model.fit(images, soft, 4, verbose=False)
    history = twin.fit(images, numbers, 4, verbose=False, loss=SoftmaxCrossEntropy(label_smoothing=0.2))
    np.testing.assert_allclose(model.network.values, twin.network.values, rtol=1e-3, atol=1e-5)
    assert model.fit(images, soft, validation=0.2, verbose=False)[0]["train_accuracy"] > history[0]["train_accuracy"]
    assert model.evaluate(images, soft).accuracy == model.evaluate(images, numbers).accuracy
    with pytest.raises(MinicnnError, match="rows of probabilities, which add up to 1"):
        model.fit(images, soft * 0.5)


def test_several_labels_per_image(tmp_path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (300, 3))
    images = rng.normal(110, 20, (300, 3, 12, 12)) + 30 * targets[:, :, None, None]
    images = images.clip(0, 255).astype(np.uint8)
    model = Model(network(), classes=("red", "green", "blue"), loss="binary-cross-entropy")
    stopping = EarlyStopping(3, monitor="accuracy")
    history = model.fit(images, targets > 0, 12, 16, validation=0.2, callbacks=[stopping])
    assert "always answering" not in capsys.readouterr().out
    assert list(history[-1]) == [
        *("epoch", "step", "lr", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    ]
    test = model.evaluate(images, targets)
    predictions = model.predict(images)
    assert predictions.shape == (300, 3) and predictions.dtype == np.int64
    assert test.accuracy == (predictions == targets).mean() > 0.95
    shares = model.predict_proba(images)
    np.testing.assert_array_equal(shares > 0.5, predictions == 1)
    loss = BCEWithLogits()
    assert test.loss == pytest.approx(loss.forward(model.scores(images), targets), rel=1e-5)
    np.testing.assert_allclose(shares, 1 / (1 + np.exp(-test.scores)), rtol=1e-5)
    assert model.evaluate(images, targets * 0.45).accuracy == (predictions == 0).mean()
    model.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "model.safetensors").predict(images), predictions)
    more = Model(network())
    more.fit(images, targets, 3, 16, loss=BCEWithLogits(pos_weight=[9, 9, 9]), verbose=False)
    assert more.predict(images).mean() > targets.mean()
    for wrong in (targets[:, 0], targets * 2, targets[:, :2]):
        with pytest.raises(MinicnnError, match="labels: expected"):
            model.fit(images, wrong)
    with pytest.raises(MinicnnError, match="class_weight: expected labels of one class each"):
        model.fit(images, targets, class_weight="balanced")


WRONG = {
    "another word": ({"class_weight": "even"}, "class_weight: expected 'balanced', a list or a dict, received 'even'"),
    "too few": ({"class_weight": [1, 2]}, "class_weight: expected 3 numbers, one for each class, received 2"),
    "an unknown class": ({"class_weight": {"grey": 2}}, "expected classes 0 to 2, or one of blue, .* received 'grey'"),
    "a negative one": ({"class_weight": {0: -1}}, "class_weight: expected a list of finite numbers >= 0"),
    "of too few samples": ({"sample_weight": [1, 2]}, r"sample_weight: expected 300 numbers, received int64 \(2,\)"),
    "a figure that is not there": (
        {"validation": 0.1, "callbacks": [EarlyStopping(2, monitor="top3_accuracy")]},
        "monitor: expected one of loss, .*received 'top3_accuracy'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit(name: str) -> None:
    options, message = WRONG[name]
    with pytest.raises(MinicnnError, match=message):
        fitted(**options)


def test_squared_errors_take_weights_of_classes_in_fit() -> None:
    plain, weighted = (fitted(loss=MeanSquaredError(), class_weight=chosen) for chosen in (None, "balanced"))
    images, labels = arrays()
    assert weighted.evaluate(images, labels).balanced_accuracy > plain.evaluate(images, labels).balanced_accuracy
