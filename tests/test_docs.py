"""What the pages of docs/ print is what they say, their commands and settings are right, their links lead somewhere."""

import contextlib
import importlib.util
import io
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from markdown_pages import ROOT, anchors, blocks, links
from PIL import Image

from minicnn import cli
from minicnn.config.build import build_network, load_data
from minicnn.config.comparison import Comparison
from minicnn.config.settings import Settings, load_settings, load_tree
from minicnn.errors import ConfigError
from minicnn.inspect.gradient_check import GradientError
from minicnn.sweeps.space import parse
from minicnn.sweeps.sweep import make_plan
from minicnn.validation import validated

PAGES = sorted((ROOT / "docs").glob("*.md"))
ALL = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
#: Those of other packages, and those of a shell.
OTHERS = ("python3", "pip", "ruff", "mkdocs", "tensorboard", ".")


def name(page):
    return page.name


def outputs(page):
    """(code, text) for each block of code of a page: the text block right behind it, None without one."""
    lines, found, code = page.read_text(encoding="utf-8").splitlines(), [], None
    for block in blocks(page.read_text(encoding="utf-8")):
        place = f"{page.name}, line {block.line}"
        assert block.language in ("python", "sh", "yaml", "text", ""), f"{place}: would not be tested"
        if block.language == "text":
            between = lines[code.end : block.line - 1] if code else ["nothing"]
            assert not any(between), f"{place}: expected right behind the code that prints it"
            found[-1] = (code, block)
        code = block if block.language in ("python", "sh") else None
        if code:
            found.append((code, None))
    return found


def run(code, page, namespace):
    """RUN in a command is the folder of the last training; one with `# stops` shows its error."""
    if code.language == "sh":
        for line in code.text.splitlines():
            runs = sorted(Path("runs").glob("*"), key=lambda folder: folder.stat().st_mtime_ns)
            line, _, comment = line.partition("  # ")
            program, *arguments = shlex.split(re.sub(r"\bRUN\b", str(runs[-1]) if runs else "RUN", line))
            if program == "python":
                runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
                continue
            assert program == "minicnn"
            stops = comment.startswith("stops")
            with contextlib.redirect_stderr(sys.stdout) if stops else contextlib.nullcontext():
                assert cli.main(arguments) == int(stops)
    else:
        # Empty lines in front give each line of the code the number that it has in the page.
        exec(compile("\n" * code.line + code.text, str(page), "exec"), namespace)


def assert_printed(printed, expected, place):
    """Equal; or, where lines of ... stand in it for what is left out, each part in its turn. Within a line, too."""
    if "..." not in expected:
        assert printed == expected, place
        return
    first, *others = (
        re.compile("[^\n]*".join(map(re.escape, part.split("..."))))
        for part in re.split(r"^\.\.\.\n", expected, flags=re.MULTILINE)
    )
    found = first.match(printed)
    for part in others:
        assert found, f"{place}: {printed}"
        found = part.search(printed, found.end())
    assert found, f"{place}: {printed}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_code_prints_what_stands_below_it(page, monkeypatch, tmp_path):
    """Python is run, and commands with a text below them; they find configs/ and examples/ where they are."""
    for folder in ("configs", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minicnn.data.cache.user_cache", lambda: tmp_path / "cache")
    namespace = {"__name__": page.stem}
    for code, expected in outputs(page):
        if code.language == "sh" and expected is None:
            continue
        for package in re.findall(r"^import (\w+)", code.text, re.MULTILINE):
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"line {code.line} and those below: {package} is not installed")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            run(code, page, namespace)
        assert_printed(printed.getvalue(), expected.text if expected else "", f"line {code.line}")


def check_command(line):
    """Raises for wrong arguments or settings of minicnn, and for a module or script that is not there."""
    line = re.sub(r"^for (\w+) in (\w+).*?; do (.*); done$", r"\3", line.partition("#")[0].strip())
    for words in map(shlex.split, re.split(r"&&|;|\|", line.replace("$seed", "0"))):
        if "train.py" in words:
            check_arguments(["train", *words[words.index("train.py") + 1 :]])
        elif words[:1] == ["minicnn"]:
            check_arguments(words[1:])
        elif words[1:2] == ["-m"]:
            assert importlib.util.find_spec(words[2]), line
        elif words[:1] == ["python"]:
            assert (ROOT / words[1]).is_file(), line
        else:
            assert not words or words[0].endswith(OTHERS), f"{line}: would not be tested"


