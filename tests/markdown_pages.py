"""Markdown pages: their blocks of code, and where their links lead."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Block(NamedTuple):
    """What stands between two fences. `line` is the number of its opening fence, `end` of its closing one."""

    language: str
    text: str
    line: int
    end: int


def blocks(text):
    """The fenced blocks of a page, in order."""
    found, opened = [], None
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        assert not re.match(r"\s+```|\s*~~~", line), f"line {number}: expected ``` at the margin"
        if opened is None and line.startswith("```"):
            opened = number
        elif line.rstrip() == "```":
            language = lines[opened - 1].strip("`\n ")
            found.append(Block(language, "".join(lines[opened : number - 1]), opened, number))
            opened = None
    assert opened is None, f"line {opened}: expected a closing fence, received the end of the page"
    return found


def python_blocks(text):
    return [block.text for block in blocks(text) if block.language == "python"]


def links(text):
    """The targets of a page's links, those to other sites left out."""
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [target for target in targets if not re.match(r"\w+:", target)]


def anchors(text):
    """What #names of the headings of a page GitHub makes."""
    fenced = {n for block in blocks(text) for n in range(block.line, block.end + 1)}
    headings = [
        re.sub(r"^#+ ", "", line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.startswith("#") and number not in fenced
    ]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
