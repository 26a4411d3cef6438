"""The site: docstrings keep their layout, and links out of docs/ lead to pages that are made."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from markdown_pages import ROOT


def script(name: str) -> ModuleType:
    pytest.importorskip("mkdocs", reason="of the extra docs")
    pytest.importorskip("griffe", reason="of the extra docs")
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("docstring", "markdown"),
    [
        ("Some words,\nand more.", "Some words,\nand more."),
        ("y[n] = the mean of x", "```text\ny[n] = the mean of x\n```"),
        ("The mean is x = 3.", "The mean is x = 3."),
        ("lr    rate\nbeta  share of\n      the last", "```text\nlr    rate\nbeta  share of\n      the last\n```"),
        ("With u:\n    a = u\nand so on.", "With u:\n\n```text\n    a = u\n```\n\nand so on."),
        ("| a | b |\n|---|---|\n| 1   | 2 |", "| a | b |\n|---|---|\n| 1   | 2 |"),
    ],
)
def test_lines_that_are_laid_out_become_blocks(docstring: str, markdown: str) -> None:
    assert script("site_docstrings")._paragraph(docstring) == markdown


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[Sizes](sizes.md#dilation)", "[Sizes](sizes.md#dilation)"),
        ("[below](#ties)", "[below](#ties)"),
        ("[there](https://example.org/a)", "[there](https://example.org/a)"),
        ("[`MaxPool`](../minicnn/layers/pooling.py)", "[`MaxPool`](source/minicnn/layers/pooling.py.md)"),
        ("[First steps](../examples/first_steps.ipynb)", "[First steps](first-steps.md)"),
        ("[nowhere](../minicnn/py.typed)", "nowhere"),
        ("```text\n[a](../b)\n```", "```text\n[a](../b)\n```"),
    ],
)
def test_links_lead_to_pages_of_the_site(link: str, expected: str) -> None:
    assert script("site_hooks")._relinked(link, ROOT / "docs", "") == expected


def test_pages_of_sources_lead_back() -> None:
    hooks = script("site_hooks")
    assert "(../docs/" not in hooks._source(ROOT / "CONTRIBUTING.md")
    assert "(../backprop.md)" in hooks._source(ROOT / "CONTRIBUTING.md")
    assert "[winograd.py](kernels/winograd.py.md)" in hooks._source(ROOT / "minicnn" / "kernels")
    assert "class MaxPool" in hooks._source(ROOT / "minicnn" / "layers" / "pooling.py")


def test_the_notebook_becomes_a_page_with_its_pictures() -> None:
    page = script("site_hooks")._notebook(Path(ROOT / "examples" / "first_steps.ipynb"))
    assert page.startswith("# First steps") and page.count("data:image/png") == 4
    assert "(10000, 1, 28, 28)" in page and "[documentation](README.md)" in page
