"""The modules of the page, its style and its facts, made into one HTML file that needs nothing beside it."""

import json
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rjsmin import jsmin

from . import formulas

WEB = Path(__file__).with_name("web")

_IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function\*?|class|const|let) (\w+))", re.MULTILINE)

#: Nothing may be asked for from anywhere, except, for a run that is watched, from where the page came from.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; connect-src {}"
)


def page(title: str, facts: Mapping[str, Any], live: bool = False) -> str:
    """The page as text. `facts` is what `minicnn.page.facts` collects; a live page may ask its server for news."""
    # "<" begins a tag wherever it stands in HTML, and is only ever part of a string in JSON.
    data = json.dumps(facts, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {
        "title": title.replace("&", "&amp;").replace("<", "&lt;"),
        "policy": _POLICY.format("'self'" if live else "'none'"),
        "style": _read("style.css"),
        "facts": data,
        "script": script(),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _read("page.html"))


def script(main: str = "main.js") -> str:
    """All modules that `main` needs as one script, each in a function of its own, those it imports before it; without
    comments and blanks."""
    done: dict[str, str] = {}
    _add(main, done, ())
    minified: str = jsmin('"use strict";\nconst modules = {};\n' + "\n".join(done.values()))
    return minified


def _add(name: str, done: dict[str, str], path: tuple[str, ...]) -> None:
    if name in path:
        raise ValueError(f"modules in a circle: {' -> '.join((*path, name))}")
    if name in done:
        return
    text = _read(name)
    names = [found[2] for found in _EXPORT.finditer(text)]

    def imported(found: re.Match[str]) -> str:
        other = posixpath.normpath(posixpath.join(posixpath.dirname(name), found[2]))
        _add(other, done, (*path, name))
        wanted = " ".join(found[1].split()).rstrip(",").replace(" as ", ": ")
        return f'const {{ {wanted} }} = modules["{other}"];\n'

    body = _EXPORT.sub(r"\1", _IMPORT.sub(imported, text))
    done[name] = f'modules["{name}"] = (() => {{\n{body}\nreturn {{ {", ".join(names)} }};\n}})();\n'


def _read(name: str) -> str:
    if name == formulas.NAME:
        return formulas.formulas()
    return (WEB / name).read_text(encoding="utf-8")
