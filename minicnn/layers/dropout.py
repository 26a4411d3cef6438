"""Dropout, of elements and of whole maps."""

import math
from typing import Annotated, Self

import numpy as np
from annotated_types import Interval

from minicnn.engine.arrays import Shape
from minicnn.engine.cache import Kernels
from minicnn.engine.memory import Map
from minicnn.engine.work import Input, Work
from minicnn.kernels import LANES

from .arguments import image_shape
from .explain import Explanation, Place, Step, index, number
from .initializers import Scheme
from .lane_layer import LaneLayer
from .layer import Backward, OnnxGraph

kernels = Kernels("activation")


class Dropout(LaneLayer):
    """In training, each element is zeroed with probability p and the others are divided by 1 - p; else y = x.

    Backward: dx = dy times the same mask. The mask comes from the layer's own generator, which
    `initialize(rng=...)` seeds: a run with the same seed drops the same elements.

    Source: Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting (2014), section 10
    (inverted form). Raises ShapeError unless 0 <= p <= 1.
    """

    per_sample = elementwise = linear = identity = True

    def __init__(self, p: Annotated[float, Interval(ge=0, le=1)] = 0.5) -> None:
        self.p = float(p)
        self.rng = np.random.default_rng()

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def initialize(self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None) -> Self:
        self.rng = np.random.default_rng(rng).spawn(1)[0]
        return self

    def generators(self) -> list[np.random.Generator]:
        return [self.rng]

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        if not work.training or self.p == 0:
            return x, lambda dy, need_dx: dy
        y, mask = work.map(x.shape), work.map(x.shape)
        key, first = Input(f"key {id(self)}", "n"), Input("zero", "n", LANES)
        work.on_run(lambda program: {key.name: int(self.rng.integers(-(2**63), 2**63))})
        factor = 0.0 if self.p == 1 else 1 / (1 - self.p)
        draws = self._draws(x.shape)
        arguments = (x, y, mask, draws, x.vectors // draws, first, key, self.p, factor)
        work.call(kernels.dropout, *arguments, tasks=draws)

        def backward(dy: Map, need_dx: bool) -> Map:
            work.call(kernels.scale, dy, mask, dy, tasks=x.vectors)
            return dy

        return y, backward

    def _draws(self, shape: Shape) -> int:
        """The random numbers for a sample."""
        return math.prod(shape)

    def explain(self, step: Step, at: Place) -> Explanation:
        dropped = int(((step.y == 0) & (step.x != 0)).sum())
        kept = step.y[at] != 0 or step.x[at] == 0
        does, share = ("kept", f" / (1 - {self.p:g})") if kept else ("dropped", " x 0")
        forward = [
            f"{dropped:,} of the {step.x.size:,} numbers that were not 0 are dropped; {index('y', at)} is {does}: "
            f"{number(step.x[at])}{share} = {number(step.y[at])}"
        ]
        backward = [f"the same factor: {index('dx', at)} = {number(step.dy[at])}{share} = {number(step.dx[at])}"]
        return Explanation(at, forward, backward)

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return graph.node("Identity", x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p})"


class Dropout2d(Dropout):
    """`Dropout` of whole maps: in training, each map is zeroed with probability p, the others are divided by 1 - p.

    Neighbours in a map are much alike, so that its other places would tell what is dropped at one. Input (C, H, W).

    Source: Tompson et al., Efficient object localization using convolutional networks (2015), section 3.2. Raises
    ShapeError unless 0 <= p <= 1, and for inputs without maps.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        return image_shape(self, input_shape)

    def _draws(self, shape: Shape) -> int:
        return shape[0]
