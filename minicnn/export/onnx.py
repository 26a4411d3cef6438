"""ONNX files, for runtimes other than minicnn.

Each layer adds its operators to the graph (`Layer.to_onnx`), and only those that leave runtimes nothing to choose: the
file gives what minicnn gives.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn import __version__
from minicnn.engine.arrays import Shape
from minicnn.errors import MinicnnError
from minicnn.files import write_whole
from minicnn.layers import Layer
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
    network: Layer
    entry: tuple[Any, ...]  # the name of the input, and the shape of one sample of it
    metadata: dict[str, str] = {}
    if isinstance(model, Model):
        if input_shape is not None:
            raise MinicnnError("input_shape: expected none beside a Model, which has its own")
        network, shape, entry = model.network, model.network_shape, ("pixels", *model.input_shape)
        meaning = "from 0 to 1 (bytes divided by 255), normalised by the graph's first operators"
        metadata = {
            "classes": json.dumps(model.classes),
            "mean": json.dumps(model.mean),
            "std": json.dumps(model.std),
            "data_set": model.data_set or "",
            "loss": model.loss,
        }
    elif input_shape is None:
        raise MinicnnError("input_shape: expected the shape of one sample, as in (1, 28, 28)")
    else:
        network, shape, entry = model, tuple(input_shape), ("x", *input_shape)
        meaning = "the input of the network, normalised as in training"
    output_shape = network.output_shape(shape)
    graph = Graph(network.dtype or np.dtype(np.float32))
    x = _normalize(graph, model, entry[0]) if isinstance(model, Model) else entry[0]
    graph.layer(network, x, shape)
    proto = graph.finish(entry, ("scores", *output_shape), meaning, metadata)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _normalize(graph: Graph, model: Model, x: str) -> str:
    if model.padding:
        around = [0, 0, model.padding, model.padding] * 2
        x = graph.node("Pad", x, graph.constant("padding", np.array(around, np.int64)))
    per_channel = (-1,) + (1,) * (len(model.input_shape) - 1)
    mean, std = (np.reshape(np.asarray(v), per_channel) for v in (model.mean, model.std))
    return graph.node("Div", graph.node("Sub", x, graph.constant("mean", mean)), graph.constant("std", std))


class Graph:
    """A graph in the making: operators and constant arrays, those of the layer at `place` named after it."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.place = ""
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: list[onnx.TensorProto] = []

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds an operator; returns the name of its output."""
        import onnx

        output = f"{self.place}{operator}.{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [output], output, **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Adds a constant array, floats in the element type of the graph; returns its full name."""
        import onnx

        value = np.asarray(value)
        value = np.ascontiguousarray(value, self.dtype if value.dtype.kind == "f" else value.dtype)
        self.arrays.append(onnx.numpy_helper.from_array(value, self.place + name))
        return self.place + name

    def layer(self, layer: Layer, x: str, shape: Shape, name: str = "") -> str:
        """Adds a layer, or all layers of a network; returns the name of the output."""
        before, self.place = self.place, self.place + name
        y = layer.to_onnx(self, x, shape)
        self.place = before
        return y

    def finish(
        self, entry: tuple[Any, ...], result: tuple[Any, ...], meaning: str, metadata: dict[str, str]
    ) -> onnx.ModelProto:
        """The file: `entry` and `result` are the name of input and output and the shape of one sample of each."""
        import onnx

        if not self.nodes:
            self.node("Identity", entry[0])
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
