"""A small convolutional-network framework whose backprop is written out, layer by layer."""

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

__version__ = "0.1.0"

# The public names stand in __init__.pyi. Each is imported when it is first used, so that a command starts at once.
# (The package lazy-loader does the same, but knows no `import *`, by which a new layer is public without further ado.)
_HOMES = [
    (alias.name, f"{__name__}.{node.module}")
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom) and node.module
    for alias in node.names
]


def __getattr__(name: str) -> object:
    if name == "__all__":
        return __dir__()
    if not name.startswith("_"):
        if find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        homes = [home for known, home in _HOMES if known == name]
        for home in homes or [home for known, home in _HOMES if known == "*"]:
            module = import_module(home)
            if homes or name in module.__all__:
                value = globals()[name] = getattr(module, name)
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    names = [name for name, _ in _HOMES if name != "*"]
    return sorted(names + [name for known, home in _HOMES if known == "*" for name in import_module(home).__all__])
