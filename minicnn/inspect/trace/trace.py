"""One training step of one image, told layer by layer with numbers that a reader can check by hand.

The numbers are those of the layers themselves, from their public `forward` and `backward`. The story follows one path:
from the score of the image's class down to the pixels, at each layer through the input that mattered most.
"""

from collections.abc import Callable
from textwrap import wrap

import numpy as np

from minicnn.engine.arrays import Array
from minicnn.inspect.summary import leaves, short
from minicnn.inspect.trace.sums import PRODUCT, decimals, fixed, index, number
from minicnn.inspect.trace.tellers import TELLERS, tell_any
from minicnn.inspect.trace.telling import Place, Step, Told
from minicnn.layers import Parameter
from minicnn.layers.sequential import Sequential
from minicnn.losses import HalfSquaredError, Loss, MaximumAPosteriori, MeanSquaredError, SoftmaxCrossEntropy
from minicnn.optimizers import SGD

WIDTH = 108  # of prose

INTRODUCTION = """\
x is what a layer is given and y what it gives; dx and dy are the derivatives of the loss by them. Indices
begin at 0: of maps (map, row, column), of weights as in the layer's docstring. Factors are shown with 5
digits and results with 4, and computed with more: a shown product can be off by one in its last digit, a sum
of n shown numbers by about n / 2. Each layer is told for one output, and the layer before it for the input
that mattered most for that one."""


def trace(network: Sequential, loss: Loss, optimizer: SGD, x: Array, label: int) -> str:
    """The text of one step on x (1, ...) of class `label`; the step is made, `network` is trained by it."""
    steps, error = take_step(network, loss, x, label)
    told = follow(steps, label)
    parts = ["FORWARD", ""]
    for step, tale in zip(steps, told, strict=True):
        parts += [_heading(step), *_indented(tale.forward), ""]
    parts += ["LOSS", "", *_indented(tell_loss(loss, steps[-1].y, steps[-1].dy, label, error)), ""]
    parts += ["BACKWARD", ""]
    for step, tale in zip(reversed(steps), reversed(told), strict=True):
        parts += [_heading(step), *_indented(tale.backward), ""]
    parts += ["UPDATE", "", *_indented(tell_update(network, optimizer, steps, told))]
    return "\n".join(parts)


def take_step(network: Sequential, loss: Loss, x: Array, label: int) -> tuple[list[Step], float]:
    """All layers' inputs, outputs and gradients for one image, and the loss; no weight changes."""
    layers = list(leaves(network))
    values = [x]
    for _, layer in layers:
        values.append(layer.forward(values[-1], training=True))
    error = loss.forward(values[-1], np.array([label]))
    gradients = [loss.backward()]
    for _, layer in reversed(layers):
        gradients.append(layer.backward(gradients[-1]))
    gradients.reverse()
    return [
        Step(
            name,
            layer,
            values[k][0],
            values[k + 1][0],
            gradients[k + 1][0],
            gradients[k][0],
            {parameter.name: parameter.grad.copy() for parameter in layer.parameters()},
        )
        for k, (name, layer) in enumerate(layers)
    ], error


def follow(steps: list[Step], label: int) -> list[Told]:
    """What is told of each layer, on the path from the score of the class down."""
    at: Place = (label,)
    told = []
    for step in reversed(steps):
        told.append(TELLERS.get(type(step.layer), tell_any)(step, at))
        at = told[-1].source
    return told[::-1]


def _heading(step: Step) -> str:
    shapes = " -> ".join("x".join(map(str, array.shape)) for array in (step.x, step.y))
    return f"layer {step.name}  {short(repr(step.layer))}  {shapes}"


def _indented(lines: list[str]) -> list[str]:
    """The lines, with prose (what is not indented yet) broken where it is long."""
    parts = ([line] if line.startswith(" ") else wrap(line, WIDTH) for line in lines)
    return [f"  {line}" for part in parts for line in part]


def tell_cross_entropy(loss: Loss, y: Array, dy: Array, label: int, error: float) -> list[str]:
    assert isinstance(loss, SoftmaxCrossEntropy)
    smoothing = loss.label_smoothing
    scores = y.astype(np.float64)
    exponentials = np.exp(scores - scores.max())
    p = exponentials / exponentials.sum()
    targets = np.full(len(y), smoothing / len(y))
    targets[label] += 1 - smoothing
    rows = [
        [*map(number, (s, e, q)), f"{t:g}", number(gradient)]
        for s, e, q, t, gradient in zip(scores, exponentials, p, targets, dy, strict=True)
    ]
    lines = [
        f"softmax cross-entropy: e = exp(y - the largest y, {number(scores.max())}); p = e / the sum of e, "
        f"{number(exponentials.sum())}; t = target; dy = p - t",
        *_table(["class", "y", "e", "p", "t", "dy"], rows),
    ]
    if smoothing:
        return [*lines, f"loss = -sum of t ln p = {number(error)}  (label smoothing {smoothing:g})"]
    return [*lines, f"loss = -ln p[{label}] = -ln {number(p[label])} = {number(error)}"]


