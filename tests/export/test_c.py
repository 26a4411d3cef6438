"""Networks as C: compiled by gcc and clang, they give what minicnn gives, in float and in integers."""

import numpy as np
import pytest
from c_models import IMAGE, images_of, in_range
from c_programs import FLAGS, assert_equals_python, found, scores_of
from layer_cases import FIRST

import minicnn.layers
from minicnn import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    Linear,
    LocallyConnected2d,
    LogSoftmax,
    MaxPool2d,
    RadialBasis,
    ReLU,
    Residual,
    ScaledTanh,
    Sequential,
    Sigmoid,
    Softmax,
    Subsample,
    Tanh,
)
from minicnn.export.c import quantize
from minicnn.export.c.operation import OPERATIONS
from minicnn.layers.activation import Activation

ACTIVATED = (ReLU, LeakyReLU, Sigmoid, Tanh, ScaledTanh)
ACTIVATIONS = {name: case for name, case in FIRST.items() if isinstance(case.make(), Activation)}
WINDOWS = [
    ((2, 2), None, (0, 0)),
    ((2, 2), (1, 2), (1, 0)),
    ((3, 2), (2, 2), (1, 1)),
    ((3, 2), (3, 3), (0, 1)),
    ((2, 2), (3, 3), (1, 1)),
    ((3, 2), (1, 5), (1, 1)),
    ((7, 6), None, (0, 0)),
]
POOLS = {
    f"{name}_{number}{'_ceil' if ceil else ''}{'' if not options else '_inside'}": [
        pool(size, stride, padding, ceil, *options)
    ]
    for number, (size, stride, padding) in enumerate(WINDOWS)
    for ceil in (False, True)
    for name, pool, options in (("max", MaxPool2d, ()), ("mean", AvgPool2d, ()), ("mean", AvgPool2d, (False,)))
}
LAYERS = {
    "batch_norm": [BatchNorm2d(2)],
    "batch_norm_of_features": [Flatten(), BatchNorm1d(84), Linear(84, 3), BatchNorm1d(3), ReLU()],
    "batch_norm_fixed": [BatchNorm2d(2, eps=0.5, affine=False)],
    "conv": [Conv2d(2, 6, 5)],
    "conv_padded": [Conv2d(2, 6, 5, padding=2)],
    "conv_padded_in_rows": [Conv2d(2, 3, (2, 3), padding=(2, 0), bias=False)],
    "conv_same": [Conv2d(2, 3, (2, 4), padding="same"), LocallyConnected2d(3, 2, (7, 6), 3, padding=(0, 3, 1, 0))],
    "conv_unusual": [Conv2d(2, 3, (2, 3), (3, 2), (1, 2), (2, 1))],
    "conv_groups": [Conv2d(2, 4, 3), Conv2d(4, 6, 3, padding=1, groups=2)],
    "conv_depthwise": [Conv2d(2, 6, 3, padding=1, groups=2)],
    "conv_connected": [Conv2d(2, 6, 3, padding=1), Conv2d(6, 16, 5, padding=1, connections="lenet5")],
    "global_mean": [GlobalAvgPool2d()],
    "global_mean_inside": [Conv2d(2, 3, 3), GlobalAvgPool2d(), Tanh(), Linear(3, 4)],
    "linear": [Flatten(), Linear(84, 5)],
    "linear_without_bias": [Flatten(), Linear(84, 5, bias=False)],
    "local": [LocallyConnected2d(2, 3, (7, 6), 3)],
    "local_unusual": [LocallyConnected2d(2, 3, (7, 6), (2, 3), (3, 1), (1, 2), (2, 1), bias=False), Tanh()],
    "radial": [Flatten(), RadialBasis(84)],
    "radial_inside": [Flatten(), RadialBasis(84), Tanh(), Linear(10, 3)],
    "softmax": [Flatten(), Linear(84, 5), Softmax()],
    "log_softmax": [Flatten(), Linear(84, 5), LogSoftmax()],
    "log_softmax_over_channels": [LogSoftmax()],
    "softmax_over_channels": [Softmax(), ReLU()],
    "softmax_inside": [Softmax(), Conv2d(2, 3, 3)],
    "subsample": [Subsample(2, 2, stride=1)],
    "subsample_inside": [Subsample(2, (3, 2)), Sigmoid(), Conv2d(2, 2, 2)],
    "nothing": [],
    "only_nothing": [Dropout2d(), Dropout(), Flatten()],
    "gelus": [Conv2d(2, 2, 2), GELU(), Conv2d(2, 2, 2), GELU("tanh"), ELU(0.5), ELU(-0.5)],
    "nested": [Sequential([Sequential([Conv2d(2, 3, 3), Dropout()]), ReLU()]), MaxPool2d(2), Flatten(), Linear(12, 4)],
    "relu_behind_max": [Conv2d(2, 3, 3), MaxPool2d(2, 1), MaxPool2d(2), ReLU(), Conv2d(3, 2, 1)],
    "leaky_behind_max": [Conv2d(2, 3, 3), MaxPool2d(2, 1), LeakyReLU(-0.5), Conv2d(3, 2, 1)],
    "relu_behind_mean": [Conv2d(2, 3, 3), AvgPool2d(2, 1), ReLU(), Conv2d(3, 2, 1)],
    "relu_first": [ReLU(), MaxPool2d(2), Conv2d(2, 2, 2)],
    "folded": [Conv2d(2, 3, 3, bias=False), BatchNorm2d(3), BatchNorm2d(3), ReLU(), BatchNorm2d(3), Tanh()],
    "folded_into_others": [Subsample(2, 2), BatchNorm2d(2), LocallyConnected2d(2, 3, 3, 2), BatchNorm2d(3)],
    "folded_with_table": [Conv2d(2, 6, 3), Conv2d(6, 16, 2, connections="lenet5"), BatchNorm2d(16), ReLU()],
    "residual": [
        *(Conv2d(2, 3, 3), ReLU(), Residual([Conv2d(3, 3, 3, padding=1), BatchNorm2d(3), ReLU(), Dropout()]), ReLU()),
        Residual([Conv2d(3, 4, 3, 2, 1), BatchNorm2d(4)], [Conv2d(3, 4, 1, 2), BatchNorm2d(4)]),
        *(Tanh(), Flatten(), Residual([Linear(24, 24)]), Linear(24, 4)),
    ],
    "residual_of_pixels": [Residual([ReLU()], [Tanh(), BatchNorm2d(2)])],
    "residual_in_residual": [
        Conv2d(2, 2, 3),
        Residual([BatchNorm2d(2), Residual([Residual([Dropout()]), MaxPool2d(3, 1, 1), ReLU()], [LeakyReLU()])]),
        *(MaxPool2d(2, 1), Residual([ReLU(), Conv2d(2, 2, 1)]), ReLU()),
        Residual([Flatten(), Linear(24, 5)], [Conv2d(2, 5, (4, 3)), Flatten()]),
    ],
    "in_a_row": [Conv2d(2, 2, 2), Tanh(), LeakyReLU(-0.5), Sigmoid(), ReLU(), Conv2d(2, 2, 2), ReLU()],
    **{f"first_{kind.__name__.lower()}": [kind()] for kind in ACTIVATED},
    **{f"behind_{name}": [Conv2d(2, 3, 3), case.make(), Conv2d(3, 2, 3)] for name, case in ACTIVATIONS.items()},
    **{f"last_{kind.__name__.lower()}": [Flatten(), Linear(84, 5), kind()] for kind in ACTIVATED},
}


