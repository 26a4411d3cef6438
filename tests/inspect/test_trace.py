"""What `minicnn trace` tells, read back from its text: each line's arithmetic, and each number against PyTorch."""

import math
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layer_cases import Case, each_case
from torch import nn

from minicnn import (
    SGD,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    MeanSquaredError,
    RadialBasis,
    ReLU,
    ScaledTanh,
    Sequential,
    SoftmaxCrossEntropy,
    lenet5,
    load,
    load_dataset,
)
from minicnn.cli import main
from minicnn.inspect.trace import trace, visible_rate
from minicnn.layers.activation import Activation
from minicnn.layers.explain import Step, sum_of_numbers, sum_of_products
from minicnn.layers.registry import LAYERS
from minicnn.losses import LABEL_LOSSES, HalfSquaredError, Loss, MaximumAPosteriori

LENET = str(Path(__file__).parents[2] / "configs" / "lenet.yaml")
NUMBER = r"-?\d+(?:\.\d+)?(?:e-\d+)?"
FUNCTIONS = {"tanh": math.tanh, "exp": math.exp, "max": max, "ln": math.log, "abs": abs}


@pytest.fixture
def unbroken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sentence in one line."""
    monkeypatch.setattr("minicnn.inspect.trace.WIDTH", 10_000)


@pytest.fixture(autouse=True)
def sums_that_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told as a sum must be one before "the other products" take what rounding has left."""

    def products(names: Any, a: Any, b: Any, total: float, *rest: Any) -> list[str]:
        terms = np.asarray(a, float) * np.asarray(b, float)
        assert terms.sum() == pytest.approx(total, rel=1e-4, abs=1e-5 * np.abs(terms).sum())
        return sum_of_products(names, a, b, total, *rest)

    def numbers(names: Any, values: Any, total: float, *rest: Any) -> list[str]:
        assert values.sum() == pytest.approx(total, rel=1e-4, abs=1e-5 * np.abs(values).sum())
        return sum_of_numbers(names, values, total, *rest)

    for module in list(sys.modules.values()):
        for name, plain, checked in (
            ("sum_of_products", sum_of_products, products),
            ("sum_of_numbers", sum_of_numbers, numbers),
        ):
            if module.__name__.startswith("minicnn.layers") and getattr(module, name, None) is plain:
                monkeypatch.setattr(module, name, checked)


def image(seed: int = 0) -> Any:
    """A bright square on a dark ground, with some noise."""
    x = np.random.default_rng(seed).normal(-0.4, 0.05, (1, 1, 28, 28)).astype(np.float32)
    x[..., 8:19, 9:16] += 3
    return x


def value(expression: str) -> float | None:
    """The value of an expression of numbers, None if it has other words in it."""
    text = expression.replace(" x ", " * ").replace("^", "**")
    text = re.sub(r"-ln ([\d.]+)", r"-ln(\1)", text).replace("where ", "")
    if set(re.findall("[a-z]+", re.sub(r"(?<=\d)e(?=-\d)", "", text))) - set(FUNCTIONS) or not re.search(r"\d", text):
        return None
    try:
        return float(eval(text, {"__builtins__": {}}, FUNCTIONS))
    except SyntaxError:
        return None


def equations(text: str) -> Iterator[tuple[str, float, float, float]]:
    """(line, value of an expression in it, the shown result, one unit of the last digits)."""
    for line in re.split(r"\n(?= *\S)", re.sub(r"\n {2}(?=\S)", "\n", text)):
        for part in re.split(r"[;:] |, so |, as |, and |, from ", line):
            *expressions, result = re.sub(r"  \(.*\)$", "", part.strip()).split(" = ")
            if not re.fullmatch(NUMBER, result.rstrip(",")):
                continue
            result = result.rstrip(",")
            unit = 10.0 ** -len(result.partition(".")[2])
            for expression in expressions:
                found = value(expression)
                if found is not None:
                    terms = [abs(float(number)) for number in re.findall(NUMBER, expression)]
                    rounding = 5e-6 * max(terms) if " - " in expression else 0  # of terms with five digits
                    yield line, found, float(result), max(unit, rounding)


