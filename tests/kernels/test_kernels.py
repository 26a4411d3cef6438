"""Kernels where the public layers do not reach: precision, infinities, NaN, the lane layout, tiles."""

import numpy as np
import numpy_twins as twins
import pytest
import torch
from lane_programs import content, filled, in_lanes, work_for
from torch import nn

from minicnn import ELU, GELU, LeakyReLU, LogSoftmax, MaxPool, MeanPool, ReLU, ScaledTanh, Sigmoid, SiLU, Softmax, Tanh
from minicnn.engine import cache, driver, lanes
from minicnn.engine.cache import Kernels
from minicnn.engine.work import Rows
from minicnn.errors import MinicnnError
from minicnn.kernels import LANES
from minicnn.layers import products
from minicnn.layers.conv import direct


@pytest.fixture(autouse=True)
def many_threads():
    """So that a block is a job, on any machine."""
    before = driver.get_threads()
    driver.set_threads(8)
    yield
    driver.set_threads(before)


# Precision of the vector polynomials.


def all_magnitudes():
    """A million finite float32 numbers with every sign, exponent and many mantissas."""
    bits = np.arange(0, 2**32, 4093, dtype=np.uint64).astype(np.uint32)
    special = np.array([0.0, -0.0, 1e-45, -1e-45, 3.4028235e38, -3.4028235e38], np.float32)
    near_zero = np.linspace(-20, 20, 200_001, dtype=np.float32)
    x = np.concatenate([bits.view(np.float32), special, near_zero])
    return x[np.isfinite(x)]


def ulps(y, truth):
    """Distance in units of the last place of the float32 number nearest to the truth."""
    with np.errstate(over="ignore"):  # of the largest number
        unit = np.spacing(np.abs(truth.astype(np.float32)))
    return np.abs(y.astype(np.float64) - truth) / unit


def exact_sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def exact_gelu(x):
    return x * torch.special.erfc(torch.tensor(-x / np.sqrt(2))).numpy() / 2


def exact_silu(x):
    return x * exact_sigmoid(x)


