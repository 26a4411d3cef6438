"""The output layer of LeNet-5 of 1998: units that measure distances to fixed patterns."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from minicnn.checks import told
from minicnn.engine.arrays import Array, Shape
from minicnn.engine.cache import Kernels
from minicnn.engine.memory import Map
from minicnn.engine.work import Work
from minicnn.errors import ShapeError

from .arguments import positive
from .explain import Explanation, Place, Step, number, sum_of_products
from .lane_layer import LaneLayer
from .layer import Backward, OnnxGraph

kernels = Kernels("radial")

DIGITS = Path(__file__).with_name("digit_prototypes.txt")


class RadialBasis(LaneLayer):
    """y[n, k] = -sum over i of (x[n, i] - prototypes[k, i])^2: minus the squared distance of x to each prototype.

    The units of the paper give the distance itself, a penalty, of which the smallest wins. Here is where the sign is
    turned, and nowhere else: the output is a score as that of any other layer, the highest wins, and the losses,
    `MaximumAPosteriori` among them, take it as such.

    prototypes: numbers (K, in_features), or "digits": 7 x 12 bitmaps of the ten digits, +1 where there is ink and -1
    elsewhere, so that K is 10 and in_features 84. They are a buffer, part of the state but not trained.

    Backward: dx[n, i] = -2 sum over k of dy[n, k] (x[n, i] - prototypes[k, i]).

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), section II.B, equation 7.
    Raises ShapeError for prototypes and for inputs that do not fit.
    """

    per_sample = has_weights = True

    def __init__(self, in_features: int, prototypes: Any = "digits") -> None:
        self.in_features = positive(in_features, "RadialBasis: in_features")
        self.prototypes = _check_prototypes(prototypes, in_features)

    def buffers(self) -> dict[str, Array]:
        return {"prototypes": self.prototypes}

    def options(self) -> dict[str, Any]:
        return {"in_features": self.in_features, "prototypes": self.prototypes.tolist()}

    def astype(self, dtype: DTypeLike) -> Self:
        super().astype(dtype)
        self.prototypes = self.prototypes.astype(dtype)
        return self

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.prototypes.dtype

    def output_shape(self, input_shape: Shape) -> Shape:
        if input_shape != (self.in_features,):
            raise ShapeError(f"{self!r}: expected an input of ({self.in_features},) a sample, received {input_shape}")
        return (len(self.prototypes),)

    def multiply_adds(self, input_shape: Shape) -> int:
        return self.prototypes.size

    def connections(self, input_shape: Shape) -> int:
        return self.prototypes.size

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        features, units = self.in_features, len(self.prototypes)
        prototypes = work.array(self, "prototypes")
        y = work.map((units,))
        work.call(kernels.forward, x, prototypes, y, features, tasks=units)

        def backward(dy: Map, need_dx: bool) -> Map:
            dx = work.map((features,))
            sizes = (features, units)
            work.call(kernels.backward, x, prototypes, dy, dx, *sizes, tasks=features)
            return dx

        return y, backward

    def explain(self, step: Step, at: Place) -> Explanation:
        [k] = at
        prototypes, x = self.prototypes, step.x.astype(np.float64)
        apart = x - prototypes[k]
        i = int(np.argmax(np.abs(apart)))
        names = [f"-(x[{n}] - {p:g})^2" for n, p in enumerate(prototypes[k].tolist())]
        forward = [
            f"unit {k}: y[{k}] = -sum over {len(x)} inputs of (x - prototype)^2; the largest of them:",
            *sum_of_products(names, -apart, apart, float(step.y[k]), f"y[{k}]"),
        ]
        names = [f"-2 dy[{n}] (x[{i}] - {p:g})" for n, p in enumerate(prototypes[:, i].tolist())]
        backward = [
            f"dx[{i}] = -2 sum over k of dy[k] (x[{i}] - prototype[k, {i}]), with x[{i}] = {number(x[i])}:",
            *sum_of_products(names, -2 * step.dy, x[i] - prototypes[:, i], float(step.dx[i]), f"dx[{i}]"),
        ]
        return Explanation((i,), forward, backward)

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        x = graph.node("Unsqueeze", x, graph.constant("axis", np.array([1])))
        x = graph.node("Sub", x, graph.constant("prototypes", self.prototypes))
        last = graph.constant("last", np.array([2]))
        return graph.node("Neg", graph.node("ReduceSum", graph.node("Mul", x, x), last, keepdims=0))

    def __repr__(self) -> str:
        return f"RadialBasis({self.in_features}, {len(self.prototypes)} prototypes)"


def _check_prototypes(prototypes: Any, in_features: int) -> Array:
    place, wanted = "RadialBasis: prototypes", f"(K, {in_features})"
    if isinstance(prototypes, str):
        if prototypes != "digits":
            raise ShapeError(f"{place}: expected digits or numbers {wanted}, received {prototypes!r}")
        array: Array = digit_bitmaps().reshape(10, -1)
    else:
        try:
            array = np.array(prototypes, np.float32)
        except (TypeError, ValueError):
            array = np.empty(0, np.float32)
        if array.ndim != 2 or len(array) == 0 or not np.isfinite(array).all():
            raise ShapeError(f"{place}: expected digits or numbers {wanted}, received {told(prototypes)}")
    if array.shape[1] != in_features:
        raise ShapeError(
            f"{place}: expected {in_features} numbers each, as many as there are inputs, received {array.shape[1]}"
        )
    return array


def digit_bitmaps() -> Array:
    """The pictures in digit_prototypes.txt: float32 (10, 12, 7), +1 for X and -1 for a dot."""
    _, *pictures = DIGITS.read_text(encoding="utf-8").strip().split("\n\n")
    marks = [[row.split() for row in picture.splitlines()[1:]] for picture in pictures]
    return np.where(np.array(marks) == "X", 1, -1).astype(np.float32)
