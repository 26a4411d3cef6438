"""`Model.fit`: arrays in, a trained model out."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minicnn import (
    SGD,
    Augmentation,
    Batches,
    Callback,
    Dense,
    DivergedError,
    EarlyStopping,
    Flatten,
    MeanSquaredError,
    MinicnnError,
    Model,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    load,
    make_schedule,
    train_step,
)
from minicnn.training.callbacks.weights import WeightAverage

RNG = np.random.default_rng(0)
LABELS = np.arange(120) % 3
IMAGES = RNG.integers(0, 100, (120, 4, 5), np.uint8) + (60 * LABELS[:, None, None]).astype(np.uint8)
NAMES = ("ant", "bee", "cat")


def network(width: int = 20, seed: int = 0) -> Sequential:
    return Sequential([Flatten(), Dense(width, 8), ReLU(), Dense(8, 3)]).initialize(rng=seed)


def fit(model: Model, images: Any = IMAGES, labels: Any = LABELS, **options: Any) -> Any:
    return model.fit(images, labels, **{"epochs": 2, "batch_size": 32, "verbose": False, **options})


def weights(model: Model) -> np.ndarray:
    return model.network.values.copy()


def test_it_learns_and_can_be_used_saved_and_loaded(tmp_path: Path) -> None:
    model = Model(network(), classes=NAMES)
    history = fit(model, epochs=20, validation=0.1)
    assert len(history) == 20 and history[-1]["epoch"] == 20
    assert history["train_loss"] == [row["train_loss"] for row in history]
    assert history["validation_accuracy"][-1] == 1.0
    test = model.evaluate(IMAGES, LABELS)
    assert test.accuracy == (model.predict(IMAGES) == LABELS).mean() > 0.95
    model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert (again.classes, again.input_shape, again.mean, again.std) == (NAMES, (1, 4, 5), model.mean, model.std)
    np.testing.assert_array_equal(again.predict_proba(IMAGES), model.predict_proba(IMAGES))


def test_it_is_the_loop_written_out() -> None:
    """The same weights as those of train_step on the same batches."""
    model, twin = Model(network()), network()
    fit(model, epochs=3, schedule="cosine", optimizer=SGD(lr=0.1, momentum=0.9), seed=5)
    pixels = IMAGES[:, None] / 255
    batches = Batches(IMAGES[:, None], LABELS, 32, pixels.mean(), pixels.std(), seed=5)
    optimizer = SGD(twin.parameters(), lr=0.1, momentum=0.9)
    rate = make_schedule("cosine", 0.1, 12)
    for epoch in range(3):
        for batch in batches.epoch(epoch):
            optimizer.lr = rate(optimizer.steps)
            train_step(twin, SoftmaxCrossEntropy(), optimizer, batch)
    np.testing.assert_allclose(weights(model), twin.values, rtol=1e-6)


@pytest.mark.parametrize(
    "images", [IMAGES[:, None], IMAGES / 255, (IMAGES[:, None] / 255).astype(np.float32)], ids=["NCHW", "HW", "float32"]
)
@pytest.mark.parametrize(
    "labels", [LABELS.astype(np.uint8), np.array(NAMES)[LABELS], np.eye(3)[LABELS], LABELS.tolist()]
)
def test_images_and_labels_as_people_have_them(images: np.ndarray, labels: Any) -> None:
    expected = Model(network())
    fit(expected)
    model = Model(network())
    fit(model, images, labels)
    np.testing.assert_allclose(weights(model), weights(expected), rtol=2e-4, atol=1e-6)
    assert model.classes == (NAMES if isinstance(labels, np.ndarray) and labels.dtype.kind == "U" else None)


WRONG = {
    "channels last": (
        {"images": np.zeros((120, 10, 2, 1), np.uint8)},
        r"received \(120, 10, 2, 1\), with the channels last; bring them to the front: numpy\.moveaxis\(images",
    ),
    "not divided": ({"images": IMAGES.astype(float)}, "floats from 0 to 1 .* divide them by 255"),
    "negative": ({"images": IMAGES / 255 - 1}, "floats from 0 to 1 or uint8"),
    "NaN": ({"images": np.full((120, 4, 5), np.nan)}, "floats from 0 to 1 or uint8"),
    "integers": ({"images": IMAGES.astype(int)}, r"received int64; if they are pixels .*astype\(numpy.uint8\)"),
    "objects": ({"images": np.array([None] * 120)}, "received object"),
    "one axis": ({"images": IMAGES[0, 0]}, r"expected \(N, H, W\) or \(N, C, H, W\), N > 0, received \(5,\)"),
    "none": ({"images": IMAGES[:0], "labels": LABELS[:0]}, "N > 0, received"),
    "fewer labels": ({"labels": LABELS[:5]}, r"labels: expected 120, one for each image, received \(5,\)"),
    "negative label": ({"labels": LABELS - 1}, "expected classes 0 to 2, received -1 at index 0"),
    "two in a row": ({"labels": np.ones((120, 3))}, r"a single 1 and else 0 \(one-hot\)"),
    "float labels": ({"labels": LABELS / 2}, r"names of classes \(N,\) or one-hot rows \(N, K\), received float64"),
    "share": ({"validation": 1.5}, "validation: expected a share between 0 and 1, received 1.5"),
    "validation": ({"validation": (IMAGES[:, :3], LABELS)}, r"expected \(N, 1, 4, 5\), received \(120, 3, 5\)"),
    "schedule": ({"schedule": "cosin"}, "schedule.name: expected one of .*, received 'cosin'"),
    "augmentation": (
        {"images": IMAGES / 255, "augmentation": Augmentation(shift=1)},
        "expected uint8 with an augmentation, received float32",
    ),
    "loss": ({"loss": 5}, "loss: expected .* received 5"),
    "patience": ({"callbacks": [EarlyStopping(1)]}, r"held-out images \(validation\)"),
    "labels from 1": (
        {"labels": LABELS + 1},
        "expected classes 0 to 2, received 3 at index 2; they count from 0: labels - 1",
    ),
    "labels beyond": ({"labels": LABELS + 2}, "expected classes 0 to 2, received 3 at index 1$"),
    "validation labels": ({"validation": (IMAGES, LABELS + 3)}, "expected classes 0 to 2, received 3 at index 0"),
    "wide rows": ({"labels": np.eye(4)[LABELS]}, r"one-hot rows of 3 classes, received \(120, 4\)"),
    "a column": ({"labels": LABELS[:, None]}, r"received int64 \(120, 1\); labels.ravel\(\) makes them"),
    "epochs": ({"epochs": 1.5}, "epochs: expected an integer >= 1, received 1.5"),
    "no epochs": ({"epochs": 0}, "epochs: expected an integer >= 1, received 0"),
    "batch size": ({"batch_size": 0}, "batch_size: expected an integer >= 1, received 0"),
    "seed": ({"seed": -1}, "seed: expected an integer >= 0, received -1"),
    "three in validation": ({"validation": (IMAGES, LABELS, 1)}, "validation: expected .*, received"),
    "images alone in validation": ({"validation": IMAGES}, "validation: expected .*, received"),
    "one callback": ({"callbacks": EarlyStopping(2)}, "callbacks: expected .*, received"),
    "class of a callback": ({"callbacks": [EarlyStopping]}, "callbacks: expected .*, received"),
    "two of a kind": (
        {"callbacks": [EarlyStopping(1), EarlyStopping(2)], "validation": 0.1},
        "callbacks: expected one EarlyStopping at most, received 2",
    ),
    "optimizer": ({"optimizer": "sgd"}, "optimizer: expected .*, received 'sgd'"),
    "rates": ({"schedule": [0.1]}, "schedule: expected a name, or a function of the step, received"),
    "two names": ({"labels": np.array(NAMES)[LABELS // 2]}, r"classes: expected \(3,\), a name for each .*received 2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit(name: str) -> None:
    options, message = WRONG[name]
    model = Model(network())
    before = vars(model).copy()
    with pytest.raises(MinicnnError, match=message):
        fit(model, **options)
    assert vars(model) == before  # and may be fitted with others
    fit(model)


def test_a_model_shows_itself_before_its_first_fit() -> None:
    assert repr(Model(network())).endswith("input_shape=None)")


def test_a_name_that_is_not_among_the_classes() -> None:
    with pytest.raises(MinicnnError, match="expected one of ant, bee, cow, received 'cat'"):
        fit(Model(network(), classes=("ant", "bee", "cow")), labels=np.array(NAMES)[LABELS])


def test_without_fit_the_shape_is_not_known() -> None:
    model = Model(network())
    for use in (model.predict, model.scores, model.predict_proba):
        with pytest.raises(MinicnnError, match="input_shape, which is not known before the first fit"):
            use(IMAGES)


def test_an_optimizer_without_parameters_only_fits() -> None:
    with pytest.raises(MinicnnError, match=r"SGD: expected parameters to update; make it with SGD\(network.parameters"):
        SGD(lr=0.1).step()
    one = network()
    with pytest.raises(MinicnnError, match=r"expected an optimizer of the network's parameters, received .* or none"):
        train_step(one, SoftmaxCrossEntropy(), SGD(lr=0.1), (IMAGES[:, None].astype(np.float32), LABELS))
    optimizer = SGD(lr=0.1)
    fit(Model(one), optimizer=optimizer)
    fit(Model(one), optimizer=optimizer)  # goes on with its velocity
    assert optimizer.steps == 16
    other = Model(network())
    for use in (fit, lambda model, optimizer: model.find_lr(IMAGES, LABELS, optimizer=optimizer)):
        with pytest.raises(MinicnnError, match=r"optimizer: .* received that of another network; .* SGD\(lr=0.1\)"):
            use(other, optimizer=optimizer)


def test_a_step_as_large_as_the_epoch_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    fit(Model(network()), accumulate=4, verbose=True)
    assert "accumulate: a step of 4 x 32 images is all 120 of an epoch" in capsys.readouterr().err
    fit(Model(network()), accumulate=2, verbose=True)
    assert not capsys.readouterr().err


def test_a_second_fit_goes_on_with_the_same_normalisation() -> None:
    model = Model(network())
    fit(model)
    before, mean = weights(model), model.mean
    fit(model, IMAGES // 2)
    assert model.mean == mean and not np.array_equal(weights(model), before)


def test_validation_images_may_be_given() -> None:
    model = Model(network())
    history = fit(model, IMAGES[:90], LABELS[:90], validation=(IMAGES[90:] / 255, LABELS[90:]))
    test = model.evaluate(IMAGES[90:], LABELS[90:])
    assert history["validation_loss"][-1] == pytest.approx(test.loss, rel=1e-5)
    assert "validation_loss" not in fit(model)[0]


def test_callbacks_see_each_moment_and_early_stopping_keeps_the_best_epoch() -> None:
    moments: list[str] = []

    class Seen(Callback):
        def on_train_begin(self, trainer: Any) -> None:
            moments.append("train")

        def on_epoch_begin(self, trainer: Any) -> None:
            moments.append("epoch")

        def on_step_begin(self, trainer: Any) -> None:
            moments.append("step")

        def on_step_end(self, trainer: Any, batch: Any, result: Any) -> None:
            assert (len(batch), result.count) == (60, 60)
            moments.append(f"after {trainer.progress.step}")

        def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
            row["mine"] = row["epoch"] * 10
            moments.append("end")

        def on_train_end(self, trainer: Any, test: Any) -> None:
            moments.append("over")

        def close(self, trainer: Any) -> None:
            moments.append("closed")

    history = fit(Model(network()), batch_size=60, callbacks=[Seen()])
    epoch = ["epoch", "step", "after {}", "step", "after {}", "end"]
    expected = " ".join(["train", *epoch, *epoch, "over", "closed"]).format(1, 2, 3, 4).split(" ")
    assert " ".join(moments).split(" ") == expected
    assert history["mine"] == [10, 20]


def test_early_stopping_gives_back_the_weights_of_the_best_epoch() -> None:
    labels = RNG.permutation(LABELS)  # nothing to learn but by heart
    model = Model(network())
    stopping = EarlyStopping(patience=3)
    history = fit(model, labels=labels, epochs=60, validation=0.3, callbacks=[stopping], seed=1)
    losses = history["validation_loss"]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + 3 < 60 and stopping.best_epoch == best
    short = Model(network())
    fit(short, labels=labels, epochs=best, validation=0.3, seed=1)
    np.testing.assert_array_equal(weights(model), weights(short))


def test_a_loss_that_is_not_finite_leaves_weights_whose_loss_was() -> None:
    model = Model(network())
    with pytest.raises(DivergedError):
        fit(model, epochs=30, schedule=lambda step: 0.1 if step < 8 else 1e30, loss=MeanSquaredError())
    assert np.isfinite(weights(model)).all() and np.abs(weights(model)).max() < 10
    assert model.loss == "mean-squared-error"


def test_a_folder_gets_the_figures_and_the_model(tmp_path: Path) -> None:
    model = Model(network())
    history = fit(model, validation=0.1, folder=tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation_loss"]) for row in rows] == history["validation_loss"]
    np.testing.assert_array_equal(load(tmp_path / "run").predict(IMAGES), model.predict(IMAGES))


def test_lines_and_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    fit(Model(network()), verbose=True, validation=0.1)
    out, err = capsys.readouterr()
    assert out.splitlines()[1].startswith("epoch 2/2   train loss ") and "validation loss" in out and err == ""
    fit(Model(network()))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("order", [1, -1])
def test_early_stopping_and_an_average_in_any_order_and_used_again(order: int) -> None:
    """The result is the average after the best epoch; a second fit begins anew."""
    labels = np.random.default_rng(5).permutation(LABELS)
    stopping, callbacks = EarlyStopping(patience=2), []
    callbacks = [stopping, WeightAverage(0.8)][::order]
    for seed in (1, 2):
        model = Model(network(seed=seed))
        options = {"labels": labels, "validation": 0.3, "seed": seed}
        history = fit(model, epochs=40, callbacks=callbacks, **options)
        losses = history["validation_loss"]
        best = int(np.argmin(losses)) + 1
        assert len(losses) == best + 2 < 40 and stopping.best_epoch == best
        short = Model(network(seed=seed))
        fit(short, epochs=best, callbacks=[WeightAverage(0.8)], **options)
        np.testing.assert_array_equal(weights(model), weights(short))


def test_a_schedule_leaves_the_rate_of_the_optimizer() -> None:
    optimizer = SGD(lr=0.1)
    fit(Model(network()), schedule="cosine", optimizer=optimizer)
    assert optimizer.lr == 0.1


def test_names_are_not_numbered_anew_when_evaluated() -> None:
    model = Model(network())
    fit(model)
    with pytest.raises(MinicnnError, match="expected integers, as the model has no names, received names"):
        model.evaluate(IMAGES, np.array(NAMES)[LABELS])
    named = Model(network())
    fit(named, labels=np.array(NAMES)[LABELS].astype(object))
    assert named.evaluate(IMAGES[:1], ["ant"]).accuracy == named.evaluate(IMAGES[:1], [0]).accuracy


def test_what_was_learned_before_an_interrupt_is_in_the_folder(tmp_path: Path) -> None:
    class Stopping(Callback):
        def on_step_end(self, trainer: Any, batch: Any, result: Any) -> None:
            if trainer.progress.step == 3:
                raise KeyboardInterrupt

    model = Model(network())
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=[Stopping()], folder=tmp_path / "some" / "run")
    np.testing.assert_array_equal(load(tmp_path / "some" / "run").network.values, weights(model))


def test_a_folder_of_the_command_line_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(MinicnnError, match="folder: expected another one than that of a run"):
        fit(Model(network()), folder=tmp_path)


def test_the_reason_of_the_end_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.random.default_rng(5).permutation(LABELS)
    history = fit(
        Model(network()), labels=labels, epochs=60, validation=0.3, callbacks=[EarlyStopping(2)], verbose=True
    )
    assert f"stopped after epoch {len(history)} of 60: no lower validation loss than" in capsys.readouterr().out


def test_every_callback_is_closed_behind_one_that_fails() -> None:
    closed = []

    class Failing(Callback):
        def close(self, trainer: Any) -> None:
            raise RuntimeError("cannot close")

    class Last(Callback):
        def close(self, trainer: Any) -> None:
            closed.append(self)

    with pytest.raises(RuntimeError, match="cannot close"):
        fit(Model(network()), callbacks=[Failing(), Last()])
    assert len(closed) == 1
