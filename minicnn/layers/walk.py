"""Walks through a network, layer by layer, also through those within layers whose `paths` are known."""

from collections.abc import Generator, Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from minicnn.engine.arrays import Array, Shape

from .layer import Layer


class Visit(NamedTuple):
    """A layer on the walk.

    place   in the network: "3", or "2.layers.0" within layer 2
    shape   of a sample that it is given
    depth   how many layers with rows of their own it is within
    within  whether the walk goes on to layers within this one, whose results it adds up
    """

    place: str
    layer: Layer
    shape: Shape
    depth: int
    within: bool


def visits(layer: Layer, input_shape: Sequence[int], place: str = "", depth: int = 0) -> Iterator[Visit]:
    """All layers in their order; one with several paths comes before those on them, a single path is no layer itself.

    Raises ShapeError for layers that do not fit.
    """
    paths = layer.paths()
    own = paths is None or len(paths) > 1
    if own:
        yield Visit(place or "0", layer, tuple(input_shape), depth, paths is not None)
    for name, child, shape in layer.along_paths(tuple(input_shape)):
        yield from visits(child, shape, _joined(place, name), depth + own)


def outputs(
    layer: Layer, x: Array, training: bool = False, place: str = ""
) -> Generator[tuple[str, Layer, Array], None, Array]:
    """(place, layer, its output) for the input x (N, ...); one with several paths comes behind those on them."""
    paths, children = layer.paths(), layer.children()
    if paths is None:
        y = layer.forward(x, training)
    else:
        parts = []
        for path in paths:
            part = x
            for name in path:
                part = yield from outputs(children[name], part, training, _joined(place, name))
            parts.append(part)
        y = reduce(np.add, parts)
    if paths is None or len(paths) > 1:
        yield place or "0", layer, y
    return y


def leaves(layer: Layer) -> Iterator[tuple[str, Layer]]:
    """(place, layer) of all layers that hold no other, in order; a layer alone is at "0"."""
    places = list(layer.places())
    yield from ((place, one) for place, one in places if not one.children())
    if not places:
        yield "0", layer


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
