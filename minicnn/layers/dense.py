"""The dense (fully connected) layer, and Flatten, which leads to it."""

import math
from functools import partial
from typing import Self

import numpy as np

from minicnn.engine.arrays import Array, Shape
from minicnn.engine.cache import Kernels
from minicnn.engine.memory import Map
from minicnn.engine.work import Rows, Work
from minicnn.errors import ShapeError
from minicnn.kernels import LANES

from .arguments import positive
from .explain import PRODUCT, Explanation, Place, Step, index, number, sum_of_products
from .initializers import Scheme, draw
from .lane_layer import LaneLayer
from .layer import Backward, OnnxGraph
from .parameter import Parameter
from .products import product, sum_rows, transposed
from .weighted import WeightedLayer, onnx_weights

gradients = Kernels("gradients")
lanes = Kernels("lanes")

#: Vectors of a row of dweight that one job makes.
SHARE = 4


class Dense(WeightedLayer):
    """y = x weight^T + bias for x (N, in_features), y (N, out_features); PyTorch's Linear.

    Parameters: weight (out_features, in_features), bias (out_features,).

    Backward: dweight = dy^T x, dbias = sum over n of dy, dx = dy weight.

    Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors (1986).
    Raises ShapeError for arguments out of range and for inputs that do not fit.
    """

    per_sample = True

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = positive(in_features, "Dense: in_features")
        self.out_features = positive(out_features, "Dense: out_features")
        self.weight = Parameter("weight", np.zeros((out_features, in_features), np.float32))
        self.bias = Parameter("bias", np.zeros(out_features, np.float32)) if bias else None
        self.initialize()

    def initialize(self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None) -> Self:
        draw(scheme, rng, self.weight, self.bias)
        return self

    def output_shape(self, input_shape: Shape) -> Shape:
        if input_shape != (self.in_features,):
            features, hint = math.prod(input_shape), ""
            if len(input_shape) > 1:
                other = "" if features == self.in_features else f", and make it Dense({features}, {self.out_features})"
                hint = f"; put a Flatten before it{other}"
            raise ShapeError(
                f"{self!r}: expected an input of ({self.in_features},) a sample, received {input_shape}{hint}"
            )
        return (self.out_features,)

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        ins, outs = self.in_features, self.out_features
        weight = work.array(self.weight.cell, "value")
        y, bias = work.map((outs,)), self.bias_array(work, "value")
        if work.blocks == 1:  # not worth the time to turn the weights round
            _multiply(work, x, weight, bias, y, outs, ins, 1)
        else:
            _multiply(work, x, transposed(work, weight, outs), bias, y, outs, 1, outs)

        def backward(dy: Map, need_dx: bool) -> Map:
            rows = dense_gradient(work, dy, x, work.array(self.weight.cell, "grad"), outs)
            dbias = self.bias_array(work, "grad")
            if dbias is not None:
                sum_rows(work, rows, dbias)
            if not need_dx:
                return dy
            dx = work.map((ins,))
            _multiply(work, dy, weight, None, dx, ins, 1, ins)
            return dx

        return y, backward

    def explain(self, step: Step, at: Place) -> Explanation:
        [o] = at
        weight, bias = self.weight.value, self.bias
        row, x = weight[o], step.x
        i = int(np.argmax(np.abs(row * x)))
        names, bias_too = [f"weight[{o}, {k}] x[{k}]" for k in range(len(row))], ""
        if bias is not None:
            bias_too = ", and the bias"
            names.append(f"bias[{o}] 1")
            row, x = np.append(row, bias.value[o]), np.append(x, 1)
        forward = [
            f"unit {o}: y[{o}] = sum over {len(step.x)} inputs of weight x{bias_too}; the largest products:",
            *sum_of_products(names, row, x, float(step.y[o]), f"y[{o}]", bias is not None),
        ]
        names = [f"weight[{k}, {i}] dy[{k}]" for k in range(len(weight))]
        backward = [
            f"a weight's gradient is one product: dweight[{o}, {i}] = dy[{o}] x[{i}] = "
            f"{number(step.dy[o])} x {number(step.x[i])} = {number(step.gradients['weight'][o, i], PRODUCT)}",
            f"an input gets gradient from all {len(weight)} units, dx[{i}] = sum over o of weight[o, {i}] dy[o]:",
            *sum_of_products(names, weight[:, i], step.dy, float(step.dx[i]), f"dx[{i}]"),
        ]
        return Explanation((i,), forward, backward, (o, i))

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return graph.node("Gemm", x, *onnx_weights(graph, self.weight.value, self.bias), transB=1)

    def __repr__(self) -> str:
        bias = ", bias=False" if self.bias is None else ""
        return f"Dense({self.in_features}, {self.out_features}{bias})"


def _multiply(work: Work, x: Map, w: Array, bias: Array | None, y: Map, outs: int, w_row: int, w_step: int) -> None:
    """y[o] = bias[o] + sum over k of w[o w_row + k w_step] x[k], for all blocks of a job at once."""
    ins = x.vectors
    product(
        partial(work.call, joint=True),
        x,
        w,
        bias,
        y,
        [(0, 0, 0, -1 if bias is None else 0, 0, ins)],
        LANES * np.arange(ins),
        outs=outs,
        w_row=w_row,
        w_step=w_step,
        width=work.group,
        x_step=work.map_step,
        y_step=work.map_step,
    )


def dense_gradient(work: Work, dy: Map, x: Map, dweight: Array, outs: int) -> Rows:
    """dweight[o, k] = sum over n of dy[n, o] x[n, k], lanes along k; returns dy with one sample after the other.

    A product like any other once samples come one after the other, with the samples in the place of k. Where the length
    of a row of dweight is no multiple of LANES, its last vector overlaps the one before.
    """
    ins, samples = x.vectors, work.blocks * LANES
    x_rows, dy_rows = work.rows(max(LANES, ins)), work.rows(outs)
    row = x_rows.array.shape[1]
    work.call(lanes.unpack, x, x_rows, ins, row, LANES)
    work.call(lanes.unpack, dy, dy_rows, outs, outs, LANES)
    table = row * np.arange(samples)
    if ins < LANES:
        work.after(gradients.narrow, x_rows, dy_rows, dweight, outs, row, ins, samples, tasks=outs)
        return dy_rows
    whole = ins // LANES
    places = [(first * LANES, min(SHARE, whole - first)) for first in range(0, whole, SHARE)]
    if ins % LANES:
        places.append((ins - LANES, 1))
    for first, width in places:
        panel = (first, 0, first, -1, 0, samples)
        product(work.after, x_rows, dy_rows, None, dweight, [panel], table, outs=outs, width=width, y_row=ins)
    return dy_rows


class Flatten(LaneLayer):
    """(N, C, H, W) -> (N, C H W), in that order; backward is the way back. In the lane layout nothing moves."""

    per_sample = linear = identity = True

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        return x.reshape(x.vectors), lambda dy, need_dx: dy.reshape(*x.shape)

    def explain(self, step: Step, at: Place) -> Explanation:
        source = tuple(int(k) for k in np.unravel_index(at[0], step.x.shape))
        forward = [f"{index('y', at)} is {index('x', source)} = {number(step.y[at])}: only the shape changes"]
        return Explanation(source, forward, [f"{index('dx', source)} is {index('dy', at)} = {number(step.dy[at])}"])

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        return graph.node("Flatten", x, axis=1)


#: PyTorch's name of Dense.
Linear = Dense
