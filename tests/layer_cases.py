"""Every layer with arguments, the shape of one input, and its twins: the table that all tests of every layer use.

A new layer gets a row, `of(...)`, with one or more cases. They are checked against PyTorch, against NumPy and against
central differences, within guarded memory, task by task, in copies, in files of weights, in YAML, in ONNX Runtime and
in the text of `minicnn trace`. The first case of a layer should be plain, as its contract is checked with that one.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy_twins as twins
import pytest
import torch
from against_torch import (
    TorchConnected,
    TorchLocallyConnected2d,
    TorchPadded,
    TorchRadialBasis,
    TorchResidual,
    TorchScaledTanh,
    TorchSubsample,
    trained_batch_norm,
)
from torch import nn

from minicnn import (
    ELU,
    GELU,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalMeanPool,
    Layer,
    LeakyReLU,
    LocallyConnected2d,
    LogSoftmax,
    MaxPool,
    MeanPool,
    RadialBasis,
    ReLU,
    Residual,
    ScaledTanh,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Subsample,
    Tanh,
)
from minicnn.kernels import LANES

#: (forward, backward) in NumPy: (x, *parameters) -> y and (dy, x, *parameters) -> dx or (dx, *gradients).
Passes = tuple[Callable[..., Any], Callable[..., Any]]


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], Layer]
    shape: tuple[int, ...]
    torch: Callable[[], nn.Module]
    arguments: Mapping[str, Any]
    numpy: Callable[[Mapping[str, Any]], Passes] | None

    def twins(self, dtype: Any = np.float32) -> tuple[Layer, nn.Module]:
        """The layer, and PyTorch's, in evaluation, whose weights and statistics both have."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            theirs = self.torch().to(torch.float64 if dtype == np.float64 else torch.float32).eval()
        ours = self.make().astype(dtype)
        ours.load_state_dict(theirs.state_dict())
        return ours, theirs


def at(shape: tuple[int, ...], *arguments: Any, **more: Any) -> tuple[Any, ...]:
    """The arguments of a layer, behind the shape of an input for it."""
    return shape, arguments, more


def of(layer: Any, twin: Any, *inputs: Any, numpy: Any = None, name: str = "") -> list[Case]:
    """The cases of a layer. PyTorch's twin takes the same arguments, the one in NumPy the layer's options."""
    found = []
    for shape, arguments, more in inputs:
        words = [str(value).replace("\n", "") for value in arguments] + [
            f"{key}={value}" for key, value in more.items()
        ]
        given = inspect.signature(layer).bind(*arguments, **more).arguments
        calls = partial(layer, *arguments, **more), partial(twin, *arguments, **more)
        title = f"{name or layer.__name__}({','.join(words)})".replace(" ", "")[:60]
        found.append(Case(f"{title}-{'x'.join(map(str, shape))}", calls[0], shape, calls[1], given, numpy))
    return found


def with_bias(forward: Any, backward: Any) -> Passes:
    """For a twin that takes a bias, and whose way back gives the bias's gradient last, also a way without one."""
    return (
        lambda x, weight, bias=None: forward(x, weight, bias),
        lambda dy, x, weight, bias=None: backward(dy, x, weight)[: 2 if bias is None else 3],
    )


def convolution(o: Mapping[str, Any]) -> Passes:
    window = {"s": o["stride"], "p": o["padding"], "d": o["dilation"], "groups": o["groups"]}
    return with_bias(partial(twins.conv2d, **window), partial(twins.conv2d_backward, **window))


def local(o: Mapping[str, Any]) -> Passes:
    window = {"s": o["stride"], "p": o["padding"], "d": o["dilation"]}
    return with_bias(partial(twins.local2d, **window), partial(twins.local2d_backward, **window))