def check_arithmetic(text: str) -> int:
    """Every equation of the text holds, and every list adds up to its sum; returns how many were looked at."""
    count = 0
    assert not re.search(r"\b1 (products|others)\b|\b(rows|columns) (-?\d+) to \3\b| = (\S+) = \4\n", text)
    for line, found, shown, unit in equations(text):
        assert abs(found - shown) <= 1.5 * unit + 2e-4 * abs(shown), line
        count += 1
    terms: list[Decimal] = []
    for line in text.splitlines():
        if re.match(r" +sum: ", line):
            assert sum(terms) == Decimal(line.rpartition(" = ")[2]), line
            terms, count = [], count + 1
        elif re.match(r" {4}map \d+ -?\d", line):
            terms = [Decimal(part.split()[-1]) for part in line.split("; ")]
        elif re.match(r" {4}.* = .* x .* = ", line) or " other product" in line:
            terms.append(Decimal(line.split()[-1]))
        else:
            terms = []
    return count


def sections(text: str, part: str) -> dict[str, str]:
    """The text of each layer, by its number, in the part FORWARD or BACKWARD."""
    body = re.split(r"^(?:FORWARD|LOSS|BACKWARD|UPDATE)$", text, flags=re.MULTILINE)
    chosen = body[{"FORWARD": 1, "BACKWARD": 3}[part]]
    pieces = re.split(r"^layer (\S+) .*$", chosen, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def check_numbers(text: str, arrays: dict[str, Any]) -> int:
    """Each shown x[...], y[...], dx[...], dy[...], weight[...], dweight[...], dbias[...] is that element."""
    count = 0

    def element(name: str, place: str) -> float:
        return float(arrays[name][tuple(int(k) for k in place.split(", "))])

    names = "|".join(arrays)
    one = rf"\b({names})\[([\d, ]+)\]"
    last = rf"(?<!\] ){one} = (?:[^=\n]* = )*({NUMBER})(?=$|[,;:])"
    for name, place, shown in re.findall(last, text, re.MULTILINE):
        assert float(shown) == pytest.approx(element(name, place), rel=2e-3, abs=2e-4), (name, place)
        count += 1
    for a, i, b, j, left, right in re.findall(rf"{one} {one} *= ({NUMBER}) x ({NUMBER})", text):
        assert float(left) == pytest.approx(element(a, i), rel=1e-3, abs=1e-6), (a, i)
        assert float(right) == pytest.approx(element(b, j), rel=1e-3, abs=1e-6), (b, j)
        count += 2
    return count


@pytest.mark.parametrize(("activation", "pooling"), [("relu", "max"), ("tanh", "mean")])
def test_every_number_is_that_of_pytorch(unbroken: None, activation: str, pooling: str) -> None:
    network = lenet5(activation, pooling).initialize("kaiming", rng=0)
    act, pool = (nn.ReLU, nn.MaxPool2d) if activation == "relu" else (nn.Tanh, nn.AvgPool2d)
    twin = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), act(), pool(2), nn.Conv2d(6, 16, 5), act(), pool(2)),
        *(nn.Flatten(), nn.Linear(400, 120), act(), nn.Linear(120, 84), act(), nn.Linear(84, 10)),
    )
    twin.load_state_dict({k: torch.from_numpy(v) for k, v in network.state_dict().items()})
    values = [torch.from_numpy(image()).requires_grad_()]
    for layer in twin:
        values.append(layer(values[-1]))
        values[-1].retain_grad()
    error = nn.functional.cross_entropy(values[-1], torch.tensor([3]))
    error.backward()  # type: ignore[no-untyped-call]

    optimizer = SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
    text = trace(network, SoftmaxCrossEntropy(), optimizer, image(), 3)
    assert check_arithmetic(text) > 40
    forward, backward = sections(text, "FORWARD"), sections(text, "BACKWARD")
    assert list(forward) == list(reversed(backward)) == [str(k) for k in range(12)]
    for k, layer in enumerate(twin):
        arrays = {"x": values[k], "y": values[k + 1]}
        gradients = {"dx": values[k].grad, "dy": values[k + 1].grad, "x": values[k]}
        found = {n: a.detach().numpy()[0] for n, a in arrays.items()}
        found_back = {n: a.detach().numpy()[0] for n, a in gradients.items() if a is not None}
        if hasattr(layer, "weight"):
            weight = layer.weight
            found["weight"] = found_back["weight"] = weight.detach().numpy()
            found_back |= {"dweight": weight.grad.numpy(), "dbias": layer.bias.grad.numpy()}
        assert check_numbers(forward[str(k)], found) >= 1, k
        assert check_numbers(backward[str(k)], found_back) >= (8 if hasattr(layer, "weight") else 1), k
    assert f"loss = -ln p[3] = -ln {nn.functional.softmax(values[-1][0], 0)[3]:.4f}"[:24] in text
    step = torch.optim.SGD(twin.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
    step.step()
    new = twin.state_dict()
    updates = re.findall(rf"(\S+\.weight)\[([\d, ]+)\] = .*\n.* = ({NUMBER})$", text, re.MULTILINE)
    assert [name for name, _, _ in updates] == [f"{k}.weight" for k in (0, 3, 7, 9, 11)]
    for name, place, shown in updates:
        expected = float(new[name][tuple(map(int, place.split(", ")))])
        assert float(shown) == pytest.approx(expected, abs=2e-6)


def test_the_path_leads_from_the_class_through_what_mattered_to_the_ink() -> None:
    network = lenet5().initialize("kaiming", rng=0)
    text = trace(network, SoftmaxCrossEntropy(), SGD(network.parameters(), 0.05), image(), 7)
    assert "unit 7: y[7]" in sections(text, "FORWARD")["11"]
    source = re.search(r"sum: dx\[(\d+), (\d+), (\d+)\]", sections(text, "BACKWARD")["0"])
    assert source and image()[0, 0, int(source[2]), int(source[3])] > 1
    forward = sections(text, "FORWARD")
    for pool, before in (("2", "1"), ("5", "4")):  # what a layer takes is what the one before it gave
        taken = re.search(r"from x(\[[\d, ]+\])", forward[pool])
        assert taken and f"y{taken[1]} = " in forward[before]


@each_case
def test_the_arithmetic_of_every_layer_holds(unbroken: None, case: Case) -> None:
    layer = case.make()
    features = math.prod(layer.output_shape(case.shape))
    network = Sequential([layer, Flatten(), Dense(features, 10)]).initialize("kaiming", rng=1)
    x = np.random.default_rng(0).normal(size=(1, *case.shape)).astype(np.float32)
    network[-1].parameters()[0].value /= max(1, np.abs(layer.forward(x)).max())  # so that no probability is 0
    for label in (0, 3):
        text = trace(network, SoftmaxCrossEntropy(), SGD(network.parameters(), 1e-5), x, label)
        assert check_arithmetic(text) >= 12
        told = [item for part in ("FORWARD", "BACKWARD") for item in sections(text, part).items()]
        own = "".join(words for place, words in told if place.split(".")[0] == "0")
        assert check_arithmetic(own) >= (0 if isinstance(layer, MaxPool | ReLU | Flatten) else 1)
        assert "nan" not in text and "layer of its own kind" not in text


def test_each_layer_and_each_loss_explains_itself() -> None:
    for layer in LAYERS.values():
        explains = getattr(layer, "formula", None) is not None or layer.explain not in (
            Layer.explain,
            Activation.explain,
        )
        assert explains, layer
    for loss in LABEL_LOSSES.values():
        assert loss.explain is not Loss.explain, loss


@pytest.mark.parametrize(
    "loss", [MeanSquaredError(), HalfSquaredError(), SoftmaxCrossEntropy(0.1), MaximumAPosteriori(0.5)]
)
def test_losses(unbroken: None, loss: Any) -> None:
    network = Sequential([Flatten(), Dense(784, 10)]).initialize(rng=0)
    y = network.forward(image())
    expected = loss.forward(y, np.array([2]))
    dy = loss.backward()[0]
    text = trace(network, loss, SGD(network.parameters(), 0.1), image(), 2)
    assert check_arithmetic(text) > 5
    shown = re.search(rf"loss = .*= ({NUMBER})", text)
    assert shown and float(shown[1]) == pytest.approx(expected, rel=1e-3)
    rows = re.findall(rf"^ +(\d) +({NUMBER}) .* ({NUMBER})$", text, re.MULTILINE)
    assert [int(row[0]) for row in rows] == list(range(10))
    np.testing.assert_allclose([float(row[1]) for row in rows], y[0], rtol=1e-3)
    np.testing.assert_allclose([float(row[2]) for row in rows], dy, rtol=1e-3)


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, {"clip_norm": 0.01, "weight_decay": 0.5}],
    ids=["plain", "nesterov", "clipped"],
)
def test_update_of_one_weight(unbroken: None, options: dict[str, Any]) -> None:
    network = Sequential([Flatten(), Dense(784, 10)]).initialize(rng=0)
    text = trace(network, SoftmaxCrossEntropy(), SGD(network.parameters(), 0.1, **options), image(), 2)
    [(place, equation)] = re.findall(r"1\.weight\[([\d, ]+)\] = (.*\n.*)", text)
    [weights, _] = network.parameters()
    new = float(weights.value[tuple(map(int, place.split(", ")))])
    rule, difference, result = re.split(r"\s+= ", equation)
    assert value(difference) == pytest.approx(new, abs=1e-6) == value(result)
    assert value(rule) == pytest.approx(new, abs=5e-4 * abs(value(difference.split()[-1])))


