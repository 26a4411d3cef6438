"""What a sweep is going to train: the settings, the seeds and how long. It is kept in sweep.json."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Self

from annotated_types import Ge, MinLen
from pydantic import ConfigDict, create_model

from minicnn.config import yaml_file as yaml_tree
from minicnn.config.build import build_network
from minicnn.config.settings import Settings
from minicnn.errors import ConfigError
from minicnn.files import read_bytes
from minicnn.sweeps.space import MOST, SEED, Point, show_point
from minicnn.validation import validated

FILE = "sweep.json"
LARGEST = 2**30  # bytes of it


@dataclass(frozen=True)
class Plan:
    """A sweep: each of the `points`, with each of the `seeds`.

    tree      the settings as in a file, which the points and seeds change
    points    for each setting to try, the values that it gives the `keys`
    halving   of the settings that were trained for some epochs, one in so many goes on [None: all are trained at once]
    """

    name: str
    keys: list[str]
    points: Annotated[list[Point], MinLen(1)]
    seeds: Annotated[list[int], MinLen(1)]
    halving: Annotated[int, Ge(2)] | None
    tree: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """That of a sweep's folder. Raises ConfigError if it has none."""
        path = folder / FILE
        if not path.is_file():
            raise ConfigError(f"{folder}: expected the folder of a sweep, with {FILE} in it")
        try:
            tree = json.loads(read_bytes(path, LARGEST))
        except ValueError as error:
            raise ConfigError(f"{path}: expected the JSON of a sweep: {error}") from None
        strict = ConfigDict(extra="forbid", strict=True)
        types: dict[str, Any] = {field.name: (field.type, ...) for field in fields(cls)}
        return cls(**validated(create_model("Plan", __config__=strict, **types), tree, str(path)).model_dump())

    def dump(self) -> str:
        """JSON; `read` makes the same of it."""
        return json.dumps(asdict(self)) + "\n"

    def __len__(self) -> int:
        return len(self.points) * len(self.seeds)

    def runs(self, points: Sequence[int]) -> Iterator[int]:
        """The numbers, from 1, of the runs of some points."""
        for point in points:
            yield from range(1 + point * len(self.seeds), 1 + (point + 1) * len(self.seeds))

    def place(self, run: int) -> tuple[int, int]:
        """The number of the point of a run, from 0, and its seed."""
        point, seed = divmod(run - 1, len(self.seeds))
        return point, self.seeds[seed]

    def tree_of(self, run: int) -> dict[str, Any]:
        """The settings of a run, as in a file."""
        point, seed = self.place(run)
        return self._changed({**self.points[point], SEED: seed})

    def settings(self, run: int) -> Settings:
        return validated(Settings, self.tree_of(run))

    def _changed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        tree = copy.deepcopy(self.tree)
        for key, value in values.items():
            yaml_tree.override(tree, f"{key}={json.dumps(value)}")
        return tree

    def check(self) -> None:
        """Raises ConfigError for settings that are wrong, before any is trained."""
        if len(self) > MOST:
            raise ConfigError(f"expected at most {MOST:,} runs, received {len(self):,}")
        for number, point in enumerate(self.points):
            try:
                build_network(self.settings(next(self.runs([number]))))
            except ConfigError as error:
                lines = str(error).splitlines()
                raise ConfigError("\n".join(f"{show_point(point)}: {line}" for line in lines)) from None
        for seed in (min(self.seeds), max(self.seeds)):
            validated(Settings, self._changed({**self.points[0], SEED: seed}))
