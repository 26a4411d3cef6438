"""The matrices of Winograd's minimal filtering, which `winograd` describes."""

import math
from functools import cache
from typing import Any

import numpy as np

#: m, by the taps r. A larger one saves more multiplications, and costs more additions and accuracy.
OUTPUTS = {3: 4, 5: 5}
#: The points, by their number n: 0, then pairs of opposite ones, and infinity where that leaves one over. Chosen
#: for small rounding errors, about twice those of a plain sum.
POINTS = {6: (0, 0.5, -0.5, 1.5, -1.5), 9: (0, 0.5, -0.5, 1, -1, 1.5, -1.5, 4, -4)}


def points(taps: int) -> int:
    """n"""
    return OUTPUTS[taps] + taps - 1


@cache
def matrices(taps: int) -> dict[str, Any]:
    """A and B, their transposes, and G, in float64: the same bits everywhere, as products of the points are exact."""
    n, finite = points(taps), np.array(POINTS[points(taps)])
    has_infinity = len(finite) < n

    def powers(count: int) -> Any:
        table = np.vander(finite, count, increasing=True)
        return np.vstack([table, np.arange(count) == count - 1]) if has_infinity else table

    # B^T undoes the evaluation of polynomials at the points; its rows are Lagrange's polynomials.
    bt = np.zeros((n, n))
    for i, point in enumerate(finite):
        others = np.delete(finite, i)
        bt[i, : len(finite)] = np.poly(others)[::-1] / np.prod(point - others)
    if has_infinity:
        bt[-1] = np.poly(finite)[::-1]
    bt[abs(bt) < 1e-12] = 0
    scale = np.array([[math.sqrt(math.fsum(row * row))] for row in bt])
    a, bt = powers(OUTPUTS[taps]), bt / scale
    return {"A": a, "AT": a.T, "B": bt.T, "BT": bt, "G": powers(taps) * scale}