def random_network(seed):
    """Layers of all kinds, as they come, down to a few scores."""
    rng = np.random.default_rng(seed)
    shape = start = (int(rng.integers(1, 4)), *map(int, rng.integers(7, 14, 2)))
    layers = []

    def take(layer):
        layers.append(layer)
        return layer.output_shape(shape)

    for _ in range(int(rng.integers(2, 6))):
        channels, outs = shape[0], int(rng.integers(1, 5))
        kernel = tuple(int(rng.integers(1, min(4, side) + 1)) for side in shape[1:])
        half = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        stride = tuple(map(int, rng.integers(1, 3, 2)))
        kind = rng.integers(6)
        if kind == 0:
            shape = take(Conv2d(channels, outs, kernel, stride, half, bias=bool(rng.integers(2))))
        elif kind == 1:
            groups = int(rng.choice([g for g in (1, 2, 3) if channels % g == 0]))
            shape = take(Conv2d(channels, outs * groups, kernel, padding=kernel, dilation=2, groups=groups))
        elif kind == 2:
            table = rng.integers(0, 2, (outs, channels))
            table[:, 0] = 1
            shape = take(Conv2d(channels, outs, kernel, padding=half, connections=table.tolist()))
        elif kind == 3:
            shape = take(LocallyConnected2d(channels, outs, shape[1:], kernel, stride, half))
        elif kind == 4:
            shape = take((MaxPool2d, AvgPool2d)[rng.integers(2)](kernel, stride, half, bool(rng.integers(2))))
        else:
            shape = take(Subsample(channels, kernel))
        if rng.integers(2):
            shape = take(BatchNorm2d(shape[0]))
        if rng.integers(4):
            shape = take(ACTIVATED[rng.integers(5)]())
    shape = take(Flatten())
    shape = take(Linear(*shape, 7))
    if rng.integers(2):
        shape = take(Softmax() if rng.integers(2) else RadialBasis(7, rng.uniform(-1, 1, (4, 7))))
    padding, mean = int(rng.integers(0, 2)), float(rng.uniform(0, 0.5))
    if padding:  # the same network for a smaller image
        start = (start[0], start[1] - 2, start[2] - 2)
    return in_range(layers, start, padding=padding, mean=mean, std=[float(s) for s in rng.uniform(0.2, 1, start[0])])