ACTIVATIONS = {
    "ELU": (ELU, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "GELU": (GELU, exact_gelu),
    "SiLU": (SiLU, exact_silu),
    "Tanh": (Tanh, np.tanh),
    "ScaledTanh": (ScaledTanh, twins.scaled_tanh),
    "Sigmoid": (Sigmoid, exact_sigmoid),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_within_a_few_ulp(name):
    make, exact = ACTIVATIONS[name]
    x = all_magnitudes()
    y = make().forward(x.reshape(1, -1))[0]
    assert y.dtype == np.float32
    truth = exact(x.astype(np.float64))
    errors = ulps(y, truth)
    if name in ("GELU", "SiLU"):  # products with numbers that are less than normal are no more exact than these
        errors[np.abs(truth) < 1e-36] = 0
    worst = np.argmax(errors)
    assert errors[worst] <= (6 if name == "GELU" else 4), (
        f"{errors[worst]:.1f} ulp at {x[worst]!r}, received {y[worst]!r}"
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_in_float64_are_exact(name):
    make, exact = ACTIVATIONS[name]
    x = np.concatenate([np.linspace(-800, 800, 10_001), np.linspace(-1e-3, 1e-3, 1001)])
    y = make().forward(x.reshape(1, -1))[0]
    allowed = {"Tanh": 4e-16, "GELU": 2e-15}.get(name, 1e-15)
    if name == "GELU":  # the rounding of x / sqrt(2), which erfc is told here, counts -x^2 times
        allowed += 2e-16 * np.minimum(x, 0) ** 2
    assert (np.abs(y - exact(x)) <= allowed * np.abs(exact(x)) + 1e-300).all()


def test_softmax_is_accurate_for_every_spread_of_its_inputs(rng):
    """Also where exp gives denormal numbers or nothing."""
    x = rng.uniform(0, 200, (500, 1)) * rng.standard_normal((500, 10))
    x = (np.round(64 * x) / 64).astype(np.float32)  # whose differences are exact
    truth = twins.softmax(x.astype(np.float64))
    y = Softmax().forward(x)
    normal = truth > 1.2e-38
    np.testing.assert_allclose(y[normal], truth[normal], rtol=2e-6)
    np.testing.assert_allclose(y[~normal], truth[~normal], atol=3e-45)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
    logarithms = x - np.log(np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(LogSoftmax().forward(x), logarithms - x.max(axis=1, keepdims=True), 1e-6, 1e-6)


# Infinities and NaN: the training loop has to see them.

SPECIAL = np.array([[np.nan, np.inf, -np.inf, 1.0, -1.0, 0.0, -0.0, np.nan]])
DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("layer", "module"),
    [
        (ReLU(), nn.ReLU()),
        (LeakyReLU(0.1), nn.LeakyReLU(0.1)),
        (Sigmoid(), nn.Sigmoid()),
        (Tanh(), nn.Tanh()),
        (ELU(), nn.ELU()),
        (SiLU(), nn.SiLU()),
        (GELU("tanh"), nn.GELU("tanh")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_activations_pass_nan_and_infinity_on_as_torch_does(layer, module, dtype):
    x = SPECIAL.astype(dtype)
    expected = module(torch.tensor(x)).numpy()
    np.testing.assert_allclose(in_lanes(layer, x)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaled_tanh_passes_nan_and_infinity_on(dtype):
    x = SPECIAL.astype(dtype)
    np.testing.assert_allclose(in_lanes(ScaledTanh(), x)[0], twins.scaled_tanh(x), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_nan_wins_in_max_pooling_as_in_torch(where, dtype):
    x = np.arange(4, dtype=dtype).reshape(1, 1, 2, 2)
    x[0, 0][where] = np.nan
    y, dx = in_lanes(MaxPool(2), x, np.ones((1, 1, 1, 1), dtype))
    assert np.isnan(y).all()
    tensor = torch.tensor(x, requires_grad=True)
    nn.functional.max_pool2d(tensor, 2).backward(torch.ones(1, 1, 1, 1, dtype=tensor.dtype))
    np.testing.assert_array_equal(dx, tensor.grad.numpy())


def test_a_window_of_minus_infinity_has_a_maximum_and_a_gradient():
    layer = MaxPool(2)
    y = layer.forward(np.full((1, 1, 2, 2), -np.inf, np.float32))
    assert y.item() == -np.inf
    np.testing.assert_array_equal(layer.backward(np.ones_like(y))[0, 0], [[1, 0], [0, 0]])


def test_nan_stays_in_its_window_and_its_image(rng):
    x = rng.standard_normal((LANES + 2, 2, 4, 4)).astype(np.float32)
    x[3, 1, 2, 3] = np.nan
    for layer in (MaxPool(2), MeanPool(2)):
        y, _ = in_lanes(layer, x)
        assert np.argwhere(np.isnan(y)).tolist() == [[3, 1, 1, 1]]


@pytest.mark.parametrize("layer", [ReLU(), LeakyReLU(), Tanh(), Sigmoid(), ELU(), SiLU(), GELU()], ids=repr)
def test_nan_in_the_upstream_gradient_is_passed_on(layer):
    x = np.ones((1, 3), np.float32)
    _, dx = in_lanes(layer, x, np.array([[1, np.nan, 2]], np.float32))
    assert np.isnan(dx).tolist() == [[False, True, False]]


# The lane layout.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, LANES - 1, LANES, LANES + 1, 3 * LANES])
@pytest.mark.parametrize("features", [1, LANES - 1, LANES, 2 * LANES + 3])
def test_packing_and_unpacking(rng, n, features, dtype):
    x = rng.standard_normal((n, features)).astype(dtype)
    work = work_for(n, dtype)
    packed = lanes.pack(work, filled(work, x), (features,))
    back = work.rows(features)
    back.array[...] = 7
    lanes.unpack(work, packed, back)
    program = work.finish()
    packed.buffer.arena.array[...] = 7
    program.run(n)
    np.testing.assert_array_equal(content(packed, work), twins.pack(x, LANES))
    np.testing.assert_array_equal(back.array[:n], x)
    assert (back.array[n:] == 7).all()


@pytest.mark.parametrize("n", [1, LANES, 2 * LANES + 3])
@pytest.mark.parametrize("pixels", [1, LANES - 1, LANES, 2 * LANES + 3])
def test_gathering_normalises_the_images_in_their_order(rng, n, pixels):
    images = rng.integers(0, 256, (50, 2, pixels), dtype=np.uint8)
    scale, shift = np.array([0.1, -2], np.float32), np.array([3, 0.5], np.float32)
    work = work_for(n, np.float32)
    order = Rows(rng.integers(0, 50, work.blocks * LANES))
    packed = work.map((2, pixels))
    size = packed.shape
    work.call(lanes.kernels.gather, images, order, packed, *size, scale, shift)
    work.finish().run(n)
    expected = images[order.array] * scale[:, None] + shift[:, None]
    np.testing.assert_allclose(content(packed, work), twins.pack(expected, LANES), rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_is_noticed_wherever_it_is_and_infinity_let_through(rng, value):
    features = 2 * LANES + 3
    for place in [(0, 0), (LANES - 1, LANES), (LANES + 1, 2 * LANES), (3 * LANES, features - 1)]:
        x = rng.standard_normal((3 * LANES + 1, features)).astype(np.float32)
        x[place] = value
        if np.isnan(value):
            index = rf"\({place[0]}, {place[1]}\)"
            with pytest.raises(MinicnnError, match=rf"NaN at index {index}"):
                ReLU().forward(x)
        else:
            assert ReLU().forward(x)[place] == max(value, 0)


# Tiles: each of both machines' menus, for shapes that are as large and that leave a rest.

product, gradients = Kernels("product"), Kernels("gradients")
PRODUCT_TILES = sorted({*products.WIDE, *products.NARROW})
TAP_TILES = sorted({*direct.WIDE, *direct.NARROW})


@pytest.fixture(scope="module")
def compiled_together():
    """In a few processes, and not one after the other."""
    kernels = [(product.product(*tile), f"{4 * 'FLOAT'}ii{7 * 'n'}") for tile in PRODUCT_TILES]
    kernels += [(product.product_of_rows(16, 1), kernels[0][1])]
    kernels += [(gradients.tap_gradient(*tile), f"{3 * 'FLOAT'}ii{8 * 'n'}") for tile in TAP_TILES]
    cache.addresses([(k, kinds.replace("FLOAT", letter)) for k, kinds in kernels for letter in "fd"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("tile", PRODUCT_TILES, ids=str)
def test_a_product_of_any_size_from_the_tile_on(rng, compiled_together, tile, with_bias, dtype):
    rows, columns = tile
    for outs, width in ((rows, columns), (rows + 1, columns + 1), (2 * rows, 3 * columns + 2)):
        depth, panels, step = 5, 2, 2  # every second column of x, of which each panel has its own
        x = rng.standard_normal((panels, depth, step * width, LANES)).astype(dtype)
        w, bias = (rng.standard_normal(s).astype(dtype) for s in ((depth, outs), outs))
        y = np.full((panels, outs, width, LANES), 7, dtype)
        first = 1  # the first k counts for nothing
        places = np.array(
            [(p * x[0].size, 0, p * y[0].size, 0 if with_bias else -1, first, depth) for p in range(panels)]
        )
        table = np.arange(depth) * x[0, 0].size
        work = work_for(1, dtype)
        shape = (outs, 1, outs, width, step * LANES, width * LANES, LANES)
        work.call(product.product(*tile), x, w, bias, y, places, table, *shape, tasks=panels)
        work.finish().run(1)
        expected = [
            twins.product(w[first:], x[p, first:, ::step], bias if with_bias else 0 * bias) for p in range(panels)
        ]
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_with_the_weights_of_an_output_side_by_side(rng, compiled_together, dtype):
    outs, depth = 19, 5
    x = rng.standard_normal((depth, LANES)).astype(dtype)
    w, bias = (rng.standard_normal(s).astype(dtype) for s in ((outs, depth), outs))
    y = np.full((outs, LANES), 7, dtype)
    places, table = np.array([[0, 0, 0, 0, 0, depth]]), np.arange(depth) * LANES
    work = work_for(1, dtype)
    shape = (outs, depth, 1, 1, LANES, LANES, LANES)
    work.call(product.product_of_rows(16, 1), x, w, bias, y, places, table, *shape)
    work.finish().run(1)
    np.testing.assert_allclose(y, bias[:, None] + w @ x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tile", TAP_TILES, ids=str)
def test_gradients_of_any_number_of_maps_and_taps_from_the_tile_on(rng, compiled_together, tile, dtype):
    rows, columns = tile
    for outs, count in ((rows, columns), (rows + 1, columns + 1), (3 * rows, 2 * columns + 1)):
        height, width, stride = 3, 4, 2
        dy = rng.standard_normal((outs, height, width, LANES)).astype(dtype)
        x = rng.standard_normal((2 * height + 3, 2 * width + count, LANES)).astype(dtype)
        taps = [(t % 3, t) for t in range(count)]  # (row, column)
        line = x[0].size
        table = np.array([row * line + column * LANES for row, column in taps])
        sums = np.full((outs, count), 7, dtype)
        work = work_for(1, dtype)
        shape = (outs, count, dy[0].size, height, width, dy[0, 0].size)
        steps = (stride * line, stride * LANES)
        places = np.zeros(3, np.int64)
        work.call(gradients.tap_gradient(*tile), dy, x, sums, places, table, *shape, *steps)
        work.finish().run(1)
        expected = twins.tap_gradient(dy, x, taps, stride)
        np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-4)


def test_no_shape_needs_a_tile_beyond_the_menus(monkeypatch):
    """So that lines of writing, each of another width, share their kernels."""
    for registers, menu in ((32, products.WIDE), (16, products.NARROW)):
        monkeypatch.setattr(products, "vector_registers", lambda n=registers: n)
        products.choose_tile.cache_clear()
        for rows in (1, 3, 6, 16, 120):
            assert {products.choose_tile(rows, columns) for columns in range(1, 300)} <= {*menu}
    monkeypatch.undo()
    products.choose_tile.cache_clear()
