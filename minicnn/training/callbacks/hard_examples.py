"""Training on what is not learned yet: which images the epochs after the first take."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.data.batches import Batch, Batches
from minicnn.engine.arrays import Array
from minicnn.errors import ConfigError
from minicnn.training.step import StepResult
from minicnn.training.trainer import Sampler, Trainer


class HardExamples(Sampler):
    """The first epoch takes all images; each later one `share` of its batches, filled with those that erred most.

    An image's error e[n] is the length of the loss's gradient with respect to the network's output for it, in the
    step in which it was last seen (`StepResult.errors`); for softmax and cross-entropy, the distance between the
    probabilities and the label. After an epoch most images of an easy data set have next to none, and add next to
    nothing to the gradient of a batch. Of images that err alike, those with lower numbers are taken.

    Source: Jiang et al., Accelerating deep learning by focusing on the biggest losers (2019), which chooses batch by
    batch; the error is that of Paul, Ganguli and Dziugaite, Deep learning on a data diet (2021), section 2.2.
    Raises ConfigError unless 0 < share <= 1.
    """

    def __init__(self, share: float, batches: Batches) -> None:
        self.share = share
        self._size = batches.batch_size
        self._steps = later_steps(share, len(batches))
        #: The errors (2, N): those that this epoch's images were chosen by, and the newest.
        self.errors: Array = np.full((2, len(batches.images)), np.inf, np.float32)

    def steps(self, epoch: int) -> int:
        """The number of batches of epoch 0, 1, ..."""
        return self._steps if epoch else -(-self.errors.shape[1] // self._size)

    def chosen(self, epoch: int) -> NDArray[np.int64] | None:
        """The numbers of the images of an epoch, in ascending order; None stands for all."""
        known = self.errors[0]
        count = self._steps * self._size
        if epoch == 0 or count >= len(known):
            return None
        limit = np.partition(known, len(known) - count)[len(known) - count]
        certain = known > limit
        level = np.flatnonzero(known == limit)[: count - np.count_nonzero(certain)]
        certain[level] = True
        return np.flatnonzero(certain)

    def on_setup(self, trainer: Trainer) -> None:
        if trainer.group.world_size > 1:
            raise ConfigError(
                "training.hard_examples: expected null with several processes, each of which sees the errors of a "
                f"part of the images only, received {self.share:g} with {trainer.group.world_size}"
            )

    def on_step_end(self, trainer: Trainer, batch: Batch, result: StepResult) -> None:
        if result.errors is not None:
            self.errors[1, batch.numbers] = result.errors

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """From now on, images are chosen by the newest errors."""
        self.errors[0] = self.errors[1]

    def arrays(self) -> dict[str, Array]:
        return {"errors": self.errors}


def later_steps(share: float, steps: int) -> int:
    """The steps of each epoch after the first, which has `steps`. Raises ConfigError unless 0 < share <= 1."""
    if not 0 < share <= 1:
        raise ConfigError(f"hard_examples: expected a share above 0, at most 1, received {share!r}")
    return max(1, math.ceil(round(share * steps, 6)))