MODELS = {
    **{name: in_range(layers, IMAGE) for name, layers in {**LAYERS, **POOLS}.items()},
    **{f"random_{seed}": random_network(seed) for seed in range(4)},
    "features": in_range([Linear(5, 3), Tanh()], (5,), mean=[0.1, 0.2, 0.3, 0.4, 0.5], std=0.2),
    "padded": in_range([Conv2d(2, 3, 3)], IMAGE, padding=2, mean=(0.3, 0.5), std=(0.2, 0.25)),
    "padded_alone": in_range([], IMAGE, padding=1, mean=(0, 0.5), std=(1, 0.25)),
    "black_is_0": in_range([Conv2d(2, 3, 3), ReLU()], IMAGE, mean=0, std=1),
    "double": in_range([Conv2d(2, 3, 3, padding=1), Tanh(), Flatten(), Linear(126, 4)], IMAGE),
    "no_weights": in_range([Flatten(), Linear(84, 3), ReLU(), Linear(3, 2)], IMAGE),
    "tiny_weights": in_range([Flatten(), Linear(84, 3), Linear(3, 2)], IMAGE),
    "name_NAME_of_MACRO": in_range([Flatten(), Linear(84, 3), LeakyReLU(), Linear(3, 2)], IMAGE),
}
MODELS["double"].network.astype(np.float64)
MODELS["no_weights"].network.values = 0
MODELS["tiny_weights"].network[1].weight.value[1] = 1e-20
MODELS["tiny_weights"].network[1].bias.value[:2] = 3, -3


@pytest.fixture(scope="module")
def models():
    """Each model in float and in integers."""
    quantized = {f"{name}_int8": quantize(model, images_of(model.input_shape, 20, 1)) for name, model in MODELS.items()}
    return MODELS | quantized


@pytest.fixture(scope="module", params=FLAGS)
def results(request, models, tmp_path_factory):
    """The scores that a compiler gives for each model's images."""
    compiler = request.param
    found(compiler)
    images = [images_of(getattr(model, "model", model).input_shape) for model in models.values()]
    return scores_of(compiler, FLAGS[compiler], models, images, tmp_path_factory.mktemp(compiler))


@pytest.mark.parametrize("suffix", ["", "_int8"])
@pytest.mark.parametrize("name", MODELS)
def test_a_network_equals_itself_in_c(name, suffix, models, results):
    assert_equals_python(results[name + suffix], models[name + suffix], images_of(MODELS[name].input_shape))


@pytest.mark.parametrize("name", MODELS)
def test_integers_come_near_the_floats(name, models):
    images = images_of(MODELS[name].input_shape, 20, 1)
    exact = models[name].scores(images)
    assert np.abs(models[f"{name}_int8"].scores(images) - exact).max() <= 0.08 * np.abs(exact).max()


def test_every_layer_type_can_be_written():
    types = {
        getattr(minicnn.layers, name)
        for name in minicnn.layers.__all__
        if name not in ("LaneLayer", "Layer", "Parameter")
    }
    activations = {kind for kind in types if issubclass(kind, Activation)}
    assert all(kind.code for kind in activations)
    assert {*OPERATIONS, *activations, *(kind for kind in types if kind.identity)} == types
    assert {type(layer) for layers in (LAYERS | POOLS).values() for layer in layers} == types | {Sequential}
