"""Adam as somebody would add it who has never seen the package from inside: a class and a kernel."""

from collections.abc import Iterable, Mapping
from typing import Annotated

from annotated_types import Interval

from minicnn import Optimizer, Parameter
from minicnn.engine.cache import Kernels
from minicnn.engine.compile import inlined
from minicnn.kernels import CHUNK, LANES
from minicnn.kernels.vectors import fma, load, pick, splat, square_root, store

Beta = Annotated[float, Interval(ge=0, lt=1)]


class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  w = w - lr mhat / (sqrt(vhat) + eps)

    with mhat = m / (1 - beta1^t) and vhat = v / (1 - beta2^t) in step t.

    Source: Kingma and Ba, Adam: a method for stochastic optimization (2015), algorithm 1.
    """

    kernel = Kernels(__name__, "").adam
    states = ("m", "v")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 0.001,
        beta1: Beta = 0.9,
        beta2: Beta = 0.999,
        eps: float = 1e-8,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(parameters, lr, clip_norm)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def numbers(self) -> Mapping[str, float]:
        t = self.steps + 1
        rate, root = self.lr / (1 - self.beta1**t), (1 - self.beta2**t) ** 0.5
        return {"rate": rate, "root": root, "beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}


@inlined
def update(w, g, m, v, rate, root, beta1, beta2, eps):
    """The new w, m and v."""
    m = fma(m, beta1, g * (1.0 - beta1))
    v = fma(v, beta2, g * g * (1.0 - beta2))
    return w - m * rate / (square_root(v) / root + eps), m, v


def adam(task, value, grad, m, v, size, norm, rate, root, beta1, beta2, eps):
    if norm[2] != 0.0:
        return
    scale = 1.0 if norm[0] <= norm[1] else norm[1] / (norm[0] + 1e-6)
    first, end = task * CHUNK, min((task + 1) * CHUNK, size)
    for k in range(first, end - LANES + 1, LANES):
        g = load(grad, k) * scale
        w, a, b = update(load(value, k), g, load(m, k), load(v, k), rate, root, beta1, beta2, eps)
        store(value, k, w)
        store(m, k, a)
        store(v, k, b)
    for k in range(end - (end - first) % LANES, end):  # one number, as a vector of equal ones
        w, g = splat(value, value[k]), splat(grad, grad[k]) * scale
        w, a, b = update(w, g, splat(m, m[k]), splat(v, v[k]), rate, root, beta1, beta2, eps)
        value[k], m[k], v[k] = pick(w, 0), pick(a, 0), pick(b, 0)
