"""Successive halving: all settings for few epochs, then the best of them for more, and so on.

Source: Jamieson and Talwalkar, Non-stochastic best arm identification and hyperparameter optimization (2016), sec. 3.
"""

import math
from collections.abc import Mapping, Sequence


def rungs(points: int, epochs: int, eta: int | None) -> list[tuple[int, int]]:
    """(settings, epochs) of each rung: of all settings, one in `eta` goes on, to `eta` times as many epochs.

    The last rung has all epochs. Without `eta` it is the only one.
    """
    if eta is None:
        return [(points, epochs)]
    most = math.floor(math.log(points, eta) + 1e-9)
    steps = range(min(most, math.floor(math.log(epochs, eta) + 1e-9)), -1, -1)
    return [(math.ceil(points / eta**number), round(epochs / eta**step)) for number, step in enumerate(steps)]


def best(scores: Mapping[int, Sequence[float | None]], count: int) -> list[int]:
    """The `count` settings with the highest mean score, in their order. None, of a failed run, counts as 0."""

    def mean(point: int) -> float:
        return sum(score or 0.0 for score in scores[point]) / len(scores[point])

    return sorted(sorted(scores, key=lambda point: (-mean(point), point))[:count])
