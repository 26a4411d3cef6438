"""Initial weights by name, or in a range that is given.

| scheme  | weight                         | bias     | source |
|---------|--------------------------------|----------|--------|
| uniform | U(-a, a), a^2 = 1 / fan_in     | U(-a, a) | PyTorch's default |
| lecun   | N(0, 1 / fan_in)               | 0        | LeCun et al., Efficient BackProp (1998), section 4.6 |
| xavier  | U(-a, a), a^2 = 6 / (fan_in + fan_out) | 0 | Glorot and Bengio (2010), equation 16 |
| kaiming | N(0, 2 / fan_in)               | 0        | He et al., Delving deep into rectifiers (2015), equation 10 |
| lecun-1998 | U(-a, a), a = 2.4 / fan_in  | U(-a, a) | LeCun et al., Gradient-based learning (1998), appendix A |
| {"uniform": a} | U(-a, a)                | U(-a, a) | what textbooks do, with a = 0.5 |

The second argument of N is the variance. fan_in is the number of inputs of one unit, fan_out the number of
units times their weights per input channel, as in PyTorch.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minicnn.errors import ConfigError

if TYPE_CHECKING:
    from minicnn.layers.parameter import Parameter

SCHEMES = ("uniform", "lecun", "xavier", "kaiming", "lecun-1998")

Scheme = str | Mapping[str, float]


class Fans(NamedTuple):
    """fan_in and fan_out of the unit of each weight, and fan_in of that of each bias, where units differ."""

    weight_in: Any
    weight_out: Any
    bias_in: Any


def draw(
    scheme: Scheme,
    rng: np.random.Generator | int | None,
    weight: "Parameter",
    bias: "Parameter | None",
    fans: Fans | None = None,
) -> None:
    """Fills weight (out, in, ...) and bias (out,). Raises ConfigError for an unknown scheme.

    `fans`: numbers, or arrays that broadcast against weight and bias, if they do not follow from the weight's shape.
    """
    check_scheme(scheme, "initialize: scheme: ")
    rng = np.random.default_rng(rng)
    shape = weight.value.shape
    if isinstance(scheme, Mapping):
        limit = scheme["uniform"]
        for parameter in (weight, bias):
            if parameter is not None:
                parameter.value[...] = rng.uniform(-limit, limit, parameter.value.shape)
        return
    if fans is None:
        fan_in = math.prod(shape[1:])
        fans = Fans(fan_in, shape[0] * math.prod(shape[2:]), fan_in)
    if scheme in ("lecun", "kaiming"):
        gain = 2 if scheme == "kaiming" else 1
        weight.value[...] = rng.normal(0, np.sqrt(gain / fans.weight_in), shape)
    else:
        limits = {
            "uniform": np.sqrt(1 / fans.weight_in),
            "xavier": np.sqrt(6 / (fans.weight_in + fans.weight_out)),
            "lecun-1998": 2.4 / fans.weight_in,
        }
        limit = limits[scheme]
        weight.value[...] = rng.uniform(-limit, limit, shape)
    if bias is None:
        return
    bias.value[...] = 0
    if scheme in ("uniform", "lecun-1998"):
        limit = np.sqrt(1 / fans.bias_in) if scheme == "uniform" else 2.4 / fans.bias_in
        bias.value[...] = rng.uniform(-limit, limit, bias.value.shape)


def check_scheme(scheme: Any, place: str = "") -> None:
    """Raises ConfigError for what is neither the name of a scheme nor {"uniform": a number > 0}."""
    if isinstance(scheme, Mapping) and list(scheme) == ["uniform"]:
        limit = scheme["uniform"]
        number = isinstance(limit, int | float) and not isinstance(limit, bool)
        good = number and 0 < limit < math.inf
    else:
        good = isinstance(scheme, str) and scheme in SCHEMES
    if not good:
        raise ConfigError(
            f"{place}expected a scheme ({', '.join(SCHEMES)}) or a range such as {{uniform: 0.5}}, "
            f"received {dict(scheme) if isinstance(scheme, Mapping) else scheme!r}"
        )
