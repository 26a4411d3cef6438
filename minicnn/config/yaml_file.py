"""YAML text to plain values (mappings, lists, text, numbers), and `key=value` overrides on them."""

import os
import re
from collections.abc import Hashable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

import yaml

from minicnn.errors import ConfigError, DataError
from minicnn.files import read_bytes

LARGEST = 256 * 1024  # bytes of a file
MOST_VALUES = 100_000  # aliases (`*name`) written out, as they multiply
DEEPEST = 50  # groups and lists in each other
_TOO_DEEP = f"expected at most {DEEPEST} groups and lists in each other, received more"

# What plain text stands for in YAML 1.2 (its core schema, in the specification 10.3.2). PyYAML follows YAML 1.1, where
# 010 is 8, 1:30 is 90, 1e-3 is text and `no` is false.
_PLAIN = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


#: What the parser's problems mean to who has written the file.
_MEANINGS = {
    r"'\t'": "lines are indented with spaces, not with tabs",
    "mapping values are not allowed": "a line is indented too far, or text with a colon lacks quotes",
    "could not find expected ':'": "expected KEY: VALUE, received a line without a colon",
    "expected <block end>": "a line is indented otherwise than those around it",
    "expected ',' or ']'": "a list lacks a comma or its ]",
    "expected ',' or '}'": "a group lacks a comma or its }",
    "unexpected end of stream": "quotes are opened and not closed",
    "undefined alias": "a * stands before a name that no & has; text that begins with * takes quotes",
    "that cannot start any token": "text that begins with this character takes quotes",
}


def _in_plain_words(problem: str) -> str:
    """What the parser says, behind what it means; problems that this module raises are plain already."""
    meaning = next((meaning for said, meaning in _MEANINGS.items() if said in problem), None)
    if meaning is None:
        own = problem.startswith(("expected a key", "expected at most", "expected plain", "key "))
        return problem if own else f"the parser says: {problem}"
    return f"{meaning} (the parser says: {problem})"


class _Loader(yaml.SafeLoader):
    """YAML 1.2 without tags, within the limits above, in which a key given twice is an error.

    A key that is a number is text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]

    def fetch_tag(self) -> None:
        raise yaml.MarkedYAMLError(
            problem="expected plain values, received a tag (text that begins with ! takes quotes)",
            problem_mark=self.get_mark(),
        )

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _measure(node, {}, 0)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if key_node.tag == "tag:yaml.org,2002:int":  # of a layer, as 3 in {3: 0.1}
                key_node.tag = "tag:yaml.org,2002:str"
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

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text: str = node.value
        try:
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        except ValueError:  # Python's limit
            problem = f"expected a number of at most 4,300 digits, received {len(text):,}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that YAML 1.1 or 1.2 would take for anything else."""


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
for _name, (_pattern, _first) in _PLAIN.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)


def _measure(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """The number of values below a node, aliases written out. `sizes` has those that are known."""
    problem = None
    size = sizes.get(id(node), 1)
    if id(node) not in sizes and not isinstance(node, yaml.ScalarNode):
        sizes[id(node)] = MOST_VALUES + 1  # of an alias within its own value
        parts = node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        if depth == DEEPEST:
            problem = _TOO_DEEP
        else:
            size += sum(_measure(part, sizes, depth + 1) for part in parts)
            sizes[id(node)] = size
    if size > MOST_VALUES:
        problem = f"expected at most {MOST_VALUES:,} values, received more (by aliases)"
    if problem:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return size


def dump(value: Any, **options: Any) -> str:
    """YAML text that `parse` reads as the same value; options as for yaml.dump."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, **options)
    return text


def parse(text: str, source: str) -> Any:
    """The value that YAML `text` stands for; `source` names it in the ConfigError."""
    try:
        return yaml.load(text, _Loader)  # _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark and "\n" in text.strip() else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {_in_plain_words(str(error.problem))}") from None
    except RecursionError:
        raise ConfigError(f"{source}: not valid YAML: {_TOO_DEEP}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source}: not valid YAML: the parser says: {str(error).splitlines()[0]}") from None


def read(path: str | Path) -> dict[str, Any]:
    """The mapping in the YAML file `path`; ConfigError if there is none."""
    try:
        text = read_bytes(path, LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected a YAML text file, received other bytes") from None
    except DataError as error:
        if (Path(path) / "config.yaml").is_file():
            raise ConfigError(
                f"{path}: expected a YAML file, received the folder of a run; its settings are in "
                f"{Path(path) / 'config.yaml'}, and minicnn train --resume {path} goes on with its training"
            ) from None
        near = [file.name for file in Path(path).absolute().parent.glob("*.y*ml")]
        hint = "".join(
            f"; did you mean {Path(path).with_name(n)}?" for n in get_close_matches(Path(path).name, near, 1)
        )
        raise ConfigError(str(error) + hint * (not os.path.lexists(path))) from None
    tree = parse(text, str(path))
    if tree is None:
        raise ConfigError(f"{path}: expected groups of settings (network, data, ...), received an empty file")
    if not isinstance(tree, dict):
        kind = {list: "a list"}.get(type(tree), repr(tree))
        raise ConfigError(f"{path}: expected groups of settings (network, data, ...), received {kind}")
    return tree


def override(tree: dict[str, Any], assignment: str) -> None:
    """Sets one value of `tree` in place, from `optimizer.lr=0.02` or `network.layers.0=ReLU`.

    The path is made of keys and list positions (from 0), the value is YAML. Keys that are not
    there yet are added: whether they exist is for the validation to say.
    """
    path, equals, text = assignment.partition("=")
    keys = path.split(".")
    if len(assignment) > 200:
        assignment = f"{assignment[:60]}..."
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
                    f"{assignment}: {here} is a list: expected a position from 0 to {len(node) - 1}, received {key}"
                )
            if last:
                node[int(key)] = value
            elif node[int(key)] == keys[depth + 1]:  # ReLU stands for {ReLU: {}}
                node[int(key)] = {keys[depth + 1]: {}}
            node = node[int(key)]
        elif isinstance(node, dict):
            if last:
                node[key] = value
            elif node.get(key) is None:
                node[key] = {}
            node = node[key]
        else:
            raise ConfigError(f"{assignment}: {here} is {node!r}, it has no key {key}")
