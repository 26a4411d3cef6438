"""minicnn evaluate: figures equal to scikit-learn's definitions and to those of the training run."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_config import small_config

from minicnn import Dense, Flatten, MinicnnError, Model, Sequential, load, load_dataset
from minicnn.cli import main
from minicnn.metrics import confusion_matrix, precision_recall

CONFIG = small_config("training.epochs=1", "output={dir: runs, pictures: false}")


def train(folder: Path, *overrides: str) -> Path:
    (folder / "small.yaml").write_text(CONFIG)
    place = f"output.dir={folder / 'runs'}"
    assert main(["train", str(folder / "small.yaml"), place, *overrides]) == 0
    return max((folder / "runs").iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("evaluate"))


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    capsys.readouterr()
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def last_row(run: Path) -> dict[str, str]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))[-1]


def save_arrays(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """own.npz, the same for training and testing."""
    np.savez(folder / "own.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)


def test_confusion_matrix_counts_true_rows_and_predicted_columns() -> None:
    confusion = confusion_matrix([0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 0, 2], 4)
    expected = [[1, 1, 0, 0], [0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(confusion, expected)


def test_precision_and_recall_by_hand() -> None:
    figures = precision_recall(np.array([[1, 1, 0, 0], [0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]]))
    np.testing.assert_allclose(figures.precision, [1 / 3, 1 / 2, 1, 0])
    np.testing.assert_allclose(figures.recall, [1 / 2, 1, 1 / 3, 0])
    np.testing.assert_allclose(figures.f1, [2 / 5, 2 / 3, 1 / 2, 0])  # 0 / 0 is 0
    np.testing.assert_array_equal(figures.support, [2, 1, 3, 0])


@pytest.mark.parametrize(("labels", "predictions"), [([0, 3], [0, 1]), ([0, 1], [0, -1]), ([0], [0, 1]), ([0.0], [0])])
def test_confusion_of_other_than_classes_is_an_error(labels: list, predictions: list) -> None:
    with pytest.raises(MinicnnError, match="expected"):
        confusion_matrix(labels, predictions, 3)


def test_figures_are_those_of_the_training_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, row = evaluated(capsys, run), last_row(run)
    assert report["accuracy"] == float(row[f"{report['held_out']}_accuracy"])
    assert report["loss"] == float(row[f"{report['held_out']}_loss"])
    assert (report["data_set"], report["held_out"], report["images"]) == ("mnist-subset", "test", 2000)


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss.name=mean-squared-error", "data.mean=0.2", "optimizer.lr=0.005"],
        ["loss.name=half-squared-error", "optimizer.lr=0.001"],
        ["loss.label_smoothing=0.1", "data.validation=0.1", "training.seed=3"],
    ],
    ids=["mean squared error", "half squared error", "label smoothing, validation images"],
)
def test_loss_normalisation_and_validation_images_are_the_runs(
    overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path, *overrides)
    report, row = evaluated(capsys, run), last_row(run)
    assert report["accuracy"] == float(row[f"{report['held_out']}_accuracy"])
    assert report["loss"] == float(row[f"{report['held_out']}_loss"])
    assert report["held_out"] == ("validation" if "seed" in overrides[-1] else "test")
    assert evaluated(capsys, run / "checkpoints" / "best.safetensors") == report  # of one epoch


def test_figures_of_classes_follow_from_the_confusion(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluated(capsys, run)
    confusion = np.array(report["confusion"])
    assert confusion.sum() == 2000
    assert confusion.trace() / 2000 == report["accuracy"]
    for k, figures in enumerate(report["classes"]):
        assert figures["class"] == str(k)
        assert figures["support"] == confusion[k].sum()
        assert figures["precision"] == confusion[k, k] / confusion[:, k].sum()
        assert figures["recall"] == confusion[k, k] / confusion[k].sum()


def test_tables(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluated(capsys, run)
    assert main(["evaluate", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        f"accuracy {report['accuracy']:.2%}, loss {report['loss']:.4f} (softmax-cross-entropy) "
        "on the 2,000 test images of mnist-subset"
    )
    row = next(line for line in lines if line.startswith("7 "))
    seven = report["classes"][7]
    shares = [f"{seven[key]:.2%}" for key in ("precision", "recall", "f1")]
    assert row.split() == ["7", *shares, "200"]
    matrix = [line.split()[1:] for line in lines[-10:]]
    assert [[0 if n == "." else int(n) for n in row] for row in matrix] == report["confusion"]
    assert len({len(line) for line in lines[-10:]}) == 1


def test_many_classes_show_the_most_frequent_confusions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    images = rng.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    save_arrays(tmp_path, images, np.arange(60) % 30)
    network = Sequential([Flatten(), Dense(64, 30)])
    network.parameters()[0].value[...] = 0
    network.parameters()[1].value[...] = np.arange(30) == 5
    Model(network, (1, 8, 8)).save(tmp_path / "model.safetensors")
    command = ["evaluate", str(tmp_path / "model.safetensors"), "--data", "arrays"]
    assert main([*command, "--path", str(tmp_path / "own.npz")]) == 0
    out = capsys.readouterr().out
    assert "accuracy 3.33%" in out
    assert "     2  0 taken for 5\n" in out
    assert "5 taken for 5" not in out


def test_another_data_set_and_a_lone_model_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluated(capsys, run)
    lone = tmp_path / "lone.safetensors"
    lone.write_bytes((run / "model.safetensors").read_bytes())
    assert evaluated(capsys, lone) == report
    data = load_dataset("mnist-subset")
    save_arrays(tmp_path, data.test_images, data.test_labels)
    own = evaluated(capsys, run, "--data", "arrays", "--path", tmp_path / "own.npz")
    assert own["data_set"] == "arrays"
    assert own["confusion"] == report["confusion"]
    model = load(run)
    model.data_set = "arrays"
    model.save(lone)
    assert evaluated(capsys, lone, "--path", tmp_path / "own.npz") == own


def test_the_path_of_the_run_gives_the_images_that_it_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_dataset("mnist-subset")
    np.savez(tmp_path / "own.npz", images=data.train_images[:400], labels=data.train_labels[:400])
    monkeypatch.chdir(tmp_path)
    run = train(tmp_path, "data={name: arrays, path: own.npz, validation: 0.2}")
    own = evaluated(capsys, run)
    assert own["held_out"] == "validation" and 70 < own["images"] < 90
    for options in (["--path", "own.npz"], ["--data", "arrays", "--path", tmp_path / "own.npz"]):
        assert evaluated(capsys, run, *options) == own


@pytest.mark.parametrize(
    ("arguments", "parts", "code"),
    [
        (["--data", "mnits"], ["mnits", "did you mean mnist"], 1),
        (["--data", "folder"], ["--path", "folder"], 2),
        (["--data", "mnist-subset", "--path", "x"], ["--path", "mnist-subset"], 2),
        (["--data", "arrays", "--path", "no.npz"], ["no.npz"], 1),
        (["--data", "arrays", "--path", "no.npz", "--root", "x"], ["--root", "arrays"], 2),
    ],
)
def test_data_that_cannot_be_had_is_one_line(
    run: Path, arguments: list[str], parts: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(run), *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    for part in parts:
        assert part in err


def test_data_that_do_not_fit_the_model(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    def answer(shape: tuple[int, ...], classes: int) -> str:
        images, labels = rng.integers(0, 256, shape, dtype=np.uint8), np.arange(shape[0]) % classes
        save_arrays(tmp_path, images, labels)
        capsys.readouterr()
        place = str(tmp_path / "own.npz")
        assert main(["evaluate", str(run), "--data", "arrays", "--path", place]) == 1
        return capsys.readouterr().err

    assert "expected images of (1, 28, 28)" in answer((20, 1, 14, 14), 10)
    assert "expected 10 classes like the model's, received 7" in answer((21, 1, 28, 28), 7)


def test_classes_of_other_names_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = Model(Sequential([Flatten(), Dense(784, 10)]), (1, 28, 28), classes=list("abcdefghij"))
    model.save(tmp_path / "letters.safetensors")
    command = ["evaluate", str(tmp_path / "letters.safetensors")]
    assert main([*command, "--data", "mnist-subset"]) == 1
    assert "expected the model's classes a, b, c" in capsys.readouterr().err
    assert main(command) == 2
    assert "--data: expected a data set" in capsys.readouterr().err


def test_settings_that_have_been_spoiled(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "config.yaml").write_text(CONFIG.replace("epochs", "epoch"))
    assert main(["evaluate", str(copy)]) == 2
    assert f"{copy / 'config.yaml'}: training.epoch: unknown key" in capsys.readouterr().err


def test_a_run_without_a_model_names_its_best_weights(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    assert main(["evaluate", str(copy)]) == 1
    assert str(copy / "checkpoints" / "best.safetensors") in capsys.readouterr().err


def test_the_folder_of_several_runs_names_them(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b", "a"):
        shutil.copytree(run, tmp_path / name)
    for command in (["evaluate", str(tmp_path)], ["page", str(tmp_path)], ["train", "--resume", str(tmp_path)]):
        capsys.readouterr()
        assert main(command) == 1
        assert f"; it has the runs a, b: name one of them, {tmp_path / 'a'} for example" in capsys.readouterr().err


def test_no_such_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (tmp_path / "nothing", tmp_path):
        assert main(["evaluate", str(place)]) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1 and str(place) in err
