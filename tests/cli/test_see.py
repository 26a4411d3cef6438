"""The commands that show a network: what they print, write and refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minicnn import Conv2d, Dense, Flatten, LocallyConnected2d, MaxPool, Model, ReLU, Sequential, load, load_dataset
from minicnn.cli import main
from minicnn.config.experiment import Experiment
from minicnn.config.settings import load_settings
from minicnn.inspect.frequency import passing
from minicnn.zoo import lenet5_1998

ROOT = Path(__file__).parents[2]
LENET = str(ROOT / "configs" / "lenet.yaml")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with a model in it, as a training leaves it."""
    layers = [Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool(2), Conv2d(6, 16, 5), Flatten()]
    network = Sequential([*layers, Dense(1600, 10)]).initialize("kaiming", rng=0)
    folder = tmp_path / "run"
    folder.mkdir()
    Model(network, (1, 28, 28), classes=list("0123456789")).save(folder / "model.safetensors")
    return folder


def test_summary_of_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", LENET]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "429,342" in out and "5   MaxPool(2)" in out


def test_summary_as_json_with_settings_behind_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["network.layers.7.Dense.out_features=100", "data.name=fashion_mnist"]
    assert main(["summary", LENET, "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["input_shape"] == [1, 28, 28]
    assert found["layers"][7]["output_shape"] == [100]
    assert found["layers"][3]["receptive_field"] == [14, 14]
    assert found["total"]["parameters"] == sum(layer["parameters"] for layer in found["layers"])


def test_summary_of_a_trained_network(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(run)]) == 0
    of_run = capsys.readouterr().out
    assert main(["summary", str(run / "model.safetensors")]) == 0
    assert capsys.readouterr().out == of_run
    assert "Dense(1600, 10)" in of_run


def test_summary_of_a_network_that_takes_padded_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(ROOT / "configs" / "lenet1998.yaml")]) == 0
    configured = capsys.readouterr().out
    assert "1x32x32" in configured and " 60,000 " in configured and " 340,908 " in configured
    Model(lenet5_1998(), (1, 28, 28), padding=2).save(tmp_path / "model.safetensors")
    assert main(["summary", str(tmp_path)]) == 0
    assert capsys.readouterr().out == configured


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["summary"], 2, ["expected CONFIG or RUN"]),
        (["summary", "none.yaml"], 2, ["none.yaml"]),
        (["summary", "none.safetensors"], 1, ["none.safetensors", "there is none"]),
        (["summary", "."], 1, ["expected a run's folder"]),
        (["summary", ".", "data.name=mnist"], 2, ["expected no settings", "data.name=mnist"]),
        (["summary", LENET, "network.depth=3"], 2, ["network.depth", "unknown"]),
        (["summary", LENET, "--jsn"], 2, ["--jsn"]),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else str(value),
)
def test_wrong_usage_is_one_line(
    words: list[str],
    code: int,
    parts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    for part in parts:
        assert part in err
    assert list(tmp_path.iterdir()) == []


def test_filters_of_every_convolution(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filters", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    files = [run / "filters" / "00-Conv2d.png", run / "filters" / "03-Conv2d.png"]
    assert lines[-2:] == [str(file) for file in files]
    assert sorted((run / "filters").iterdir()) == files
    assert lines[0] == "layer 0: Conv2d(1, 6, 5, padding=2)"
    rows = [line.split() for line in lines if line.strip()[0].isdigit() and "%" in line]
    assert [int(row[0]) for row in rows] == [*range(6), *range(16)]
    kernel = load(run).network[0].parameters()[0].value[2]
    expected = passing(kernel)
    assert rows[2] == ["2", f"{expected.low:.1%}", f"{expected.mean_gain:.3f}", expected.kind]


def test_maps_of_every_layer(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: dict[str, tuple[Any, ...]] = {}
    monkeypatch.setattr("minicnn.inspect.plots.maps.plot_maps", lambda path, *rest: drawn.update({path.name: rest}))
    overview: list[Any] = []
    monkeypatch.setattr("minicnn.inspect.plots.maps.plot_overview", lambda *given: overview.extend(given) or [given[0]])
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    assert main(["maps", str(run), str(tmp_path / "noise.png")]) == 0
    folder = run / "maps" / "noise"
    assert capsys.readouterr().out.splitlines() == [str(folder / name) for name in [*drawn, "overview.png"]]
    names = ["input", "00-Conv2d", "01-ReLU", "02-MaxPool", "03-Conv2d", "05-Dense"]
    assert list(drawn) == [f"{name}.png" for name in names]
    model = load(run)
    np.testing.assert_array_equal(drawn["input.png"][0].y, pixels[None] / 255)
    np.testing.assert_allclose(drawn["05-Dense.png"][0].y, model.scores(pixels)[0], rtol=1e-5)
    assert drawn["01-ReLU.png"][0].y.shape == (6, 28, 28) and drawn["01-ReLU.png"][0].y.min() == 0
    assert drawn["02-MaxPool.png"][1] == "Layer 2: MaxPool(2) gives 6x14x14"
    assert drawn["05-Dense.png"][0].names == tuple("0123456789")
    assert drawn["05-Dense.png"][2] == f"predicted as {model.predict(pixels)[0]}"
    assert overview[1] == [panel for panel, *_ in drawn.values()]
    assert overview[2] == f"noise.png, predicted as {model.predict(pixels)[0]}"


def test_pictures_go_where_they_are_wanted(run: Path, tmp_path: Path) -> None:
    Image.new("L", (40, 60), 128).save(tmp_path / "grey.png")
    out = tmp_path / "some" / "where"
    assert main(["maps", str(run), str(tmp_path / "grey.png"), "--raw", "--out", str(out)]) == 0
    assert main(["filters", str(run / "model.safetensors"), "--out", str(out)]) == 0
    assert len(list(out.iterdir())) == 7  # those of the two convolutions have replaced their maps


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["filters", "none"], "none: expected a model file or a run's folder"),
        (["filters", "dense.safetensors"], "expected a network with a Conv2d or LocallyConnected2d"),
        (["filters", "run", "--out", "dense.safetensors"], "--out: expected a folder"),
        (["maps", "run", "none.png"], "none.png"),
        (["maps", "run", "dense.safetensors"], "dense.safetensors"),
        (["maps", "dense.safetensors", "none.png"], "expected a model of images"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value[:12],
)
def test_pictures_that_cannot_be_had(
    words: list[str], part: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    Model(Dense(7, 5), (7,)).save("dense.safetensors")
    before = sorted(run.parent.rglob("*"))
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and part in err
    assert sorted(run.parent.rglob("*")) == before


def test_filters_that_do_not_exist_and_filters_of_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[tuple[Any, ...]] = []
    monkeypatch.setattr("minicnn.inspect.plots.filters.plot_responses", lambda *rest: drawn.append(rest))
    connected = Conv2d(6, 16, 5, connections="lenet5")
    local = LocallyConnected2d(16, 3, 10, 3)
    local.weight.value[:, :, 1] *= 5
    Model(Sequential([connected, local]), (6, 14, 14)).save(tmp_path / "m.safetensors")
    assert main(["filters", str(tmp_path / "m.safetensors")]) == 0
    [(_, first, *_), (_, second, title, _, labels)] = drawn
    assert np.isnan(first).all(axis=(2, 3)).sum() == 36 and np.isfinite(first[0, :3]).all()
    assert "nan" not in capsys.readouterr().out
    assert second.shape == (16, 16, 3, 3) and labels[5] == "2,2" and "map 1 at" in title
    np.testing.assert_array_equal(second[5], local.weight.value[2, 2, 1])


def test_maps_of_a_network_that_gives_maps(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (28, 28), 90).save(tmp_path / "grey.png")
    convolutions = Sequential(load(run).network[:4])
    Model(convolutions, (1, 28, 28)).save(tmp_path / "m.safetensors")
    assert main(["maps", str(tmp_path / "m.safetensors"), str(tmp_path / "grey.png")]) == 0
    assert (tmp_path / "maps" / "grey" / "03-Conv2d.png").exists()
    assert main(["maps", str(tmp_path / "m.safetensors"), "--image", "0", "--data", "mnist-subset"]) == 1
    assert "a score for each class, received one that gives maps, (16, 10, 10)" in capsys.readouterr().err


def test_images_by_number(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Test images of a run, training images of a configuration, whose network has its start weights."""
    monkeypatch.chdir(run.parent)
    drawn: dict[str, tuple[Any, ...]] = {}
    monkeypatch.setattr("minicnn.inspect.plots.maps.plot_maps", lambda path, *rest: drawn.update({str(path): rest}))
    monkeypatch.setattr("minicnn.inspect.plots.maps.plot_overview", lambda path, *rest: [path])
    data = load_dataset("mnist-subset")
    assert main(["maps", "run", "--image", "7", "--data", "mnist-subset"]) == 0
    panel, title, _ = drawn["run/maps/test-7/input.png"]
    np.testing.assert_array_equal(panel.y, data.test_images[7] / 255)
    assert title == "Input: test image 7 of mnist-subset"
    assert main(["maps", LENET, "data.name=mnist-subset", "training.seed=3", "--image", "7"]) == 0
    panel, *_ = drawn["lenet/maps/train-7/input.png"]
    np.testing.assert_array_equal(panel.y, data.train_images[7] / 255)
    network = Experiment(load_settings(LENET, ["data.name=mnist-subset", "training.seed=3"])).network
    assert main(["filters", LENET, "training.seed=3"]) == 0
    assert Path("lenet/filters/00-Conv2d.png").is_file()
    model = Model(network, (1, 28, 28), data.mean, data.std)
    np.testing.assert_allclose(
        drawn["lenet/maps/train-7/11-Dense.png"][0].y, model.scores(data.train_images[7])[0], rtol=1e-4
    )


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["maps", "run", "--image", "2000", "--data", "mnist-subset"], "test image of mnist-subset, 0 to 1999"),
        (["maps", "run", "--image", "-1", "--data", "mnist-subset"], "test image of mnist-subset, 0 to 1999"),
        (["maps", "run", "training.seed=3", "photo.png"], "run: expected no settings"),
        (["maps", LENET, "--root", "data", "--image", "1"], "--root: expected none with"),
        (["maps"], "expected RUN or CONFIG"),
        (["filters"], "expected RUN or CONFIG"),
        (["trace", "run", "x=1"], "run: expected no settings"),
        (["maps", "run", "--image", "1", "--raw"], "--raw: expected an image file, received the number 1"),
        (["maps", "run", "a.png", "--root", "data"], "--root: expected none with an image file, received a.png"),
        (["trace", LENET, "--data", "mnist"], "--data: expected none with"),
    ],
    ids=lambda value: " ".join(value)[-30:] if isinstance(value, list) else "",
)
def test_what_cannot_be_looked_at(
    words: list[str], part: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and part in err
