"""Mixup: an epoch trains on blends of two images each, and of their labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.engine.arrays import Array

STEPS = 4096  # of shares, so coarse that no machine rounds them differently
STREAM = 1  # of the random numbers of an epoch; the order of the images has none


@dataclass(frozen=True, eq=False)
class Mixing:
    """With which image each one is blended, and the share that it has itself; the other one has 1 - share."""

    partners: NDArray[np.int64]
    shares: NDArray[np.float32]

    def of(self, numbers: Any) -> "Mixing":
        """That of the images of these numbers."""
        return Mixing(self.partners[numbers], self.shares[numbers])

    def weighted(self, own: Array, others: Array) -> "Mixing":
        """That of the labels, for images with such weights: each label has its share of the blend's weight.

        share' = share own / (share own + (1 - share) others); where both weights are 0, nothing counts.
        """
        both = self.blend(own, others)
        shares = np.divide(self.shares * own, both, out=self.shares.astype(np.float64), where=both > 0)
        return Mixing(self.partners, shares.astype(np.float32))

    def blend(self, own: Array, others: Array) -> Array:
        """share own + (1 - share) others, in float64, for arrays with a row for each image."""
        shares = self.shares.astype(np.float64).reshape(-1, *(1,) * (own.ndim - 1))
        blended: Array = shares * own + (1 - shares) * others
        return blended


def draw(alpha: float, seed: int, epoch: int, count: int) -> Mixing:
    """That of all images in an epoch: a permutation, and shares from Beta(alpha, alpha), those below 1/2 from 1.

    The larger share is an image's own, which changes nothing else, as each pair is as likely both ways (Berthelot et
    al., MixMatch, 2019, equation 9).
    """
    generator = np.random.default_rng((seed, epoch, STREAM))
    partners = generator.permutation(count)
    shares = generator.beta(alpha, alpha, count)
    shares = np.round(np.maximum(shares, 1 - shares) * STEPS) / STEPS
    return Mixing(partners, shares.astype(np.float32))
