"""What the images of a batch ought to give: labels, rows, or the blended labels of mixup."""

from typing import Any

import numpy as np

from minicnn.data.batches import Batch
from minicnn.engine.arrays import Array, Shape
from minicnn.errors import ConfigError
from minicnn.losses import Loss
from minicnn.losses.targets import Target, check_labels

#: (x, target) or (x, target, sample_weight)
Pair = tuple[Array, ...]


def target_of(loss: Loss, batch: Batch | Pair, scores: Shape, dtype: np.dtype[Any]) -> Target:
    """The target of a batch for outputs of the shape `scores`, as programs take it.

    Raises ShapeError or MinicnnError for one that does not fit, ConfigError for blended images and a loss of labels.
    """
    if isinstance(batch, Batch) and len(scores) == 2 and batch.labels_below(scores[1]):
        found = loss.prepare_labels(batch.labels, batch.labels_at, scores, dtype)
        if found:
            return found
    target, weights, labels = given(loss, batch, scores, dtype)
    return loss.prepare(target, scores, dtype, weights, labels)


def given(
    loss: Loss, batch: Batch | Pair, scores: Shape, dtype: np.dtype[Any]
) -> tuple[Array, Array | None, Array | None]:
    """The target of a batch, the weights of its samples, and the right answers, if the target does not tell them."""
    if not isinstance(batch, Batch):
        return batch[1], batch[2] if len(batch) > 2 else None, None
    mixing, labels = batch.label_mixing, batch.labels
    if mixing is None:
        return labels, batch.weights, None
    if not loss.takes_shares:
        raise ConfigError(f"augmentation.mixup: expected 0 with {loss!r}, whose target is a label, received more")
    if labels.ndim > 1:
        return mixing.blend(labels, batch.labels_of_partners).astype(dtype), batch.weights, None
    both = (check_labels(each, scores, type(loss).__name__) for each in (labels, batch.labels_of_partners))
    rows = (np.eye(scores[-1])[each] for each in both)
    return mixing.blend(*rows).astype(dtype), batch.weights, labels
