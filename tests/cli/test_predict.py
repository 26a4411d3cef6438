"""minicnn predict: images of all kinds, the answers, what the network was shown, errors."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minicnn import Dense, Flatten, Model, Sequential, load, load_dataset, to_mnist
from minicnn.cli import main

DATA = load_dataset("mnist-subset")


def make_model(folder: Path, data_set: str | None, shape: tuple[int, int, int] = (1, 28, 28)) -> Path:
    """A run's folder whose model compares an image with the mean of each digit."""
    if shape == (1, 28, 28):
        means = [DATA.train_images[DATA.train_labels == k].mean(axis=0) for k in range(10)]
        weight = np.stack(means).reshape(10, -1).astype(np.float32) / 255
    else:
        weight = np.ones((10, int(np.prod(shape))), np.float32) / 1000
    network = Sequential([Flatten(), Dense(weight.shape[1], 10)])
    network.parameters()[0].value[...] = weight
    network.parameters()[1].value[...] = -(weight**2).sum(axis=1) / 2
    folder.mkdir()
    Model(network, shape, classes=tuple("0123456789"), data_set=data_set).save(folder / "model.safetensors")
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a run `run` and scans of a 0, a 1 and a 6."""
    monkeypatch.chdir(tmp_path)
    make_model(tmp_path / "run", "mnist-subset")
    for label in (0, 1, 6):
        digit = DATA.test_images[np.flatnonzero(DATA.test_labels == label)[0], 0]
        scan = Image.fromarray(255 - np.pad(digit, (2, 20)))
        scan.resize((500, 500), Image.Resampling.BICUBIC).save(f"{label}.png")
    return tmp_path


def answers(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[dict]:
    assert main(["predict", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_three_classes_of_each_image(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answers(capsys, "run", "0.png", "1.png", "6.png")
    assert [answer["image"] for answer in found] == ["0.png", "1.png", "6.png"]
    for answer, label in zip(found, "016", strict=True):
        model, seen = load("run"), to_mnist(answer["image"])
        expected = np.sort(model.predict_proba(seen)[0])[::-1][:3]
        assert [g["probability"] for g in answer["predictions"]] == expected.tolist()
        assert answer["predictions"][0]["class"] == label
        for guess in answer["predictions"]:
            share = model.predict_proba(seen)[0, int(guess["class"])]
            assert guess["probability"] == share


def shown(share: float) -> str:
    if 0.00005 <= share <= 0.99995:
        return f"{share:.2%}"
    return ">99.99%" if share > 0.5 else "<0.01%"


def test_table(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answers(capsys, "run", "0.png", "6.png")
    assert main(["predict", "run", "0.png", "6.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, answer in zip(lines, found, strict=True):
        words = [w for g in answer["predictions"] for w in (g["class"], shown(g["probability"]))]
        assert line.split() == [answer["image"], *words]


def test_show_writes_what_the_network_saw(place: Path, capsys: pytest.CaptureFixture) -> None:
    (place / "other").mkdir()
    (place / "6.png").rename("other/0.png")
    [answer] = answers(capsys, "run", "0.png", "--show", "seen.png")
    assert answer["shown"] == "seen.png"
    np.testing.assert_array_equal(np.asarray(Image.open("seen.png")), to_mnist("0.png"))
    found = answers(capsys, "run", "0.png", "other/0.png", "--show", "seen/all")
    assert [Path(a["shown"]).name for a in found] == ["0-28x28.png", "0-28x28-2.png"]
    for answer in found:
        seen = np.asarray(Image.open(answer["shown"]))
        np.testing.assert_array_equal(seen, to_mnist(answer["image"]))


def test_patterns_and_names_as_windows_has_them(place: Path, capsys: pytest.CaptureFixture) -> None:
    """Its shells leave *.png as it is, and a file is one whether its name is in small letters or not."""
    (place / "other").mkdir()
    (place / "0.png").rename("other/a.png")
    (place / "6.png").rename("other/[b].png")
    (place / "A.png").write_bytes(Path("other/a.png").read_bytes())
    found = answers(capsys, "run", "other/*.png", "A.png", "other/[b].png", "--show", "seen")
    b, a = (os.path.join("other", name) for name in ("[b].png", "a.png"))
    assert [os.path.normpath(a["image"]) for a in found] == [b, a, "A.png", b]
    names = ["[b]-28x28.png", "a-28x28.png", "A-28x28-2.png", "[b]-28x28-2.png"]
    assert [Path(a["shown"]).name for a in found] == names


@pytest.mark.parametrize("data_set", ["fashion_mnist", "folder", None, "mnist"])
def test_raw_only_resizes(data_set: str | None, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_model(place / "other", data_set)
    raw = ["--raw"] if data_set == "mnist" else []
    answers(capsys, "other", "0.png", "--show", "seen.png", *raw)
    expected = Image.open("0.png").resize((28, 28), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(np.asarray(Image.open("seen.png")), np.asarray(expected))
    Image.fromarray(DATA.test_images[5, 0]).convert("RGB").save("small.png")
    answers(capsys, "other", "small.png", "--show", "seen.png", *raw)
    np.testing.assert_array_equal(np.asarray(Image.open("seen.png")), DATA.test_images[5, 0])


def test_colour_where_the_network_takes_it(
    place: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    make_model(place / "colour", "cifar10", (3, 32, 24))
    pixels = rng.integers(0, 256, (32, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("image.png")
    answers(capsys, "colour", "image.png", "--show", "seen.png")
    np.testing.assert_array_equal(np.asarray(Image.open("seen.png")), pixels)
    Image.fromarray(pixels[..., 0]).save("image.png")
    answers(capsys, "colour", "image.png", "--show", "seen.png")
    seen = np.asarray(Image.open("seen.png"))
    np.testing.assert_array_equal(seen, np.repeat(pixels[..., :1], 3, axis=2))


def test_good_images_are_answered_beside_bad_ones(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (50, 50), 255).save("blank.png")
    Path("text.png").write_text("no image")
    Path("folder").mkdir()
    Path("cut.png").write_bytes(Path("0.png").read_bytes()[:3000])
    frames = [Image.new("L", (9, 9), k) for k in (0, 255)]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    Image.new("1", (2000, 2000)).save("huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    reasons = {
        "blank.png": "without ink",
        "text.png": "of another kind",
        "folder": "received a folder",
        "nothing.png": "no such file",
        "cut.png": "can be read",
        "moving.gif": "received 2 frames",
        "huge.png": "at most 1,000,000 pixels",
    }
    assert main(["predict", "run", "0.png", *reasons, "6.png"]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()] == [["0.png", "0"], ["6.png", "6"]]
    for line, (name, reason) in zip(err.splitlines(), reasons.items(), strict=True):
        assert line.startswith(f"error: {name}: ")
        assert reason in line
    found = answers(capsys, "run", "0.png", "blank.png", code=1)
    assert "predictions" in found[0]
    assert "without ink" in found[1]["error"]


@pytest.mark.parametrize(
    ("arguments", "part", "code"),
    [
        (["nothing", "0.png"], "nothing", 1),
        ([".", "0.png"], "model.safetensors", 1),
        (["run"], "IMAGE", 2),
        (["run", "0.png", "1.png", "--show", "one.png"], "expected a folder for 2 images", 2),
        (["run", "0.png", "--show", "0.png"], "another file than the image", 2),
        (["run", "0.png", "--show", "run/model.safetensors"], "expected a folder", 2),
        (["run", "0.png", "--show", "0.png/seen"], "can be written", 1),
        (["run", "0.png", "0-28x28.png", "--show", "."], "0-28x28.png is one of them", 2),
        (["run", "0.png", "--show", 300 * "a"], "too long", 1),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], part: str, code: int, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert main(["predict", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert part in err
    assert sorted(place.rglob("*")) == before