def pool(forward: Any, backward: Any) -> Any:
    def passes(o: Mapping[str, Any]) -> Passes:
        window = {"k": o["kernel_size"], "s": o["stride"], "p": o["padding"]}
        rest = {key: o[key] for key in ("ceil_mode", "count_include_pad") if key in o}
        return partial(forward, **window, **rest), partial(backward, **window, **rest)

    return passes


def leaky(o: Mapping[str, Any]) -> Passes:
    slope = o["negative_slope"]
    return partial(twins.leaky_relu, slope=slope), partial(twins.leaky_relu_backward, slope=slope)


def elu(o: Mapping[str, Any]) -> Passes:
    return partial(twins.elu, alpha=o["alpha"]), partial(twins.elu_backward, alpha=o["alpha"])


def gelu(o: Mapping[str, Any]) -> Passes:
    phi = twins.phi if o["approximate"] == "none" else twins.phi_tanh
    return partial(twins.gelu, phi=phi), partial(twins.gelu_backward, phi=phi)


def function(forward: Any, backward: Any) -> Any:
    return lambda o: (forward, backward)


ODD = [[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1]]

CASES = [
    *of(
        Conv2d,
        nn.Conv2d,
        at((2, 6, 6), 2, 3, 3),
        at((1, 8, 8), 1, 6, 5, padding=2),  # LeNet's C1 on a small image
        at((6, 8, 8), 6, 16, 5),  # C3
        at((3, 8, 4), 3, 3, 1, bias=False),
        at((1, 2, 3), 1, 1, (1, 2), bias=False),
        at((2, 5, 5), 2, 11, 3),  # channels, columns and kernel columns that no tile divides
        at((2, 3, 7), 2, 5, (2, 7), padding=(0, 3)),
        at((2, 5, 4), 2, 7, (2, 4), padding=(2, 1)),
        at((3, 5, 5), 3, 4, 5),  # kernel as large as its input
        at((2, 4, 4), 2, 3, (2, 5), padding=(1, 4)),  # windows that see nothing but padding
        at((4, 4, 4), 4, 6, 3, groups=2, padding=3, bias=False),  # more of them
        at((3, 9, 6), 3, 3, 3, stride=2, padding=1),
        at((2, 8, 10), 2, 6, 3, stride=(2, 3), padding=1),
        at((2, 9, 6), 2, 3, (2, 3), stride=(3, 2), padding=(0, 1)),  # rows that no window sees
        at((2, 9, 8), 2, 2, 2, stride=3),  # and columns
        at((2, 6, 6), 2, 3, 3, dilation=2, padding=2),
        at((2, 10, 4), 2, 3, (2, 3), stride=(2, 1), padding=(0, 2), dilation=(3, 2)),
        at((4, 6, 6), 4, 6, 3, groups=2, padding=1),
        at((3, 6, 6), 3, 9, 3, groups=3, stride=2, padding=1),
        at((5, 7, 7), 5, 5, 3, groups=5, stride=2),  # depthwise
        at((4, 7, 8), 4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
        numpy=convolution,
    ),
    *of(
        Conv2d,
        nn.Conv2d,
        at((3, 6, 7), 3, 4, 3, padding="same"),
        at((2, 5, 6), 2, 3, (2, 4), padding="same", dilation=(1, 3)),  # one more at the bottom and to the right
        at((4, 5, 5), 4, 2, (4, 1), padding="same", groups=2),
    ),
    *of(
        Conv2d,
        TorchPadded,
        at((2, 5, 6), 2, 3, (3, 2), padding=(2, 0, 1, 3)),
        at((6, 8, 9), 6, 16, 5, padding=(0, 3, 4, 1)),  # with fewer multiplications
        at((2, 4, 4), 2, 3, 3, stride=(2, 3), padding=(1, 5, 0, 4)),  # windows that see nothing but padding
        numpy=convolution,
    ),
    *of(
        Conv2d,
        TorchConnected,
        at((6, 8, 8), 6, 16, 5, connections="lenet5"),
        at((3, 4, 20), 3, 4, 3, padding=1, connections=ODD),  # wider than the registers
        at((3, 5, 6), 3, 4, (3, 2), (2, 1), (1, 2), (1, 2), bias=False, connections=ODD),
    ),
    *of(
        LocallyConnected2d,
        TorchLocallyConnected2d,
        at((2, 6, 6), 2, 3, 6, 3),
        at((2, 9, 7), 2, 3, (9, 7), (2, 3), (2, 1), (1, 2), (1, 2), bias=False),
        at((1, 4, 5), 1, 3, (4, 5), 3, padding=3),  # windows that see nothing but padding
        at((2, 7, 8), 2, 3, (7, 8), 3, stride=3),  # rows and columns that no window sees
        at((2, 2, LANES + 2), 2, 2, (2, LANES + 2), (1, LANES + 1)),  # more kernel columns than lanes
        at((2, 7, 7), 2, 1, 7, 3, 2, 1, 2, bias=False),
        at((2, 5, 6), 2, 3, (5, 6), (3, 2), padding=(2, 0, 1, 3)),
        numpy=local,
    ),
    *of(
        MaxPool,
        nn.MaxPool2d,
        at((3, 8, 6), 2),
        at((2, 7, 5), 2),  # the last row and column are left out
        at((2, 7, 9), (3, 2), (2, 1), (1, 1)),
        at((2, 6, 7), (3, 2), 2, (1, 0), ceil_mode=True),
        at((2, 8, 8), (2, 3), (3, 2), (1, 1), ceil_mode=True),
        at((1, 5, 5), 2, 3),  # gaps between the windows
        numpy=pool(twins.max_pool, twins.max_pool_backward),
    ),
    *of(
        MeanPool,
        nn.AvgPool2d,
        at((3, 8, 6), 2),
        at((2, 7, 5), 2),
        at((2, 7, 9), (3, 2), (2, 1), (1, 1)),
        at((2, 6, 7), (3, 2), 2, (1, 0), ceil_mode=True),
        at((2, 6, 7), (3, 2), 2, (1, 1), ceil_mode=True, count_include_pad=False),
        at((2, 6, 7), (3, 2), 1, 1, count_include_pad=False),
        numpy=pool(twins.mean_pool, twins.mean_pool_backward),
    ),
    *of(
        GlobalMeanPool,
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        at((3, 5, 7)),
        at((8, 2, 2)),
        at((9, 1, 1)),
        numpy=function(twins.global_mean, twins.global_mean_backward),
    ),
    *of(
        Dense,
        nn.Linear,
        at((20,), 20, 23),
        at((7,), 7, 5, bias=False),
        at((41,), 41, 1, bias=False),
        at((17,), 17, 33),
        at((1,), 1, 16),
        at((1,), 1, 1),
        numpy=function(*with_bias(twins.dense, twins.dense_backward)),
    ),
    *of(
        Flatten,
        nn.Flatten,
        at((3, 4, 5)),
        at((5,)),
        numpy=function(lambda x: x.reshape(len(x), -1), lambda dy, x: dy.reshape(x.shape)),
    ),
    *of(ReLU, nn.ReLU, at((2, 5, 7)), numpy=function(twins.relu, twins.relu_backward)),
    *of(LeakyReLU, nn.LeakyReLU, at((2, 5, 7), 0.2), at((5,), -1.5), numpy=leaky),
    *of(ELU, nn.ELU, at((2, 5, 7)), at((9,), -1.5), numpy=elu),
    *of(SiLU, nn.SiLU, at((2, 5, 7)), numpy=function(twins.silu, twins.silu_backward)),
    *of(GELU, nn.GELU, at((2, 5, 7)), at((2, 5, 7), approximate="tanh"), numpy=gelu),
    *of(Sigmoid, nn.Sigmoid, at((2, 5, 7)), numpy=function(twins.sigmoid, twins.sigmoid_backward)),
    *of(Tanh, nn.Tanh, at((2, 5, 7)), at((11,)), numpy=function(np.tanh, twins.tanh_backward)),
    *of(ScaledTanh, TorchScaledTanh, at((2, 5, 7)), numpy=function(twins.scaled_tanh, twins.scaled_tanh_backward)),
    *of(
        Softmax,
        lambda: nn.Softmax(1),
        at((10,)),
        at((3, 4, 5)),
        numpy=function(twins.softmax, twins.softmax_backward),
    ),
    *of(
        LogSoftmax,
        lambda: nn.LogSoftmax(1),
        at((10,)),
        at((3, 4, 5)),
        numpy=function(twins.log_softmax, twins.log_softmax_backward),
    ),
    *of(Dropout, nn.Dropout, at((2, 7, 6), 0.5)),
    *of(Dropout2d, nn.Dropout2d, at((5, 3, 6), 0.5)),
    *of(
        BatchNorm2d,
        trained_batch_norm,
        at((2, 7, 6), 2),
        at((2, 7, 6), 2, eps=0.5, affine=False),
        at((2, 7, 6), 2, eps=0.5, track_running_stats=False),
        at((2, 7, 6), 2, momentum=None),
    ),
    *of(
        BatchNorm1d,
        partial(trained_batch_norm, kind=nn.BatchNorm1d),
        at((9,), 9),
        at((5, 4), 5, affine=False),
        at((9,), 9, eps=0.5, momentum=None),
    ),
    *of(
        Subsample,
        TorchSubsample,
        at((2, 7, 6), 2, 2),
        at((2, 7, 6), 2, (2, 3), stride=1),
        at((3, 9, 10), 3, 3, stride=2),
        at((3, 5, 7), 3, 2, stride=(3, 1)),  # gaps between the windows
    ),
    *of(RadialBasis, TorchRadialBasis, at((8,), 8, np.eye(3, 8).tolist()), at((84,), 84)),
    *of(
        lambda: Sequential([Tanh(), Sequential([MeanPool(2), Flatten()]), Dense(18, 4), Dropout()]),
        lambda: nn.Sequential(
            nn.Tanh(), nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), nn.Linear(18, 4), nn.Dropout()
        ),
        at((2, 6, 6)),
        name="Sequential",
    ),
    *of(
        lambda: Residual([Conv2d(2, 2, 3, padding=1), Tanh(), Conv2d(2, 2, 3, padding=1)]),
        lambda: TorchResidual([nn.Conv2d(2, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, 2, 3, padding=1)]),
        at((2, 6, 5)),
        name="Residual",
    ),
    *of(
        lambda: Residual(
            [Conv2d(2, 3, 3, 2, padding=1, bias=False), BatchNorm2d(3), ReLU(), Conv2d(3, 3, 1)],
            shortcut=[Conv2d(2, 3, 1, 2, bias=False), BatchNorm2d(3)],
        ),
        lambda: TorchResidual(
            [nn.Conv2d(2, 3, 3, 2, 1, bias=False), trained_batch_norm(3), nn.ReLU(), nn.Conv2d(3, 3, 1)],
            [nn.Conv2d(2, 3, 1, 2, bias=False), trained_batch_norm(3)],
        ),
        at((2, 7, 6)),
        name="Residual(shortcut)",
    ),
    *of(
        lambda: Residual([Dropout(0.3), Residual([ReLU(), BatchNorm2d(2)]), Dropout()], shortcut=[ReLU()]),
        lambda: TorchResidual(
            [nn.Dropout(0.3), TorchResidual([nn.ReLU(), trained_batch_norm(2)]), nn.Dropout()], [nn.ReLU()]
        ),
        at((2, 3, 4)),
        name="Residual(nested)",
    ),
]  # fmt: skip

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
#: The first case of each layer, by the layer's name.
FIRST = {type(case.make()).__name__: case for case in reversed(CASES)}
each_layer = pytest.mark.parametrize("case", FIRST.values(), ids=lambda case: type(case.make()).__name__)
