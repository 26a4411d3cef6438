"""Checks the types of the Python examples of docs/ and README.md by mypy --strict, as its users would.

    python scripts/docs_types.py

All blocks of a page are one module. Their own functions and classes need no annotations, and a block that shows an
error message, which has an `except`, may be wrong.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from markdown_pages import blocks  # noqa: E402

OPTIONS = (
    "--strict",
    "--ignore-missing-imports",
    "--allow-untyped-defs",
    "--allow-untyped-calls",
    "--no-check-untyped-defs",
    "--allow-redefinition",
    "--no-error-summary",
)
OPTIONS += ("--follow-imports", "silent")  # the package has been checked already


def main() -> int:
    pages, wrong = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for page in [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]:
            text = page.read_text(encoding="utf-8")
            found = [block for block in blocks(text) if block.language == "python"]
            lines = [""] * len(text.splitlines())  # each has the number that it has in the page
            for block in found:
                lines[block.line : block.end - 1] = block.text.splitlines()
            module = Path(folder) / f"page_{len(pages)}.py"
            module.write_text("\n".join(lines) + "\n", encoding="utf-8")
            meant = {n for b in found if re.search(r"^\s*except ", b.text, re.MULTILINE) for n in range(b.line, b.end)}
            pages[module.stem] = page, meant
        places = ("--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", os.devnull)
        command = [sys.executable, "-m", "mypy", *OPTIONS, *places, *(f"{name}.py" for name in pages)]
        done = subprocess.run(command, cwd=folder, env={"MYPYPATH": str(ROOT)}, capture_output=True, text=True)
    for line in (done.stdout + done.stderr).splitlines():
        place = re.match(r"(page_\d+)\.py:(\d+): (?!note)(.*)", line)
        if place is None:
            wrong += [] if ": note: " in line else [line]
        elif int(place[2]) not in pages[place[1]][1]:
            wrong.append(f"{pages[place[1]][0].relative_to(ROOT)}, line {place[2]}: {place[3]}")
    print("\n".join(wrong) or f"the examples of {len(pages)} pages have the right types")
    return 1 if wrong or done.returncode > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
