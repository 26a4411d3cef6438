"""The tellers of layers that slide a window over maps: convolution and pooling."""

from collections.abc import Callable
from itertools import product

import numpy as np

from minicnn.engine.arrays import Array
from minicnn.inspect.trace.sums import PRODUCT, index, number, side_by_side, sum_of_numbers, sum_of_products
from minicnn.inspect.trace.telling import Place, Step, Told


def tell_conv(step: Step, at: Place) -> Told:
    layer, o = step.layer, at[0]
    weight = layer.full_weight()
    outs, ins = weight.shape[:2]
    group_outs = outs // layer.groups
    first = o // group_outs * ins
    bias = 0.0 if layer.bias is None else float(layer.bias.value[o])
    forward, (c, u, v), source = _window_sum(step, at, weight[o], first, bias)
    stored: Place = (o, c, u, v)
    if layer.table is not None:  # the weight has only the kernels that exist
        [k] = np.flatnonzero((layer.table.outputs == o) & (layer.table.inputs == c))
        stored = (int(k), u, v)
        forward.append(f"the kernel from map {c} to map {o} is number {k} of those that exist")
    users = range(o // group_outs * group_outs, (o // group_outs + 1) * group_outs)
    backward = [
        f"a weight was used at all {step.y[0].size} places of map {o}, and its gradient is a sum over them: "
        f"{index('dweight', (o, c, u, v))} =",
        *_shared_weight(step, o, first + c, u, v),
        *_bias(step, o),
        *_gradient_of_input(step, source, users, lambda o, i, j, u, v: (o, c, u, v), weight),
    ]
    return Told(source, forward, backward, stored)


def tell_local(step: Step, at: Place) -> Told:
    layer, (o, i, j) = step.layer, at
    weight = layer.weight.value
    bias = 0.0 if layer.bias is None else float(layer.bias.value[at])
    forward, (c, u, v), source = _window_sum(step, at, weight[i, j, o], 0, bias)
    place = (i, j, o, c, u, v)
    backward = [
        f"a weight is used at one place only, and its gradient is one product: {index('dweight', place)} = "
        f"{index('dy', at)} {index('x', source)} = {number(step.dy[at])} x {number(step.x[source])} = "
        f"{number(step.gradients['weight'][place], PRODUCT)}",
        *_gradient_of_input(step, source, range(len(step.y)), lambda o, i, j, u, v: (i, j, o, c, u, v), weight),
    ]
    return Told(source, forward, backward, place)


def _window_sum(
    step: Step, at: Place, kernels: Array, first: int, bias: float
) -> tuple[list[str], tuple[int, int, int], Place]:
    """An output as the sum of a window times kernels (maps, kh, kw) of the maps from `first` on.

    Returns the lines, the place (map, row, column) of the largest product in the kernels, and in x.
    """
    o, i, j = at
    ins, kh, kw = kernels.shape
    window = np.stack([_window(step, first + c, i, j) for c in range(ins)])
    products = window.astype(np.float64) * kernels
    c, u, v = _strongest_inside(step, products, i, j)
    rows, columns = _reach(step, i, j)
    lines = [
        f"{index('y', at)} looks at rows {rows[0]} to {rows[-1]} and columns {columns[0]} to {columns[-1]} of x"
        + _steps(step.layer.dilation)
        + (f" ({ins} maps; here map {first + c})" if ins > 1 else "")
        + _outside(step, rows, columns)
    ]
    if kw <= 7:
        titles = (f"x[{first + c}]", f"kernel from map {first + c} to {o}", "products")
        grids = dict(zip(titles, (window[c], kernels[c], products[c]), strict=True))
        lines += side_by_side(grids, {"products": PRODUCT})
    names = [f"map {first + k}" for k in range(ins)] + ["bias"]
    sums = np.append(products.sum(axis=(1, 2)), bias)
    lines.append(f"the {kh * kw} products of each map added up, and the bias:")
    lines += sum_of_numbers(names, sums, float(step.y[at]), index("y", at))
    return lines, (c, u, v), (first + c, int(rows[u]), int(columns[v]))


def _shared_weight(step: Step, o: int, channel: int, u: int, v: int) -> list[str]:
    """The gradient of one weight of a convolution: a sum over all places of its output map."""
    _, (sh, sw), (ph, pw), (dh, dw) = step.layer.window
    rows, columns = (np.arange(n) for n in step.y.shape[1:])
    h, w = rows * sh + u * dh - ph, columns * sw + v * dw - pw
    met = _taken(step.x[channel], h, w)
    names = [f"dy[{o}, {i}, {j}] x[{channel}, {h[i]}, {w[j]}]" for i in rows.tolist() for j in columns.tolist()]
    gradient = step.gradients["weight"]
    if step.layer.table is not None:
        gradient = step.layer.table.full(gradient)
    c = channel % gradient.shape[1]
    place = (o, c, u, v)
    return sum_of_products(names, step.dy[o].ravel(), met.ravel(), float(gradient[place]), index("dweight", place))


def _gradient_of_input(
    step: Step, source: Place, maps: range, place: Callable[[int, int, int, int, int], Place], weight: Array
) -> list[str]:
    """dx of one input: a sum over the outputs in `maps` that saw it; weight[place(o, i, j, u, v)] is what they used."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = step.layer.window
    _, h, w = source
    names, a, b = [], [], []
    for o, u, v in product(maps, range(kh), range(kw)):
        (i, left_i), (j, left_j) = divmod(h + ph - u * dh, sh), divmod(w + pw - v * dw, sw)
        if left_i or left_j or not (0 <= i < step.y.shape[1] and 0 <= j < step.y.shape[2]):
            continue
        names.append(f"{index('weight', place(o, i, j, u, v))} {index('dy', (o, i, j))}")
        a.append(weight[place(o, i, j, u, v)])
        b.append(step.dy[o, i, j])
    result = index("dx", source)
    return [
        f"{result} gets gradient from every output that looked at it, times the weight it used:",
        *sum_of_products(names, np.array(a), np.array(b), float(step.dx[source]), result),
    ]


def _bias(step: Step, o: int) -> list[str]:
    if "bias" not in step.gradients:
        return []
    return [f"dbias[{o}] = sum of the {step.dy[o].size} dy of map {o} = {number(step.gradients['bias'][o], PRODUCT)}"]


def tell_max_pool(step: Step, at: Place) -> Told:
    c, i, j = at
    rows, columns = _reach(step, i, j)
    window = _window(step, c, i, j, -np.inf)
    u, v = np.unravel_index(int(window.argmax()), window.shape)
    source = (c, int(rows[u]), int(columns[v]))
    dy = number(step.dy[at])
    forward = [
        _window_line(step, at, rows, columns),
        *(side_by_side({f"x[{c}]": window}, {}) if window.size <= 49 and np.isfinite(window).all() else []),
        f"  the largest is {index('y', at)} = {number(step.y[at])}, from {index('x', source)}",
    ]
    backward = [
        f"{index('dy', at)} = {dy} goes to the place of the maximum, {index('x', source)}, and to no other of the "
        f"{window.size} in the window: {_arrives(step, source, dy)}"
    ]
    return Told(source, forward, backward)


def tell_mean_pool(step: Step, at: Place) -> Told:
    c, i, j = at
    rows, columns = _reach(step, i, j)
    window = _window(step, c, i, j)
    u, v = _strongest_inside(step, window[None], i, j)[1:]
    source = (c, int(rows[u]), int(columns[v]))
    n = _counted(step, rows, columns)
    total = float(window.sum(dtype=np.float64))
    forward = [
        _window_line(step, at, rows, columns),
        *(side_by_side({f"x[{c}]": window}, {}) if window.size <= 49 else []),
        f"  {index('y', at)} = sum / {n} = {number(total)} / {n} = {number(step.y[at], PRODUCT)}",
    ]
    share = float(step.dy[at]) / n
    backward = [
        f"{index('dy', at)} is shared out, so that the sum stays: each of the {n} places gets dy / {n} = "
        f"{number(step.dy[at])} / {n} = {number(share, PRODUCT)}; {_arrives(step, source, number(share, PRODUCT))}"
    ]
    return Told(source, forward, backward)


def tell_subsample(step: Step, at: Place) -> Told:
    c, i, j = at
    weight, bias = (float(p.value[c]) for p in step.layer.parameters())
    rows, columns = _reach(step, i, j)
    window = _window(step, c, i, j)
    u, v = _strongest_inside(step, window[None], i, j)[1:]
    source = (c, int(rows[u]), int(columns[v]))
    total = float(window.sum(dtype=np.float64))
    share = number(weight * float(step.dy[at]), PRODUCT)
    forward = [
        _window_line(step, at, rows, columns),
        *(side_by_side({f"x[{c}]": window}, {}) if window.size <= 49 else []),
        f"  {index('y', at)} = weight[{c}] sum + bias[{c}] = {number(weight)} x {number(total)} + {number(bias)} = "
        f"{number(step.y[at], PRODUCT)}",
    ]
    backward = [
        f"weight[{c}] was used by all {step.y[c].size} windows of the map: dweight[{c}] = sum of dy times the sum of "
        f"the window = {number(step.gradients['weight'][c], PRODUCT)}",
        *_bias(step, c),
        f"each place of the window gets weight[{c}] dy = {number(weight)} x {number(step.dy[at])} = "
        f"{share}; {_arrives(step, source, share)}",
    ]
    return Told(source, forward, backward, (c,))


def _window_line(step: Step, at: Place, rows: Array, columns: Array) -> str:
    where = f"rows {rows[0]} to {rows[-1]}, columns {columns[0]} to {columns[-1]} of x[{at[0]}]"
    return f"{index('y', at)} is made of {where}{_outside(step, rows, columns)}:"


def _arrives(step: Step, source: Place, share: str) -> str:
    """What an input has got when it got `share` from one window."""
    layer, place = step.layer, index("dx", source)
    if all(s >= k for s, k in zip(layer.stride, layer.kernel_size, strict=True)):
        return f"{place} = {share}"
    return f"with the shares of windows that overlap, {place} = {number(step.dx[source])}"


def _counted(step: Step, rows: Array, columns: Array) -> int:
    """By how many the sum of a window of a MeanPool is divided."""
    count = 1
    for places, size, padding in zip((rows, columns), step.x.shape[1:], step.layer.padding, strict=True):
        first, end = int(places[0]), int(places[-1]) + 1
        if step.layer.count_include_pad:
            count *= min(end, size + padding) - first
        else:
            count *= min(end, size) - max(first, 0)
    return count


def _reach(step: Step, i: int, j: int) -> tuple[Array, Array]:
    """Rows and columns of x that the window of output (i, j) covers, also those outside."""
    rows, columns = (at * s - p + d * np.arange(k) for at, k, s, p, d in zip((i, j), *step.layer.window, strict=True))
    return rows, columns


def _window(step: Step, channel: int, i: int, j: int, outside: float = 0.0) -> Array:
    """What output (i, j) sees of a channel of x."""
    return _taken(step.x[channel], *_reach(step, i, j), outside)


def _taken(x: Array, rows: Array, columns: Array, outside: float = 0.0) -> Array:
    """x[rows][:, columns], with another number for places outside."""
    inside = np.logical_and.outer((rows >= 0) & (rows < x.shape[0]), (columns >= 0) & (columns < x.shape[1]))
    taken = x[np.ix_(rows.clip(0, x.shape[0] - 1), columns.clip(0, x.shape[1] - 1))]
    return np.where(inside, taken, outside)


def _strongest_inside(step: Step, values: Array, i: int, j: int) -> tuple[int, int, int]:
    """The place of the largest |value| of a window (channels, kh, kw) that is no padding."""
    inside = _taken(np.ones(step.x.shape[1:]), *_reach(step, i, j))
    c, u, v = np.unravel_index(int((inside * (np.abs(values) + 1e-30)).argmax()), values.shape)
    return int(c), int(u), int(v)


def _outside(step: Step, rows: Array, columns: Array) -> str:
    height, width = step.x.shape[1:]
    inside = rows[0] >= 0 and columns[0] >= 0 and rows[-1] < height and columns[-1] < width
    return "" if inside else "; the rest is padding"


def _steps(dilation: tuple[int, int]) -> str:
    return "" if dilation == (1, 1) else f", in steps of {dilation[0]} and {dilation[1]}"
