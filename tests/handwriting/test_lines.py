"""Reading whole lines: the windows, the search, pictures of lines, the command and the example."""

import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from minicnn import Conv2d, Dense, Flatten, MaxPool, Model, ReLU, Sequential, load, load_dataset
from minicnn.cli import main
from minicnn.errors import DataError, MinicnnError, ShapeError
from minicnn.handwriting.line_image import HEIGHT, to_line
from minicnn.model.lines import REACH, LineReader, _cheapest_path, read_line

DATA = load_dataset("mnist-subset")
PLACE = Path(__file__).parents[2] / "examples" / "read_line.py"
SPEC = importlib.util.spec_from_file_location("read_line_example", PLACE)
example = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(example)


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, float], Path]:
    """What the example says of a model that it trains, and that model's file."""
    file = tmp_path_factory.mktemp("run") / "model.safetensors"
    arguments = ["--data", "mnist-subset", "--epochs", "2", "--lines", "30", "--save", str(file)]
    return example.main(arguments), file


@pytest.fixture
def model(shares: tuple[dict[int, float], Path]) -> Model:
    return load(shares[1])


def written(length: int, seed: int) -> tuple[np.ndarray, str, list[tuple[int, int]]]:
    """A line of test digits, what it says, and from where to where the ink of each digit goes."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(DATA.test_images), length)
    images, gaps = DATA.test_images[chosen, 0], rng.integers(3, 13, length - 1)
    widths = [int(image.any(axis=0).sum()) for image in images]
    ends = np.cumsum(widths) + np.concatenate([[0], np.cumsum(gaps)]) + example.MARGIN
    boxes = [(int(end) - width, int(end)) for end, width in zip(ends, widths, strict=True)]
    return example.make_line(images, gaps), "".join(map(str, DATA.test_labels[chosen])), boxes


def text(found: list) -> str:
    return "".join(one.label for one in found)


def clear_line(model: Model, length: int) -> tuple[np.ndarray, str, list[tuple[int, int]]]:
    """Of several lines the one that the model reads with the least doubt."""
    reader, lines = LineReader(model), [written(length, seed) for seed in range(20)]
    doubts = []
    for line, wanted, _ in lines:
        found = reader.read(line)
        right = text(found) == wanted
        doubts.append(1 - min(one.confidence for one in found) if right else 1.0)
    return lines[int(np.argmin(doubts))]


def test_the_example_reads_most_lines_of_the_subset(shares) -> None:
    assert list(shares[0]) == [3, 4, 5, 6, 7, 8]
    assert shares[0][5] >= 0.75  # 0.96 after a longer training on all of MNIST
    assert np.mean(list(shares[0].values())) >= 0.75


def test_the_example_tells_lines_and_their_errors() -> None:
    pairs = [("123", "123", 0), ("12", "123", 1), ("1293", "123", 1), ("321", "123", 2), ("", "7", 1)]
    for read, right, errors in pairs:
        assert example.distance(read, right) == errors
    line, _, boxes = written(4, 0)
    for (_, end), (start, _) in itertools.pairwise(boxes):
        assert not line[:, end:start].any()
        assert line[:, end - 1].any() and line[:, start].any()
    digit = DATA.train_images[:9, 0]
    seen = example.flanked(digit, np.random.default_rng(0), (2, 3))
    for before, after in zip(digit, seen, strict=True):
        ink = before.any(axis=0)
        np.testing.assert_array_equal(after[:, ink], before[:, ink])
        assert after[:, ~ink].any()


NETWORKS = {
    "strides 2 and 1": ([MaxPool(2, (2, 1)), Flatten(), Dense(9, 4)], (6, 4)),
    "stride 2": ([Conv2d(1, 6, 5), ReLU(), MaxPool(2), Flatten(), Dense(150, 4)], (14, 14)),
    "stride 1": ([Flatten(), Dense(9, 4)], (3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("height", [9, 14, 25])
def test_there_is_a_window_around_every_pixel_near_the_middle_row(name, height, rng) -> None:
    layers, (rows, columns) = NETWORKS[name]
    model = Model(Sequential(layers), (1, rows, columns), 0.2, 0.5)
    line = rng.integers(0, 256, (height, 33), dtype=np.uint8)
    padded = np.pad(line, 30)
    expected = []
    for y in range(height // 2 - REACH, height // 2 + REACH + 1):
        top = 30 + y - rows // 2
        for x in range(33):
            left = 30 + x - columns // 2
            expected.append(padded[top : top + rows, left : left + columns])
    seen = LineReader(model).windows(line)
    assert seen.shape == (2 * REACH + 1, 33, 4)
    wanted = model.predict_proba(np.stack(expected)).reshape(seen.shape)
    np.testing.assert_allclose(seen, wanted, atol=1e-5)


def test_the_network_sees_few_widths(model, monkeypatch) -> None:
    reader, widths = LineReader(model), set()
    real = reader.model.scores
    monkeypatch.setattr(reader.model, "scores", lambda x: widths.add(x.shape[1:]) or real(x))
    for width in (1, 20, 36, 37, 100):
        assert reader.windows(np.zeros((28, width), np.uint8)).shape == (9, width, 10)
    assert widths == {(36, 64), (36, 128)}


def test_the_search_finds_the_cheapest_path(rng) -> None:
    for _ in range(20):
        costs, skip = rng.exponential(2, (8, 3)), rng.exponential(1, 7)
        costs[np.arange(8)[:, None] < np.arange(1, 4)] = np.inf
        best = {0: (0.0, [])}  # by trying all
        for end in range(1, 8):
            ways = [(best[end - 1][0] + skip[end - 1], best[end - 1][1])]
            for n in range(min(3, end)):
                before = best[end - n - 1]
                ways.append((before[0] + costs[end, n], [*before[1], (end - n - 1, end)]))
            best[end] = min(ways)
        assert _cheapest_path(costs, skip) == best[7][1]


def test_digits_are_where_they_were_put(model) -> None:
    reader, right = LineReader(model), 0
    for seed in range(20):
        line, wanted, boxes = written(5, seed)
        found = reader.read(line)
        right += text(found) == wanted
        if len(found) == 5:
            for one, (left, end) in zip(found, boxes, strict=True):
                assert abs(one.left - left) <= 2 and abs(one.right - end) <= 2
                ink = line[:, left:end].sum(axis=0)
                centre = left + float((ink * (np.arange(len(ink)) + 0.5)).sum() / ink.sum())
                assert abs(one.x - centre) < 1
                assert 0.2 < one.confidence <= 1
    assert right >= 15


def test_paper_specks_and_blank_lines(model) -> None:
    reader, (line, wanted, _) = LineReader(model), clear_line(model, 4)
    assert text(reader.read(line)) == wanted
    assert text(reader.read(np.pad(line, ((5, 7), (90, 60))))) == wanted
    assert reader.read(np.zeros((28, 100), np.uint8)) == []
    speck = np.pad(line, ((0, 0), (0, 30)))
    speck[12:14, -15:-13] = 255
    assert text(reader.read(speck)) == wanted
    for wrong in (line[0], line.astype(float), line[:0], [1, 2]):
        with pytest.raises(MinicnnError, match=r"line: expected an image of uint8 \(h, w\)"):
            reader.read(wrong)


def picture(line: np.ndarray, zoom: int = 1, dark: bool = True) -> Image.Image:
    ink = Image.fromarray(255 - line if dark else line)
    return ink.resize((zoom * ink.width, zoom * ink.height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("zoom", [1, 3, 8])
def test_pictures_of_a_line(model, zoom, dark) -> None:
    line, wanted, boxes = clear_line(model, 6)
    margins = ((10, 40), (7, 90))
    found = read_line(model, picture(np.pad(line, margins), zoom, dark))
    assert text(found) == wanted
    for one, (left, right) in zip(found, boxes, strict=True):
        assert abs(one.left / zoom - left - 7) <= 2
        assert abs(one.right / zoom - right - 7) <= 2
        assert abs(one.y / zoom - 10 - 14) < 3


def test_places_in_an_image_that_is_too_large_to_work_on(model) -> None:
    line, wanted, boxes = clear_line(model, 5)
    zoom = -(-5000 // line.shape[1])
    found = read_line(model, picture(line, zoom))
    assert text(found) == wanted
    for one, (left, right) in zip(found, boxes, strict=True):
        assert abs(one.x / zoom - (left + right) / 2) < 4


def test_a_plain_line_stays_as_it_is() -> None:
    line, _, _ = written(5, 1)
    seen = to_line(picture(line))
    assert seen.scale == 1
    assert seen.pixels.shape[0] == HEIGHT
    left, top = round(seen.left), round(seen.top)
    same = line[max(0, top) : top + HEIGHT, left : left + seen.pixels.shape[1]]
    part = seen.pixels[max(0, -top) :][: len(same)]
    assert np.corrcoef(part.ravel(), same.ravel())[0, 1] > 0.98


def photo(line: np.ndarray, angle: float, rng: np.random.Generator) -> np.ndarray:
    """Blue ink on cream paper, darker on one side, turned, blurred, with noise."""
    ink = picture(np.pad(line, 20), 5, dark=False).rotate(angle, Image.Resampling.BICUBIC)
    share = np.asarray(ink)[..., None] / 255
    pixels = (235, 230, 215) * (1 - share) + np.array((20, 40, 140)) * share
    pixels *= np.linspace(1, 0.6, ink.width)[:, None]
    image = Image.fromarray(pixels.astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    return (np.asarray(image) + rng.normal(0, 8, pixels.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("angle", [0, 5, -5])
def test_photos_of_lines_that_rise_or_fall(model, angle, rng) -> None:
    right = 0
    for seed in range(5):
        line, wanted, boxes = written(6, seed)
        found = read_line(model, photo(line, angle, rng))
        right += text(found) == wanted
        if len(found) == 6:  # the outer digits, turned with the paper
            middle = np.array([line.shape[1] / 2 + 20, 14 + 20]) * 5
            for one, (left, end) in ((found[0], boxes[0]), (found[-1], boxes[-1])):
                across = ((left + end) / 2 + 20) * 5 - middle[0]
                turn = np.radians(angle)
                assert abs(one.x - middle[0] - across * np.cos(turn)) < 20
                assert abs(one.y - middle[1] + across * np.sin(turn)) < 25
    assert right >= 3


def test_what_is_no_line(model) -> None:
    for image in (np.full((50, 200), 255, np.uint8), np.zeros((50, 200), np.uint8)):
        with pytest.raises(DataError, match="without ink"):
            read_line(model, image)
    small = picture(written(5, 0)[0]).resize((60, 8))
    with pytest.raises(DataError, match="at least 7 pixels high"):
        read_line(model, small)


def test_a_rule_below_the_digits_is_not_read(model) -> None:
    line, wanted, _ = clear_line(model, 6)
    ruled = np.pad(line, ((20, 20), (20, 20)))
    ruled[50:52, 10:-10] = 200
    seen = to_line(picture(ruled, 3))
    assert text(read_line(model, picture(ruled, 3))) == wanted
    plain = to_line(picture(np.pad(line, ((20, 20), (20, 20))), 3))
    assert abs(int(seen.pixels.sum()) / int(plain.pixels.sum()) - 1) < 0.05


def test_of_two_lines_the_one_with_more_ink(model) -> None:
    line, wanted, _ = clear_line(model, 6)
    other, _, _ = written(3, 5)
    both = np.zeros((100, line.shape[1]), np.uint8)
    both[5:33] = line
    both[60:88, : other.shape[1]] = other
    assert text(read_line(model, picture(both, 2))) == wanted


def simple_model(shape: tuple[int, ...], data_set: str | None = None) -> Model:
    layers = [Flatten(), Dense(int(np.prod(shape)), 10)]
    return Model(Sequential(layers), shape, data_set=data_set)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: simple_model((1, 28, 28), "fashion_mnist"), "characters.* received one of fashion"),
        (lambda: simple_model((3, 32, 32), "folder"), r"grey images .* received one for \(3, 32, 32"),
        (lambda: simple_model((1, 12, 12)), r"of MNIST's size.* received \(1, 12, 12\)"),
        (lambda: simple_model((784,)), r"grey images .* received one for \(784,\)"),
        (lambda: Model(Conv2d(1, 10, 28), (1, 28, 28)), r"with scores \(10, 1, 1\)"),
    ],
)  # fmt: skip
def test_models_that_cannot_read(wrong, message) -> None:
    with pytest.raises(MinicnnError, match=message):
        read_line(wrong(), picture(written(3, 0)[0]))


@pytest.fixture
def place(shares, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a run `run` and a scan `line.png`."""
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    Path("run/model.safetensors").write_bytes(shares[1].read_bytes())
    picture(clear_line(model, 6)[0], 3).save("line.png")
    return tmp_path


