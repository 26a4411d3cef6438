"""YAML text to plain values (mappings, lists, text, numbers), and `key=value` overrides on them."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from minicnn.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `1e-3` is a number and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            problem = None
            if not isinstance(key, str):
                problem = f"expected a key that is text, received {key!r}"
            elif key in seen:
                problem = f"key {key!r} is given twice"
            if problem:
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# PyYAML reads YAML 1.1, where a number with an exponent needs a point and a sign: 1.0e-3.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def parse(text: str, source: str) -> Any:
    """The value that YAML `text` stands for; `source` names it in the ConfigError."""
    try:
        return yaml.load(text, _Loader)  # _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark and "\n" in text.strip() else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from None


def read(path: str | Path) -> dict[str, Any]:
    """The mapping in the YAML file `path`; ConfigError if there is none."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected a YAML text file, received other bytes") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    tree = parse(text, str(path))
    if tree is None:
        raise ConfigError(
            f"{path}: expected groups of settings (network, data, ...), received an empty file"
        )
    if not isinstance(tree, dict):
        kind = {list: "a list"}.get(type(tree), repr(tree))
        raise ConfigError(
            f"{path}: expected groups of settings (network, data, ...), received {kind}"
        )
    return tree


def override(tree: dict[str, Any], assignment: str) -> None:
    """Sets one value of `tree` in place, from `optimizer.lr=0.02` or `network.layers.0=ReLU`.

    The path is made of keys and list positions (from 0), the value is YAML. Keys that are not
    there yet are added: whether they exist is for the validation to say.
    """
    path, equals, text = assignment.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise ConfigError(f"{assignment}: expected KEY=VALUE, such as optimizer.lr=0.02")
    value = parse(text, assignment)
    node: Any = tree
    for depth, key in enumerate(keys):
        here = ".".join(keys[:depth])
        last = depth == len(keys) - 1
        if isinstance(node, list):
            if not (key.isdecimal() and int(key) < len(node)):
                raise ConfigError(
                    f"{assignment}: {here} is a list: expected a position from 0 to "
                    f"{len(node) - 1}, received {key}"
                )
            if last:
                node[int(key)] = value
            node = node[int(key)]
        elif isinstance(node, dict):
            if last:
                node[key] = value
            elif node.get(key) is None:
                node[key] = {}
            node = node[key]
        else:
            raise ConfigError(f"{assignment}: {here} is {node!r}, it has no key {key}")
