"""Adam and AdamW."""

from collections.abc import Mapping
from typing import Annotated

from annotated_types import Ge, Gt

from .optimizer import Optimizer, Parameters
from .rule import Share, kernels


class Adam(Optimizer):
    """PyTorch's rule, for each parameter w with gradient g in step t = 1, 2, ...:

        d = g + weight_decay w;  m = beta1 m + (1 - beta1) d;  v = beta2 v + (1 - beta2) d^2  (m = v = 0 at first)
        w = w - lr mhat / (sqrt(vhat) + eps)  with mhat = m / (1 - beta1^t), vhat = v / (1 - beta2^t)

    betas is (beta1, beta2). parameters, lr, clip_norm: see `Optimizer`. Raises ConfigError for arguments out of range.

    Source: Kingma and Ba, Adam: a method for stochastic optimization (2015), algorithm 1.
    """

    kernel = kernels.adam
    states = ("exp_avg", "exp_avg_sq")
    lr_is_step = True

    def __init__(
        self,
        parameters: Parameters | None = None,
        lr: Annotated[float, Ge(0)] = 1e-3,
        betas: tuple[Share, Share] = (0.9, 0.999),
        eps: Annotated[float, Gt(0)] = 1e-8,
        weight_decay: Annotated[float, Ge(0)] = 0.0,
        clip_norm: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        super().__init__(parameters, lr, clip_norm)
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay

    def numbers(self) -> Mapping[str, float]:
        (beta1, beta2), t = self.betas, self.steps + 1
        rate, root = self.lr / (1 - beta1**t), (1 - beta2**t) ** 0.5
        moments = {"beta1": float(beta1), "beta2": float(beta2), "eps": float(self.eps)}
        return {"rate": float(rate), "root": float(root), **moments, **self._decay()}

    def _decay(self) -> dict[str, float]:
        """What of w is added to its gradient, and what w is multiplied by."""
        return {"pull": float(self.weight_decay), "keep": 1.0}


class AdamW(Adam):
    """Adam whose weight decay is not part of the gradient, but pulls at the weights themselves:

        w = (1 - lr weight_decay) w - lr mhat / (sqrt(vhat) + eps)  with d = g in m and v of `Adam`

    Arguments as for `Adam`; weight_decay has PyTorch's default, 0.01. Raises ConfigError for arguments out of range.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization (2019), algorithm 2, in the form of
    torch.optim.AdamW, which multiplies the decay by the learning rate.
    """

    def __init__(
        self,
        parameters: Parameters | None = None,
        lr: Annotated[float, Ge(0)] = 1e-3,
        betas: tuple[Share, Share] = (0.9, 0.999),
        eps: Annotated[float, Gt(0)] = 1e-8,
        weight_decay: Annotated[float, Ge(0)] = 0.01,
        clip_norm: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay, clip_norm)

    def _decay(self) -> dict[str, float]:
        return {"pull": 0.0, "keep": 1.0 - self.lr * self.weight_decay}
