"""What a network is built of is fixed once it is built, and each layer and parameter is in one place."""

import numpy as np
import pytest

from minicnn import (
    SGD,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    LocallyConnected2d,
    MaxPool,
    Parameter,
    RadialBasis,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    Tanh,
    evaluate,
    train_step,
)
from minicnn.errors import ConfigError, ShapeError
from minicnn.layers.layer import Layer

X = np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)
LABELS = np.arange(20) % 5


class Scale(Layer):
    """y = x scale, in NumPy, with a Parameter that it is given, and its own names for it."""

    def __init__(self, scale, names=("scale",)):
        self.scale, self.names = scale, names

    def parameters(self):
        return [self.scale.renamed(name) for name in self.names]

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False):
        self.x = x
        return x * self.scale.value

    def backward(self, dy):
        self.scale.grad[...] = np.sum(dy * self.x, axis=0)
        return dy * self.scale.value


def scale(names=("scale",)):
    return Scale(Parameter("scale", np.ones(5, np.float32)), names)


# One layer or parameter in two places.

ONE, OTHER, INNER = Dense(5, 5), ReLU(), Sequential([Dense(5, 5)])
SHARED = Parameter("scale", np.ones(5, np.float32))
TWICE = {
    "layer": ([ONE, Tanh(), ONE], r"layer 2 Dense.*received that of layer 0 again"),
    "layer without parameters": ([OTHER, OTHER], r"layer 1 ReLU.*that of layer 0 again"),
    "in a network": ([ONE, Sequential([Tanh(), ONE])], r"layer 1\.1 Dense.*that of layer 0 again"),
    "in two networks": (
        [Sequential([OTHER, ONE]), Sequential([Sequential([ONE])])],
        r"layer 1\.0\.0 Dense.*that of layer 0\.1 again",
    ),
    "a network": ([INNER, INNER], r"layer 1 Sequential.*that of layer 0 again"),
    "parameter": ([Scale(SHARED), Scale(SHARED)], r"1\.scale: .*that of 0\.scale again"),
    "parameter below": (
        [Sequential([Scale(SHARED)]), ReLU(), Sequential([Tanh(), Scale(SHARED)])],
        r"2\.1\.scale: .*that of 0\.0\.scale again",
    ),
    "parameter in one layer": ([scale(("a", "b"))], r"0\.b: .*that of 0\.a again"),
}


@pytest.mark.parametrize("name", TWICE)
def test_one_thing_in_two_places_is_refused(name):
    layers, message = TWICE[name]
    with pytest.raises(ShapeError, match=message):
        Sequential(layers)


