"""What the pages of docs/ print is what they say, and their links lead somewhere."""

import contextlib
import io
import shlex

import pytest
from markdown_pages import ROOT, anchors, blocks, links

from minicnn import cli

PAGES = sorted((ROOT / "docs").glob("*.md"))
LINKING = [*PAGES, ROOT / "README.md"]


def name(page):
    return page.name


def outputs(page):
    """(code, text) for each block of a page that is run: the text block right behind it, None without one."""
    lines, found, code = page.read_text().splitlines(), [], None
    for block in blocks(page.read_text()):
        place = f"{page.name}, line {block.line}"
        assert block.language in ("python", "sh", "text", ""), f"{place}: would not be run"
        if block.language == "text":
            between = lines[code.end : block.line - 1] if code else ["nothing"]
            assert not any(between), f"{place}: expected right behind the code that prints it"
            found[-1] = (code, block)
        code = block if block.language in ("python", "sh") else None
        if code:
            found.append((code, None))
    return found


def run(code, page, namespace):
    if code.language == "sh":
        for line in code.text.splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "minicnn"
            assert cli.main(arguments) == 0
    else:
        # Empty lines in front give each line of the code the number that it has in the page.
        exec(compile("\n" * code.line + code.text, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_code_prints_what_stands_below_it(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    namespace = {"__name__": page.stem}
    for code, expected in outputs(page):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            run(code, page, namespace)
        assert printed.getvalue() == (expected.text if expected else ""), f"line {code.line}"


@pytest.mark.parametrize("page", LINKING, ids=name)
def test_links_lead_to_files_and_headings(page):
    for link in links(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_every_page_is_reached_from_the_index():
    index = links((ROOT / "docs" / "README.md").read_text())
    assert {page.name for page in PAGES} <= {*index, "README.md"}