def test_a_layer_of_ones_own_is_told_in_general_words() -> None:
    class Double(Layer):
        def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
            return input_shape

        def forward(self, x: Any, training: bool = False) -> Any:
            return 2 * x

        def backward(self, dy: Any) -> Any:
            return 2 * dy

    network = Sequential([Flatten(), Double(), Dense(784, 10)]).initialize(rng=0)
    text = trace(network, SoftmaxCrossEntropy(), SGD(network.parameters(), 0.1), image(), 2)
    assert "a layer of its own kind" in sections(text, "FORWARD")["1"]
    assert re.search(r"dx\[\d+\] = ", sections(text, "BACKWARD")["1"])


def test_shown_products_add_up_to_the_shown_sum() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-6, 1.0, 1e4):
        a, b = scale * rng.normal(size=9), rng.normal(size=9)
        total = float(a @ b)
        lines = sum_of_products([f"p{k}" for k in range(9)], a, b, total, "total")
        *terms, last = [Decimal(line.split()[-1]) for line in lines]
        assert sum(terms) == last and float(last) == pytest.approx(total, rel=1e-2, abs=scale * 1e-3)
        assert lines[0].split()[0] == f"p{np.abs(a * b).argmax()}"


@pytest.mark.parametrize(
    ("bias", "zero", "told"),
    [
        (0.1, 1.0, "the 396 other products and the bias: "),
        (0.1, 0.0, "the 396 other products, 1 of them 0, and the bias: "),
        (99.0, 1.0, "the 397 other products: "),
    ],
)
def test_a_bias_is_not_counted_among_the_products_of_a_dense_unit(bias: float, zero: float, told: str) -> None:
    layer = Dense(400, 2)
    x = np.linspace(1, 9, 400, dtype=np.float32)
    x[7], layer.bias.value = zero, bias
    y, dy = layer.forward(x[None]), np.ones((1, 2), np.float32)
    dx = layer.backward(dy)
    gradients = {p.name: p.grad for p in layer.parameters()}
    lines = layer.explain(Step(x, y[0], dy[0], dx[0], gradients), (1,)).forward
    assert lines[-2].strip().startswith(told), lines


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trace", LENET, "--image", "7", "data.name=mnist-subset", "training.seed=3"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.startswith(f"One training step of {LENET} on training image 7 of mnist-subset")
    assert "Weights: kaiming, seed 3" in out and "the learning rate of the first step." in out
    assert max(map(len, out.splitlines())) <= 130
    assert main(["trace", str(Path(LENET).with_name("lenet1998.yaml")), words[-2]]) == 0
    assert "1x32x32 -> 6x28x28" in capsys.readouterr().out
    for wrong in ("-1", "10000"):
        assert main([*words[:3], wrong, *words[4:]]) == 2
        out, err = capsys.readouterr()
        assert out == "" and "--image" in err and err.count("\n") == 1
    assert main(["trace"]) == 2 and "expected RUN or CONFIG" in capsys.readouterr().err


