"""How many images each class has, and how far that alone explains an accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minicnn.console import label, table
from minicnn.engine.arrays import Array

#: Classes are uneven if the largest has so many times as many images as the smallest.
UNEVEN = 4
MOST_ROWS = 12  # of a table of classes; of more, half are the largest and half the smallest


@dataclass(frozen=True)
class Balance:
    """The number of images of each class, and the names of the classes, printable."""

    counts: NDArray[np.int64]
    names: tuple[str, ...]

    @classmethod
    def of(cls, labels: Array, classes: Sequence[str] | int) -> "Balance":
        """That of labels (N,). classes: their names, or how many there are."""
        names = map(str, range(classes)) if isinstance(classes, int) else (label(name, 30) for name in classes)
        known = tuple(names)
        return cls(np.bincount(labels, minlength=len(known)), known)

    @property
    def largest(self) -> str:
        return self.names[int(self.counts.argmax())]

    @property
    def smallest(self) -> str:
        return self.names[int(self.counts.argmin())]

    @property
    def share(self) -> float:
        """Of the largest class: the accuracy of always answering with it."""
        return float(self.counts.max() / max(self.counts.sum(), 1))

    @property
    def uneven(self) -> bool:
        return bool(self.counts.max() >= UNEVEN * self.counts.min())

    def line(self) -> str:
        """For people, of classes that are about even."""
        low, high = int(self.counts.min()), int(self.counts.max())
        if low == high:
            return f"images per class: {low:,}"
        return f"images per class: {low:,} ({self.smallest}) to {high:,} ({self.largest})"

    def always(self) -> str:
        """What an accuracy should be compared with."""
        return f"always answering {self.largest} would be right in {self.share:.1%}"


def table_of_classes(train: Balance, test: Balance, held_out: str) -> str:
    """The images of each class to train with and to evaluate on; one line where they are about even."""
    if not train.uneven:
        return train.line()
    order = np.argsort(-train.counts, kind="stable").tolist()
    rows: list[Sequence[str] | None] = [
        (train.names[k], f"{train.counts[k]:,}", f"{train.counts[k] / train.counts.sum():.1%}", f"{test.counts[k]:,}")
        for k in order
    ]
    if len(rows) > MOST_ROWS:
        half = MOST_ROWS // 2
        rows = [*rows[:half], ("...", "", "", ""), *rows[-half:]]
    return table(rows, "<>>>", ("class", "training images", "share", f"{held_out} images"))
