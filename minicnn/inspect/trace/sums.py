"""Arithmetic as lines of text that a reader can check: numbers, tables of numbers and sums of products."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from minicnn.engine.arrays import Array

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


def sum_of_products(names: Sequence[str], a: Array, b: Array, total: float, result: str, most: int = 4) -> list[str]:
    """The largest products a b by name, what all others come to, and their sum, which is `total`, called `result`.

    The shown lines add up to the shown sum, since the others take what rounding has left.
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
        zeros = int((others == 0).sum())
        note = f", {zeros:,} of them 0" if zeros else ""
        lines.append(f"  the {len(others):,} other products{note}: {fixed(rest, places)}")
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
        parts.append(f"{len(values) - len(order)} others {fixed(rest, places)}")
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
