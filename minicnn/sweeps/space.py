"""What a sweep varies: lists of values and ranges of numbers, and the settings that a grid or draws make of them.

0.01,0.03,0.1       these values, in YAML
0..4                the whole numbers 0, 1, 2, 3, 4; with samples, one of them, each as likely
0.1..0.9            with samples: uniform between the two
log:0.001..0.3      with samples: its logarithm is uniform
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn.config import yaml_file as yaml_tree
from minicnn.errors import ConfigError
from minicnn.validation import show, show_value

SEED = "training.seed"
MOST = 1_000_000  # runs of a sweep
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(log:)?({_NUMBER}?)\.\.({_NUMBER})")

Values = Sequence[Any]
Point = dict[str, Any]


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones if both are whole. `log`: the logarithm is uniform."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def draw(self, generator: np.random.Generator) -> float:
        """A number of the range. Whole numbers on a log scale are rounded down from [low, high + 1)."""
        high = self.high + self.whole
        low, high = (math.log(self.low), math.log(high)) if self.log else (self.low, high)
        number = float(generator.uniform(low, high))
        number = math.exp(number) if self.log else number
        if self.whole:
            return min(max(math.floor(number), int(self.low)), int(self.high))
        return float(f"{min(max(number, self.low), self.high):.6g}")  # short enough to be read and written


def parse(words: Sequence[str]) -> tuple[list[str], dict[str, Values | Range]]:
    """Words such as `optimizer.lr=0.01,0.1`: those that set one value, and what varies. Raises ConfigError."""
    fixed, varied = [], {}
    for word in words:
        key, _, text = word.partition("=")
        values = read(key, text)
        if isinstance(values, Range) or len(values) > 1:
            if key in varied:
                raise ConfigError(f"{key}: expected its values once, received them twice")
            varied[key] = values
        else:
            fixed.append(word)
    return fixed, varied


def read(key: str, text: str) -> Values | Range:
    """The values in a text; a single one if nothing varies. Raises ConfigError for an empty or unfit range."""
    if "," not in text and ".." not in text:
        return [text]
    parts = yaml_tree.parse(f"[{text}]", f"{key}={text}")
    found = [_range(key, part) for part in parts]
    if len(found) == 1:
        return found[0] if isinstance(found[0], Range) else [text]
    values: list[Any] = []
    for one in found:
        values += whole_numbers(key, one) if isinstance(one, Range) else [one]
    return values


def _range(key: str, part: Any) -> Any:
    match = _RANGE.fullmatch(part) if isinstance(part, str) else None
    if match is None:
        return part
    ends = [int(end) if re.fullmatch(r"[-+]?\d+", end) else float(end or "nan") for end in match.group(2, 3)]
    found = Range(ends[0], ends[1], bool(match[1]))
    if not (found.low < found.high and math.isfinite(found.high - found.low)):
        raise ConfigError(f"{key}: expected a range from a smaller to a larger number, received {part}")
    if found.log and found.low <= 0:
        raise ConfigError(f"{key}: expected a range of numbers > 0 for log, received {part}")
    return found


def whole_numbers(key: str, found: Range) -> Values:
    """All numbers of a range. Raises ConfigError for one that has no end of them."""
    if not found.whole or found.log:
        raise ConfigError(
            f"{key}: expected a list of values or a range of whole numbers, received {found.low}..{found.high}; "
            "--samples N draws from such a range"
        )
    low, high = int(found.low), int(found.high)
    if high - low >= MOST:
        raise ConfigError(f"{key}: expected at most {MOST:,} values, received {low}..{high}")
    return list(range(low, high + 1))


def as_values(key: str, given: Any) -> Values | Range:
    """What `minicnn.sweep` is given for a setting: a list of values, a range as text, or a Range."""
    if isinstance(given, Range):
        return given
    values = read(key, given) if isinstance(given, str) else plain(given)
    if not isinstance(values, Range) and (not values or (isinstance(given, str) and len(values) == 1)):
        raise ConfigError(f"{key}: expected a list of values or a range such as log:0.001..0.3, received {show(given)}")
    return values


def plain(values: Iterable[Any]) -> list[Any]:
    """Values as JSON knows them: NumPy's numbers become Python's."""
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def points(varied: Mapping[str, Values | Range], samples: int | None, seed: int) -> list[Point]:
    """The settings to train with: the grid of all values, or `samples` that are drawn, each different from the others.

    Sample number i depends on `seed` and i alone, so that more samples go on where fewer ended. There are fewer where
    the values have no more combinations. Raises ConfigError.
    """
    if samples is None:
        lists = {key: whole_numbers(key, v) if isinstance(v, Range) else v for key, v in varied.items()}
        if math.prod(map(len, lists.values())) > MOST:
            raise ConfigError(f"expected a grid of at most {MOST:,} settings; --samples N draws some of them")
        return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
    if not varied:
        raise ConfigError("--samples: expected settings to draw, such as optimizer.lr=log:0.001..0.3")
    found: dict[str, Point] = {}
    for point in itertools.islice(_drawn(varied, seed), 20 * samples):
        found.setdefault(show_point(point), point)
        if len(found) == samples:
            break
    return list(found.values())


def _drawn(varied: Mapping[str, Values | Range], seed: int) -> Iterator[Point]:
    for number in itertools.count():
        generator = np.random.default_rng([seed, number])
        yield {
            key: v.draw(generator) if isinstance(v, Range) else v[int(generator.integers(len(v)))]
            for key, v in varied.items()
        }


def show_point(point: Mapping[str, Any]) -> str:
    """A setting as a line."""
    return " ".join(f"{key}={show_value(value)}" for key, value in point.items()) or "the settings"
