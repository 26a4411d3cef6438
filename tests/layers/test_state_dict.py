"""Weights by PyTorch's names, both ways, and the options that build a layer again."""

import inspect

import numpy as np
import pytest
import torch
from layer_cases import each_case
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch_file
from safetensors.torch import save_file as save_torch_file
from torch import nn

from minicnn import BatchNorm2d, Conv2d, Dense, Dropout, Flatten, MaxPool, ReLU, Residual, Sequential, ShapeError, Tanh
from minicnn.errors import MinicnnError
from minicnn.layers.layer import Layer
from minicnn.layers.parameter import Parameter

DTYPES = {"float32": torch.float32, "float64": torch.float64}
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
SHAPE = (1, 9, 8)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def our_network():
    return Sequential(
        [
            Sequential([Conv2d(1, 6, 5, padding=2), BatchNorm2d(6), ReLU(), MaxPool(2)]),
            Dropout(0.5),
            Flatten(),
            Sequential([Sequential([Dense(96, 7, bias=False), Tanh()])]),
            Dense(7, 5),
        ]
    )


def torch_network():
    """The same, with running statistics that are not those of a new layer."""
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Sequential(nn.Sequential(nn.Linear(96, 7, bias=False), nn.Tanh())),
        nn.Linear(7, 5),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(-0.5, 0.5)
            else:
                tensor.fill_(4)
        network[0][1].running_var.uniform_(0.5, 2)
    return network.eval()


