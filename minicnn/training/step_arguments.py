"""Mistakes with the arguments of `train_step` and `evaluate`, each told with its remedy."""

from typing import Any

from minicnn.checks import told, words
from minicnn.data.batches import Batch, Batches
from minicnn.errors import MinicnnError
from minicnn.layers import Layer
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss
from minicnn.optimizers import Optimizer

_ORDER: dict[str, type] = {"network": Sequential, "loss": Loss, "optimizer": Optimizer}


def check_arguments(
    network: Any, loss: Any, optimizer: Any = None, batch: Any = None, rest: Any = None, place: str = "train_step"
) -> None:
    """Raises MinicnnError, with the remedy, for arguments of other types, as in another order."""
    if isinstance(network, Sequential) and isinstance(loss, Loss) and isinstance(optimizer, Optimizer) and rest is None:
        return  # at once, as this is asked for each step
    given = {"network": network, "loss": loss} | ({} if place == "evaluate" else {"optimizer": optimizer})
    for name, value in given.items():
        kind = _ORDER[name]
        if isinstance(value, kind):
            continue
        if any(isinstance(value, other) for other in _ORDER.values()):
            hint = f"; the order is {place}({', '.join([*given, 'batches' if place == 'evaluate' else 'batch'])})"
        elif isinstance(value, Layer):
            hint = "; put it into one: Sequential([layer])"
        elif isinstance(getattr(value, "network", None), Sequential):
            hint = "; its network is model.network"
        elif name == "loss" and hasattr(value, "forward") and not isinstance(value, type):
            hint = "; a loss of your own derives from minicnn.Loss"
        else:
            hint = ""
        raise MinicnnError(f"{place}: {name}: expected {words(kind)}, received {told(value)}{hint}")
    if rest is not None and not callable(rest):
        raise MinicnnError(
            f"{place}: batch: expected a Batch or a pair, received x and target one by one; "
            f"make them a pair: {place}({', '.join(given)}, (x, target))"
        )


def check_batch(batch: Any, place: str) -> None:
    """Raises MinicnnError for what is neither a batch nor a pair."""
    if isinstance(batch, Batch) or (isinstance(batch, tuple | list) and len(batch) in (2, 3)):
        return
    if isinstance(batch, Batches):
        hint = "; for batch in batches: ..."
    else:
        hint = "; batches is a list of them: [(x, target)]" if place == "evaluate" else ""
    raise MinicnnError(f"{place}: batch: expected a Batch or a pair (x, target), received {told(batch)}{hint}")