def test_the_command(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read_line(load("run"), "line.png")
    assert main(["read-line", "line.png", "--run", "run", "--json", "--show", "seen.png"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] == text(found) == clear_line(load("run"), 6)[1]
    assert [one["x"] for one in answer["digits"]] == [one.x for one in found]
    assert answer["shown"] == "seen.png"
    seen, line = np.asarray(Image.open("seen.png")), to_line("line.png").pixels
    np.testing.assert_array_equal(seen[: 4 * HEIGHT : 4, ::4, 0], line)
    for one in LineReader(load("run")).read(line):  # a mark below each digit
        below = seen[4 * HEIGHT :, int(4 * one.left) : int(4 * one.right)]
        assert (below == (255, 170, 60)).all(axis=2).any(axis=0).all()
    assert main(["read-line", "line.png", "--run", "run"]) == 0
    first, _, _, *rows = capsys.readouterr().out.splitlines()
    assert first == f"line.png: {answer['text']}"
    for row, one in zip(rows, found, strict=True):
        words = row.split()
        assert words[:2] == [one.label, f"{one.x:.1f}"]
        assert words[2:5] == [f"{one.left:.0f}", "-", f"{one.right:.0f}"]


@pytest.mark.parametrize(
    ("arguments", "part", "code"),
    [
        (["line.png"], "--run", 2),
        (["line.png", "--run", "nothing"], "nothing: expected a model file", 1),
        (["line.png", "--run", "fashion.safetensors"], "fashion.safetensors: expected a model", 1),
        (["nothing.png", "--run", "run"], "nothing.png: expected an image file", 1),
        (["blank.png", "--run", "run"], "blank.png: expected a digit, received an image without", 1),
        (["run/model.safetensors", "--run", "run"], "of another kind", 1),
        (["line.png", "--run", "run", "--show", "line.png"], "another file than the image", 2),
        (["line.png", "--run", "run", "--show", "seen.jpg"], "expected a file .png", 2),
        (["line.png", "--run", "run", "--show", "no/seen.png"], "cannot be written", 1),
    ],
)
def test_wrong_use_is_one_line(arguments, part, code, place, capsys) -> None:
    Image.new("L", (90, 30), 255).save("blank.png")
    simple_model((1, 28, 28), "fashion_mnist").save("fashion.safetensors")
    before = sorted(place.rglob("*"))
    assert main(["read-line", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert part in err
    assert sorted(place.rglob("*")) == before


def test_a_reader_needs_a_network_that_can_be_slid() -> None:
    layers = [Conv2d(1, 6, 5), Flatten(), Dense(576 * 6, 7), Dense(7, 5)]
    LineReader(Model(Sequential(layers), (1, 28, 28)))
    with pytest.raises(ShapeError, match="with a score for each class"):
        LineReader(Model(Sequential(layers[:1]), (1, 28, 28)))


def test_without_knowledge_of_digits_ink_decides() -> None:
    """A network that finds all digits equally likely leaves the costs of cuts, gaps and stray ink."""
    model = simple_model((1, 28, 28))
    for parameter in model.network.parameters():
        parameter.value = 0
    reader, line = LineReader(model), np.zeros((28, 150), np.uint8)
    line[4:24, 10:14] = line[4:24, 24:28] = 255  # far apart: two digits
    line[4:24, 50:54] = line[4:24, 56:60] = 255  # near each other: one
    line[4:24, 80:110] = 255  # too wide for one, with a waist
    line[4:13, 94:96] = line[15:24, 94:96] = 0
    line[10:13, 130:133] = 255  # little ink: dirt
    found = [(one.left, one.right) for one in reader.read(line)]
    assert found[:3] == [(10, 14), (24, 28), (50, 60)]
    assert found[3][0] == 80 and found[4][1] == 110 and len(found) == 5
    assert found[3][1] == found[4][0] in (94, 95, 96)
