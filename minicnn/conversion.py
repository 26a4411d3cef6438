"""Convolutions as dense or locally connected layers, dense ones as convolutions, and networks for images of any size.

The result is a copy with its own parameters, in the same element type.
"""

import operator
from collections.abc import Sequence
from typing import Protocol, Self, TypeVar, overload

import numpy as np

from minicnn.engine.arrays import Array, Shape
from minicnn.errors import ShapeError
from minicnn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    GlobalMeanPool,
    Layer,
    LocallyConnected2d,
    MeanPool,
    Residual,
)
from minicnn.layers.sequential import Sequential


class Trained(Protocol):
    """A `Model`, as far as it is needed here."""

    network: Sequential

    @property
    def network_shape(self) -> Shape: ...

    def with_network(self, network: Sequential) -> Self: ...


AnyModel = TypeVar("AnyModel", bound=Trained)


def conv_to_dense(conv: Conv2d, input_shape: Sequence[int]) -> Dense:
    """Converts a convolution of images of `input_shape` (C, H, W) to a dense layer of the flattened images.

    With k = (o OH + i) OW + j and l = (c H + h) W + w, the places after flattening,
        weight[k, l] = conv.weight[o, c, u, v]  where h = i s + u d - p and w = j s + v d - p, else 0
        bias[k]      = conv.bias[o]
    So dense(flatten(x)) = flatten(conv(x)), and dx is the same. This shows what a convolution saves: most weights are
    missing (local connection), and the others are repeated (weight sharing). If the dense layer is trained, the
    repeated weights drift apart.

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), section II.A.
    Raises ShapeError for a shape that the convolution does not take.
    """
    shape = _whole(input_shape)
    _, rows, columns = conv.output_shape(shape)
    _, height, width = shape
    weight = np.zeros((conv.out_channels, rows, columns, *shape), conv.weight.value.dtype)
    kernels = _full_kernels(conv)
    row_stride, column_stride = conv.stride
    for u, v in np.ndindex(*conv.kernel_size):
        i, j = np.arange(rows), np.arange(columns)
        h = i * row_stride + u * conv.dilation[0] - conv.window[2][0]
        w = j * column_stride + v * conv.dilation[1] - conv.window[2][1]
        i, h = (places[(h >= 0) & (h < height)] for places in (i, h))
        j, w = (places[(w >= 0) & (w < width)] for places in (j, w))
        # Indices apart from a slice come first in the result: (rows, columns, out, in).
        weight[:, i[:, None], j, :, h[:, None], w] = kernels[:, :, u, v]
    features = rows * columns
    dense = Dense(weight[0, 0, 0].size, conv.out_channels * features, bias=conv.bias is not None)
    dense.astype(weight.dtype)
    dense.weight.value = weight.reshape(dense.weight.value.shape)
    if dense.bias is not None and conv.bias is not None:
        dense.bias.value = conv.bias.value.repeat(features)
    return dense


def conv_to_local(conv: Conv2d, input_shape: Sequence[int]) -> LocallyConnected2d:
    """Converts a convolution of images of `input_shape` (C, H, W) to a locally connected layer.

        weight[i, j] = conv.weight, bias[:, i, j] = conv.bias  at every position (i, j) of the output

    with zeros where groups or a table leave out a connection. The output and dx are the same. The gradient of a weight
    of the convolution is the sum of the gradients of its copies, which drift apart if they are trained.

    Source: LeCun, Generalization and network design strategies (1989), section 3.
    Raises ShapeError for a shape that the convolution does not take.
    """
    shape = _whole(input_shape)
    conv.output_shape(shape)
    local = LocallyConnected2d(
        *(conv.in_channels, conv.out_channels, (shape[1], shape[2]), conv.kernel_size, conv.stride, conv.padding),
        dilation=conv.dilation,
        bias=conv.bias is not None,
    )
    local.astype(conv.weight.value.dtype)
    local.weight.value[...] = _full_kernels(conv)
    if local.bias is not None and conv.bias is not None:
        local.bias.value[...] = conv.bias.value[:, None, None]
    return local


def _full_kernels(conv: Conv2d) -> Array:
    """The kernels as (out_channels, in_channels, rows, columns), zero where nothing is connected."""
    weight = conv.full_weight()
    outs, ins = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    full = np.zeros((conv.out_channels, conv.in_channels, *conv.kernel_size), weight.dtype)
    for g in range(conv.groups):
        group = slice(g * outs, (g + 1) * outs)
        full[group, g * ins : (g + 1) * ins] = weight[group]
    return full


def dense_to_conv(dense: Dense, input_shape: Sequence[int]) -> Conv2d:
    """Converts a dense layer of flattened images of `input_shape` (C, H, W) to a convolution of the images.

    Its kernels are as large as the image, so the output has one position; for (features,) or (C, 1, 1) they are 1 x 1.
    conv(x)[n, o, 0, 0] = dense(flatten(x))[n, o], and dx is the same. For a larger image, the convolution gives the
    dense layer's output for each window of H x W.

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), section II.B, on C5.
    Raises ShapeError if the layer takes another number of features than such an image has.
    """
    shape = _whole(input_shape)
    image = (*shape, 1, 1) if len(shape) == 1 else shape
    if len(image) != 3 or image[0] * image[1] * image[2] != dense.in_features:
        raise ShapeError(
            f"{dense!r}: expected an input shape (C, H, W) or (features,) of {dense.in_features} "
            f"elements, received {shape}"
        )
    channels, height, width = image
    conv = Conv2d(channels, dense.out_features, (height, width), bias=dense.bias is not None)
    conv.astype(dense.weight.value.dtype)
    conv.weight.value = dense.weight.value.reshape(conv.weight.value.shape)
    if conv.bias is not None and dense.bias is not None:
        conv.bias.value = dense.bias.value
    return conv