def check_arguments(words):
    try:
        arguments = cli._parse(words)
    except SystemExit as ended:  # --help
        assert ended.code == 0
        return
    given = getattr(arguments, "words", [])
    if words[0] == "sweep" and given:
        fixed, varied = parse(given[1:])
        seeds = arguments.seeds and range(arguments.seeds)
        make_plan("", load_tree(ROOT / given[0], fixed), varied, seeds, arguments.samples, arguments.halving)
    elif getattr(arguments, "resume", None):
        load_settings(ROOT / "configs" / "lenet.yaml", given)
    elif given and given[0].endswith(".yaml"):
        tree = load_tree(ROOT / given[0], given[1:])
        if "networks" in tree:
            Comparison.of(tree)
        else:
            validated(Settings, tree)


@pytest.mark.parametrize("page", ALL, ids=name)
def test_commands_are_right(page):
    for block in blocks(page.read_text(encoding="utf-8")):
        for line in block.text.splitlines() if block.language == "sh" else []:
            check_command(line)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("python train.py configs/lenet.yaml training.focus=0.2", ConfigError),
        ("for seed in 0 1; do python train.py configs/lenet.yaml training.seeds=$seed; done", ConfigError),
        ("minicnn predict RUN", ConfigError),
        ("minicnn train --resume RUN training.epoch=3", ConfigError),
        ("python -m benchmarks.no_such", AssertionError),
        ("python scripts/no_such.py", AssertionError),
        ("minicnn sweep configs/lenet.yaml optimizer.rate=1,2", ConfigError),
        ("caffe train", AssertionError),
    ],
)
def test_wrong_commands_are_found(line, error):
    with pytest.raises(error):
        check_command(line)


def test_wrong_outputs_are_found():
    assert_printed("1\n2\n3\n4\n", "1\n...\n3\n...\n", "")
    assert_printed("1 of 2\n3\n", "1 ...\n3\n", "")
    for wrong in ("1\n", "2\n...\n", "1...4\n", "...\n3\n2\n...\n", "...\n3\n...\n2\n"):
        with pytest.raises(AssertionError):
            assert_printed("1\n2\n3\n4\n", wrong, "")


@pytest.mark.parametrize("page", ALL, ids=name)
def test_settings_are_right(page):
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language == "yaml":
            validated(Settings, yaml.safe_load(block.text))


@pytest.mark.parametrize("page", ALL, ids=name)
def test_links_lead_to_files_and_headings(page):
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", ALL, ids=name)
def test_files_of_the_project_that_are_named_exist(page):
    """As `layers/layer.py` or `minicnn/layers/layer.py`; NAME stands for any."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for path in re.findall(r"`((?:\w+/)+\w+\.(?:py|md|yaml|npz|txt))`", prose):
        places = [ROOT / path, ROOT / "minicnn" / path]
        assert "NAME" in path or any(place.is_file() for place in places), path


def test_every_page_is_reached_from_the_index():
    index = links((ROOT / "docs" / "README.md").read_text(encoding="utf-8"))
    assert {page.name for page in PAGES} <= {*index, "README.md"}


def test_settings_for_images_of_your_own(tmp_path):
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    [text] = [block.text for block in blocks(page) if block.language == "yaml"]
    classes, images = ("heron", "owl", "wren"), np.random.default_rng(0).random((3, 60, 50, 3))
    for name, image in zip(classes, images, strict=True):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.fromarray((255 * image).astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    config = tmp_path / "birds.yaml"
    config.write_text(text.replace("~/pictures/birds", str(tmp_path)), encoding="utf-8")
    settings = load_settings(config)
    assert build_network(settings).output_shape((3, 48, 48)) == (3,)
    assert len(load_data(settings, print).test_images) == 3


def test_a_wrong_gradient_in_the_layer_of_your_own_is_found():
    code = outputs(ROOT / "docs" / "own-layers.md")[0][0].text
    definition = code[code.index("class ") : code.index("check_gradients(")]
    assert len(definition.splitlines()) <= 30
    assert "dy, self.slope.value * dy" in code
    with pytest.raises(GradientError, match="PReLU: gradient of input"):
        exec(code.replace("dy, self.slope.value * dy", "dy, dy"), {})
