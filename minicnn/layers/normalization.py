"""Batch normalisation."""

import math
from typing import Annotated, Self

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import DTypeLike

from minicnn.engine.arrays import Array, Shape
from minicnn.engine.cache import Kernels
from minicnn.engine.memory import Map
from minicnn.engine.work import Argument, Input, Work
from minicnn.errors import ShapeError

from .arguments import image_shape, positive
from .explain import PRODUCT, Explanation, Place, Step, index, number
from .initializers import Scheme
from .lane_layer import LaneLayer
from .layer import Backward, OnnxGraph
from .parameter import Parameter

kernels = Kernels("normalization")


class BatchNorm(LaneLayer):
    """What the batch normalisations share: see `BatchNorm2d`."""

    linear = normalizes = True

    def __init__(
        self,
        num_features: int,
        eps: Annotated[float, Ge(0)] = 1e-5,
        momentum: Annotated[float, Interval(ge=0, le=1)] | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        self.num_features = positive(num_features, f"{type(self).__name__}: num_features")
        self.eps = float(eps)
        self.momentum = None if momentum is None else float(momentum)
        self.affine = bool(affine)
        self.track_running_stats = bool(track_running_stats)
        self.weight = Parameter("weight", np.ones(num_features, np.float32)) if affine else None
        self.bias = Parameter("bias", np.zeros(num_features, np.float32)) if affine else None
        self.running_mean = np.zeros(num_features, np.float32)
        self.running_var = np.ones(num_features, np.float32)
        self.num_batches_tracked = np.zeros((), np.int64)

    @property
    def per_sample_inference(self) -> bool:
        return self.track_running_stats

    def parameters(self) -> list[Parameter]:
        return [p for p in (self.weight, self.bias) if p is not None]

    def buffers(self) -> dict[str, Array]:
        if not self.track_running_stats:
            return {}
        return {
            "running_mean": self.running_mean,
            "running_var": self.running_var,
            "num_batches_tracked": self.num_batches_tracked,
        }

    def initialize(self, scheme: Scheme = "uniform", rng: np.random.Generator | int | None = None) -> Self:
        if self.weight is not None and self.bias is not None:
            self.weight.value[...] = 1
            self.bias.value[...] = 0
        self.running_mean[...] = 0
        self.running_var[...] = 1
        self.num_batches_tracked[...] = 0
        return self

    def astype(self, dtype: DTypeLike) -> Self:
        super().astype(dtype)
        self.running_mean = self.running_mean.astype(dtype)
        self.running_var = self.running_var.astype(dtype)
        return self

    def declare(self, work: Work, x: Map) -> tuple[Map, Backward]:
        channels = self.num_features
        y, places = work.map(x.shape), x.vectors // channels
        weight, bias = self._affine(work, self.weight, 1), self._affine(work, self.bias, 0)
        own_statistics = work.training or not self.track_running_stats
        offset = work.shared(channels, np.float64)
        if own_statistics:
            center, variance = work.shared(channels), work.shared(channels, np.float64)
            self._declare_statistics(work, x, places, (center, offset, variance))
        else:
            center, variance = work.array(self, "running_mean"), work.array(self, "running_var")
        facts = (center, offset, variance, self.eps, weight)
        work.call(kernels.forward, x, y, work.remaining, places, *facts, bias, tasks=channels)

        def backward(dy: Map, need_dx: bool) -> Map:
            slopes = [work.shared(channels, np.float64) for _ in range(2)]
            if own_statistics or not work.frozen:
                assert work.keep  # for x and dy of all blocks
                gradients = [
                    work.shared(channels) if parameter is None else work.array(parameter.cell, "grad")
                    for parameter in (self.weight, self.bias)
                ]
                sizes = (work.block_step, work.samples, places, *facts, int(own_statistics))
                work.together(kernels.gradients, x, dy, *sizes, *gradients, *slopes, tasks=channels)
            if need_dx:
                facts_of_block = (work.remaining, places, center, variance, self.eps, weight)
                work.call(kernels.backward, x, dy, *facts_of_block, *slopes, tasks=channels)
            return dy

        return y, backward

    def _affine(self, work: Work, parameter: Parameter | None, number: float) -> Array:
        """A parameter's values, or that number for each channel."""
        if parameter is not None:
            return work.array(parameter.cell, "value")
        array = work.shared(self.num_features)
        array[...] = number
        return array

    def _declare_statistics(self, work: Work, x: Map, places: int, statistics: tuple[Array, ...]) -> None:
        """The statistics of the batch, which the running ones follow in training."""
        follow = work.training and self.track_running_stats
        share = Input(f"share {id(self)}", "r")
        work.on_run(lambda program: {share.name: self._share(program.count, x.shape, follow)})
        if follow:
            running = work.array(self, "running_mean"), work.array(self, "running_var")
        else:
            running = work.shared(self.num_features), work.shared(self.num_features)  # nobody's
        sizes = (work.block_step, work.samples, places)
        arguments: tuple[Argument, ...] = (*sizes, *statistics, *running, share)
        work.together(kernels.statistics, x, *arguments, tasks=self.num_features)

    def _share(self, samples: int, shape: Shape, follow: bool) -> float:
        """How far the running statistics move towards those of the batch that comes next."""
        if samples * math.prod(shape[1:]) == 1:
            raise ShapeError(
                f"{self!r}: expected more than one value per channel when training, received {(samples, *shape)}"
            )
        if not follow:
            return 0.0
        self.num_batches_tracked[...] += 1
        return 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum

    def explain(self, step: Step, at: Place) -> Explanation:
        c, here = at[0], at[1:]
        x, dy = step.x[c].astype(np.float64), step.dy[c].astype(np.float64)
        own = x.size > 1  # or the running statistics, as one value has none
        mean, variance = (x.mean(), x.var()) if own else (self.running_mean[c], self.running_var[c])
        deviation = np.sqrt(variance + self.eps)
        hat = (x - mean) / deviation
        weight, bias = (n if p is None else p.value[c] for p, n in ((self.weight, 1.0), (self.bias, 0.0)))
        forward = [
            f"channel {c} has mean {number(mean)} and standard deviation {number(deviation)} (with eps) "
            + (f"over its {x.size} places" if own else "by its running statistics, as one image has none of its own"),
            f"xhat = ({number(x[here])} - {number(mean)}) / {number(deviation)} = {number(hat[here])}",
            f"{index('y', at)} = weight[{c}] xhat + bias[{c}] = {number(weight)} x {number(hat[here])} + "
            f"{number(bias)} = {number(step.y[at])}",
        ]
        dbias, dweight, m = dy.sum(), (dy * hat).sum(), x.size
        backward = [
            f"dbias[{c}] = sum of dy = {number(dbias, PRODUCT)}",
            f"dweight[{c}] = sum of dy xhat = {number(dweight, PRODUCT)}",
            f"{index('dx', at)} = weight / deviation (dy - dbias / m - xhat dweight / m) with m = {m}: "
            f"{number(weight)} / {number(deviation)} x ({number(dy[here])} - {number(dbias / m)} - "
            f"{number(hat[here] * dweight / m)}) = {number(step.dx[at], PRODUCT)}"
            if own
            else f"{index('dx', at)} = weight / deviation dy: {number(weight)} / {number(deviation)} x "
            f"{number(dy[here])} = {number(step.dx[at], PRODUCT)}",
        ]
        return Explanation(at, forward, backward, (c,) if self.affine else None)

    def to_onnx(self, graph: OnnxGraph, x: str, shape: Shape) -> str:
        ones, per_channel = np.ones(self.num_features), (self.num_features, *[1] * (len(shape) - 1))
        arrays = {
            name: n * ones if p is None else p.value
            for name, p, n in (("weight", self.weight, 1), ("bias", self.bias, 0))
        }
        if self.track_running_stats:
            arrays |= {"running_mean": self.running_mean, "running_var": self.running_var}
            names = [graph.constant(name, value) for name, value in arrays.items()]
            return graph.node("BatchNormalization", x, *names, epsilon=self.eps)
        # The statistics of the batch, which the operator only takes in training.
        axes = {"axes": (0, *range(2, len(shape) + 1)), "keepdims": 1}
        x = graph.node("Sub", x, graph.node("ReduceMean", x, **axes))
        variance = graph.node("ReduceMean", graph.node("Mul", x, x), **axes)
        variance = graph.node("Add", variance, graph.constant("eps", np.array(self.eps)))
        x = graph.node("Div", x, graph.node("Sqrt", variance))
        x = graph.node("Mul", x, graph.constant("weight", arrays["weight"].reshape(per_channel)))
        return graph.node("Add", x, graph.constant("bias", arrays["bias"].reshape(per_channel)))

    def __repr__(self) -> str:
        options = self.differing(eps=1e-5, momentum=0.1, affine=True, track_running_stats=True)
        return f"{type(self).__name__}({', '.join([str(self.num_features), *options])})"


class BatchNorm2d(BatchNorm):
    """Gives each channel of (N, C, H, W) mean 0 and variance 1, then a scale and a shift that are learned.

    y[n, c, i, j] = weight[c] xhat[n, c, i, j] + bias[c], xhat = (x - mean[c]) / sqrt(var[c] + eps)

    In training, mean and var are those of the m = N H W values of channel c in the batch (var = sum of squared
    differences / m), and the running statistics follow them, with u = var m / (m - 1):
        running_mean = (1 - momentum) running_mean + momentum mean
        running_var  = (1 - momentum) running_var + momentum u
    With momentum None, momentum is 1 / (number of batches so far): they are the averages over all batches. Otherwise
    mean and var are the running statistics, or still those of the batch if there are none (track_running_stats=False).

    Parameters (not with affine=False): weight (C,), bias (C,), at first 1 and 0. Buffers: running_mean, running_var,
    at first 0 and 1, and num_batches_tracked; `initialize` sets all of them back.

    Backward, with the sums over n, i, j of the channel:
        dbias[c]   = sum of dy
        dweight[c] = sum of dy xhat
        dx         = weight[c] / sqrt(var[c] + eps) (dy - dbias[c] / m - xhat dweight[c] / m)
    The last two terms are there because x moves the mean and the variance of its batch; with running statistics, which
    are constants, they are not.

    Where a batch gives its own statistics it must be in one piece, since each output depends on the whole of it.

    Source: Ioffe and Szegedy, Batch normalization: accelerating deep network training by reducing internal covariate
    shift (2015), algorithm 1 and section 3; running statistics as in PyTorch.
    Raises ShapeError for arguments out of range, for inputs that do not fit, and for a batch with one value a channel
    where its own statistics are needed.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        return image_shape(self, input_shape, self.num_features)


class BatchNorm1d(BatchNorm):
    """Gives each feature of (N, C), as behind a Dense, or of (N, C, L), mean 0 and variance 1, then scale and shift.

    y[n, c] = weight[c] xhat[n, c] + bias[c], xhat = (x - mean[c]) / sqrt(var[c] + eps)

    Formulas, arguments, parameters, buffers, source and errors are those of `BatchNorm2d`, with the m = N (or N L)
    values of feature c in the place of those of a channel.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (1, 2) or input_shape[0] != self.num_features:
            c = self.num_features
            raise ShapeError(f"{self!r}: expected an input of ({c},) or ({c}, L) a sample, received {input_shape}")
        return input_shape
