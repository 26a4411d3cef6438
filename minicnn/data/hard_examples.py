"""Training on what is not learned yet: which images the epochs after the first take."""

import math

import numpy as np
from numpy.typing import NDArray

from minicnn.engine.arrays import Array
from minicnn.errors import ConfigError

from .batches import Batch, Batches


class HardExamples:
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

    def update(self, batch: Batch, errors: Array) -> None:
        """Takes in the errors of a batch that was trained on."""
        self.errors[1, batch.numbers] = errors

    def end_epoch(self) -> None:
        """From now on, images are chosen by the newest errors."""
        self.errors[0] = self.errors[1]


def later_steps(share: float, steps: int) -> int:
    """The steps of each epoch after the first, which has `steps`. Raises ConfigError unless 0 < share <= 1."""
    if not 0 < share <= 1:
        raise ConfigError(f"hard_examples: expected a share above 0, at most 1, received {share!r}")
    return max(1, math.ceil(round(share * steps, 6)))
