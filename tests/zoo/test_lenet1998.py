"""LeNet-5 of 1998: its size, its output units, and the padding that its images get everywhere."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from minicnn import (
    Batches,
    MaximumAPosteriori,
    MinicnnError,
    Model,
    RadialBasis,
    Sequential,
    ShapeError,
    lenet5_1998,
    load,
    load_dataset,
)
from minicnn.cli import main
from minicnn.export.onnx import export_onnx
from minicnn.layers import rbf as radial

CONFIG = str(Path(__file__).parents[2] / "configs" / "lenet1998.yaml")


def test_20_parameters_layer_by_layer():
    counts = [sum(p.value.size for p in layer.parameters()) for layer in lenet5_1998()]
    assert [n for n in counts if n] == [156, 12, 1_516, 32, 48_120, 10_164]
    assert sum(counts) == 60_000


def test_connections_are_those_of_the_paper():
    network = lenet5_1998()
    shapes = network.shapes((1, 32, 32))
    counts = [layer.connections(shape) for layer, shape in zip(network, shapes, strict=False)]
    paper = [122_304, 5_880, 151_600, 2_000, 48_120]  # C1, S2, C3, S4, C5 in section II.B
    assert [n for n in counts if n] == [*paper, 10_164, 840]
    assert sum(counts) == 340_908


def test_initial_weights_stay_within_their_range():
    network = lenet5_1998().initialize("lecun-1998", rng=0)
    fans = {0: 25, 2: 4, 6: 4, 8: 400, 11: 120}
    for index, fan_in in fans.items():
        for parameter in network[index].parameters():
            assert 0.4 * 2.4 / fan_in < np.abs(parameter.value).max() <= 2.4 / fan_in


# --- the output units ----------------------------------------------------------------------------


def test_prototypes_are_pictures_of_ten_different_digits():
    bitmaps = radial.digit_bitmaps()
    assert bitmaps.shape == (10, 12, 7)
    assert set(np.unique(bitmaps)) == {-1, 1}
    distances = ((bitmaps[:, None] - bitmaps) ** 2).sum(axis=(2, 3))
    assert distances[~np.eye(10, dtype=bool)].min() >= 4 * 8  # 8 pixels differ at least
    one = bitmaps[1] > 0
    assert one[:, 3].all() and one[-1].all() and not one[4:-1, :3].any()


def test_gradients_of_output_units_and_criterion_are_right(rng):
    layer = RadialBasis(5, rng.standard_normal((3, 5)))
    network, loss = Sequential([layer]).astype(np.float64), MaximumAPosteriori(2.0)
    x, labels = rng.standard_normal((4, 5)), np.array([0, 1, 2, 1])
    loss.forward(network.forward(x), labels)
    dx = network.backward(loss.backward())
    step = 1e-6
    for n, i in ((0, 0), (1, 3), (3, 4)):
        values = []
        for sign in (1, -1):
            moved = x.copy()
            moved[n, i] += sign * step
            values.append(loss.forward(network.forward(moved), labels))
        np.testing.assert_allclose((values[0] - values[1]) / (2 * step), dx[n, i], rtol=1e-7)


def test_a_prototype_is_its_own_best_class():
    layer = RadialBasis(84)
    scores = layer.forward(radial.digit_bitmaps().reshape(10, 84))
    np.testing.assert_array_equal(scores.argmax(axis=1), np.arange(10))
    np.testing.assert_array_equal(scores.diagonal(), np.zeros(10))


def test_prototypes_are_state_but_not_trained():
    layer = RadialBasis(3, [[1, 2, 3], [4, 5, 6]])
    assert layer.parameters() == []
    state = layer.state_dict()
    other = RadialBasis(3, np.zeros((2, 3)))
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.prototypes, [[1, 2, 3], [4, 5, 6]])
    assert RadialBasis(**other.options()).prototypes.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("features", "prototypes", "message"),
    [
        (84, "letters", "expected digits or numbers .*received 'letters'"),
        (80, "digits", "expected 80 numbers each, .* received 84"),
        (2, [[1, 2], [3]], r"expected digits or numbers \(K, 2\)"),
        (2, [1, 2], r"expected digits or numbers \(K, 2\)"),
        (2, [[1, np.nan]], r"expected digits or numbers \(K, 2\)"),
    ],
)
def test_other_prototypes_are_refused(features, prototypes, message):
    with pytest.raises(ShapeError, match=f"RadialBasis: prototypes: {message}"):
        RadialBasis(features, prototypes)


# --- padding -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run."""
    folder = tmp_path_factory.mktemp("lenet1998")
    overrides = ["data.name=mnist-subset", "training.epochs=1", "schedule.warmup=0.2"]
    overrides += ["training.threads=1", "augmentation.shift=1", f"output.dir={folder}"]
    assert main(["train", CONFIG, *overrides]) == 0
    [path] = folder.iterdir()
    return path