@overload
def fully_convolutional(model: AnyModel, input_shape: None = None) -> AnyModel: ...
@overload
def fully_convolutional(model: Sequential, input_shape: Sequence[int]) -> Sequential: ...
def fully_convolutional(
    model: AnyModel | Sequential, input_shape: Sequence[int] | None = None
) -> AnyModel | Sequential:
    """Copies a network with its dense layers turned into convolutions, so that it takes larger images, too.

    A GlobalMeanPool becomes a MeanPool of windows as large as the map that it was given, with stride 1.

    model: a Model, or a Sequential together with the `input_shape` (C, H, W) that its dense layers were made for. The
    result is of the same kind. For an image (C, H, W) it gives scores (K, 1, 1), equal to the original's (K,). For a
    larger image it gives a map (K, rows, columns): position (i, j) has the scores of the window that begins at row i s,
    column j s, where s is the product of all strides (4 for LeNet-5). What windows share is computed once.

    Without padding and ceil_mode, each position has exactly the scores of its window. With padding (C1 of `lenet5()`),
    a window inside a larger image sees the neighbouring pixels where a single image has zeros, and its scores differ
    accordingly. Windows at the edges of the image still see zeros.

    Your own layers are copied as they are. They must treat all positions alike.

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), section VII (space
    displacement neural networks). Raises ShapeError, which names the layer, where that is not possible.
    """
    if not isinstance(model, Layer):
        if input_shape is not None:
            raise ShapeError(f"input_shape: expected none beside a Model, which has its own, received {input_shape}")
        return model.with_network(_convolutional(model.network, model.network_shape))
    if input_shape is None:
        raise ShapeError("input_shape: expected (C, H, W), which the network was made for, received None")
    return _convolutional(model, _whole(input_shape))


def _convolutional(network: Sequential, input_shape: Shape) -> Sequential:
    if len(input_shape) != 3:
        raise ShapeError(f"expected a network for images (C, H, W), received {input_shape}")
    network.output_shape(input_shape)
    layers, flat = _row(network, "", input_shape, None)
    if flat and flat[1:] != (1, 1):
        raise ShapeError(f"expected a Dense behind the Flatten of {flat}, received no further layer")
    return Sequential(layers)


def _row(network: Sequential, before: str, shape: Shape, flat: Shape | None) -> tuple[list[Layer], Shape | None]:
    """The layers of a network, also of those in it, for an input of `shape` in the original.

    flat, and the second result: what a Flatten was given and no Dense has taken up yet, (C, H, W).
    """
    layers: list[Layer] = []
    for name, layer in network.children().items():
        place, given = f"layer {before}{name} {layer!r}", shape
        shape = layer.output_shape(shape)
        if type(layer) is Sequential:
            inner, flat = _row(layer, f"{before}{name}.", given, flat)
            layers += inner
        elif isinstance(layer, Flatten):
            flat = flat or (given if len(given) == 3 else None)
        elif isinstance(layer, Dense):
            layers.append(dense_to_conv(layer, flat or given))
            flat = None
        elif isinstance(layer, GlobalMeanPool):
            layers.append(MeanPool((given[1], given[2]), stride=1))  # of each window as large as the map was
        elif flat and flat[1:] != (1, 1) and not layer.elementwise:
            raise ShapeError(f"{place}: expected a Dense, or an element-wise layer, behind the Flatten of {flat}")
        elif type(layer) is Residual:
            rows = []
            for key, child in layer.children().items():
                assert isinstance(child, Sequential)
                inner, rest = _row(child, f"{before}{name}.{key}.", given, flat)
                if rest and rest[1:] != (1, 1):
                    raise ShapeError(f"{place}: expected a Dense behind the Flatten in it, received no further layer")
                rows.append(inner)
            layers.append(Residual(*rows))
        else:
            layers.append(_copy(layer, place, flat or given, shape))
    return layers, flat


def _copy(layer: Layer, place: str, before: Shape, after: Shape) -> Layer:
    """A layer like it, which takes maps of any size. `before`, `after`: shapes of a sample in the original network."""
    if layer.normalizes and not layer.per_sample_inference:
        raise ShapeError(f"{place}: expected running statistics, received a layer that takes those of each batch")
    twin = (BatchNorm2d if type(layer) is BatchNorm1d else type(layer))(**layer.options())
    if layer.dtype is not None:
        twin.astype(layer.dtype)
    twin.load_state_dict(layer.state_dict())
    channels, height, width = before if len(before) == 3 else (*before, 1, 1)
    try:
        twin.output_shape((channels, 2 * height + 1, 2 * width + 1))
        fits = twin.output_shape((channels, height, width)) in (after, (*after, 1, 1), before)
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(
            f"{place}: expected a layer that can be applied to an image of any size, received one that cannot"
        )
    return twin


def _whole(shape: Sequence[int]) -> Shape:
    try:
        return tuple(map(operator.index, shape))
    except TypeError:
        raise ShapeError(f"input_shape: expected whole numbers such as (1, 28, 28), received {shape!r}") from None
