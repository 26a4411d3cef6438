"""ONNX files, for runtimes other than minicnn.

Each layer type has a function in `MAPPINGS` that adds its operators to a graph. Where ONNX and its runtimes are not of
one mind (what a window that hangs over the edge counts, with ceil_mode), padding is written out, so that the operators
used leave nothing to choose: the file gives what minicnn gives.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn import __version__
from minicnn.engine.arrays import Array, Shape
from minicnn.errors import MinicnnError
from minicnn.files import write_whole
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
from minicnn.layers.parameter import Parameter
from minicnn.layers.sequential import Sequential
from minicnn.model import Model

if TYPE_CHECKING:
    import onnx

OPSET = 17  # the newest that this needs, and old enough for the runtimes in use
IR_VERSION = 8  # of the same time


def export_onnx(model: Model | Layer, path: str | Path, input_shape: Sequence[int] | None = None) -> None:
    """Writes an ONNX file, checked by onnx.checker, whose batch size is free.

    A Model's graph takes `pixels` (N, C, H, W) from 0 to 1, which it normalises first; the metadata has the classes.
    A network's graph is the network alone: it takes `x`, of `input_shape` (without the batch axis) each. Both give
    `scores`. Numbers are of the network's type, float32 or float64; ONNX Runtime has no convolution in float64.

    Raises MinicnnError: the package onnx is missing, a layer has no mapping, the file cannot be written; ShapeError for
    an `input_shape` that does not fit.
    """
    write_whole(Path(path), _build(model, input_shape).SerializeToString())


def _build(model: Model | Layer, input_shape: Sequence[int] | None) -> onnx.ModelProto:
    try:
        import onnx
    except ImportError:
        raise MinicnnError("ONNX export needs the package onnx: python -m pip install onnx") from None
    if isinstance(model, Model):
        if input_shape is not None:
            raise MinicnnError("input_shape: expected none beside a Model, which has its own")
        network: Layer = model.network
        shape = model.network_shape
    elif input_shape is None:
        raise MinicnnError("input_shape: expected the shape of one sample, as in (1, 28, 28)")
    else:
        network, shape = model, tuple(input_shape)
    output_shape = network.output_shape(shape)
    graph = Graph(network.dtype or np.dtype(np.float32))
    if isinstance(model, Model):
        name = "pixels"
        meaning = "from 0 to 1 (bytes divided by 255), normalised by the graph's first operators"
        metadata = {
            "classes": json.dumps(model.classes),
            "mean": json.dumps(model.mean),
            "std": json.dumps(model.std),
            "data_set": model.data_set or "",
            "loss": model.loss,
        }
        y = _normalize(graph, model, name)
    else:
        y = name = "x"
        meaning, metadata = "the input of the network, normalised as in training", {}
    _add(graph, network, y, shape)
    entry = model.input_shape if isinstance(model, Model) else shape
    proto = graph.finish((name, *entry), ("scores", *output_shape), meaning, metadata)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _normalize(graph: Graph, model: Model, x: str) -> str:
    if model.padding:
        around = [0, 0, model.padding, model.padding] * 2
        x = graph.add("Pad", x, graph.array("padding", np.array(around, np.int64)))
    per_channel = (-1,) + (1,) * (len(model.input_shape) - 1)
    mean, std = (np.reshape(np.asarray(v), per_channel) for v in (model.mean, model.std))
    return graph.add("Div", graph.add("Sub", x, graph.array("mean", mean)), graph.array("std", std))


class Graph:
    """A graph in the making: operators and constant arrays, those of the layer at `place` named after it."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.place = ""
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds an operator; returns the name of its output."""
        import onnx

        output = f"{self.place}{operator}.{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [output], output, **attributes))
        return output

    def array(self, name: str, value: Any) -> str:
        """Adds a constant array, floats in the element type of the graph; returns its full name."""
        import onnx

        value = np.asarray(value)
        value = np.ascontiguousarray(value, self.dtype if value.dtype.kind == "f" else value.dtype)
        self.arrays.append(onnx.numpy_helper.from_array(value, self.place + name))
        return self.place + name

    def finish(
        self, entry: tuple[Any, ...], result: tuple[Any, ...], meaning: str, metadata: dict[str, str]
    ) -> onnx.ModelProto:
        """The file: `entry` and `result` are the name of input and output and the shape of one sample of each."""
        import onnx

        if not self.nodes:
            self.add("Identity", entry[0])
        self.nodes[-1].output[0] = result[0]
        element = onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        texts, infos = [], []
        for name, *shape in (entry, result):
            infos.append(onnx.helper.make_tensor_value_info(name, element, ["N", *shape]))
            texts.append(f"{name}: ({', '.join(map(str, ['N', *shape]))})")
        text = f"{texts[0]}, {meaning}. {texts[1]}, the output of the network."
        proto = onnx.helper.make_model(
            onnx.helper.make_graph(self.nodes, "minicnn", infos[:1], infos[1:], self.arrays, doc_string=text),
            producer_name="minicnn",
            producer_version=__version__,
            ir_version=IR_VERSION,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            doc_string=text,
        )
        onnx.helper.set_model_props(proto, {"inputs": text, **metadata})
        return proto


def _add(graph: Graph, layer: Layer, x: str, shape: Shape, place: str = "") -> str:
    """Adds a layer, or all layers of a network; returns the name of the output."""
    if isinstance(layer, Sequential) and type(layer).declare is Sequential.declare:
        for i, (child, child_shape) in enumerate(zip(layer, layer.shapes(shape), strict=False)):
            x = _add(graph, child, x, child_shape, f"{place}{i}.")
        return x
    if type(layer) not in MAPPINGS:
        raise MinicnnError(
            f"layer {place[:-1] or 0} {layer!r}: there is no ONNX mapping for it; put a function into "
            f"minicnn.export.onnx.MAPPINGS[{type(layer).__name__}]"
        )
    graph.place = place
    return MAPPINGS[type(layer)](graph, layer, x, shape)


def _weights(graph: Graph, weight: Array, bias: Parameter | None) -> list[str]:
    named = {"weight": weight} if bias is None else {"weight": weight, "bias": bias.value}
    return [graph.array(name, value) for name, value in named.items()]


def _conv(graph: Graph, layer: Conv2d, x: str, shape: Shape) -> str:
    return graph.add(
        "Conv",
        x,
        *_weights(graph, layer.full_weight(), layer.bias),
        kernel_shape=layer.kernel_size,
        strides=layer.stride,
        pads=layer.padding * 2,
        dilations=layer.dilation,
        group=layer.groups,
    )


def _locally_connected(graph: Graph, layer: LocallyConnected2d, x: str, shape: Shape) -> str:
    """A matrix product at each position, with the pixels of its window, which a Gather puts in a row."""
    channels, positions = layer.in_channels, layer.output_size[0] * layer.output_size[1]
    if any(layer.padding):
        pads = np.array([0, 0, *layer.padding] * 2, np.int64)
        x = graph.add("Pad", x, graph.array("pads", pads))
    sizes = [n + 2 * p for n, p in zip(layer.input_size, layer.padding, strict=True)]
    pixels = np.arange(channels * sizes[0] * sizes[1]).reshape(channels, *sizes)
    rows, columns = (
        s * np.arange(n)[:, None] + d * np.arange(k)  # (output position, kernel position)
        for n, k, s, d in zip(layer.output_size, layer.kernel_size, layer.stride, layer.dilation, strict=True)
    )
    windows = np.moveaxis(pixels[:, rows[:, None, :, None], columns[:, None, :]], 0, 2)
    windows = windows.reshape(positions, -1)
    weight = layer.weight.value.reshape(positions, layer.out_channels, -1).swapaxes(1, 2)
    x = graph.add("Gather", graph.add("Flatten", x, axis=1), graph.array("windows", windows), axis=1)
    x = graph.add("Transpose", x, perm=(1, 0, 2))  # (positions, N, pixels of a window)
    y = graph.add("MatMul", x, graph.array("weight", weight))  # (positions, N, out_channels)
    y = graph.add("Transpose", y, perm=(1, 2, 0))
    shape_of_y = np.array([0, layer.out_channels, *layer.output_size])  # 0 leaves N as it is
    y = graph.add("Reshape", y, graph.array("shape", shape_of_y))
    bias = layer.bias
    return y if bias is None else graph.add("Add", y, graph.array("bias", bias.value))


def _dense(graph: Graph, layer: Dense, x: str, shape: Shape) -> str:
    return graph.add("Gemm", x, *_weights(graph, layer.weight.value, layer.bias), transB=1)


def _batch_norm(graph: Graph, layer: BatchNorm2d, x: str, shape: Shape) -> str:
    per_channel = (layer.num_features, 1, 1)
    weight = np.ones(layer.num_features) if layer.weight is None else layer.weight.value
    bias = np.zeros(layer.num_features) if layer.bias is None else layer.bias.value
    if layer.track_running_stats:
        arrays = {"weight": weight, "bias": bias, "running_mean": layer.running_mean, "running_var": layer.running_var}
        names = [graph.array(name, value) for name, value in arrays.items()]
        return graph.add("BatchNormalization", x, *names, epsilon=layer.eps)
    # The statistics of the batch, which the operator only takes in training.
    axes = {"axes": (0, 2, 3), "keepdims": 1}
    x = graph.add("Sub", x, graph.add("ReduceMean", x, **axes))
    variance = graph.add("ReduceMean", graph.add("Mul", x, x), **axes)
    variance = graph.add("Add", variance, graph.array("eps", np.array(layer.eps)))
    x = graph.add("Div", x, graph.add("Sqrt", variance))
    x = graph.add("Mul", x, graph.array("weight", weight.reshape(per_channel)))
    return graph.add("Add", x, graph.array("bias", bias.reshape(per_channel)))


def _ends(layer: MaxPool | MeanPool, shape: Shape) -> tuple[int, ...]:
    """The padding at bottom and right that the last windows reach into."""
    out = layer.output_shape(shape)[1:]
    sizes = zip(out, shape[1:], *layer.window, strict=True)
    return tuple(max(p, (o - 1) * s + k - n - p) for o, n, k, s, p, _ in sizes)


def _max_pool(graph: Graph, layer: MaxPool, x: str, shape: Shape) -> str:
    pads = (*layer.padding, *_ends(layer, shape))
    return graph.add("MaxPool", x, kernel_shape=layer.kernel_size, strides=layer.stride, pads=pads)


def _mean_pool(graph: Graph, layer: MeanPool, x: str, shape: Shape) -> str:
    begins, ends, counted = layer.padding, _ends(layer, shape), layer.count_include_pad
    if counted and ends != begins:
        # The last windows count the padding, but not what lies beyond it: padding as part of the map does the same.
        around = graph.array("pads", np.array([0, 0, *begins, 0, 0, *begins], np.int64))
        x = graph.add("Pad", x, around)
        ends = tuple(end - p for end, p in zip(ends, begins, strict=True))
        begins, counted = (0, 0), False
    return graph.add(
        "AveragePool",
        x,
        kernel_shape=layer.kernel_size,
        strides=layer.stride,
        pads=(*begins, *ends),
        count_include_pad=int(counted),
    )


def _subsample(graph: Graph, layer: Subsample, x: str, shape: Shape) -> str:
    """A convolution of each map with a kernel of equal weights."""
    weight = np.empty((layer.in_channels, 1, *layer.kernel_size))
    weight[...] = layer.weight.value.reshape(-1, 1, 1, 1)
    return graph.add(
        "Conv",
        x,
        *_weights(graph, weight, layer.bias),
        kernel_shape=layer.kernel_size,
        strides=layer.stride,
        group=layer.in_channels,
    )


def _radial_basis(graph: Graph, layer: RadialBasis, x: str, shape: Shape) -> str:
    axis = graph.array("axis", np.array([1], np.int64))
    last = graph.array("last", np.array([2], np.int64))
    x = graph.add("Unsqueeze", x, axis)
    x = graph.add("Sub", x, graph.array("prototypes", layer.prototypes))
    x = graph.add("ReduceSum", graph.add("Mul", x, x), last, keepdims=0)
    return graph.add("Neg", x)


def _scaled_tanh(graph: Graph, layer: ScaledTanh, x: str, shape: Shape) -> str:
    slope, amplitude = (
        graph.array(name, np.array(value)) for name, value in (("slope", layer.SLOPE), ("amplitude", layer.AMPLITUDE))
    )
    return graph.add("Mul", graph.add("Tanh", graph.add("Mul", x, slope)), amplitude)


def _operator(name: str, **attributes: Any) -> Callable[[Graph, Any, str, Shape], str]:
    """The mapping of a layer that is one operator without arrays."""
    return lambda graph, layer, x, shape: graph.add(name, x, **attributes)


#: For each layer type a function (graph, layer, name of x, shape of one x) -> name of y.
MAPPINGS: dict[type[Layer], Callable[[Graph, Any, str, Shape], str]] = {
    BatchNorm2d: _batch_norm,
    Conv2d: _conv,
    Dense: _dense,
    Dropout: _operator("Identity"),
    Flatten: _operator("Flatten", axis=1),
    LeakyReLU: lambda graph, layer, x, shape: graph.add("LeakyRelu", x, alpha=layer.negative_slope),
    LocallyConnected2d: _locally_connected,
    MaxPool: _max_pool,
    MeanPool: _mean_pool,
    RadialBasis: _radial_basis,
    ReLU: _operator("Relu"),
    ScaledTanh: _scaled_tanh,
    Sigmoid: _operator("Sigmoid"),
    Softmax: _operator("Softmax", axis=1),
    Subsample: _subsample,
    Tanh: _operator("Tanh"),
}