def assert_same_outputs(ours, theirs, dtype):
    x = np.random.default_rng(5).standard_normal((4, *SHAPE)).astype(dtype)
    with torch.no_grad():
        expected = theirs(torch.tensor(x)).numpy()
    y = ours.forward(x)
    assert y.dtype == expected.dtype
    np.testing.assert_allclose(y, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@each_dtype
def test_names_order_and_shapes_are_those_of_torch(dtype):
    ours, theirs = our_network().astype(dtype).state_dict(), torch_network().to(DTYPES[dtype])
    assert [(name, value.shape, str(value.dtype)) for name, value in ours.items()] == [
        (name, tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for name, value in theirs.state_dict().items()
    ]
    assert "0.1.running_mean" in ours
    assert list(Dense(7, 5).state_dict()) == list(nn.Linear(7, 5).state_dict())


@each_dtype
def test_weights_of_torch_give_the_outputs_of_torch(dtype):
    ours, theirs = our_network().astype(dtype), torch_network().to(DTYPES[dtype])
    ours.load_state_dict(theirs.state_dict())
    assert_same_outputs(ours, theirs, dtype)


@each_dtype
def test_weights_of_ours_give_our_outputs_in_torch(dtype):
    ours, theirs = our_network().astype(dtype), torch_network().to(DTYPES[dtype])
    state = ours.initialize(rng=1).state_dict()
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    assert_same_outputs(ours, theirs, dtype)


@each_dtype
def test_weights_travel_through_files_of_torch(dtype, tmp_path):
    ours, theirs = our_network().astype(dtype), torch_network().to(DTYPES[dtype])
    save_torch_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours.load_state_dict(load_file(tmp_path / "theirs.safetensors"))
    assert_same_outputs(ours, theirs, dtype)
    ours.load_state_dict(load_torch_file(tmp_path / "theirs.safetensors"))
    assert_same_outputs(ours, theirs, dtype)


@each_dtype
def test_weights_travel_through_files_of_ours(dtype, tmp_path):
    ours, theirs = our_network().astype(dtype).initialize(rng=1), torch_network().to(DTYPES[dtype])
    save_file(ours.state_dict(), tmp_path / "ours.safetensors")
    theirs.load_state_dict(load_torch_file(tmp_path / "ours.safetensors"))
    assert_same_outputs(ours, theirs, dtype)


def test_parameters_of_torch_may_require_a_gradient():
    ours, theirs = Dense(7, 5), nn.Linear(7, 5)
    ours.load_state_dict(dict(theirs.named_parameters()))
    np.testing.assert_array_equal(ours.weight.value, theirs.weight.detach().numpy())


def test_numbers_are_converted_to_the_type_of_the_layer():
    ours, source = Dense(7, 5), nn.Linear(7, 5).double()
    ours.load_state_dict(source.state_dict())
    assert ours.weight.value.dtype == np.float32
    np.testing.assert_array_equal(ours.weight.value, source.weight.detach().float().numpy())


def test_arrays_keep_their_identity_and_what_is_returned_is_a_copy():
    network, other = our_network(), our_network().initialize(rng=2)
    before = [*(p.value for p in network.parameters()), *network.buffers().values()]
    network.load_state_dict(other.state_dict())
    after = [*(p.value for p in network.parameters()), *network.buffers().values()]
    for old, new in zip(before, after, strict=True):
        assert old is new
    np.testing.assert_array_equal(network.values, other.values)
    state = network.state_dict()
    for value in state.values():
        value += 1
    np.testing.assert_array_equal(network.values, other.values)
    state = other.state_dict()
    network.load_state_dict(state)
    state["4.bias"][...] = 9
    np.testing.assert_array_equal(network.values, other.values)


def test_arrays_of_the_network_itself_may_change_places():
    network = Sequential([Dense(5, 5), Dense(5, 5)]).initialize(rng=0)
    first, second = network.state_dict()["0.weight"], network.state_dict()["1.weight"]
    own = {p.name: p.value for p in network.parameters()}
    own["0.weight"], own["1.weight"] = own["1.weight"], own["0.weight"]
    network.load_state_dict(own)
    np.testing.assert_array_equal(network[0].weight.value, second)
    np.testing.assert_array_equal(network[1].weight.value, first)


# What does not fit is named, and nothing is changed.

WRONG = {
    "missing": ({"0.bias": None}, r"missing 0\.bias$"),
    "unexpected": ({"0.slope": np.ones(3, np.float32)}, r"unexpected 0\.slope$"),
    "shape": ({"1.weight": np.ones((5, 7), np.float32)}, r"1\.weight: expected shape \(3, 5\), received \(5, 7\)$"),
    "number of axes": ({"1.bias": np.ones((3, 1), np.float32)}, r"\(3,\), received \(3, 1\)"),
    "torch shape": ({"1.bias": torch.ones(4)}, r"1\.bias: expected shape \(3,\), received \(4,\)"),
    "text": ({"1.bias": "abc"}, r"1\.bias: expected an array, received str"),
    "list": ({"1.bias": [1.0, 2.0, 3.0]}, r"1\.bias: expected an array, received list"),
    "complex": ({"1.bias": np.ones(3, complex)}, r"numbers of type float32 or float64, received complex128"),
    "objects": ({"1.bias": np.array([None] * 3)}, r"numbers of type float32 or float64, received object"),
    "bfloat16": ({"1.bias": torch.ones(3, dtype=torch.bfloat16)}, r"1\.bias: .*BFloat16"),
    "too large": ({"1.bias": np.full(3, 1e300)}, r"1\.bias: overflow"),
    "several": (
        {"0.bias": None, "x": np.ones(1), "1.bias": torch.ones(4)},
        r"missing 0\.bias; unexpected x; 1\.bias: expected",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_state_that_does_not_fit_changes_nothing(name):
    changes, message = WRONG[name]
    network = Sequential([Dense(7, 5), Dense(5, 3)])
    before = network.values.copy()
    state = {key: np.full_like(value, 7) for key, value in network.state_dict().items()} | changes
    state = {key: value for key, value in state.items() if value is not None}
    with pytest.raises(ShapeError, match=r"Sequential: the state does not fit: .*" + message):
        network.load_state_dict(state)
    np.testing.assert_array_equal(network.values, before)


def test_what_is_no_dict_is_refused():
    with pytest.raises(ShapeError, match=r"Dense: expected a dict of names and arrays.*received list"):
        Dense(7, 5).load_state_dict([np.ones((5, 7))])


def test_a_count_is_a_whole_number():
    state = BatchNorm2d(3).state_dict() | {"num_batches_tracked": np.array(1.5)}
    with pytest.raises(ShapeError, match="num_batches_tracked: expected numbers of type int64"):
        BatchNorm2d(3).load_state_dict(state)


def test_without_strict_keys_are_passed_over_and_returned():
    network = Sequential([Dense(7, 5), Dense(5, 3)])
    state = {"0.weight": np.full((5, 7), 2.0), "2.weight": np.ones(1)}
    result = network.load_state_dict(state, strict=False)
    assert result.missing_keys == ["0.bias", "1.weight", "1.bias"]
    assert result.unexpected_keys == ["2.weight"]
    assert (network[0].weight.value == 2).all()
    with pytest.raises(ShapeError, match="shape"):
        network.load_state_dict({"0.weight": np.ones(3)}, strict=False)


def test_torch_names_the_keys_that_were_passed_over_alike():
    ours, theirs = Dense(7, 5), nn.Linear(7, 5)
    state = {"weight": torch.ones(5, 7), "more": torch.ones(1)}
    expected = theirs.load_state_dict(state, strict=False)
    assert ours.load_state_dict(state, strict=False) == tuple(expected)


# Options.


@each_case
def test_options_are_the_arguments_and_build_the_twin(case):
    layer = case.make()
    options = layer.options()
    parameters = inspect.signature(type(layer)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    if not isinstance(layer, Sequential | Residual):
        assert set(options) >= set(case.arguments)
        assert set(options) | {"connections"} == {p.name for p in parameters} | {"connections"}
        for name, value in (defaults | dict(case.arguments)).items():
            known = options.get(name)  # the stride of a pool is its window's size
            if isinstance(value, str):
                assert known == value or np.ndim(known)  # what "lenet5" and "same" stand for
            else:
                assert known in (value, (value, value)) or (value is None and known == options["kernel_size"])
    twin = type(layer)(**options)
    assert repr(twin) == repr(layer)
    if not isinstance(layer, Sequential | Residual):  # whose options are layers
        assert twin.options() == options
    assert [(name, value.shape) for name, value in twin.state_dict().items()] == [
        (name, value.shape) for name, value in layer.state_dict().items()
    ]


def test_options_of_a_network_are_layers_of_its_own():
    network = our_network()
    twin = Sequential(**network.options())
    assert repr(twin) == repr(network)
    twin.values[...] = 3
    assert not (network.values == 3).any()


class Identity(Layer):
    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False):
        return x

    def backward(self, dy):
        return dy


class Kept(Identity):
    def __init__(self, size, *, shift=None):
        self.size, self.shift = size, shift


class Lost(Identity):
    def __init__(self, size):
        self.width = size


class Overwritten(Identity):
    def __init__(self, slope=0.25):
        self.slope = Parameter("slope", np.full(1, slope, np.float32))


class Open(Identity):
    def __init__(self, *sizes):
        self.sizes = sizes


def test_a_users_layer_has_options_if_its_arguments_are_attributes():
    assert Identity().options() == {}
    assert Kept(3, shift=2).options() == {"size": 3, "shift": 2}


@pytest.mark.parametrize("layer", [Lost(3), Overwritten(0.5), Open(3)])
def test_a_users_layer_that_does_not_keep_its_arguments_is_named(layer):
    name = type(layer).__name__
    with pytest.raises(MinicnnError, match=rf"{name}: expected its argument .* as an attribute"):
        layer.options()
