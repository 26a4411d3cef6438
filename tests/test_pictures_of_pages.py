"""The pictures of docs/ are those that scripts/make_pictures.py draws, small, and each is on a page."""

import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest
from markdown_pages import ROOT

IMAGES = ROOT / "docs" / "images"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pictures", ROOT / "scripts" / "make_pictures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = script()


def file_of(draw: object) -> str:
    return f"{getattr(draw, '__name__', '').replace('_', '-')}.svg"


@pytest.mark.parametrize("draw", SCRIPT.DRAWN, ids=file_of)
def test_pictures_are_what_the_script_draws(draw, tmp_path: Path) -> None:
    draw(tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_text() == (IMAGES / file_of(draw)).read_text()


def test_numbers_in_pictures_are_those_of_the_layers() -> None:
    def words(name: str) -> list[str]:
        return [text.text or "" for text in ET.parse(IMAGES / name).iter("{http://www.w3.org/2000/svg}text")]

    assert {"25", "31", "43", "49"} <= set(words("convolution.svg"))
    assert words("shared-gradient.svg").count("37") == 2
    assert words("pooling.svg").count("2.5") == 4 and words("pooling.svg").count("7.5") == 4
    assert {"sees 3, jump 1", "sees 4, jump 2", "sees 8, jump 2"} <= set(words("receptive-field.svg"))


def test_each_picture_is_small_and_on_a_page() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    used = {name for page in pages for name in re.findall(r"images/([\w-]+\.\w+)", page.read_text())}
    files = {path.name for path in IMAGES.iterdir()}
    assert files == used == {"run.png", "lenet.png", "seeds.png", *map(file_of, (*SCRIPT.DRAWN, *SCRIPT.MEASURED))}
    assert all(path.stat().st_size < 60_000 for path in IMAGES.iterdir())
