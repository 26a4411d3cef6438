"""What each layer does to one number and its gradient, told with that step's numbers.

A teller takes a `Step` and the place of one output (no batch axis), and tells how that came about and what becomes of
its gradient. It names the input that mattered most, so that a reader can follow one path through all layers. Formulas
are those of the layers' docstrings; x is a layer's input, y its output, dx and dy the derivatives of the loss by them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.inspect.trace.sums import PRODUCT, index, number, sum_of_products
from minicnn.inspect.trace.tell_windows import tell_conv, tell_local, tell_max_pool, tell_mean_pool, tell_subsample
from minicnn.inspect.trace.telling import Place, Step, Told
from minicnn.layers import (
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    LocallyConnected2d,
    MaxPool,
    MeanPool,
    RadialBasis,
    ReLU,
    ScaledTanh,
    Sigmoid,
    Softmax,
    Subsample,
    Tanh,
)


def tell_dense(step: Step, at: Place) -> Told:
    [o] = at
    weight = step.layer.weight.value
    row, total = weight[o], float(step.y[o])
    i = int(np.argmax(np.abs(row * step.x)))
    names = [f"weight[{o}, {k}] x[{k}]" for k in range(len(row))]
    factors = row, step.x
    if step.layer.bias is not None:
        bias = step.layer.bias.value[o]
        names.append(f"bias[{o}] 1")
        factors = np.append(row, bias), np.append(step.x, 1)
    backward = [
        f"a weight's gradient is one product: dweight[{o}, {i}] = {index('dy', at)} x[{i}] = "
        f"{number(step.dy[o])} x {number(step.x[i])} = {number(step.gradients['weight'][o, i], PRODUCT)}",
        f"an input gets gradient from all {len(weight)} units, dx[{i}] = sum over o of weight[o, {i}] dy[o]:",
        *sum_of_products(
            [f"weight[{k}, {i}] dy[{k}]" for k in range(len(weight))],
            weight[:, i],
            step.dy,
            float(step.dx[i]),
            f"dx[{i}]",
        ),
    ]
    forward = [
        f"unit {o}: {index('y', at)} = sum over {len(row)} inputs of weight x, and the bias; the largest products:",
        *sum_of_products(names, *factors, total, index("y", at)),
    ]
    return Told((i,), forward, backward, (o, i))


def tell_radial_basis(step: Step, at: Place) -> Told:
    [k] = at
    prototypes, x = step.layer.prototypes, step.x.astype(np.float64)
    apart = x - prototypes[k]
    i = int(np.argmax(np.abs(apart)))
    forward = [
        f"unit {k}: {index('y', at)} = -sum over {len(x)} inputs of (x - prototype)^2; the largest of them:",
        *sum_of_products(
            [f"-(x[{n}] - {p:g})^2" for n, p in enumerate(prototypes[k].tolist())],
            -apart,
            apart,
            float(step.y[k]),
            index("y", at),
        ),
    ]
    backward = [
        f"dx[{i}] = -2 sum over k of dy[k] (x[{i}] - prototype[k, {i}]), with x[{i}] = {number(x[i])}:",
        *sum_of_products(
            [f"-2 dy[{n}] (x[{i}] - {p:g})" for n, p in enumerate(prototypes[:, i].tolist())],
            -2 * step.dy,
            x[i] - prototypes[:, i],
            float(step.dx[i]),
            f"dx[{i}]",
        ),
    ]
    return Told((i,), forward, backward)


def tell_flatten(step: Step, at: Place) -> Told:
    source = tuple(int(k) for k in np.unravel_index(at[0], step.x.shape))
    forward = [f"{index('y', at)} is {index('x', source)} = {number(step.y[at])}: only the shape changes"]
    return Told(source, forward, [f"{index('dx', source)} is {index('dy', at)} = {number(step.dy[at])}"])


def tell_relu(step: Step, at: Place) -> Told:
    passed, count = int((step.x > 0).sum()), step.x.size
    does = "passes" if step.x[at] > 0 else "is stopped"
    forward = [f"{index('y', at)} = max(x, 0) = max({number(step.x[at])}, 0) = {number(step.y[at])}"]
    backward = [
        f"{index('dy', at)} = {number(step.dy[at])} {does}, as x was {'> 0' if step.x[at] > 0 else '<= 0'}: "
        f"{index('dx', at)} = {number(step.dx[at])}; of all {count:,} gradients {passed:,} pass and "
        f"{count - passed:,} are stopped"
    ]
    return Told(at, forward, backward)


def _pointwise(
    formula: str, numbers: Callable[[Layer, str], str], slope: str, slopes: Callable[[Layer, float, str], str]
) -> Callable[[Step, Place], Told]:
    """The teller of a layer y = f(x) with dx = dy f'(x), both given as text with the numbers in it."""

    def tell(step: Step, at: Place) -> Told:
        x, y, dy = number(step.x[at]), number(step.y[at]), number(step.dy[at])
        forward = [f"{index('y', at)} = {formula} = {numbers(step.layer, x)} = {y}"]
        # With fewer digits, 1 - y^2 would lose too many where a unit is saturated.
        factor = slopes(step.layer, float(step.x[at]), number(step.y[at], 7))
        backward = [f"{index('dx', at)} = dy {slope} = {dy} x {factor} = {number(step.dx[at], PRODUCT)}"]
        return Told(at, forward, backward)

    return tell


