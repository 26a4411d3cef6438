"""Adagrad as somebody would add it who has never seen the package from inside: a class and a kernel."""

from collections.abc import Iterable, Mapping
from typing import Annotated

from annotated_types import Ge

from minicnn import Optimizer, Parameter
from minicnn.engine.cache import Kernels
from minicnn.kernels import CHUNK, LANES
from minicnn.kernels.compile import inlined
from minicnn.kernels.vectors import fma, load, pick, splat, square_root, store


class Adagrad(Optimizer):
    """s = s + g^2;  w = w - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps) in step t

    Source: Duchi, Hazan and Singer, Adaptive subgradient methods for online learning and stochastic optimization
    (2011), figure 1, in the form of torch.optim.Adagrad.
    """

    kernel = Kernels(__name__, "").adagrad
    states = ("sum",)

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 0.01,
        lr_decay: Annotated[float, Ge(0)] = 0.0,
        eps: float = 1e-10,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(parameters, lr, clip_norm)
        self.lr_decay, self.eps = lr_decay, eps

    def numbers(self) -> Mapping[str, float]:
        return {"rate": self.lr / (1.0 + self.steps * self.lr_decay), "eps": self.eps}


@inlined
def update(w, g, s, rate, eps):
    """The new w and s."""
    s = fma(g, g, s)
    return w - g * rate / (square_root(s) + eps), s


def adagrad(task, value, grad, s, size, norm, rate, eps):
    if norm[2] != 0.0:
        return
    scale = 1.0 if norm[0] <= norm[1] else norm[1] / (norm[0] + 1e-6)
    first, end = task * CHUNK, min((task + 1) * CHUNK, size)
    for k in range(first, end - LANES + 1, LANES):
        w, a = update(load(value, k), load(grad, k) * scale, load(s, k), rate, eps)
        store(value, k, w)
        store(s, k, a)
    for k in range(end - (end - first) % LANES, end):  # one number, as a vector of equal ones
        w, a = update(splat(value, value[k]), splat(grad, grad[k]) * scale, splat(s, s[k]), rate, eps)
        value[k], s[k] = pick(w, 0), pick(a, 0)
