"""The page in a real browser: drawing, pointing, walking back, gradients, steps, files, sharing, on a phone."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Open, Opened, few_images, write_page
from PIL import Image, ImageDraw

from minicnn import Conv2d, Dense, Flatten, MaxPool, Model, ReLU, Sequential, lenet5, to_mnist
from minicnn.cli import main
from minicnn.page.bundle import WEB, page, script

CLASSES = tuple("0123456789")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a LeNet-5 that has learned nothing, with 100 images to train with."""
    model = Model(lenet5().initialize(rng=0), (1, 28, 28), 0.13, 0.31, CLASSES, "mnist-subset")
    return write_page(tmp_path_factory.mktemp("page") / "lenet.html", model, few_images(50, 60))


def draw(found: Opened, *lines: list[tuple[float, float]]) -> None:
    """Draws lines on the pad, whose corners are (0, 0) and (1, 1)."""
    box = found.page.locator(".pad canvas").bounding_box()
    for line in lines:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in line]
        found.page.mouse.move(*places[0])
        found.page.mouse.down()
        for place in places[1:]:
            found.page.mouse.move(*place, steps=4)
        found.page.mouse.up()
    found.page.wait_for_timeout(150)


SEVEN = [(0.25, 0.2), (0.7, 0.22), (0.45, 0.8)]


