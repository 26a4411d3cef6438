"""A network as plain data, names of layers with their options, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import minicnn.layers
from minicnn import own_code
from minicnn.errors import MinicnnError, ShapeError
from minicnn.layers import Layer
from minicnn.layers.sequential import Sequential
from minicnn.own_code import name_of

#: The layers of this package by name.
LAYERS: dict[str, type[Layer]] = {
    name: getattr(minicnn.layers, name)
    for name in minicnn.layers.__all__
    if name not in ("LaneLayer", "Layer", "Parameter")
}

KNOWN = LAYERS | {"Sequential": Sequential}


def to_config(network: Layer) -> list[dict[str, dict[str, Any]]]:
    """Each layer of the network as {name: options}, which JSON can hold; a Sequential's option is its own list.

    A single layer counts as a network of one. Raises MinicnnError for a layer whose options are unknown or not plain,
    and for one of the user's with the name of a layer of this package.
    """
    layers = network.layers if type(network) is Sequential else [network]
    found = []
    for i, layer in enumerate(layers):
        name = name_of(type(layer))
        if name in KNOWN and type(layer) is not KNOWN[name]:
            raise MinicnnError(
                f"layer {i} {name}: expected a name that no layer of minicnn has, for a layer of your own"
            )
        try:
            options = (
                {"layers": to_config(layer)}
                if type(layer) is Sequential
                else {key: _plain(value, f"{name}: option {key}") for key, value in layer.options().items()}
            )
        except MinicnnError as error:
            raise MinicnnError(f"layer {i} {error}") from None
        found.append({name: options})
    return found


def from_config(description: Sequence[Any], own_layers: Mapping[str, type[Layer]] | None = None) -> Sequential:
    """The network that `describe` described, with parameters of its own. `own_layers` adds names to look up.

    Raises MinicnnError for an unknown layer, and for options that its constructor refuses.
    """
    known = KNOWN | own_classes(description, own_layers or {})
    layers: list[Layer] = []
    for i, item in enumerate(description):
        if not isinstance(item, Mapping) or len(item) != 1:
            raise MinicnnError(f"layer {i}: expected one name with options, received {item!r:.60}")
        [(name, options)] = item.items()
        if name not in known:
            raise MinicnnError(f'layer {i}: {name} is no layer of minicnn; pass its class: layers={{"{name}": {name}}}')
        try:
            if known[name] is Sequential:
                layers.append(from_config(options["layers"], own_layers))
            else:
                layers.append(known[name](**options))
        except ShapeError as error:
            raise MinicnnError(f"layer {i} {error}") from None
        except MinicnnError as error:  # of a nested network
            raise MinicnnError(f"layer {i}, {error}") from None
        except Exception as error:  # a class of the user's may raise anything
            raise MinicnnError(
                f"layer {i} {name}: cannot be built with {options}: {type(error).__name__}: {error}"
            ) from None
    return Sequential(layers)


def own_names(description: Sequence[Any]) -> list[str]:
    """The names of classes of a user's own in a description."""
    return own_code.names_in({"network": {"layers": list(description)}})


def own_classes(description: Sequence[Any], given: Mapping[str, type[Layer]]) -> dict[str, type[Layer]]:
    """The classes of a user's own by the names in a description: those `given`, and those that have been loaded.

    A name such as my_module:PReLU may be given as PReLU.
    """
    found = dict(given)
    for name in own_names(description):
        short = name.partition(":")[2]
        found[name] = found.get(name) or found.get(short) or own_code.find(name, Layer, "layers")
    return found


def _plain(value: Any, place: str) -> Any:
    """`value` as JSON holds it: tuples become lists, NumPy's numbers Python's."""
    if isinstance(value, tuple | list):
        return [_plain(element, place) for element in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise MinicnnError(f"{place}: expected a number, text, or a list of them, received {type(value).__name__}")