def test_layers_that_only_look_alike_are_two():
    network = Sequential([Dense(5, 5), Tanh(), Dense(5, 5), Tanh(), scale(), scale()])
    assert network.parameter_count == 70
    assert [place for place, _ in Sequential([network, ReLU()]).places()] == [
        *("0", "0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "1")
    ]


def test_two_parameters_of_one_name_are_refused():
    class Two(Layer):
        output_shape = forward = backward = None

        def parameters(self):
            return [Parameter("a", np.ones(2, np.float32)), Parameter("a", np.ones(3, np.float32))]

    class Clash(Two):
        def parameters(self):
            return [Parameter("a", np.ones(2, np.float32))]

        def buffers(self):
            return {"a": np.zeros(3)}

    Two.__abstractmethods__ = Clash.__abstractmethods__ = frozenset()
    with pytest.raises(ShapeError, match=r"0\.a: expected each parameter once and with a name"):
        Sequential([Two()])
    for kind in (Two, Clash):
        with pytest.raises(ShapeError, match=r"a name of its own.*received 'a' twice"):
            kind().state_dict()


def test_an_optimizer_takes_each_parameter_once():
    layer = Dense(5, 3)
    for parameters in ([layer.weight, layer.weight], [*layer.parameters(), *layer.parameters()]):
        with pytest.raises(ConfigError, match="expected each once, received weight twice"):
            SGD(parameters, lr=0.1)


def test_the_same_layers_in_two_networks_are_trained_in_both():
    layers = [Dense(5, 5), Tanh(), Dense(5, 5)]
    one, other = Sequential(layers), Sequential(layers)
    loss = SoftmaxCrossEntropy()
    for network in (one, other, one):
        before = layers[0].weight.value.copy()
        train_step(network, loss, SGD(network.parameters(), lr=0.1), (X, LABELS))
        assert (layers[0].weight.value != before).any()
        np.testing.assert_array_equal(one.forward(X), other.forward(X))


# Changes after construction.

LOCAL = LocallyConnected2d(1, 2, 6, 3)
CHANGES = [
    (Conv2d(1, 2, 3), "padding", 2),
    (Conv2d(1, 2, 3), "stride", (2, 2)),
    (Conv2d(1, 2, 3), "dilation", 2),
    (Conv2d(1, 2, 3), "kernel_size", (5, 5)),
    (Conv2d(2, 2, 3), "groups", 2),
    (Conv2d(1, 2, 3), "in_channels", 10**7),
    (Conv2d(2, 2, 3, connections=np.eye(2, dtype=int)), "table", None),
    (Conv2d(2, 2, 3), "connections", np.eye(2)),
    (Dense(3, 2), "in_features", 10**7),
    (Dense(3, 2), "out_features", 1),
    (Dense(3, 2, bias=False), "bias", Parameter("bias", np.ones(2, np.float32))),
    (LOCAL, "input_size", (9, 9)),
    (LOCAL, "output_size", (9, 9)),
    (MaxPool(2), "kernel_size", (3, 3)),
    (MaxPool(2), "ceil_mode", True),
    (LeakyReLU(), "negative_slope", 0.5),
    (Dropout(0.5), "p", 0.1),
    (BatchNorm2d(2), "eps", 1.0),
    (BatchNorm2d(2), "num_features", 200),
    (RadialBasis(84), "in_features", 10**7),
    (Sequential([Dense(3, 2)]), "layers", ()),
]


@pytest.mark.parametrize(("layer", "name", "value"), CHANGES, ids=lambda v: v if isinstance(v, str) else "")
def test_geometry_stays_as_it_was_built(layer, name, value):
    before, text = getattr(layer, name), repr(layer)
    with pytest.raises(ShapeError, match=rf"{name}: expected a layer that stays.*build a new") as e:
        setattr(layer, name, value)
    assert str(e.value).startswith((text, type(layer).__name__)) and repr(layer) == text
    unchanged = getattr(layer, name)
    assert unchanged is before or unchanged == before


def test_a_parameter_stays():
    layer = Dense(3, 2)
    for owner in (layer, Sequential([layer])[0], scale()):
        name = "scale" if isinstance(owner, Scale) else "weight"
        with pytest.raises(ShapeError, match=rf"{name}: expected the parameter.*layer.{name}.value"):
            setattr(owner, name, Parameter(name, np.ones((2, 3), np.float32)))
    with pytest.raises(ShapeError, match="bias: expected the parameter that it was built with"):
        layer.bias = None


def test_layers_of_a_network_stay():
    network = Sequential([Dense(3, 2), ReLU()])
    with pytest.raises(TypeError):
        network.layers[1] = Tanh()
    assert not hasattr(network.layers, "append") and not hasattr(network.layers, "pop")


def test_a_table_of_connections_stays():
    table = np.eye(2, dtype=bool)
    layer = Conv2d(2, 2, 3, connections=table)
    with pytest.raises(ValueError, match="read-only"):
        layer.table.table[0, 1] = True
    table[0, 1] = True  # the user's own array is another one
    assert len(layer.table) == 2


def test_flat_arrays_are_written_into():
    network = Sequential([Dense(3, 2, bias=False)])
    weight = network[0].weight
    network.values = np.arange(6)
    network.gradients = 2
    network.values += 1
    np.testing.assert_array_equal(weight.value, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(weight.grad, np.full((2, 3), 2))
    with pytest.raises(ShapeError, match=r"values: expected an array of shape \(6,\)"):
        network.values = np.zeros(5)


def test_buffers_keep_their_shape():
    layer = BatchNorm2d(3)
    x = np.random.default_rng(1).standard_normal((4, 3, 5, 5)).astype(np.float32)
    layer.forward(x)
    layer.running_mean = [1.0, 2.0, 3.0]
    expected = (x - np.reshape([1, 2, 3], (3, 1, 1))) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-5, atol=1e-6)
    layer.num_batches_tracked += 1
    layer.num_batches_tracked = 7
    assert layer.state_dict()["num_batches_tracked"] == 7
    for value in (np.zeros(2), np.zeros((3, 1)), 0.0, ["a", "b", "c"]):
        with pytest.raises(ShapeError, match=r"running_mean: expected an array of shape \(3,\)"):
            layer.running_mean = value
    with pytest.raises(ShapeError, match="prototypes: expected an array of shape"):
        RadialBasis(84).prototypes = np.zeros((2, 84))


def test_a_layer_of_one_s_own_may_change_what_it_likes():
    class Warm(Layer):
        def __init__(self, heat):
            self.heat = heat
            self.passes = 0

        def output_shape(self, input_shape):
            return input_shape

        def forward(self, x, training=False):
            self.passes += 1
            return x * np.float32(self.heat)

        def backward(self, dy):
            return dy * np.float32(self.heat)

    class Own(Conv2d):
        """Within a constructor, everything may be set more than once."""

        def __init__(self):
            super().__init__(1, 2, 3)
            self.weight = Parameter("weight", np.ones((2, 1, 3, 3), np.float32))

    layer = Warm(2.0)
    network = Sequential([layer])
    assert network.forward(X)[0, 0] == 2 * X[0, 0]
    layer.heat = 3.0
    assert network.forward(X)[0, 0] == 3 * X[0, 0]
    own = Own()
    assert own.parameters()[0].value.all()
    with pytest.raises(ShapeError, match="padding"):
        own.padding = 1


# Arrays.


@pytest.mark.parametrize("value", [np.zeros(3), np.zeros((3, 2)), np.zeros((1, 2, 3)), [1, 2, 3]])
def test_values_of_another_shape_are_not_broadcast(value):
    weight = Dense(3, 2).weight
    before = weight.value.copy()
    for name in ("value", "grad"):
        with pytest.raises(ShapeError, match=r"weight: expected an array of shape \(2, 3\), received"):
            setattr(weight, name, value)
    np.testing.assert_array_equal(weight.value, before)


@pytest.mark.parametrize("value", [None, "abc", 1j, np.ones((2, 3), complex), [[None] * 3] * 2])
def test_values_that_are_no_numbers(value):
    with pytest.raises(ShapeError, match="weight: expected"):
        Dense(3, 2).weight.value = value


def test_values_that_are_numbers():
    weight = Dense(3, 2).weight
    for value in (np.arange(6).reshape(2, 3), np.ones((2, 3), np.float16), [[1, 2, 3]] * 2, 0.5, 2):
        weight.value = value
        np.testing.assert_array_equal(weight.value, np.broadcast_to(value, (2, 3)))
        assert weight.value.dtype == np.float32


TYPES = [np.float16, int, np.int8, bool, complex, object, "U3", "nonsense", np.longdouble]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_other_element_types_are_refused(dtype):
    if dtype is np.longdouble and np.dtype(dtype) == np.float64:
        pytest.skip("the same type here")
    network = Sequential([Conv2d(1, 2, 3), BatchNorm2d(2), Flatten(), RadialBasis(32, np.eye(32))])
    for layer in (*network, network):
        if layer.dtype is not None:
            with pytest.raises(ShapeError, match="dtype: expected float32 or float64, received"):
                layer.astype(dtype)
            assert layer.dtype == np.float32
    if dtype != "nonsense":
        with pytest.raises(ShapeError, match="p: expected float32 or float64, received"):
            Parameter("p", np.zeros(3, dtype))


def test_a_network_of_two_element_types_is_refused():
    network = Sequential([Dense(5, 4), ReLU(), Dense(4, 5)])
    y = network.forward(X)
    network[2].astype(np.float64)
    optimizer = SGD([network[0].weight], lr=0.1)
    loss = SoftmaxCrossEntropy()
    for use in (
        lambda: network.forward(X),
        lambda: evaluate(network, loss, [(X, LABELS)]),
        lambda: train_step(network, loss, optimizer, (X, LABELS)),
        lambda: Sequential([Dense(5, 5), Dense(5, 5).astype(np.float64)]),
    ):
        with pytest.raises(ShapeError, match=r"(2|1)\.weight: expected float32.*received float64"):
            use()
    with pytest.raises(ConfigError, match="expected one element type, received float32 and float"):
        SGD([network[0].weight, network[2].weight], lr=0.1).step()
    network[2].astype(np.float32)
    np.testing.assert_array_equal(network.forward(X), y)


def test_a_parameter_moves_only_where_there_is_room():
    weight = Dense(3, 2).weight
    good = np.zeros((2, 3), np.float32)
    for value, grad in (
        (np.zeros(1, np.float32), np.zeros(1, np.float32)),
        (good, np.zeros((2, 2), np.float32)),
        (good.astype(np.float16), good.astype(np.float16)),
        (good, good.astype(np.float64)),
        (np.zeros((3, 2), np.float32).T, good),
        (good, np.zeros((2, 6), np.float32)[:, ::2]),
    ):
        with pytest.raises(ShapeError, match=r"^weight: expected"):
            weight.move(value, grad)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.int8, bool])
