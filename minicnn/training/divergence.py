"""Which layer made a loss that is not finite."""

from collections.abc import Callable, Sequence

import numpy as np

from minicnn.data.batches import Batch
from minicnn.engine.arrays import Array
from minicnn.errors import MinicnnError
from minicnn.layers.sequential import Sequential
from minicnn.layers.walk import outputs
from minicnn.training.targets import Pair

#: Adds up an array over all processes, in place, and returns the sums of the numbers.
Reduction = Callable[[Array, Sequence[float]], list[float]]


def first_not_finite(network: Sequential, batch: Batch | Pair, training: bool = False) -> str | None:
    """The first layer whose output for a batch holds a NaN or infinity, or None. It draws other masks of Dropout."""
    x = batch.arrays()[0] if isinstance(batch, Batch) else np.asarray(batch[0])
    buffers = {name: array.copy() for name, array in network.buffers().items()}
    try:
        found = outputs(network, x, training)
        return next((f"layer {place} {layer!r}" for place, layer, y in found if not np.isfinite(y).all()), None)
    except MinicnnError:  # for a NaN that it was given
        return None
    finally:
        for name, array in network.buffers().items():
            array[...] = buffers[name]


def common(network: Sequential, layer: str | None, reduce: Reduction | None) -> str | None:
    """The first of the layers that the processes have found, each its own or none."""
    if reduce is None:
        return layer
    names = [f"layer {place} {one!r}" for place, one in network.places()]
    found = reduce(np.zeros(0, np.float32), [float(layer == name) for name in names])
    return next((name for name, count in zip(names, found, strict=True) if count), None)