def tell_map(loss: Loss, y: Array, dy: Array, label: int, error: float) -> list[str]:
    assert isinstance(loss, MaximumAPosteriori)
    scores = y.astype(np.float64)
    largest = max(float(scores.max()), -loss.j)
    exponentials, rubbish = np.exp(scores - largest), np.exp(-loss.j - largest)
    total = float(exponentials.sum() + rubbish)
    rows = [
        [*map(number, (s, e, e / total)), f"{float(k == label):g}", number(gradient)]
        for k, (s, e, gradient) in enumerate(zip(scores, exponentials, dy, strict=True))
    ]
    return [
        f"MAP criterion: e = exp(y - the largest y or -j, {number(largest)}); their sum and exp(-j - the same), "
        f"{number(rubbish)} for j = {loss.j:g}, is {number(total)}; p = e / {number(total)}; t = target; dy = p - t",
        *_table(["class", "y", "e", "p", "t", "dy"], rows),
        f"loss = ln(exp(-j) + sum of exp(y)) - y[{label}] = {number(largest)} + ln({number(total)}) - "
        f"{_in_brackets(number(scores[label]))} = {number(error)}",
    ]


def tell_squared_error(loss: Loss, y: Array, dy: Array, label: int, error: float) -> list[str]:
    half = isinstance(loss, HalfSquaredError)
    targets = np.arange(len(y)) == label
    squares = (y.astype(np.float64) - targets) ** 2
    rows = [
        [number(score), f"{t:g}", number(square), number(gradient)]
        for score, t, square, gradient in zip(y, targets, squares, dy, strict=True)
    ]
    kind, rule, gradient = (
        ("half the squared error", "1/2 the sum", "y - t")
        if half
        else ("mean squared error", f"the sum / {len(y)}", f"2 (y - t) / {len(y)}")
    )
    return [
        f"{kind}: t = target, square = (y - t)^2, dy = {gradient}",
        *_table(["class", "y", "t", "square", "dy"], rows),
        f"loss = {rule} of the squares, {number(squares.sum())}, = {number(error)}",
    ]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    cells = [head, *([str(k), *row] for k, row in enumerate(rows))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]


LOSS_TELLERS: dict[type[Loss], Callable[[Loss, Array, Array, int, float], list[str]]] = {
    SoftmaxCrossEntropy: tell_cross_entropy,
    MaximumAPosteriori: tell_map,
    MeanSquaredError: tell_squared_error,
    HalfSquaredError: tell_squared_error,
}


def tell_loss(loss: Loss, y: Array, dy: Array, label: int, error: float) -> list[str]:
    if type(loss) in LOSS_TELLERS:
        return LOSS_TELLERS[type(loss)](loss, y, dy, label, error)
    rows = [[number(value) for value in row] for row in zip(y, dy, strict=True)]
    return [f"{type(loss).__name__} = {number(error)} for class {label}", *_table(["class", "y", "dy"], rows)]


def tell_update(network: Sequential, optimizer: SGD, steps: list[Step], told: list[Told]) -> list[str]:
    """Makes the update, and tells that of one weight of each layer on the path."""
    chosen: list[tuple[str, Parameter, Place]] = []
    for step, tale in zip(steps, told, strict=True):
        parameters = {parameter.name: parameter for parameter in step.layer.parameters()}
        if tale.weight is not None and "weight" in parameters:
            chosen.append((f"{step.name}.weight", parameters["weight"], tale.weight))
    before = [(float(p.value[at]), float(p.grad[at])) for _, p, at in chosen]
    norm = float(np.sqrt(np.square(network.gradients.astype(np.float64)).sum()))
    optimizer.step()
    lr, decay, momentum = optimizer.lr, optimizer.weight_decay, optimizer.momentum
    d = "g" + (f" + {decay:g} w" if decay else "")
    lines = []
    scale = 1.0
    if optimizer.clip_norm is not None:
        scale = min(1.0, optimizer.clip_norm / (norm + 1e-6))
        lines.append(
            f"all gradients together have the norm {number(norm)}; clip_norm is {optimizer.clip_norm:g}, so each is "
            f"multiplied by {number(scale)}"
        )
        d = d.replace("g", "scale g", 1)
    rule = f"w - {lr:g} ({d})" if " " in d else f"w - {lr:g} {d}"
    if momentum:
        v = f"v = {momentum:g} v + {d}"
        rule = f"w - {lr:g} v"
        if optimizer.nesterov:
            rule = f"w - {lr:g} ({d} + {momentum:g} v)"
        lines.append(f"velocity: {v}; it was 0 before the first step")
    lines.append(f"new w = {rule}, with g = dweight and the learning rate of the first step, {lr:g}")
    for (name, parameter, at), (w, g) in zip(chosen, before, strict=True):
        push = scale * g + decay * w
        pull = push + momentum * push if optimizer.nesterov else push
        places = min(max(6, decimals(lr * pull, PRODUCT)), 7)  # float32 has no more
        inside = (f"{number(scale)} x " if scale != 1 else "") + number(g)
        inside += f" + {decay:g} x {number(w)}" if decay else ""
        if optimizer.nesterov:
            inside = f"(1 + {momentum:g}) x ({inside})"
        lines.append(
            f"  {index(name, at)} = {fixed(w, places)} - {lr:g} x ({inside})\n"
            f"      = {fixed(w, places)} - {_in_brackets(fixed(lr * pull, places))} = "
            f"{fixed(float(parameter.value[at]), places)}"
        )
    return lines


def _in_brackets(text: str) -> str:
    return f"({text})" if text.startswith("-") else text