def test_a_state_of_other_element_types_is_refused(dtype):
    layer = BatchNorm2d(3)
    before = layer.state_dict()
    for name in ("weight", "running_mean"):
        wrong = before | {name: np.full(3, 7).astype(dtype)}
        with pytest.raises(ShapeError, match=f"{name}: expected numbers of type float32 or float64"):
            layer.load_state_dict(wrong)
    with pytest.raises(ShapeError, match="num_batches_tracked: expected numbers of type int64"):
        layer.load_state_dict(before | {"num_batches_tracked": np.ones((), np.float32)})
    layer.load_state_dict(before | {"weight": np.full(3, 7.0)})
    np.testing.assert_array_equal(layer.weight.value, [7, 7, 7])


def test_a_state_with_nan_is_loaded_and_told():
    layer = Dense(3, 2)
    state = layer.state_dict() | {"bias": np.array([np.nan, 1], np.float32)}
    with pytest.warns(UserWarning, match="Dense: NaN or infinity in bias"):
        layer.load_state_dict(state)
    assert np.isnan(layer.bias.value[0])


MASKED = np.ma.masked_array(X, X < 0)


@pytest.mark.parametrize(
    "use",
    [
        lambda network: network.forward(MASKED),
        lambda network: (network.forward(X), network.backward(MASKED)),
        lambda network: SoftmaxCrossEntropy().forward(MASKED, LABELS),
        lambda network: SoftmaxCrossEntropy().forward(X, np.ma.masked_array(LABELS)),
        lambda network: train_step(network, SoftmaxCrossEntropy(), SGD(network.parameters(), 0.1), (MASKED, LABELS)),
        lambda network: evaluate(network, SoftmaxCrossEntropy(), [(MASKED, LABELS)]),
        lambda network: setattr(network[0].bias, "value", MASKED[0]),
        lambda network: network.load_state_dict(network.state_dict() | {"0.bias": MASKED[0]}),
        lambda network: Parameter("p", MASKED),
    ],
)
def test_masked_arrays_are_refused(use):
    with pytest.raises(ShapeError, match=r"masked|MaskedArray"):
        use(Sequential([Dense(5, 5)]))
