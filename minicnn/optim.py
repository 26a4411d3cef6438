"""Stochastic gradient descent, and the average of the weights that it goes through."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minicnn.engine.arrays import Array, aligned_zeros
from minicnn.engine.cache import Kernels
from minicnn.engine.program import Argument, Input, Program, Work
from minicnn.errors import ConfigError
from minicnn.layers.parameter import Parameter

kernels = Kernels("optimizer")
CHUNK = 4096  # parameters of a task, as in the kernels


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
                raise ConfigError(f"SGD: {name}: expected a number {limits}, received {value!r}")
        if nesterov and momentum == 0:
            raise ConfigError("SGD: nesterov: expected momentum > 0 with it, received momentum 0")
        try:
            self.parameters = list(parameters)
        except TypeError:
            self.parameters = [parameters]  # type: ignore[list-item] # refused below
        wrong = [one for one in self.parameters if not isinstance(one, Parameter)]
        if wrong:
            raise ConfigError(
                "SGD: parameters: expected the Parameters of a network, network.parameters(), without groups "
                f"of their own options, received {type(wrong[0]).__name__}"
            )
        if not self.parameters:
            raise ConfigError("SGD: parameters: expected at least one, received none")
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.max_norm = max_norm
        self.steps = 0
        self._velocity = np.empty(0)
        self._program: Program | None = None

    def step(self) -> None:
        """Updates every parameter by its gradient."""
        program = self._program
        if program is None or program.is_stale:
            program = self._program = self.work().finish()
        program.set("lr", float(self.lr))
        program.set("momentum", float(self.momentum))
        program.set("weight_decay", float(self.weight_decay))
        program.set("nesterov", int(self.nesterov))
        self._norm[1] = math.inf if self.max_norm is None else self.max_norm
        program.run(1)
        self.steps += 1

    @property
    def velocity(self) -> Array:
        """v of all parameters, one behind the other: what has to be kept to go on later, with `steps`."""
        self._pieces()
        return self._velocity

    def _pieces(self) -> list[tuple[Array, Array, Array]]:
        """(values, gradients, velocities), flat: one triple if the parameters are all those of a network."""
        pieces = _pieces(self.parameters)
        size, dtype = sum(value.size for value, _ in pieces), pieces[0][0].dtype
        if self._velocity.size != size or self._velocity.dtype != dtype:
            self._velocity = aligned_zeros(size, dtype)
        triples, at = [], 0
        for value, grad in pieces:
            triples.append((value, grad, self._velocity[at : at + value.size]))
            at += value.size
        return triples

    def work(self) -> Work:
        """The work of `step`."""
        pieces = self._pieces()
        work = Work(1, self._velocity.dtype, True, True)
        for parameter in self.parameters:
            work.array(parameter.cell, "value")
        work.array(self, "_velocity")
        counts = [-(-value.size // CHUNK) for value, *_ in pieces]
        self._norm = np.zeros(2)
        if self.max_norm is not None:
            sums, at = np.zeros(sum(counts)), 0
            for (value, grad, _), count in zip(pieces, counts, strict=True):
                work.together(kernels.squares, grad, sums[at : at + count], value.size, tasks=count)
                at += count
            work.together(kernels.root, sums, len(sums), self._norm)
        options = [Input(name, "r") for name in ("lr", "momentum", "weight_decay")]
        for (*arrays, velocity), count in zip(pieces, counts, strict=True):
            rest: list[Argument] = [*options, self._norm, Input("nesterov", "n")]
            work.after(kernels.step, *arrays, velocity, velocity.size, *rest, tasks=count)
        return work

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_program": None}


class EMA:
    """Exponential moving average of parameters, which often does better on new data than the last ones do:

        a = w  at the first update, then  a = decay a + (1 - decay) w

    To be updated after each step of the optimizer; what a layer keeps besides parameters is not averaged. The same
    as torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn(decay). Raises ConfigError unless 0 <= decay < 1.

    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992); with this weighting,
    Tarvainen and Valpola, Mean teachers are better role models (2017), section 2.
    """

    def __init__(self, parameters: Iterable[Parameter], decay: float) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(
                f"EMA: decay: expected a number from 0 to below 1, received {decay!r}"
            )
        self.parameters = list(parameters)
        if not self.parameters:
            raise ConfigError("EMA: parameters: expected at least one, received none")
        self.decay = decay
        self.updates = 0
        #: The averages of all parameters, one behind the other; before the first update, the parameters.
        self.average = np.concatenate([value for value, _ in _pieces(self.parameters)])
        self._program: Program | None = None

    def update(self) -> None:
        """Takes in the parameters as they are now."""
        if self.updates:
            program = self._program
            if program is None or program.is_stale:
                program = self._program = self.work().finish()
            program.set("share", 1 - self.decay)
            program.run(1)
        else:
            np.concatenate([value for value, _ in _pieces(self.parameters)], out=self.average)
        self.updates += 1

    def work(self) -> Work:
        """The work of `update`, but for the first time."""
        work, at = Work(1, self.average.dtype, True, True), 0
        for parameter in self.parameters:
            work.array(parameter.cell, "value")
        average, share = work.array(self, "average"), Input("share", "r")
        for value, _ in _pieces(self.parameters):
            part, size = average[at : at + value.size], value.size
            work.after(kernels.move_towards, part, value, share, size, tasks=-(-size // CHUNK))
            at += size
        return work

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_program": None}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block, the parameters have the averages as their values."""
        pieces = [value for value, _ in _pieces(self.parameters)]
        own = [value.copy() for value in pieces]
        at = 0
        for value in pieces:
            value[...] = self.average[at : at + value.size]
            at += value.size
        try:
            yield
        finally:
            for value, kept in zip(pieces, own, strict=True):
                value[...] = kept


def _pieces(parameters: list[Parameter]) -> list[tuple[Array, Array]]:
    """(values, gradients), flat: one pair if the parameters are all those of a network."""
    cells = [parameter.cell for parameter in parameters]
    home = cells[0].home
    if home is not None and home.cells == cells:
        return [(home.values, home.gradients)]
    return [(cell.value.reshape(-1), cell.grad.reshape(-1)) for cell in cells]
