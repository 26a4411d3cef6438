"""One training step of one image, told layer by layer with numbers that a reader can check by hand.

The numbers are those of the layers themselves, from their public `forward` and `backward`. The story follows one path:
from the score of the image's class down to the pixels, at each layer through the input that mattered most.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from itertools import groupby
from textwrap import wrap

import numpy as np

from minicnn.engine.arrays import Array
from minicnn.inspect.summary import short
from minicnn.layers import Layer, Parameter
from minicnn.layers.explain import Explanation, Place, Step, index
from minicnn.layers.sequential import Sequential
from minicnn.losses import Loss
from minicnn.optimizers import Optimizer

WIDTH = 108  # of prose
MOST_TENS = 6  # of `visible_rate`: beyond it the network is so sure that no rate is worth to be shown

INTRODUCTION = """\
x is what a layer is given and y what it gives; dx and dy are the derivatives of the loss by them. Indices
begin at 0: of maps (map, row, column), of weights as in the layer's docstring. Factors are shown with 5
digits and results with 4, and computed with more: a shown product can be off by one in its last digit, a sum
of n shown numbers by about n / 2. Each layer is told for one output, and the layer before it for the input
that mattered most for that one."""


def trace(network: Sequential, loss: Loss, optimizer: Optimizer, x: Array, label: int) -> str:
    """The text of one step on x (1, ...) of class `label`; the step is made, `network` is trained by it.

    Frozen layers, which have no gradients to tell of, are told and trained as if they were not frozen.
    """
    frozen = [place for place, layer in network.places() if layer.frozen]
    network.unfreeze()
    taken, error = take_step(network, loss, x, label)
    follow(taken, (label,))
    steps = [one for step in taken for one in step.all()]
    parts = ["FORWARD", ""]
    for one in steps:
        parts += [one.heading, *_indented(one.explained.forward), ""]
    last = taken[-1].step
    parts += ["LOSS", "", *_indented(loss.explain(last.y, last.dy, label, error)), "", "BACKWARD", ""]
    for one in reversed(steps):
        parts += [one.heading, *_indented(one.explained.backward), ""]
    chosen = [
        (parameter.renamed(f"{one.place}.weight"), one.explained.weight)
        for one in steps
        for parameter in one.layer.parameters()
        if one.explained.weight is not None and parameter.name == "weight"
    ]
    parts += ["UPDATE", "", *_indented(explain_update(optimizer, chosen))]
    if frozen:
        note = f"Training leaves layers {', '.join(frozen)} as they are; here they are told as if it did not."
        parts += ["", *_indented([note])]
    return "\n".join(parts)


@dataclass
class Taken:
    """What a layer did in the step; `rows`, for each of its paths the layers on it, where it adds up several."""

    place: str
    layer: Layer
    step: Step
    rows: "list[list[Taken]]" = field(default_factory=list)
    explained: Explanation = field(init=False)

    def all(self) -> "Iterator[Taken]":
        """All layers within it, and then itself."""
        for row in self.rows:
            for one in row:
                yield from one.all()
        yield self

    @property
    def heading(self) -> str:
        name = type(self.layer).__name__ if self.rows else short(repr(self.layer))
        sizes = ("x".join(map(str, array.shape)) for array in (self.step.x, self.step.y))
        return f"layer {self.place}  {name}  {' -> '.join(sizes)}"


def take_step(network: Layer, loss: Loss, x: Array, label: int) -> tuple[list[Taken], float]:
    """All layers' inputs, outputs and gradients for one image, and the loss; no weight changes."""
    y, backward = _pass(network, x, "")
    error = loss.forward(y, np.array([label]))
    return backward(loss.backward())[1], error


#: From dy to dx, and what the layers did.
_Backward = Callable[[Array], tuple[Array, list[Taken]]]


def _pass(layer: Layer, x: Array, place: str) -> tuple[Array, _Backward]:
    paths, children = layer.paths(), layer.children()
    if paths is None:
        # One image has no statistics of its features: then the running ones count.
        y = layer.forward(x, training=not (layer.normalizes and x.ndim == 2))

        def alone(dy: Array) -> tuple[Array, list[Taken]]:
            dx = layer.backward(dy)
            gradients = {parameter.name: parameter.grad.copy() for parameter in layer.parameters()}
            return dx, [Taken(place or "0", layer, Step(x[0], y[0], dy[0], dx[0], gradients))]

        return y, alone
    parts, ways = list[Array](), list[list[_Backward]]()
    for path in paths:
        part, way = x, list[_Backward]()
        for name in path:
            part, back = _pass(children[name], part, f"{place}.{name}" if place else name)
            way.append(back)
        parts.append(part)
        ways.append(way)
    y = reduce(np.add, parts)

    def backward(dy: Array) -> tuple[Array, list[Taken]]:
        gradients, rows = [], []
        for way in ways:
            dx, row = dy, list[Taken]()
            for back in reversed(way):
                dx, taken = back(dx)
                row = taken + row
            gradients.append(dx)
            rows.append(row)
        if len(rows) == 1:
            return gradients[0], rows[0]
        dx = reduce(np.add, gradients)
        sums = [(part[0], gradient[0]) for part, gradient in zip(parts, gradients, strict=True)]
        return dx, [Taken(place or "0", layer, Step(x[0], y[0], dy[0], dx[0], {}, sums), rows)]

    return y, backward


def visible_rate(network: Sequential, loss: Loss, optimizer: Optimizer, x: Array, label: int) -> int:
    """The power of ten to multiply the learning rate by so that six decimals show the update of each layer's weights.

    A trained network is sure of most images, and their gradients are tiny. The largest change in each layer is to be
    0.0005 at least; a gradient of 0 has none at any rate. The weights stay as they are; `optimizer` has made a step.
    """
    state = {name: array.copy() for name, array in network.state_dict().items()}
    take_step(network, loss, x, label)
    weights = [parameter for parameter in network.parameters() if parameter.name.endswith("weight")]
    before = [parameter.value.copy() for parameter in weights]
    optimizer.step()
    moves = [float(np.abs(parameter.value - old).max()) for parameter, old in zip(weights, before, strict=True)]
    network.load_state_dict(state)
    least = min((move for move in moves if move > 0), default=1.0)
    return int(10 ** min(MOST_TENS, max(0, np.ceil(np.log10(5e-4 / least)))))


def follow(taken: list[Taken], at: Place) -> Place:
    """Lets each layer explain itself, on the path from the output at a place down; returns that in the input.

    Where paths come together, all are followed from there, and below them the first that has layers goes on.
    """
    for one in reversed(taken):
        one.explained = one.layer.explain(one.step, at)
        ends = [follow(row, at) for row in one.rows if row]
        at = ends[0] if ends else one.explained.source
    return at


def _indented(lines: list[str]) -> list[str]:
    """The lines, with prose (what is not indented yet) broken where it is long."""
    parts = ([line] if line.startswith(" ") else wrap(line, WIDTH) for line in lines)
    return [f"  {line}" for part in parts for line in part]


def explain_update(optimizer: Optimizer, chosen: list[tuple[Parameter, Place]]) -> list[str]:
    """Makes the update, and explains that of one weight of each layer on the path."""
    before = [(p, at, float(p.value[at]), float(p.grad[at])) for p, at in chosen]
    optimizer.step()
    lines = list[str]()
    for group, weights in groupby(before, lambda weight: optimizer.group_of(weight[0])):
        found = [(index(p.name, at), w, g, float(p.value[at])) for p, at, w, g in weights]
        lines += optimizer.within(group).explain(found)
    return lines
