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
    def largest(self) -> int:
        """The class with the most images."""
        return int(self.counts.argmax())

    @property
    def smallest(self) -> int:
        """The class with the fewest images, of those that have any."""
        return int(np.where(self.counts, self.counts, self.counts.max() + 1).argmin())

    @property
    def ratio(self) -> float:
        """How many times as many images the largest class has as the smallest."""
        return float(self.counts[self.largest] / max(self.counts[self.smallest], 1))

    @property
    def uneven(self) -> bool:
        return self.ratio >= UNEVEN

    @property
    def share(self) -> float:
        """Of the largest class: the accuracy of always answering with it."""
        return float(self.counts.max() / max(self.counts.sum(), 1))

    def always(self) -> str:
        """What an accuracy should be compared with."""
        return f"always answering {self.names[self.largest]} would be right in {self.share:.1%}"


def classes_in_words(train: Balance, test: Balance, held_out: str) -> str:
    """How many there are, and the images of each: in a table below the line, where they are uneven."""
    begin, (low, high) = f"{len(train.names)} classes", (train.smallest, train.largest)
    if not train.uneven:
        least, most = (f"{train.counts[k]:,}" for k in (low, high))
        each = "" if least == most else f" ({train.names[low]}) to {most} ({train.names[high]})"
        return f"{begin} of {least}{each} training images{' each' * (least == most)}"
    rows: list[Sequence[str] | None] = [
        (train.names[k], f"{train.counts[k]:,}", f"{train.counts[k] / train.counts.sum():.1%}", f"{test.counts[k]:,}")
        for k in np.argsort(-train.counts, kind="stable").tolist()
    ]
    if len(rows) > MOST_ROWS:
        half = MOST_ROWS // 2
        rows = [*rows[:half], ("...", "", "", ""), *rows[-half:]]
    return f"{begin}\n{table(rows, '<>>>', ('class', 'training images', 'share', f'{held_out} images'))}\n"
