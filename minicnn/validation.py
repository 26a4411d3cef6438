"""Plain values of a file checked by a pydantic model; its errors as lines for the author: place, expected, received."""

import difflib
import json
from collections.abc import Iterable
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from minicnn.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)

MOST_LINES = 20  # of an error, each of at most so many characters:
LONGEST_LINE = 500

# What pydantic's kinds of problem are called in a settings file.
_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a group of keys",
    "model_type": "a group of keys",
    "finite_number": "a finite number",
    "too_short": "{min_length} or more items",
    "too_long": "at most {max_length} items",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number less than {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
}


def validated(model: type[Model], tree: dict[str, Any], place: str = "") -> Model:
    """`tree` as a `model`; ConfigError with one line for each problem, its path below `place`."""
    try:
        # Strict JSON knows YAML's own types: a list may stand for a pair, but "3" is no number.
        return model.model_validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        prefix = place + "." if place else ""
        lines = _explain(error.errors(), model, tree)
        shown = [f"{prefix}{line:.{LONGEST_LINE}}" for line in lines[:MOST_LINES]]
        if len(lines) > MOST_LINES:
            shown.append(f"and {len(lines) - MOST_LINES:,} more such errors")
        raise ConfigError("\n".join(shown)) from None
    except (ValueError, RecursionError) as error:  # YAML aliases can make a value its own part
        raise ConfigError(f"{place or 'the settings'}: not plain values: {error}") from None


def show(value: Any) -> str:
    """A received value as it would stand in the file, shortened."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def show_value(value: Any) -> str:
    """A value as one writes it on the command line, shortened: text without quotation marks."""
    return show(value).strip('"') if isinstance(value, str) else show(value)


def suggest(name: str, known: Iterable[str]) -> str:
    """The known name that `name` was probably meant to be, or else all known names."""
    spelled = {key.lower(): key for key in known}
    near = difflib.get_close_matches(name.lower(), spelled, n=1)
    if near:
        return f"did you mean {spelled[near[0]]}?"
    return f"known are {', '.join(spelled.values())}" if spelled else "there are none here"


def _explain(problems: list[ErrorDetails], model: type[BaseModel], tree: dict[str, Any]) -> list[str]:
    unknown = [_unknown_key(p, model) for p in problems if p["type"] == "extra_forbidden"]
    if unknown:  # the other problems may well follow from a misspelt key
        return unknown
    # Each member of a union (a number or a list of them) reports its own problem: gather them.
    settings: dict[str, list[tuple[str, ErrorDetails]]] = {}
    for problem in problems:
        setting, place = _path(problem, tree)
        settings.setdefault(setting, []).append((place, problem))
    return [_line(found) + _by_name(*found[0], model) for found in settings.values()]


def _path(problem: ErrorDetails, tree: Any) -> tuple[str, str]:
    """The paths of the setting and of the very item in it; pydantic's `loc` also names types."""
    place: list[str] = []
    setting, last = None, len(problem["loc"]) - 1
    for number, key in enumerate(problem["loc"]):
        if isinstance(tree, dict) and key not in tree and (number < last or problem["type"] != "missing"):
            continue  # the name of one of several groups or types that a key may have; what is missing comes last
        if isinstance(key, str) and place and not isinstance(tree, dict):
            setting = setting or ".".join(place)
            continue
        place.append(str(key))
        known = key in tree if isinstance(tree, dict) else isinstance(tree, list)
        tree = tree[key] if known and (not isinstance(key, int) or key < len(tree)) else None
    return setting or ".".join(place), ".".join(place)


def _line(found: list[tuple[str, ErrorDetails]]) -> str:
    # A member of the wrong type is not the one that was meant, if another got further.
    longest = max(len(problem["loc"]) for _, problem in found)
    deepest = [item for item in found if len(item[1]["loc"]) == longest]
    further = [item for item in deepest if not item[1]["type"].endswith(("_type", "literal_error"))]
    meant = further or deepest
    place, problem = meant[0]
    prefix = f"{place}: " if place else ""
    if problem["type"] == "value_error":
        text = str(problem["ctx"]["error"])
        return text if text.startswith(f"{place}.") else prefix + text
    if problem["type"] == "missing":
        return f"{prefix}expected a value, it is missing"
    expected = " or ".join(dict.fromkeys(_expected(problem) for _, problem in meant))
    return f"{prefix}expected {expected}, received {show(problem['input'])}"


def _by_name(place: str, problem: ErrorDetails, model: type[BaseModel]) -> str:
    """How one of several groups is chosen, where its name alone was given."""
    field, name = model.model_fields.get(place), problem["input"]
    named = field is not None and any("name" in group.model_fields for group in groups_of(field.annotation))
    return f"; set {place}.name={name}" if named and isinstance(name, str) else ""


def _expected(problem: ErrorDetails) -> str:
    words = _EXPECTED.get(problem["type"], problem["msg"].removeprefix("Input should be "))
    return words.format_map(problem.get("ctx", {}))


def _unknown_key(problem: ErrorDetails, model: type[BaseModel]) -> str:
    *groups, key = map(str, problem["loc"])
    path: list[str] = []
    members = [model]
    others: list[type[BaseModel]] = []
    for group in groups:
        if len(members) > 1:  # the name of one of several groups that the key before may have
            others = [member for member in members if member.__name__ != group]
            [model] = members = [member for member in members if member.__name__ == group]
        else:
            members = groups_of(model.model_fields[group].annotation)
            model = members[0]
            path.append(group)
    place = ".".join([*path, key])
    old_names: dict[str, str] = getattr(model, "OLD_NAMES", {})
    if key in old_names:
        return f"{place}: it is called {'.'.join([*path, old_names[key]])} now"
    have_it = [other.__name__ for other in others if key in other.model_fields]
    if have_it:
        name, group, known = model.__name__, ".".join(path), list(model.model_fields)
        return (
            f"{place}: {' and '.join(have_it)} {'have' if len(have_it) > 1 else 'has'} it, {name} has "
            f"{', '.join(known[:-1])} and {known[-1]}; to replace the whole group: {group}={{name: {name}, ...}}"
        )
    elsewhere = places_of(key, model)
    if elsewhere:
        return f"{place}: unknown key; did you mean {' or '.join(elsewhere)}?"
    return f"{place}: unknown key; {suggest(key, model.model_fields)}"


def groups_of(hint: Any) -> list[type[BaseModel]]:
    """The groups that a value may be: several in a union."""
    if isinstance(hint, type):
        return [hint] if issubclass(hint, BaseModel) else []
    return [group for part in get_args(hint) for group in groups_of(part)]


def places_of(key: str, model: type[BaseModel]) -> list[str]:
    """The paths of the settings of that name in the groups of `model`."""
    return [
        f"{name}.{key}"
        for name, field in model.model_fields.items()
        if any(key in group.model_fields for group in groups_of(field.annotation))
    ]
