"""Stochastic gradient descent."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt

from minicnn.errors import ConfigError
from minicnn.layers.explain import PRODUCT, decimals, fixed, in_brackets, number

from .optimizer import Optimizer, Parameters
from .rule import Share, kernels


class SGD(Optimizer):
    """PyTorch's rule, for each parameter w with gradient g:

        d = g + weight_decay w;  v = momentum v + d  (v = 0 at first);  w = w - lr v
        nesterov:                                                       w = w - lr (d + momentum v)

    parameters, lr, clip_norm: see `Optimizer`. Raises ConfigError for arguments out of range.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning (2013), in the form
    of torch.optim.SGD, which multiplies the whole velocity by the current learning rate.
    """

    kernel = kernels.sgd
    states = ("velocity",)

    def __init__(
        self,
        parameters: Parameters | None = None,
        lr: Annotated[float, Ge(0)] = 1e-3,
        momentum: Share = 0.0,
        nesterov: bool = False,
        weight_decay: Annotated[float, Ge(0)] = 0.0,
        clip_norm: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        try:
            self.check({"momentum": momentum, "nesterov": nesterov})
        except ConfigError as error:
            raise ConfigError(f"SGD: {error}") from None
        super().__init__(parameters, lr, clip_norm)
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        if options.get("nesterov") and not options.get("momentum"):
            raise ConfigError("nesterov: expected a momentum with it, received momentum 0")

    def numbers(self) -> Mapping[str, float]:
        reals = {name: float(getattr(self, name)) for name in ("lr", "momentum", "weight_decay")}
        return {**reals, "nesterov": int(self.nesterov)}

    def explain(self, weights: Sequence[tuple[str, float, float, float]]) -> list[str]:
        lr, decay, momentum = self.lr, self.weight_decay, self.momentum
        d, scale, lines = "g" + (f" + {decay:g} w" if decay else ""), 1.0, []
        if self.clip_norm is not None:
            norm = math.sqrt(
                sum(float(np.square(p.grad, dtype=np.float64).sum()) for p in self.parameters if not p.frozen)
            )
            scale = min(1.0, self.clip_norm / (norm + 1e-6))
            lines.append(
                f"all gradients together have the norm {number(norm)}; clip_norm is {self.clip_norm:g}, so each is "
                f"multiplied by {number(scale)}"
            )
            d = d.replace("g", "scale g", 1)
        rule = f"w - {lr:g} ({d})" if " " in d else f"w - {lr:g} {d}"
        if momentum:
            rule = f"w - {lr:g} ({d} + {momentum:g} v)" if self.nesterov else f"w - {lr:g} v"
            lines.append(f"velocity: v = {momentum:g} v + {d}; it was 0 before the first step")
        lines.append(f"new w = {rule}, with g = dweight and a learning rate of {lr:g}")
        for name, w, g, new in weights:
            pull = (scale * g + decay * w) * (1 + momentum * self.nesterov)
            places = min(max(6, decimals(lr * pull, PRODUCT)), 7)  # float32 has no more
            inside = (f"{number(scale)} x " if scale != 1 else "") + number(g)
            inside += f" + {decay:g} x {number(w)}" if decay else ""
            if self.nesterov:
                inside = f"(1 + {momentum:g}) x ({inside})"
            lines.append(
                f"  {name} = {fixed(w, places)} - {lr:g} x ({inside})\n"
                f"      = {fixed(w, places)} - {in_brackets(fixed(lr * pull, places))} = {fixed(new, places)}"
            )
        return lines
