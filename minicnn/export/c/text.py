"""Pieces of C text: loops, places in arrays, numbers, names, comments."""

import re
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np

from minicnn.engine.arrays import Array, Shape

Lines = list[str]

C_TYPES = {"float32": "float", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "int32": "int32_t"}
WIDTH = 120


def loops(ranges: Iterable[tuple[str, int | str]], body: Lines) -> Lines:
    """`body` in a loop for each (name of the index, its end), the first being the outermost."""
    for index, end in reversed(list(ranges)):
        body = [f"for (int {index} = 0; {index} < {end}; {index}++) {{", *body, "}"]
    return body


def function(head: str, body: Lines) -> Lines:
    return [head, "{", *body, "}"]


def indented(lines: Lines) -> Lines:
    """The lines, moved to the right by four columns for each brace that is open."""
    found, depth = [], 0
    for line in lines:
        depth -= line.startswith("}")
        found.append("    " * depth + line if line and not line.startswith("#") else line)
        depth += line.endswith("{")
    return found


def place(indices: Sequence[str], shape: Shape) -> str:
    """The place of element `indices` in a flat array of `shape`: (c * 28 + i) * 28 + j."""
    text = indices[0]
    for index, size in zip(indices[1:], shape[1:], strict=True):
        text = f"({text}) * {size} + {index}" if " " in text else f"{text} * {size} + {index}"
    return text


def affine(*terms: tuple[int, str], constant: int = 0) -> str:
    """2 * i + u - 1, for the terms (2, "i") and (1, "u") and the constant -1."""
    text = " + ".join(index if factor == 1 else f"{factor} * {index}" for factor, index in terms)
    return text if constant == 0 else f"{text} {'+' if constant > 0 else '-'} {abs(constant)}"


def number(value: float) -> str:
    """A float32 as a C constant, with as few digits as tell it from all others."""
    text = str(np.float32(value))
    return f"{text}f" if set(text) & set(".en") else f"{text}.0f"


def declaration(name: str, array: Array, static: bool = True) -> Lines:
    """`static const float name[6][5] = {...};` of an array of a type in C_TYPES."""
    sizes = "".join(f"[{size}]" for size in array.shape)
    head = f"{'static ' if static else ''}const {C_TYPES[array.dtype.name]} {name}{sizes} = "
    return wrapped(head + _braced(array) + ";")


def _braced(array: Array) -> str:
    if array.ndim == 0:
        return number(float(array)) if array.dtype.kind == "f" else str(array)
    return "{" + ", ".join(map(_braced, array)) + "}"


def wrapped(text: str) -> Lines:
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def comment(text: str) -> Lines:
    """A comment of the paragraphs in `text`, whatever is in it."""
    text = "".join(c if c == "\n" or " " <= c <= "~" else "?" for c in text)
    # What would end it, what compilers take for a mistake, and what is a backslash to them.
    text = text.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").replace("\\", "/")
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, WIDTH - 6) or [""]]
    lines = [f"   {line}".rstrip() for line in lines]
    lines[0] = f"/*{lines[0][2:]}"
    return [*lines[:-1], f"{lines[-1]} */"]


def literal(text: str) -> str:
    """A string literal with that text in UTF-8."""
    escaped = re.sub(rb'[^ -~]|["?\\]', lambda found: b"\\%03o" % ord(found[0]), text.encode("utf-8", "replace"))
    return f'"{escaped.decode()}"'


def is_identifier(name: str) -> bool:
    """Whether `name` can begin the names of the program's functions; those with _ in front are the compiler's."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) is not None


def as_identifier(text: str) -> str:
    """An identifier made of any text: my_net of my-net, net_28 of 28."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return name if is_identifier(name) else f"net_{name}".rstrip("_")
