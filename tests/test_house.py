"""The package as CONTRIBUTING.md describes it: which part may import which, and how large a file may be."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "minicnn"
FILES = sorted(PACKAGE.rglob("*.py"))


def lines_of_map():
    """The parts of the package in each line of the map, from the top."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    [block] = re.findall(r"Imports run downwards.*?```\n(.*?)```", text, re.DOTALL)
    return [line.split() for line in block.splitlines()]


def part(name):
    """The folder or the file at the top level that a module is in."""
    return name.split(".")[1]


def imports(file):
    """The parts that a file imports from anywhere in it, also only for types."""
    package = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*start, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "minicnn" else [base]
        for name in names:
            inner = name.startswith("minicnn.")
            if inner and ((PACKAGE / part(name)).is_dir() or (PACKAGE / f"{part(name)}.py").exists()):
                yield part(name)


def test_the_map_has_all_parts():
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert sorted(name for line in lines_of_map() for name in line) == sorted(found - {"__init__", "__main__"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_imports_run_downwards(file):
    level = {name: -number for number, line in enumerate(lines_of_map()) for name in line}
    own = file.relative_to(PACKAGE).with_suffix("").parts[0]
    if own not in ("__init__", "__main__"):
        assert [name for name in imports(file) if name != own and level[name] >= level[own]] == []


def test_sizes():
    assert len(list(PACKAGE.glob("*.py"))) <= 12
    paths = [*FILES, *PACKAGE.rglob("*.js"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert [path for path in paths if len(path.read_text("utf-8").splitlines()) > 400] == []