def tell_softmax(step: Step, at: Place) -> Told:
    c = at[0]
    columns: Any = (slice(None), *at[1:])
    x, y, dy = (array[columns].astype(np.float64) for array in (step.x, step.y, step.dy))
    inner = float((dy * y).sum())
    forward = [
        f"{index('y', at)} = exp(x[{c}]) / sum of exp(x) = {number(np.exp(x[c] - x.max()))} / "
        f"{number(np.exp(x - x.max()).sum())} = {number(y[c], PRODUCT)} (after {number(x.max())}, the largest x, was "
        "subtracted from each)"
    ]
    backward = [
        f"{index('dx', at)} = y (dy - sum of dy y) = {number(y[c])} x ({number(dy[c])} - {number(inner)}) = "
        f"{number(step.dx[at], PRODUCT)}"
    ]
    return Told(at, forward, backward)


def tell_dropout(step: Step, at: Place) -> Told:
    p, x = step.layer.p, number(step.x[at])
    dropped = int(((step.y == 0) & (step.x != 0)).sum())
    kept = step.y[at] != 0 or step.x[at] == 0
    share = f" / (1 - {p:g})" if kept else " x 0"
    forward = [
        f"{dropped:,} of the {step.x.size:,} numbers that were not 0 are dropped; {index('y', at)} is "
        f"{'kept' if kept else 'dropped'}: {x}{share} = {number(step.y[at])}"
    ]
    backward = [f"the same factor: {index('dx', at)} = {number(step.dy[at])}{share} = {number(step.dx[at])}"]
    return Told(at, forward, backward)


def tell_batch_norm(step: Step, at: Place) -> Told:
    layer, c = step.layer, at[0]
    x, dy = step.x[c].astype(np.float64), step.dy[c].astype(np.float64)
    mean, deviation = x.mean(), np.sqrt(x.var() + layer.eps)
    hat = (x - mean) / deviation
    weight, bias = (1.0, 0.0) if not layer.affine else (layer.weight.value[c], layer.bias.value[c])
    here = at[1:]
    forward = [
        f"channel {c} has mean {number(mean)} and standard deviation {number(deviation)} (with eps) over its "
        f"{x.size} places",
        f"xhat = ({number(x[here])} - {number(mean)}) / {number(deviation)} = {number(hat[here])}",
        f"{index('y', at)} = weight[{c}] xhat + bias[{c}] = {number(weight)} x {number(hat[here])} + {number(bias)} = "
        f"{number(step.y[at])}",
    ]
    dbias, dweight, m = dy.sum(), (dy * hat).sum(), x.size
    backward = [
        f"dbias[{c}] = sum of dy = {number(dbias, PRODUCT)}",
        f"dweight[{c}] = sum of dy xhat = {number(dweight, PRODUCT)}",
        f"{index('dx', at)} = weight / deviation (dy - dbias / m - xhat dweight / m) with m = {m}: "
        f"{number(weight)} / {number(deviation)} x ({number(dy[here])} - {number(dbias / m)} - "
        f"{number(hat[here] * dweight / m)}) = {number(step.dx[at], PRODUCT)}",
    ]
    return Told(at, forward, backward, (c,) if layer.affine else None)


def tell_any(step: Step, at: Place) -> Told:
    """What can be said of a layer that nothing is known of."""
    source = tuple(int(k) for k in np.unravel_index(int(np.abs(step.dx).argmax()), step.dx.shape))
    forward = [
        f"a layer of its own kind: x is from {number(step.x.min())} to {number(step.x.max())}, y from "
        f"{number(step.y.min())} to {number(step.y.max())}; {index('y', at)} = {number(step.y[at])}"
    ]
    backward = [
        f"{index('dy', at)} = {number(step.dy[at])}; the largest gradient that it passes on is "
        f"{index('dx', source)} = {number(step.dx[source])}"
    ]
    return Told(source, forward, backward)


TELLERS: dict[type[Layer], Callable[[Step, Place], Told]] = {
    BatchNorm2d: tell_batch_norm,
    Conv2d: tell_conv,
    Dense: tell_dense,
    Dropout: tell_dropout,
    Flatten: tell_flatten,
    LeakyReLU: _pointwise(
        "x, or slope x where x < 0",
        lambda layer, x: f"{layer.negative_slope:g} x {x}" if x.startswith("-") else x,  # type: ignore[attr-defined]
        "where x > 0, else slope dy",
        lambda layer, x, y: "1" if x > 0 else f"{layer.negative_slope:g}",  # type: ignore[attr-defined]
    ),
    LocallyConnected2d: tell_local,
    MaxPool: tell_max_pool,
    MeanPool: tell_mean_pool,
    RadialBasis: tell_radial_basis,
    ReLU: tell_relu,
    ScaledTanh: _pointwise(
        "1.7159 tanh(2 x / 3)",
        lambda layer, x: f"1.7159 x tanh(2/3 x {x})",
        "(2/3) (1.7159 - y^2 / 1.7159)",
        lambda layer, x, y: f"2/3 x (1.7159 - ({y})^2 / 1.7159)",
    ),
    Sigmoid: _pointwise(
        "1 / (1 + exp(-x))",
        lambda layer, x: f"1 / (1 + exp(-({x})))",
        "y (1 - y)",
        lambda layer, x, y: f"{y} x (1 - {y})",
    ),
    Softmax: tell_softmax,
    Subsample: tell_subsample,
    Tanh: _pointwise("tanh(x)", lambda layer, x: f"tanh({x})", "(1 - y^2)", lambda layer, x, y: f"(1 - ({y})^2)"),
}
