"""Transfer learning: a network begins with the weights of another one, as far as they fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicnn.checks import told
from minicnn.engine.arrays import Array
from minicnn.errors import MinicnnError
from minicnn.layers import Layer
from minicnn.layers.state import fitting
from minicnn.model.file import read

MOST_SHOWN = 4


@dataclass(frozen=True)
class Transfer:
    """What a network has taken over from another one: arrays by their names in the state dict.

    loaded  those that it has taken
    kept    those that are as before, and why
    unused  those that only the other network has
    """

    loaded: list[str]
    kept: dict[str, str]
    unused: list[str]

    def __str__(self) -> str:
        count = len(self.loaded) + len(self.kept)
        text = f"{len(self.loaded)} of {count} arrays are those of the other network"
        if self.kept:
            text += f"; initialised anew: {_shown([f'{name} ({why})' for name, why in self.kept.items()])}"
        if self.unused:
            text += f"; not used: {_shown(self.unused)}"
        return text


def take_weights(network: Layer, source: Layer | Mapping[str, Any] | str | Path) -> Transfer:
    """Writes the weights and statistics of `source` that fit by name and shape into a network; all others stay.

    A layer is taken as a whole or not at all. source: a network, its state dict, a model file, or a run's folder; of
    files, the layers need not be known.

    Raises MinicnnError for other things, if there is no such file, or if nothing fits.
    """
    place, state = "the other network", source
    if isinstance(source, str | Path):
        path, _, state = read(Path(source))
        place = str(path)
    elif isinstance(source, Layer):
        state = source.state_arrays()
    if not isinstance(state, Mapping):
        raise MinicnnError(
            "start_from: expected a model, a network, a state dict, a model file or a run's folder, "
            f"received {told(source)}"
        )
    arrays = network.state_arrays()
    values: dict[str, Array] = {}
    kept: dict[str, str] = {}
    for name, array in arrays.items():
        try:
            values[name] = fitting(state[name], array)
        except KeyError:
            kept[name] = "the other has none"
        except (TypeError, ValueError, RuntimeError, FloatingPointError) as error:
            kept[name] = str(error)
    for name in list(values):
        layer = name.rpartition(".")[0]
        if any(other.rpartition(".")[0] == layer for other in kept):
            kept[name] = "its layer does not fit"
            del values[name]
    if not values:
        reasons = _shown([f"{name} ({why})" for name, why in kept.items()])
        raise MinicnnError(f"{place}: expected weights that fit this network, received none that do: {reasons}")
    for name, value in values.items():
        arrays[name][...] = value
    in_order = {name: kept[name] for name in arrays if name in kept}
    return Transfer(list(values), in_order, [str(name) for name in state if name not in arrays])


def _shown(items: list[str]) -> str:
    more = len(items) - MOST_SHOWN
    return ", ".join(items[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
