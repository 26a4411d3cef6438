"""Initial weights by name, or in a range that is given.

| scheme  | weight                         | bias     | source |
|---------|--------------------------------|----------|--------|
| uniform | U(-a, a), a^2 = 1 / fan_in     | U(-a, a) | PyTorch's default |
| lecun   | N(0, 1 / fan_in)               | 0        | LeCun et al., Efficient BackProp (1998), section 4.6 |
| xavier  | U(-a, a), a^2 = 6 / (fan_in + fan_out) | 0 | Glorot and Bengio (2010), equation 16 |
| kaiming | N(0, 2 / fan_in)               | 0        | He et al., Delving deep into rectifiers (2015), equation 10 |
| {"uniform": a} | U(-a, a)                | U(-a, a) | what textbooks do, with a = 0.5 |

The second argument of N is the variance. fan_in is the number of inputs of one unit, fan_out the number of
units times their weights per input channel, as in PyTorch.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.errors import ConfigError

if TYPE_CHECKING:
    from .base import Parameter

SCHEMES = ("uniform", "lecun", "xavier", "kaiming")

Scheme = str | Mapping[str, float]


def draw(
    scheme: Scheme,
    rng: np.random.Generator | int | None,
    weight: "Parameter",
    bias: "Parameter | None",
) -> None:
    """Fills weight (out, in, ...) and bias (out,). Raises ConfigError for an unknown scheme."""
    check_scheme(scheme)
    rng = np.random.default_rng(rng)
    shape = weight.value.shape
    if isinstance(scheme, Mapping):
        limit = scheme["uniform"]
        for parameter in (weight, bias):
            if parameter is not None:
                parameter.value[...] = rng.uniform(-limit, limit, parameter.value.shape)
        return
    fan_in = math.prod(shape[1:])
    fan_out = shape[0] * math.prod(shape[2:])
    bound = 1 / math.sqrt(fan_in)
    if scheme == "uniform":
        weight.value[...] = rng.uniform(-bound, bound, shape)
    elif scheme == "xavier":
        limit = math.sqrt(6 / (fan_in + fan_out))
        weight.value[...] = rng.uniform(-limit, limit, shape)
    else:
        deviation = bound * math.sqrt(2) if scheme == "kaiming" else bound
        weight.value[...] = rng.normal(0, deviation, shape)
    if bias is not None:
        bias.value[...] = rng.uniform(-bound, bound, bias.value.shape) if scheme == "uniform" else 0


def check_scheme(scheme: Any) -> None:
    """Raises ConfigError for what is neither the name of a scheme nor {"uniform": a number > 0}."""
    if isinstance(scheme, Mapping) and list(scheme) == ["uniform"]:
        limit = scheme["uniform"]
        number = isinstance(limit, int | float) and not isinstance(limit, bool)
        good = number and 0 < limit < math.inf
    else:
        good = isinstance(scheme, str) and scheme in SCHEMES
    if not good:
        raise ConfigError(
            f"expected a scheme ({', '.join(SCHEMES)}) or a range such as {{uniform: 0.5}}, "
            f"received {dict(scheme) if isinstance(scheme, Mapping) else scheme!r}"
        )
