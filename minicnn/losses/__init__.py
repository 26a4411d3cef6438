"""Losses: the number that training makes small, and its gradient."""

from minicnn.losses.cross_entropy import BCEWithLogits, MaximumAPosteriori, SoftmaxCrossEntropy
from minicnn.losses.loss import Loss
from minicnn.losses.squared_error import HalfSquaredError, MeanSquaredError

__all__ = [
    "LABEL_LOSSES",
    "LOGIT_LOSSES",
    "LOSSES",
    "BCEWithLogits",
    "HalfSquaredError",
    "Loss",
    "MaximumAPosteriori",
    "MeanSquaredError",
    "SoftmaxCrossEntropy",
    "name_of",
]

#: The losses by their names in settings and model files.
LOSSES: dict[str, type[Loss]] = {
    "softmax-cross-entropy": SoftmaxCrossEntropy,
    "mean-squared-error": MeanSquaredError,
    "half-squared-error": HalfSquaredError,
    "maximum-a-posteriori": MaximumAPosteriori,
    "binary-cross-entropy": BCEWithLogits,
}
#: Those of one label per sample, which data sets have.
LABEL_LOSSES = {name: loss for name, loss in LOSSES.items() if not loss.multi_label}
#: Those under which the softmax of the scores gives probabilities.
LOGIT_LOSSES = tuple(name for name, loss in LOSSES.items() if loss.takes_logits)


def name_of(loss: Loss) -> str:
    """That of a loss in `LOSSES`; for a user's own, that of the one which reads scores as it does."""
    own = "softmax-cross-entropy" if loss.takes_logits else "mean-squared-error"
    return next((name for name, kind in LOSSES.items() if kind is type(loss)), own)