def test_it_learns_and_leaves_all_pictures(run):
    assert load_metrics(run)["test_accuracy"] > 0.8
    names = {path.name for path in run.glob("*.png")}
    assert names >= {"augmentation.png", "confusion.png", "curves.png", "errors.png", "filters.png"}


def load_metrics(run):
    head, *_, last = (run / "metrics.csv").read_text().splitlines()
    return dict(zip(head.split(","), map(float, last.split(",")), strict=True))


def test_evaluate_gives_the_figures_of_the_training(run, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    metrics = load_metrics(run)
    assert report["accuracy"] == metrics["test_accuracy"]
    assert report["loss"] == pytest.approx(metrics["test_loss"], rel=1e-6)


def test_a_model_pads_what_it_is_given(run):
    model, data = load(run), load_dataset("mnist-subset")
    assert (model.input_shape, model.network_shape) == ((1, 28, 28), (1, 32, 32))
    images, labels = data.test_images[:300], data.test_labels[:300]
    prepared = model.transform(images[:1])
    assert prepared.shape == (1, 1, 32, 32)
    np.testing.assert_allclose(prepared[0, 0, :2], -0.1, atol=1e-6)
    np.testing.assert_allclose(prepared[0, 0, 2:-2, 2:-2].max(), 1.175, atol=1e-2)
    assert (model.predict(images) == labels).mean() > 0.75
    scores, probabilities = model.scores(images), model.predict_proba(images)
    assert (scores <= 0).all()
    np.testing.assert_array_equal(probabilities.argmax(axis=1), scores.argmax(axis=1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_onnx_takes_images_without_padding(run, tmp_path):
    model, images = load(run), load_dataset("mnist-subset").test_images[:5]
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.get_inputs()[0].shape == ["N", 1, 28, 28]
    [scores] = session.run(None, {"pixels": images.astype(np.float32) / 255})
    np.testing.assert_allclose(scores, model.scores(images), rtol=1e-4)


def test_predict_pads_a_users_image(run, tmp_path, capsys):
    from PIL import Image

    data = load_dataset("mnist-subset")
    Image.fromarray(data.test_images[0, 0]).save(tmp_path / "digit.png")
    capsys.readouterr()
    assert main(["predict", str(run), str(tmp_path / "digit.png"), "--raw", "--json"]) == 0
    [answer] = json.loads(capsys.readouterr().out)
    expected = load(run).predict_proba(data.test_images[:1]).max()
    assert answer["predictions"][0]["probability"] == pytest.approx(expected, rel=1e-6)
    assert main(["predict", str(run), str(tmp_path / "digit.png")]) == 0


def test_batches_pad_before_they_normalise():
    images = np.full((2, 1, 2, 3), 255, np.uint8)
    batches = Batches(images, np.array([0, 1]), 2, mean=0.5, std=0.25, padding=1)
    assert batches.sample_shape == (1, 4, 5)
    x, _ = next(batches.epoch()).arrays()
    expected = np.full((4, 5), -2.0)
    expected[1:-1, 1:-1] = 2
    np.testing.assert_allclose(x[1, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("padding", [-1, 1.5])
def test_other_paddings_are_refused(padding):
    with pytest.raises(MinicnnError, match=r"padding: expected (an int|a whole number)"):
        Model(lenet5_1998(), (1, 28, 28), padding=padding)
