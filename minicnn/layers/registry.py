"""A network as plain data, names of layers with their options, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import minicnn.layers
from minicnn import own_code
from minicnn.errors import MinicnnError, ShapeError
from minicnn.layers import Layer
from minicnn.layers.sequential import Sequential

#: The layers of this package by name.
LAYERS: dict[str, type[Layer]] = {
    name: getattr(minicnn.layers, name)
    for name in minicnn.layers.__all__
    if name not in ("LaneLayer", "Layer", "Parameter")
}

KNOWN = LAYERS | {"Sequential": Sequential}


def to_config(network: Layer) -> list[dict[str, dict[str, Any]]]:
    """Each layer of the network as {name: options}, which JSON can hold; a layer among the options is one, too.

    A single layer counts as a network of one. Raises MinicnnError for a layer whose options are unknown or not plain,
    and for one of the user's with the name of a layer of this package.
    """
    return _described(network.layers if type(network) is Sequential else [network])


def _described(layers: Sequence[Layer]) -> list[dict[str, dict[str, Any]]]:
    found = []
    for i, layer in enumerate(layers):
        try:
            found.append(_named(layer))
        except MinicnnError as error:
            raise MinicnnError(f"layer {i} {error}") from None
    return found


def _named(layer: Layer) -> dict[str, dict[str, Any]]:
    name = own_code.name_of(type(layer))
    if name in KNOWN and type(layer) is not KNOWN[name]:
        raise MinicnnError(f"{name}: expected a name that no layer of minicnn has, for a layer of your own")
    return {name: {key: _plain(value, f"{name}: option {key}") for key, value in layer.options().items()}}


def from_config(description: Sequence[Any], own_layers: Mapping[str, type[Layer]] | None = None) -> Sequential:
    """The network that `to_config` described, with parameters of its own. `own_layers` adds names to look up.

    Raises MinicnnError for an unknown layer, and for options that its constructor refuses.
    """
    return Sequential(_layers(description, KNOWN | own_classes(description, own_layers or {})))


def _layers(description: Sequence[Any], known: Mapping[str, type[Layer]]) -> list[Layer]:
    layers: list[Layer] = []
    for i, item in enumerate(description):
        try:
            layers.append(_layer(item, known))
        except MinicnnError as error:
            raise MinicnnError(f"layer {i}{error}") from None
    return layers


def _layer(item: Any, known: Mapping[str, type[Layer]]) -> Layer:
    """Raises MinicnnError, whose text goes on behind the place."""
    if not isinstance(item, Mapping) or len(item) != 1:
        raise MinicnnError(f": expected one name with options, received {item!r:.60}")
    [(name, options)] = item.items()
    if name not in known:
        raise MinicnnError(f': {name} is no layer of minicnn; pass its class: layers={{"{name}": {name}}}')
    try:
        given = {key: _option(value, known) for key, value in options.items()}
    except MinicnnError as error:  # of a layer within it
        raise MinicnnError(f", {error}") from None
    try:
        return known[name](**given)
    except ShapeError as error:
        raise MinicnnError(f" {error}") from None
    except Exception as error:  # a class of the user's may raise anything
        raise MinicnnError(f" {name}: cannot be built with {options}: {type(error).__name__}: {error}") from None


def _option(value: Any, known: Mapping[str, type[Layer]]) -> Any:
    """An option with layers in the place of their descriptions."""
    if isinstance(value, Mapping):
        return _layer(value, known)
    if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        return _layers(value, known)
    return value


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
    """`value` as JSON holds it: tuples become lists, NumPy's numbers Python's, layers their names with options."""
    if isinstance(value, Layer):
        return _named(value)
    if isinstance(value, tuple | list):
        if value and all(isinstance(one, Layer) for one in value):
            return _described(value)
        return [_plain(element, place) for element in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise MinicnnError(f"{place}: expected a number, text, or a list of them, received {type(value).__name__}")
