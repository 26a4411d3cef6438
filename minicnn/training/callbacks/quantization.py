"""Training for weights of 8 bits."""

import numpy as np

from minicnn.data.batches import Batch
from minicnn.engine.arrays import Array
from minicnn.errors import DivergedError
from minicnn.training.step import StepResult
from minicnn.training.trainer import Callback, Trainer

LEVELS = 127  # a weight is scale times an integer from -127 to 127


class FakeQuantization(Callback):
    """Each step computes with weights of 8 bits, and updates those of 32 by the gradients (straight-through estimator).

    A weight w of output channel o becomes scale[o] round(w / scale[o]), with scale[o] the largest |w| of the channel
    divided by 127, as in `minicnn.export.c.quantize`. Between steps the network has the weights of 32 bits. Maps and
    biases stay as they are.

    Source: Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only inference
    (2018), section 3; the estimator: Bengio, Leonard and Courville, Estimating or propagating gradients through
    stochastic neurons for conditional computation (2013), section 4.
    """

    def on_setup(self, trainer: Trainer) -> None:
        # An axis of channels has all other axes in its sum: weights are (out, in, kh, kw) or (out, in).
        parameters = trainer.network.parameters()
        self._weights = [one.value for one in parameters if one.name.endswith("weight") and one.value.ndim in (2, 4)]
        self._kept: list[Array] = []
        self._used: list[Array] = []

    def on_step_begin(self, trainer: Trainer) -> None:
        self._kept = [weight.copy() for weight in self._weights]
        for weight in self._weights:
            weight[...] = quantized(weight)
        self._used = [weight.copy() for weight in self._weights]

    def on_step_end(self, trainer: Trainer, batch: Batch, result: StepResult) -> None:
        for weight, kept, used in zip(self._weights, self._kept, self._used, strict=True):
            weight += kept - used
        self._kept = []

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        if not isinstance(error, DivergedError):  # then LastFiniteWeights has put others there
            for weight, kept in zip(self._weights, self._kept, strict=False):
                weight[...] = kept


def quantized(weight: Array) -> Array:
    """The nearest weights that 8 bits can hold, with a scale for each output channel, the first axis."""
    scale = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True) / LEVELS
    scale[scale == 0] = 1
    nearest: Array = (np.rint(weight / scale) * scale).astype(weight.dtype)
    return nearest
