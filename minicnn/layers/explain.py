"""What a layer or a loss did to one sample, as lines of arithmetic that a reader can check by hand."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from minicnn.engine.arrays import Array

Place = tuple[int, ...]


@dataclass
class Step:
    """What passed through a layer in a training step of one sample, without the batch axis."""

    x: Array
    y: Array
    dy: Array
    dx: Array
    gradients: dict[str, Array]
    parts: list[tuple[Array, Array]] = field(default_factory=list)
    """What each path gives forward and backward, where y and dx are the sums of several."""


@dataclass
class Explanation:
    source: Place
    """The input that mattered most for the output."""
    forward: list[str]
    backward: list[str]
    weight: Place | None = None
    """The place in the parameter "weight" of the weight in between, if there is one."""


TINY = 1e-7
FACTOR, PRODUCT = 5, 4  # significant digits, of the largest number where several stand together


def decimals(values: Array | Sequence[float] | float, digits: int) -> int:
    """Decimals that show the largest of the values with `digits` significant digits; at least 1."""
    largest = float(np.max(np.abs(np.asarray(values)), initial=0.0))
    if largest == 0 or not math.isfinite(largest):
        return 1
    return max(1, digits - 1 - math.floor(math.log10(largest)))


def fixed(value: float, places: int) -> str:
    """`value` with that many decimals, and no minus before a zero."""
    return f"{round(float(value), places) + 0.0:.{places}f}"


def number(value: float, digits: int = FACTOR) -> str:
    """`value` with that many significant digits; as 6.2867e-33 where that would take too many zeros."""
    if 0 < abs(value) < TINY:
        return f"{float(value):.{digits - 1}e}"
    return fixed(value, decimals(float(value), digits))


def index(name: str, at: Iterable[int]) -> str:
    """y[3, 14, 12]"""
    return f"{name}[{', '.join(str(int(i)) for i in at)}]"


def strongest(values: Array) -> Place:
    """The place of the largest |value|, the first one in row-major order."""
    return tuple(map(int, np.unravel_index(int(np.abs(values).argmax()), values.shape)))


def pointwise(step: Step, at: Place, formula: tuple[str, str], derivative: tuple[str, str]) -> Explanation:
    """y = f(x) with dx = dy f'(x), both as a formula, and as text with {x} and {y} where the numbers go,
    which is empty where y = x."""
    # With fewer digits, 1 - y^2 would lose too many where a unit is saturated.
    numbers = {"x": number(step.x[at]), "y": number(step.y[at], 7)}
    value, factor = (text.format(**numbers) for _, text in (formula, derivative))
    dx = f"{number(step.dy[at])} x {factor} = {number(step.dx[at], PRODUCT)}"
    forward = [" = ".join(filter(None, (index("y", at), formula[0], value, number(step.y[at]))))]
    return Explanation(at, forward, [f"{index('dx', at)} = dy {derivative[0]} = {dx}"])


def sum_of_products(
    names: Sequence[str], a: Array, b: Array, total: float, result: str, bias: bool = False, most: int = 4
) -> list[str]:
    """The largest products a b by name, what all others come to, and their sum, which is `total`, called `result`.

    The shown lines add up to the shown sum, since the others take what rounding has left. With `bias`, the last
    product is a bias times 1, and is not counted among the others.
    """
    products = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    largest = np.argsort(-np.abs(products), kind="stable")[:most].tolist()
    order = [k for k in largest if products[k] != 0]
    places = decimals([*products[order], total], PRODUCT)
    order = [k for k in order if round(products[k], places)]
    shown = [fixed(products[k], places) for k in order]
    width = max((len(names[k]) for k in order), default=0)
    lines = [
        f"  {names[k]:<{width}} = {number(a[k])} x {number(b[k])} = {text}"
        for k, text in zip(order, shown, strict=True)
    ]
    rest = float(fixed(total, places)) - sum(map(float, shown))
    others = np.delete(products, order)
    if len(others) or round(rest, places):
        with_bias = bias and len(products) - 1 not in order
        others = others[:-1] if with_bias else others
        zeros = int((others == 0).sum())
        note = f", {zeros:,} of them 0" if zeros else ""
        note += f"{',' * bool(zeros)} and the bias" if with_bias else ""
        lines.append(f"  the {len(others):,} other product{'s' * (len(others) != 1)}{note}: {fixed(rest, places)}")
    return [*lines, f"  sum: {result} = {fixed(total, places)}"]


def sum_of_numbers(names: Sequence[str], values: Array, total: float, result: str, most: int = 8) -> list[str]:
    """The same for a sum of numbers."""
    values = np.asarray(values, np.float64)
    places = decimals([*values, total], PRODUCT)
    order = sorted(np.argsort(-np.abs(values), kind="stable")[:most].tolist())
    shown = {names[k]: fixed(values[k], places) for k in order}
    rest = float(fixed(total, places)) - sum(map(float, shown.values()))
    parts = [f"{name} {text}" for name, text in shown.items()]
    if len(order) < len(values):
        left = len(values) - len(order)
        parts.append(f"{left} other{'s' * (left > 1)} {fixed(rest, places)}")
    elif round(rest, places):
        parts.append(f"rounding {fixed(rest, places)}")
    return [f"  {'; '.join(parts)}", f"  sum: {result} = {fixed(total, places)}"]


def side_by_side(tables: dict[str, Array], digits: dict[str, int]) -> list[str]:
    """Tables of numbers (rows, columns) beside each other, each below its title."""
    blocks = []
    for title, table in tables.items():
        places = decimals(table, digits.get(title, FACTOR))
        cells = [[fixed(value, places) for value in row] for row in table]
        width = max(len(cell) for row in cells for cell in row)
        rows = [" ".join(cell.rjust(width) for cell in row) for row in cells]
        wide = max(len(title), len(rows[0]))
        blocks.append([line.ljust(wide) for line in (title, *rows)])
    return ["  " + "   ".join(lines).rstrip() for lines in zip(*blocks, strict=True)]


def table_of_classes(columns: dict[str, Iterable[str]]) -> list[str]:
    """A row for each class: its number, and what each column says of it."""
    rows = [("class", *columns), *((str(k), *row) for k, row in enumerate(zip(*columns.values(), strict=True)))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def in_brackets(text: str) -> str:
    """A number as it stands behind a minus."""
    return f"({text})" if text.startswith("-") else text
