"""RMSprop."""

from collections.abc import Mapping
from typing import Annotated

from annotated_types import Ge, Gt

from .optimizer import Optimizer, Parameters
from .rule import Share, kernels


class RMSprop(Optimizer):
    """PyTorch's rule, for each parameter w with gradient g:

        d = g + weight_decay w;  s = alpha s + (1 - alpha) d^2;  a = alpha a + (1 - alpha) d  (s = a = b = 0 at first)
        b = momentum b + d / (sqrt(s) + eps);  w = w - lr b
        centered:  sqrt(s - a^2) instead of sqrt(s), a root of 0 where rounding makes that negative

    parameters, lr, clip_norm: see `Optimizer`. Raises ConfigError for arguments out of range.

    Source: Tieleman and Hinton, Lecture 6.5: rmsprop (2012); centered: Graves, Generating sequences with recurrent
    neural networks (2013), section 4.2; both in the form of torch.optim.RMSprop.
    """

    kernel = kernels.rmsprop
    states = ("square_avg", "grad_avg", "momentum_buffer")
    lr_is_step = True

    def __init__(
        self,
        parameters: Parameters | None = None,
        lr: Annotated[float, Ge(0)] = 1e-2,
        alpha: Share = 0.99,
        eps: Annotated[float, Gt(0)] = 1e-8,
        weight_decay: Annotated[float, Ge(0)] = 0.0,
        momentum: Share = 0.0,
        centered: bool = False,
        clip_norm: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        super().__init__(parameters, lr, clip_norm)
        self.alpha = alpha
        self.eps = eps
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.centered = centered

    def numbers(self) -> Mapping[str, float]:
        reals = {name: float(getattr(self, name)) for name in ("lr", "alpha", "eps", "weight_decay", "momentum")}
        return {**reals, "centered": int(self.centered)}
