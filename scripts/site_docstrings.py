"""For the site: docstrings are plain text, in which formulas and lists of arguments are laid out by spaces."""

import re
from itertools import groupby
from typing import Any

from griffe import Extension, Object

LAID_OUT = re.compile(r"\S {2,}\S|^ ")


class LaidOut(Extension):
    """Puts the lines of a docstring that are laid out into code blocks; the others are Markdown as they are."""

    def on_object(self, *, obj: Object, **rest: Any) -> None:
        if obj.docstring:
            obj.docstring.value = "\n\n".join(map(_paragraph, obj.docstring.value.split("\n\n")))


def _paragraph(text: str) -> str:
    lines = text.split("\n")
    if lines[0].startswith("|"):
        return text
    formula = len(lines) == 1 and " = " in text and not text.endswith(".")
    parts = []
    for laid_out, part in groupby(lines, lambda line: formula or bool(LAID_OUT.search(line))):
        words = "\n".join(part)
        parts.append(f"```text\n{words}\n```" if laid_out else words)
    return "\n\n".join(parts)
