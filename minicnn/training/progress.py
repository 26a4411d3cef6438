"""How far a training has come."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from minicnn.training.step import StepResult

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Field(ge=0)]


@dataclass
class Progress:
    """How far a training has come, in plain numbers. A checkpoint's must be of these types and ranges."""

    __pydantic_config__: ClassVar = ConfigDict(strict=True, allow_inf_nan=False)

    step: Count = 0
    epoch: Annotated[int, Field(ge=1)] = 1  # the one under way
    batches: Count = 0  # those of it that are done, and sums over their images:
    images: Count = 0
    loss: float = 0.0
    weight: float = 0.0
    correct: Count = 0
    answers: Count = 0
    seconds: Seconds = 0.0
    all_images: Count = 0  # of the epochs before
    all_seconds: Seconds = 0.0
    stopped: str = ""  # why the training has ended before its last epoch
    # A row for each epoch; a checkpoint leaves them to metrics.csv and timings.csv, which only grow.
    metrics: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)

    def add(self, result: StepResult, seconds: float) -> None:
        """One more step; `seconds` is how long the epoch has taken so far."""
        self.step += 1
        self.batches += 1
        self.images += result.count
        self.loss += result.loss * result.weight
        self.weight += result.weight
        self.correct += result.correct
        self.answers += result.answers
        self.seconds = seconds

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Keeps the figures of the epoch under way, and begins the next one."""
        rate = round(self.images / max(self.seconds, 1e-9))  # a clock may be coarse
        self.timings.append({"epoch": self.epoch, "seconds": round(self.seconds, 3), "images_per_second": rate})
        self.metrics.append(row)
        self.all_images += self.images
        self.all_seconds += self.seconds
        self.epoch += 1
        self.batches = self.images = self.correct = self.answers = 0
        self.loss = self.weight = self.seconds = 0.0

    @property
    def mean_loss(self) -> float:
        """Over the images of the epoch so far, as they are weighted."""
        return self.loss / (self.weight or 1)

    @property
    def accuracy(self) -> float:
        """The share of the epoch's images so far that was right, each when its turn came."""
        return self.correct / max(self.answers, 1)

    def numbers(self) -> dict[str, Any]:
        """All but the rows."""
        return {key: value for key, value in vars(self).items() if not isinstance(value, list)}


class History(list[dict[str, Any]]):
    """The figures of a training: a row per epoch, as a dict. history["train_loss"] is a column."""

    def __getitem__(self, key: Any) -> Any:
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)
