"""What layers have in common that multiply their input by weights."""

from typing import Any

from minicnn.engine.arrays import Array, Shape
from minicnn.engine.work import Work

from .lane_layer import LaneLayer
from .layer import OnnxGraph
from .parameter import Parameter


class WeightedLayer(LaneLayer):
    """A layer with a weight and, unless it was built without, a bias; each number counts once for a sample."""

    linear = has_weights = True
    weight: Parameter
    bias: Parameter | Any  # None without one; who reads layer.bias.value need not ask

    def parameters(self) -> list[Parameter]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def multiply_adds(self, input_shape: Shape) -> int:
        return self.weight.value.size

    def connections(self, input_shape: Shape) -> int:
        return sum(parameter.value.size for parameter in self.parameters())

    def bias_array(self, work: Work, name: str) -> Array | None:
        """The bias's "value" or "grad", if there is a bias."""
        return None if self.bias is None else work.array(self.bias.cell, name)


def onnx_weights(graph: OnnxGraph, weight: Array, bias: Parameter | None) -> list[str]:
    """The names of both as constants of a graph, the bias only if there is one."""
    return [graph.constant("weight", weight), *([] if bias is None else [graph.constant("bias", bias.value)])]
