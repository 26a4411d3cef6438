"""Test-time augmentation: the mean of several views, in Python and on the command line."""

import json

import numpy as np
import pytest

from minicnn import (
    SGD,
    Augmentation,
    Conv2d,
    Dense,
    Flatten,
    MinicnnError,
    Model,
    ReLU,
    Sequential,
    ShapeError,
    Softmax,
    load,
    load_dataset,
)
from minicnn.cli import main
from minicnn.losses import LOSSES
from minicnn.model.tta import mean_scores

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (21, 1, 6, 5), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 21)


def model(augmentation=None, *, layers=(), **options):
    network = Sequential([Conv2d(1, 4, 3), ReLU(), Flatten(), Dense(48, 3), *layers]).initialize("kaiming", rng=1)
    return Model(network, (1, 6, 5), 0.4, 0.3, augmentation=augmentation, **options)


def test_two_views_of_a_flip_are_the_image_and_its_mirror():
    one = model(Augmentation(flip=0.5, cutout=2, erasing=1, noise=0.5, mixup=1))
    mirrored = one.predict_proba(IMAGES[..., ::-1])
    expected = (one.predict_proba(IMAGES) + mirrored) / 2
    np.testing.assert_allclose(one.predict_proba(IMAGES, tta=2), expected, atol=1e-6)
    np.testing.assert_allclose(one.predict_proba(IMAGES, tta=4), expected, atol=1e-6)
    np.testing.assert_array_equal(one.predict(IMAGES, tta=2), expected.argmax(axis=1))
    floats = one.predict_proba(IMAGES / 255, tta=2)
    np.testing.assert_allclose(floats, expected, atol=1e-6)


@pytest.mark.parametrize("padding", [0, 1])
def test_an_image_has_the_same_views_among_others(padding):
    augmentation = Augmentation(shift=1, rotation=20, brightness=0.3, elastic_alpha=5)
    network = Sequential([Flatten(), Dense((6 + 2 * padding) * (5 + 2 * padding), 3)]).initialize(rng=2)
    one = Model(network, (1, 6, 5), augmentation=augmentation, padding=padding)
    together = one.scores(IMAGES, tta=5)
    np.testing.assert_allclose(one.scores(IMAGES[7:9], tta=5), together[7:9], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(one.scores(IMAGES, tta=5), together)
    assert not np.allclose(together, one.scores(IMAGES, tta=4))
    plain = Model(network, (1, 6, 5), padding=padding)
    small = Model(network, (1, 6, 5), padding=padding, augmentation=Augmentation(crop_padding=1))
    np.testing.assert_array_equal(plain.scores(IMAGES, tta=3), small.scores(IMAGES, tta=3))
    np.testing.assert_array_equal(plain.scores(IMAGES, tta=1), plain.scores(IMAGES))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("softmax", [False, True])
def test_scores_stand_for_the_mean_of_probabilities(loss, softmax):
    one = model(layers=[Softmax()] if softmax else [], loss=loss)
    scores = [one.scores(image) for image in (IMAGES, IMAGES[::-1], 255 - IMAGES)]
    found = mean_scores(scores, LOSSES[loss], softmax)
    assert found.dtype == np.float32
    if loss in ("mean-squared-error", "half-squared-error"):
        np.testing.assert_allclose(found, np.mean(scores, axis=0), atol=1e-6)
    else:
        expected = np.mean([one.probabilities(each) for each in scores], axis=0)
        np.testing.assert_allclose(one.probabilities(found), expected, atol=1e-6)
    if loss == "maximum-a-posteriori" and not softmax:
        sums = [np.logaddexp.reduce(each, axis=1) for each in (found, *scores)]
        np.testing.assert_allclose(sums[0], np.mean(sums[1:], axis=0), rtol=1e-5)
    far = mean_scores([np.float32([[-200, 0, 200]])] * 2, LOSSES[loss], False)
    np.testing.assert_allclose(far, [[-200, 0, 200]], atol=1e-3)


def test_evaluation_has_the_loss_and_accuracy_of_the_mean():
    one = model(Augmentation(flip=0.5))
    found = one.evaluate(IMAGES, LABELS, tta=2)
    probabilities = one.predict_proba(IMAGES, tta=2)
    assert found.loss == pytest.approx(-np.log(probabilities[np.arange(21), LABELS]).mean(), rel=1e-5)
    assert found.accuracy == np.mean(probabilities.argmax(axis=1) == LABELS)
    assert one.evaluate(IMAGES, LABELS, tta=1).loss == one.evaluate(IMAGES, LABELS).loss


def test_models_keep_their_augmentation(tmp_path):
    one = model()
    assert one.augmentation is None
    augmentation = Augmentation(flip=0.5, rotation=10, fill=[7])
    one.fit(IMAGES, LABELS, augmentation=augmentation, verbose=False)
    assert one.augmentation == augmentation
    one.save(tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert again.augmentation == augmentation
    np.testing.assert_array_equal(again.scores(IMAGES, tta=4), one.scores(IMAGES, tta=4))


def test_what_has_no_views():
    for wrong in (0, 1.5, "2", True):
        with pytest.raises(MinicnnError, match="tta: expected an integer >= 1, received"):
            model().predict(IMAGES, tta=wrong)
    flat = Model(Sequential([Dense(4, 3)]).initialize(rng=0), (4,))
    with pytest.raises(ShapeError, match=r"tta: expected 1 with other inputs than \(C, H, W\)"):
        flat.predict(np.zeros((2, 4), np.float32), tta=2)


def test_on_the_command_line(tmp_path, capsys):
    data = load_dataset("mnist-subset")
    network = Sequential([Flatten(), Dense(784, 10)]).initialize("kaiming", rng=0)
    one = Model(network, (1, 28, 28), classes=data.classes, data_set="mnist-subset")
    options = {"optimizer": SGD(lr=0.05), "augmentation": Augmentation(shift=2), "verbose": False}
    one.fit(data.train_images[:1000], data.train_labels[:1000], 2, **options)
    place = str(tmp_path / "m.safetensors")
    one.save(place)
    assert main(["evaluate", place, "--json", "--tta", "3"]) == 0
    report = json.loads(capsys.readouterr().out)
    expected = one.evaluate(data.test_images, data.test_labels, tta=3)
    assert report["views"] == 3
    assert report["accuracy"] == expected.accuracy and report["loss"] == expected.loss
    assert main(["evaluate", place, "--tta"]) == 0
    assert capsys.readouterr().out.startswith("the mean of 8 views of each image:\naccuracy ")
    from minicnn.data.image_file import write_png

    write_png(tmp_path / "digit.png", data.test_images[0])
    assert main(["predict", place, str(tmp_path / "digit.png"), "--raw", "--json", "--tta", "5"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["predictions"][0]["probability"] == one.predict_proba(data.test_images[0], tta=5).max()
    assert main(["predict", place, "--tta", "digit.png"]) == 2
    assert "--tta: expected a number of views, such as --tta 8, received digit.png" in capsys.readouterr().err
