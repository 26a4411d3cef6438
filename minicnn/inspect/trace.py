"""One training step of one image, told layer by layer with numbers that a reader can check by hand.

The numbers are those of the layers themselves, from their public `forward` and `backward`. The story follows one path:
from the score of the image's class down to the pixels, at each layer through the input that mattered most.
"""

from textwrap import wrap

import numpy as np

from minicnn.engine.arrays import Array
from minicnn.inspect.summary import leaves, short
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
    """The text of one step on x (1, ...) of class `label`; the step is made, `network` is trained by it."""
    layers = list(leaves(network))
    steps, error = take_step([layer for _, layer in layers], loss, x, label)
    explained = follow([layer for _, layer in layers], steps, label)
    headings = [
        f"layer {name}  {short(repr(layer))}  {' -> '.join('x'.join(map(str, a.shape)) for a in (step.x, step.y))}"
        for (name, layer), step in zip(layers, steps, strict=True)
    ]
    parts = ["FORWARD", ""]
    for heading, explanation in zip(headings, explained, strict=True):
        parts += [heading, *_indented(explanation.forward), ""]
    parts += ["LOSS", "", *_indented(loss.explain(steps[-1].y, steps[-1].dy, label, error)), "", "BACKWARD", ""]
    for heading, explanation in zip(reversed(headings), reversed(explained), strict=True):
        parts += [heading, *_indented(explanation.backward), ""]
    chosen = [
        (parameter.renamed(f"{name}.weight"), explanation.weight)
        for (name, layer), explanation in zip(layers, explained, strict=True)
        for parameter in layer.parameters()
        if explanation.weight is not None and parameter.name == "weight"
    ]
    parts += ["UPDATE", "", *_indented(explain_update(optimizer, chosen))]
    return "\n".join(parts)


def take_step(layers: list[Layer], loss: Loss, x: Array, label: int) -> tuple[list[Step], float]:
    """All layers' inputs, outputs and gradients for one image, and the loss; no weight changes."""
    values = [x]
    for layer in layers:
        # One image has no statistics of its features: then the running ones count.
        training = not (layer.normalizes and values[-1].ndim == 2)
        values.append(layer.forward(values[-1], training=training))
    error = loss.forward(values[-1], np.array([label]))
    dy, steps = loss.backward(), list[Step]()
    for layer in reversed(layers):
        dx, y = layer.backward(dy), values.pop()
        gradients = {parameter.name: parameter.grad.copy() for parameter in layer.parameters()}
        steps.append(Step(values[-1][0], y[0], dy[0], dx[0], gradients))
        dy = dx
    return steps[::-1], error


def visible_rate(network: Sequential, loss: Loss, optimizer: Optimizer, x: Array, label: int) -> int:
    """The power of ten to multiply the learning rate by so that six decimals show the update of each layer's weights.

    A trained network is sure of most images, and their gradients are tiny. The largest change in each layer is to be
    0.0005 at least; a gradient of 0 has none at any rate. The weights stay as they are; `optimizer` has made a step.
    """
    state = {name: array.copy() for name, array in network.state_dict().items()}
    take_step([layer for _, layer in leaves(network)], loss, x, label)
    weights = [parameter for parameter in network.parameters() if parameter.name.endswith("weight")]
    before = [parameter.value.copy() for parameter in weights]
    optimizer.step()
    moves = [float(np.abs(parameter.value - old).max()) for parameter, old in zip(weights, before, strict=True)]
    network.load_state_dict(state)
    least = min((move for move in moves if move > 0), default=1.0)
    return int(10 ** min(MOST_TENS, max(0, np.ceil(np.log10(5e-4 / least)))))


def follow(layers: list[Layer], steps: list[Step], label: int) -> list[Explanation]:
    """What each layer did, on the path from the score of the class down."""
    at: Place = (label,)
    explained = []
    for layer, step in zip(reversed(layers), reversed(steps), strict=True):
        explained.append(layer.explain(step, at))
        at = explained[-1].source
    return explained[::-1]


def _indented(lines: list[str]) -> list[str]:
    """The lines, with prose (what is not indented yet) broken where it is long."""
    parts = ([line] if line.startswith(" ") else wrap(line, WIDTH) for line in lines)
    return [f"  {line}" for part in parts for line in part]


def explain_update(optimizer: Optimizer, chosen: list[tuple[Parameter, Place]]) -> list[str]:
    """Makes the update, and explains that of one weight of each layer on the path."""
    before = [(float(p.value[at]), float(p.grad[at])) for p, at in chosen]
    optimizer.step()
    return optimizer.explain(
        [(index(p.name, at), w, g, float(p.value[at])) for (p, at), (w, g) in zip(chosen, before, strict=True)]
    )
