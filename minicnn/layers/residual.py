"""A residual block: what layers make of their input is added to it."""

from collections.abc import Iterable
from typing import Any

from minicnn.engine.arrays import Shape
from minicnn.engine.cache import Kernels
from minicnn.engine.memory import Map
from minicnn.engine.work import Work
from minicnn.errors import ShapeError

from .explain import PRODUCT, Explanation, Place, Step, in_brackets, index, number, strongest
from .lane_layer import LaneLayer
from .layer import Backward, Layer, rebuilt
from .sequential import Sequential, check_places

kernels = Kernels("moves")


class Residual(LaneLayer):
    """y = f(x) + g(x): f is `layers` one after the other, g the identity, or `shortcut` one after the other.

    Backward: dx = f'(dy) + g'(dy), the sum of what both would pass on alone. With the identity, dx = f'(dy) + dy: the
    gradient also reaches the layers below by a way without weights, which is why such networks can be deep.

    layers    f; a Sequential will do, too
    shortcut  g, where f changes the shape, such as [Conv2d(16, 32, 1, stride=2, bias=False), BatchNorm2d(32)]

    Parameters and buffers are those of the layers: "layers.0.weight", "shortcut.0.weight".

    Source: He, Zhang, Ren and Sun, Deep residual learning for image recognition (2016), section 3.2.
    Raises ShapeError for layers that do not fit, and where f(x) and g(x) have different shapes.
    """

    def __init__(self, layers: Iterable[Layer], shortcut: Iterable[Layer] | None = None) -> None:
        self.layers = _row("layers", layers)
        self.shortcut = None if shortcut is None else _row("shortcut", shortcut)
        check_places(self)
        children = self.children().values()
        self.per_sample = all(child.per_sample for child in children)
        self.linear = all(child.linear for child in children)

    def paths(self) -> list[list[str]]:
        return [["layers"], [] if self.shortcut is None else ["shortcut"]]

    def options(self) -> dict[str, Any]:
        shortcut = None if self.shortcut is None else rebuilt(self.shortcut.layers)
        return {"layers": rebuilt(self.layers.layers), "shortcut": shortcut}

    def output_shape(self, input_shape: Shape) -> Shape:
        shapes = [tuple(input_shape)] * 2
        for k, (name, child) in enumerate(self.children().items()):
            try:
                shapes[k] = child.output_shape(tuple(input_shape))
            except ShapeError as error:
                raise ShapeError(f"Residual: {name}: {error}") from None
        if shapes[0] == shapes[1]:
            return shapes[0]
        wanted, found = shapes
        raise ShapeError(
            f"Residual: expected layers and shortcut to give one shape, so that they can be added, received {wanted} "
            f"from layers and {found} from {'the input itself' if self.shortcut is None else 'shortcut'}; "
            f"{_remedy(tuple(input_shape), wanted)}"
        )

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        place, label, results = work.place, work.label, []
        for name, child in self.children().items():
            work.place = f"{place}{name}."
            results.append(child.declare(work, x))
        work.place, work.label = place, label
        f, f_back = results[0]
        g, g_back = results[1] if self.shortcut is not None else (x, None)
        y = work.map(f.shape)
        work.call(kernels.add, f, g, y, tasks=y.vectors)

        def backward(dy: Map, need_dx: bool) -> Map:
            if not need_dx and not (self.shortcut is not None and self.shortcut.parameters()):
                return f_back(dy, False)
            other = work.map(dy.shape)  # as the way back through f may write over dy
            work.call(kernels.copy, dy, other, tasks=dy.vectors)
            dx = f_back(dy, need_dx)
            if g_back is not None:
                other = g_back(other, need_dx)
            if need_dx:
                work.call(kernels.add, dx, other, dx, tasks=dx.vectors)
            return dx

        return y, backward

    def explain(self, step: Step, at: Place) -> Explanation:
        (f, f_dx), (g, g_dx) = step.parts
        second, back = ("x", "dy") if self.shortcut is None else ("g(x)", "g'(dy)")
        source = at if self.shortcut is None else strongest(step.dx)
        f_dx, g_dx, dx = f_dx[source], g_dx[source], step.dx[source]
        forward = [
            f"{index('y', at)} = f(x) + {second} = {number(f[at])} + {in_brackets(number(g[at]))} = "
            f"{number(step.y[at], PRODUCT)}"
        ]
        backward = [
            f"{index('dy', at)} = {number(step.dy[at])} goes back both ways",
            f"{index('dx', source)} = f'(dy) + {back} = {number(f_dx)} + {in_brackets(number(g_dx))} = "
            f"{number(dx, PRODUCT)}",
        ]
        return Explanation(source, forward, backward)

    def __repr__(self) -> str:
        rows = [f"[{', '.join(map(repr, child))}]" for child in (self.layers, self.shortcut) if child is not None]
        return f"Residual({', shortcut='.join(rows)})"


def _row(name: str, layers: Iterable[Layer]) -> Sequential:
    try:
        return Sequential(layers)
    except ShapeError as error:
        raise ShapeError(f"Residual: {name}: {error}") from None


def _remedy(shape: Shape, wanted: Shape) -> str:
    """What can be done where layers make `wanted` of `shape`, and the shortcut does not."""
    if len(shape) != 3 or len(wanted) != 3:
        return "let both give the same"
    strides = [max(1, -(-n // out)) for n, out in zip(shape[1:], wanted[1:], strict=True)]
    if any((n - 1) // s + 1 != out for n, out, s in zip(shape[1:], wanted[1:], strides, strict=True)):
        return 'give the convolutions padding="same", so that maps keep their size'
    stride = strides[0] if strides[0] == strides[1] else tuple(strides)
    return f"set shortcut=[Conv2d({shape[0]}, {wanted[0]}, kernel_size=1, stride={stride})], for one"