def pixels(found: Opened) -> np.ndarray:
    return np.array(found.js("[...minicnn.pixels]"), np.uint8).reshape(28, 28)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The mean difference of two images, as a share of the ink."""
    return float(np.abs(a.astype(float) - b).sum() / b.astype(float).sum())


def test_a_drawing_is_brought_to_the_form_that_predict_gives_it(opened: Open, lenet: Path) -> None:
    found = opened(lenet)
    before = found.js("[...minicnn.scores]")
    draw(found, SEVEN)
    data = found.js("document.querySelector('.pad canvas').toDataURL().split(',')[1]")
    picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    expected = to_mnist(picture)
    assert expected.any() and difference(pixels(found), expected) < 0.04
    assert found.js("[...minicnn.scores]") != before
    assert found.page.locator(".steps figure").count() == 3  # ink, box, centred
    assert found.js("minicnn.label") is None
    found.page.click("text=Clear")
    assert not pixels(found).any()


def photo(light_ink: bool = False) -> Image.Image:
    """A 4 on paper that is unevenly lit, in blue ink."""
    shade = np.linspace(150, 235, 300)[None, :, None] * np.ones((240, 1, 3))
    image = Image.fromarray(shade.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for line in ([(120, 60), (90, 130), (180, 130)], [(160, 70), (150, 190)]):
        pen.line(line, fill=(40, 60, 140), width=12, joint="curve")
    return image.point(lambda v: 255 - v) if light_ink else image


@pytest.mark.parametrize("light_ink", [False, True])
def test_an_uploaded_photo_is_brought_to_the_form_that_predict_gives_it(
    light_ink: bool, opened: Open, lenet: Path, tmp_path: Path
) -> None:
    found = opened(lenet)
    photo(light_ink).save(tmp_path / "four.png")
    found.page.set_input_files("input[type=file]", tmp_path / "four.png")
    found.until("minicnn.source?.kind === 'file'")
    assert difference(pixels(found), to_mnist(tmp_path / "four.png")) < 0.06
    (tmp_path / "none.png").write_bytes(b"no picture")
    found.page.set_input_files("input[type=file]", tmp_path / "none.png")
    found.page.wait_for_selector("text=not an image")


def test_pointing_pinning_and_walking_back(opened: Open, lenet: Path) -> None:
    found = opened(lenet)
    canvas = found.page.locator("canvas[data-node='3']").nth(5)
    box = canvas.bounding_box()
    size = (box["width"] - 2) / 10
    at = box["x"] + 1 + 4.5 * size, box["y"] + 1 + 3.5 * size
    found.page.mouse.move(*at)
    assert found.js("[minicnn.focus, minicnn.pinned]") == [{"node": 3, "at": 534}, False]
    assert found.page.locator(".overlay rect.window").count() == 6  # a window in each map of the layer before
    assert found.page.locator(".overlay rect.field").count() == 1

    # The sum that is shown is that of the products, and what the layer has put out.
    told = found.js("""() => {
        const { explainForward } = modules["explain.js"];
        const { parts, bias, value } = explainForward(minicnn.network, 3, 534);
        return [parts.map((part) => part.terms.length), parts.reduce((sum, part) => sum + part.sum, bias), value];
    }""")
    assert told[0] == [25] * 6 and told[1] == pytest.approx(told[2], abs=1e-5)
    shown = found.page.inner_text(".sums .total td:nth-child(2)").replace("\u2212", "-")
    assert float(shown) == pytest.approx(told[2], abs=0.006)
    assert found.page.locator(".unit .cells").count() == 3  # window, kernel, products

    found.page.mouse.click(*at)
    found.page.mouse.move(box["x"] + 3, box["y"] + 3)
    assert found.js("[minicnn.focus.at, minicnn.pinned]") == [534, True]  # it stays
    found.page.locator(".unit .cells button").nth(7).click()  # row 1, column 2 of the window
    node, at_before = found.js("[minicnn.focus.node, minicnn.focus.at % 196]")
    assert (node, at_before) == (2, (3 + 1) * 14 + 4 + 2)
    for expected in (1, 0, -1):
        found.page.click("text=Walk on")
        assert found.js("minicnn.focus.node") == expected
    found.page.click('text="Back"')
    assert found.js("minicnn.focus.node") == 0
    found.page.click("text=Let go")
    assert found.js("[minicnn.focus, minicnn.pinned]") == [None, False]


def test_keys(opened: Open, lenet: Path) -> None:
    found = opened(lenet)
    found.js("minicnn.look(null, true)")
    found.page.focus(".stage")
    keys = found.page.keyboard
    keys.press("ArrowDown")  # begins in the middle of the input
    for key in ("ArrowRight", "ArrowUp", "Shift+ArrowRight", "Shift+ArrowDown", "Enter"):
        keys.press(key)
    assert found.js("[minicnn.focus.node, minicnn.focus.at, minicnn.pinned]") == [0, 784 + 13 * 28 + 15, True]
    assert "Conv2d, map 1, row 13, column 15" in found.page.inner_text(".stage > [aria-live]")
    keys.press("Backspace")
    assert found.js("minicnn.focus.node") == -1
    keys.press("Escape")
    assert found.js("minicnn.focus") is None
    unnamed = """[...document.querySelectorAll("button, input, select")]
        .filter((e) => !(e.textContent || e.ariaLabel || e.labels?.length)).length"""
    assert found.js(unnamed) == 0


def test_backward(opened: Open, lenet: Path) -> None:
    found = opened(lenet)
    found.page.locator(".bar").nth(8).click()
    found.page.click("text=Backward")
    assert found.js("minicnn.target") == 8
    assert found.js("minicnn.dscores[8] < 0 && minicnn.dscores.every((v, k) => k === 8 || v > 0)")
    # Every gradient is the sum that is told of it, for a number of each layer.
    wrong = found.js("""() => {
        const { explainBackward, gradientsOf, nodesOf } = modules["explain.js"];
        return nodesOf(minicnn.network).slice(0, -1).filter((node) => {
            const values = gradientsOf(minicnn.network, node);
            const most = Math.max(...values.map(Math.abs));
            return [...values.keys()].filter((at) => at % 41 === 0).some((at) => {
                const { parts, value } = explainBackward(minicnn.network, node, at);
                return Math.abs(parts.reduce((sum, part) => sum + part.sum, 0) - value) > 1e-5 * most;
            });
        });
    }""")
    assert wrong == []
    found.js("minicnn.look({ node: 2, at: 300 }, true)")
    assert "Every output that saw this number" in found.page.inner_text(".unit")
    assert found.page.locator(".unit .cells").count() == 3
    found.page.click("text=Walk on")
    assert found.js("minicnn.focus.node") == 3

    # The gradient of a shared weight is the sum over all places.
    found.page.click("text=Filters")
    found.page.locator(".filter canvas").first.hover()
    sums = found.js("""() => {
        const layer = minicnn.network.layers[0];
        const { x, dy } = layer.kind.weightGradient(layer, 30);
        return [x.length, [...x].reduce((sum, v, i) => sum + v * dy[i], 0), layer.dweight[30]];
    }""")
    assert sums[0] == 784 and sums[1] == pytest.approx(sums[2], rel=1e-4, abs=1e-6)
    assert "784 places" in found.page.inner_text(".closer")
    found.page.focus(".filters select")
    for key in ("Tab", "Shift+ArrowRight", "ArrowDown", "ArrowDown", "ArrowRight"):
        found.page.keyboard.press(key)
    assert found.page.inner_text(".closer").startswith("Filter 1, from map 0 [4, 3]")


def test_steps_training_and_reset(opened: Open, lenet: Path) -> None:
    found = opened(lenet)
    found.page.click("text=Learn")
    loss = found.js("minicnn.lossValue")
    found.page.click("text=1 step on this image")
    found.page.wait_for_selector("text=embedded images right")
    assert found.js("minicnn.lossValue") < loss
    assert found.js("minicnn.changed")
    assert "weights changed" in found.page.inner_text("header")
    found.page.locator("#panel-tabLearn >> text=Back to the run's weights").click()
    assert found.js("minicnn.lossValue") == loss
    assert found.js("minicnn.network.values.every((w, i) => w === minicnn.trained[i]) && !minicnn.changed")

    found.js("minicnn.startAnew(1)")
    found.page.click("text=100 steps")
    found.until("minicnn.training.steps === 100 && !minicnn.training.running")
    found.page.wait_for_selector("text=embedded images right")
    share = re.search(r"([\d.]+) % of the 50 embedded", found.page.inner_text("#panel-tabLearn"))
    assert share and float(share[1]) >= 90
    found.page.click("text=Confusion")
    cells = found.page.locator(".matrix td").all_inner_texts()
    assert sum(int(cell) for cell in cells if cell.isdigit()) == 50

    found.js("minicnn.lr = 1e30; minicnn.training.running = false")
    found.page.click("text=Learn")
    found.page.click("text=100 steps")
    found.page.wait_for_selector("text=the learning rate is too high")
    assert found.js("minicnn.network.values.every((w, i) => w === minicnn.trained[i])")


def test_a_shared_page_shows_the_same(opened: Open, lenet: Path, tmp_path: Path) -> None:
    found = opened(lenet)
    draw(found, SEVEN)
    found.js("minicnn.training.step(minicnn.x, [7], false); minicnn.moved(); minicnn.setTarget(7)")
    found.page.click("text=Backward")
    found.js("minicnn.look({ node: 3, at: 534 }, true)")
    state = "[[...minicnn.scores], [...minicnn.pixels], minicnn.mode, minicnn.focus, minicnn.target, minicnn.changed]"
    before = found.js(state)
    with found.page.expect_download() as download:
        found.page.click("text=Share")
    download.value.save_as(tmp_path / "shared.html")
    assert opened(tmp_path / "shared.html").js(state) == before


def test_on_a_phone(opened: Open, lenet: Path) -> None:
    found = opened(lenet, 390, 844, has_touch=True, is_mobile=True)
    assert found.js("document.documentElement.scrollWidth") <= 390
    found.page.locator("canvas[data-node='0']").nth(1).tap(position={"x": 20, "y": 20})
    assert found.js("[minicnn.focus.node, minicnn.pinned]") == [0, True]
    assert found.page.inner_text(".answer").startswith("predicted as")
    for name in ("Filters", "Learn", "Confusion", "One unit"):
        found.page.click(f"[role=tab] >> text={name}")
        assert found.js("document.documentElement.scrollWidth") <= 390


def test_a_wide_network_and_pictures_that_are_no_digits(opened: Open, tmp_path: Path) -> None:
    network = Sequential([Conv2d(1, 70, 3), ReLU(), MaxPool(2), Flatten(), Dense(70 * 169, 10)])
    found = opened(write_page(tmp_path / "page.html", Model(network, (1, 28, 28)), few_images()))
    assert found.page.locator("canvas[data-node='0']").count() == 64
    found.page.locator("text=6 more").first.click()
    draw(found, SEVEN)
    assert pixels(found).any() and found.page.locator(".steps figure").count() == 1


EPOCHS = "minicnn.facts.epochs.map((e) => e.epoch)"


def test_a_run_with_epochs_and_its_size(opened: Open, tmp_path: Path, capsys: Any) -> None:
    from safetensors.numpy import save_file

    run = tmp_path / "run"
    (run / "epochs").mkdir(parents=True)
    network = lenet5()
    for epoch in (1, 2, 10):
        network.initialize(rng=epoch)
        save_file(network.state_dict(), run / "epochs" / f"{epoch:03}.safetensors")
    Model(network, (1, 28, 28), 0.13, 0.31, CLASSES, "mnist-subset").save(run / "model.safetensors")
    assert main(["page", str(run), "--data", "mnist-subset"]) == 0
    assert capsys.readouterr().out.strip() == str(run / "page.html")

    found = opened(run / "page.html")
    assert found.js(EPOCHS) == [1, 2, 10]
    sizes = found.js("""(() => {
        const { weights, test, train, epochs } = minicnn.facts;
        return [weights, test.pixels, train.pixels, ...epochs.map((epoch) => epoch.weights)].map((text) => text.length);
    })()""")
    own = (run / "page.html").stat().st_size - sum(sizes)
    assert own < 150_000
    found.page.click("text=Confusion")
    final = found.page.inner_text(".matrix")
    found.page.locator("#panel-tabConfusion input[type=range]").fill("0")
    assert found.page.inner_text(".matrix") != final
    network.initialize(rng=1)
    first = np.concatenate([value.ravel() for value in network.state_dict().values()]).astype(np.float16)
    np.testing.assert_array_equal(
        np.array(found.js("[...minicnn.network.values]"), np.float32), first.astype(np.float32)
    )

    found.page.click("text=Reset")
    assert found.page.inner_text(".matrix") == final
    assert found.page.locator("#panel-tabConfusion input[type=range]").input_value() == "2"

    (run / "epochs" / "011.safetensors").write_bytes(b"no weights")
    assert main(["page", str(run), "--data", "mnist-subset"]) == 1
    assert "011.safetensors: expected the weights of this run's network" in capsys.readouterr().err


def test_what_a_page_cannot_show(tmp_path: Path, capsys: Any) -> None:
    Model(Sequential([Dense(5, 3)]), (5,), data_set="mnist-subset").save(tmp_path / "model.safetensors")
    assert main(["page", str(tmp_path)]) == 1
    assert "expected a network of images (C, H, W) that gives a score for each class" in capsys.readouterr().err
    Model(lenet5(), (1, 28, 28), data_set="mnist-subset").save(tmp_path / "model.safetensors")
    assert main(["page", str(tmp_path), "-o", str(tmp_path)]) == 1
    assert "expected a file to write, received the folder" in capsys.readouterr().err


def test_what_stands_in_a_page_cannot_break_out_of_it() -> None:
    text = page("<b>", {"classes": ["</script><script>alert(1)</script>", "<!--"]})
    assert text.count("</script>") == 3 and "alert(1)</script>" not in text
    assert "<b>" not in text and "<!--" not in text
    assert "connect-src 'none'" in text and "'self'" not in text


def test_modules_are_as_the_bundle_takes_them() -> None:
    text = script()
    assert "import {" not in text and "export " not in text
    for path in WEB.rglob("*.js"):
        content = path.read_text("utf-8")
        # Where a string in backquotes has another one in it, the minifier takes its text for code.
        assert not re.search(r"\$\{[^}]*`", content), path
        assert content.startswith("/**"), f"{path}: expected a line on what it is for"
        assert len(content.splitlines()) <= 400


def test_every_text_stands_in_the_table_and_is_used() -> None:
    table = (WEB / "texts.js").read_text("utf-8")
    known = set(re.findall(r"^  (\w+):", table, re.MULTILINE))
    rest = "".join(path.read_text("utf-8") for path in WEB.rglob("*.js") if path.name != "texts.js")
    assert set(re.findall(r'\btext\("(\w+)"', rest)) <= known
    assert {name for name in known if f'"{name}"' not in rest and not name.startswith("rule_")} == set()


def test_a_configuration_has_a_page_of_the_weights_that_its_training_begins_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = ROOT / "configs" / "lenet.yaml"
    assert main(["page", str(config), "data.name=mnist-subset"]) == 0
    assert capsys.readouterr().out == "lenet.html\n"
    assert "lenet on mnist-subset" in Path("lenet.html").read_text(encoding="utf-8")
    assert main(["page", str(config), "data.name=mnist-subset", "--path", "x"]) == 2
    assert "--path: expected none with" in capsys.readouterr().err
