"""Stochastic gradient descent, and learning rates that change from step to step."""

import math
from collections.abc import Callable, Iterable

import numpy as np

from minicnn.errors import ConfigError
from minicnn.kernels import sgd as kernels
from minicnn.layers.base import Array, Parameter, aligned_zeros


class SGD:
    """PyTorch's rule, for each parameter w with gradient g:

        d = g + weight_decay w;  v = momentum v + d  (v = 0 at first);  w = w - lr v
        nesterov:                                                       w = w - lr (d + momentum v)

    With `max_norm`, all gradients are first multiplied by max_norm / norm if their common Euclidean norm exceeds it
    (Pascanu et al., On the difficulty of training recurrent neural networks, 2013, section 3.2). `lr` may be assigned
    between steps. Raises ConfigError for arguments out of range.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning (2013), in the form
    of torch.optim.SGD, which multiplies the whole velocity by the current learning rate.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        for name, value, good in (
            ("lr", lr, lr >= 0),
            ("momentum", momentum, 0 <= momentum < 1),
            ("weight_decay", weight_decay, weight_decay >= 0),
            ("max_norm", max_norm, max_norm is None or max_norm > 0),
        ):
            if not good or (value is not None and not math.isfinite(value)):
                limits = {"momentum": "from 0 to below 1", "max_norm": "> 0"}.get(name, ">= 0")
                raise ConfigError(f"SGD: {name}: expected a number {limits}, got {value!r}")
        if nesterov and momentum == 0:
            raise ConfigError("SGD: nesterov: expected momentum > 0 with it, got momentum 0")
        self.parameters = list(parameters)
        if not self.parameters:
            raise ConfigError("SGD: parameters: expected at least one, got none")
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.max_norm = max_norm
        self.steps = 0
        self._velocity = np.empty(0)

    def step(self) -> None:
        """Updates every parameter by its gradient."""
        vectors = self._vectors()
        scale = 1.0
        if self.max_norm is not None:
            norm = math.sqrt(sum(kernels.squared_norm(grad) for _, grad, _ in vectors))
            scale = min(1.0, self.max_norm / (norm + 1e-6))
        for value, grad, velocity in vectors:
            kernels.step(
                value,
                grad,
                velocity,
                float(self.lr),
                float(self.momentum),
                float(self.weight_decay),
                scale,
                self.nesterov,
            )
        self.steps += 1

    def _vectors(self) -> list[tuple[Array, Array, Array]]:
        """(values, gradients, velocities), flat: one triple if the parameters are all those of a network."""
        cells = [parameter.cell for parameter in self.parameters]
        home = cells[0].home
        if home is not None and home.cells == cells:
            pieces = [(home.values, home.gradients)]
        else:
            pieces = [(cell.value.reshape(-1), cell.grad.reshape(-1)) for cell in cells]
        size = sum(value.size for value, _ in pieces)
        if self._velocity.size != size or self._velocity.dtype != pieces[0][0].dtype:
            self._velocity = aligned_zeros(size, pieces[0][0].dtype)
        vectors, at = [], 0
        for value, grad in pieces:
            vectors.append((value, grad, self._velocity[at : at + value.size]))
            at += value.size
        return vectors


def make_schedule(
    name: str, lr: float, total_steps: int, warmup_steps: int = 0, **options: float
) -> Callable[[int], float]:
    """The learning rate as a function of the step number, 0 to total_steps - 1.

    - constant: lr
    - cosine: lr (1 + cos(pi t / T)) / 2 for t of T steps (Loshchilov and Hutter, SGDR, 2017, equation 5)
    - one-cycle: up from lr / 25 by half a cosine, then down to lr / 250,000 (Smith and Topin, Super-convergence,
      2018; the numbers are those of torch.optim.lr_scheduler.OneCycleLR). The way up takes warmup_steps, or 30 % of
      all. Options: div_factor 25, final_div_factor 1e4.

    With constant and cosine the rate first rises linearly, over `warmup_steps`, and the rest follows the curve.
    Raises ConfigError for an unknown name or option and for numbers out of range.
    """
    if name not in ("constant", "cosine", "one-cycle"):
        raise ConfigError(f"schedule.name: expected constant, cosine or one-cycle, got {name!r}")
    known = {"div_factor": 25.0, "final_div_factor": 1e4} if name == "one-cycle" else {}
    for key, value in options.items():
        if key not in known or value <= 0:
            raise ConfigError(f"schedule.{key}: expected one of {list(known)} > 0, got {value!r}")
    if total_steps < 1 or not 0 <= warmup_steps <= total_steps:
        raise ConfigError(
            f"schedule: expected warmup_steps from 0 to total_steps, "
            f"got {warmup_steps} of {total_steps}"
        )
    if name == "one-cycle":
        return _one_cycle(lr, total_steps, warmup_steps or 0.3 * total_steps, **known | options)

    def rate(step: int) -> float:
        if step < warmup_steps:
            return lr * (step + 1) / (warmup_steps + 1)
        if name == "constant":
            return lr
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return lr * (1 + math.cos(math.pi * min(1.0, progress))) / 2

    return rate


def _one_cycle(
    lr: float, total_steps: int, rise: float, div_factor: float, final_div_factor: float
) -> Callable[[int], float]:
    first, last = lr / div_factor, lr / div_factor / final_div_factor
    top, end = rise - 1, total_steps - 1

    def blend(start: float, stop: float, progress: float) -> float:
        return stop + (start - stop) * (1 + math.cos(math.pi * progress)) / 2

    def rate(step: int) -> float:
        if step <= top:
            return blend(first, lr, step / top if top > 0 else 1.0)
        return blend(lr, last, min(1.0, (step - top) / (end - top)) if end > top else 1.0)

    return rate