def test_radial_basis_units(unbroken: None) -> None:
    layers = [Flatten(), Dense(784, 84), ScaledTanh(), RadialBasis(84)]
    network = Sequential(layers).initialize("xavier", rng=0)
    x = network[2].forward(network[1].forward(network[0].forward(image())))[0]
    text = trace(network, MaximumAPosteriori(), SGD(network.parameters(), 0.01), image(), 4)
    assert check_arithmetic(text) > 15
    terms = re.findall(rf"-\(x\[(\d+)\] - (-?1)\)\^2 += .* = ({NUMBER})", sections(text, "FORWARD")["3"])
    assert len(terms) == 4
    for i, prototype, shown in terms:
        assert float(prototype) == network[3].buffers()["prototypes"][4, int(i)]
        assert float(shown) == pytest.approx(-((x[int(i)] - float(prototype)) ** 2), abs=0.06)


def test_a_run_is_told_with_its_weights_and_a_rate_that_shows(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = load(run), load_dataset("mnist-subset")
    [*_, sure] = np.argsort(model.predict_proba(data.test_images).max(axis=1))
    assert main(["trace", str(run), "--image", str(sure)]) == 0
    out = capsys.readouterr().out
    label = int(data.test_labels[sure])
    assert out.startswith(
        f"One training step of {run} on test image {sure} of mnist-subset alone, a {label} (class {label})."
    )
    assert re.search(
        r"Learning rate: \S+, that of Model.fit, 0.05, times 10+, so that the update shows",
        " ".join(out.split("\n")).replace(",000", "000"),
    )
    scores = model.scores(data.test_images[sure])[0]
    shown = re.findall(rf"^ +(\d) +({NUMBER}) .* {NUMBER}$", out, re.MULTILINE)
    np.testing.assert_allclose([float(y) for _, y in shown], scores, rtol=1e-3, atol=1e-4)
    for before, after in re.findall(rf"= ({NUMBER}) - .* = ({NUMBER})$", out, re.MULTILINE):
        assert before != after
    assert check_arithmetic(re.sub("loss = .*", "", out)) > 20  # float32 knows no such loss to five digits


def test_a_rate_that_shows_leaves_the_network_as_it_was(run: Path) -> None:
    network = load(run).network
    before, x = network.values.copy(), image()
    label = int(network.forward(x)[0].argmin())  # an update that shows at any rate
    assert visible_rate(network, SoftmaxCrossEntropy(), SGD(network.parameters(), 0.05), x, label) == 1
    few = visible_rate(network, SoftmaxCrossEntropy(), SGD(network.parameters(), 1e-7), x, label)
    assert few in (10**3, 10**4, 10**5)
    np.testing.assert_array_equal(network.values, before)
