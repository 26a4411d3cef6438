"""Stochastic gradient descent, and the average of the weights that it goes through."""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from minicnn.checks import checked, fits, told
from minicnn.engine.arrays import Array, aligned_zeros
from minicnn.engine.cache import Kernels
from minicnn.engine.program import Program
from minicnn.engine.work import Argument, Input, Work
from minicnn.errors import ConfigError, DivergedError
from minicnn.kernels import CHUNK
from minicnn.layers.parameter import Parameter

kernels = Kernels("optimizer")


class _Rule:
    """Something that is done to parameters, which stay, with numbers that may change."""

    #: The lowest and the highest value of these numbers, and both in words.
    _limits: ClassVar[dict[str, tuple[float, float, str]]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises ConfigError for a number out of its range, and for other parameters than the first ones."""
        place = type(self).__name__
        if name in self._limits:
            low, high, words = self._limits[name]
            number = value if type(value) is float or not fits(value, float) else float(value)
            good = type(number) is float and low <= number <= high
            if not good and not (value is None and name == "clip_norm"):
                raise ConfigError(f"{place}: {name}: expected a number {words}, received {told(value)}")
        elif name == "parameters" and name in self.__dict__:
            raise ConfigError(
                f"{place}: parameters: expected those that it was made with, received others; make a new {place}"
            )
        object.__setattr__(self, name, value)


class SGD(_Rule):
    """PyTorch's rule, for each parameter w with gradient g:

        d = g + weight_decay w;  v = momentum v + d  (v = 0 at first);  w = w - lr v
        nesterov:                                                       w = w - lr (d + momentum v)

    With `clip_norm`, all gradients are first multiplied by clip_norm / norm if their common Euclidean norm exceeds it
    (Pascanu et al., On the difficulty of training recurrent neural networks, 2013, section 3.2). `lr` may be assigned
    between steps. Raises ConfigError for arguments out of range.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning (2013), in the form
    of torch.optim.SGD, which multiplies the whole velocity by the current learning rate.
    """

    _limits = {  # noqa: RUF012 # nobody changes them
        "lr": (0.0, sys.float_info.max, ">= 0"),
        "momentum": (0.0, math.nextafter(1, 0), "from 0 to below 1"),
        "weight_decay": (0.0, sys.float_info.max, ">= 0"),
        "clip_norm": (sys.float_info.min, sys.float_info.max, "> 0"),
    }

    @checked(ConfigError)
    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        if nesterov and momentum == 0:
            raise ConfigError("SGD: nesterov: expected momentum > 0 with it, received momentum 0")
        self.parameters = _listed(parameters, "SGD")
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.steps = 0
        self._velocity, self._clips = np.empty(0), False
        self._norm = np.zeros(3)  # of the gradients, the largest one allowed, whether one is not finite
        self._program: Program | None = None

    def step(self) -> None:
        """Updates every parameter by its gradient.

        Raises DivergedError, and changes nothing, if a gradient is NaN or infinite.
        """
        program = self._program
        if program is None or program.is_stale or self._clips != (self.clip_norm is not None):
            program = self._program = self.work().finish()
        program.set("lr", float(self.lr))
        program.set("momentum", float(self.momentum))
        program.set("weight_decay", float(self.weight_decay))
        program.set("nesterov", int(self.nesterov))
        norm = self._norm
        norm[0], norm[1], norm[2] = 0.0, math.inf if self.clip_norm is None else self.clip_norm, 0.0
        program.run(1)
        if norm[2]:
            wrong = (p.name for p in self.parameters if not np.isfinite(p.grad).all())
            raise DivergedError(self.steps + 1, "the loss", gradient=next(wrong, "the network"))
        self.steps += 1

    @property
    def velocity(self) -> Array:
        """v of all parameters, one behind the other: what has to be kept to go on later, with `steps`."""
        self._pieces()
        return self._velocity

    def state(self) -> dict[str, Array]:
        """The arrays that a checkpoint keeps; it is restored by writing into them."""
        return {"velocity": self.velocity}

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
        for (_, grad, _), count in zip(pieces, counts, strict=True):
            work.together(kernels.find_not_finite, grad, self._norm, grad.size, tasks=count, grain=8)
        self._clips = self.clip_norm is not None
        if self._clips:
            sums, at = np.zeros(sum(counts)), 0
            for (value, grad, _), count in zip(pieces, counts, strict=True):
                work.together(kernels.squares, grad, sums[at : at + count], value.size, tasks=count)
                at += count
            work.together(kernels.root, sums, len(sums), self._norm)
        options = [Input(name, "r") for name in ("lr", "momentum", "weight_decay")]
        for (*arrays, velocity), count in zip(pieces, counts, strict=True):
            rest: list[Argument] = [*options, self._norm, Input("nesterov", "n")]
            work.after(kernels.step, *arrays, velocity, velocity.size, *rest, tasks=count, grain=2)
        return work

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_program": None, "_velocity": self._velocity.copy(), "_norm": self._norm.copy()}


class EMA(_Rule):
    """Exponential moving average of parameters, which often does better on new data than the last ones do:

        a = w  at the first update, then  a = decay a + (1 - decay) w

    To be updated after each step of the optimizer; what a layer keeps besides parameters is not averaged. The same
    as torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn(decay). Raises ConfigError unless 0 <= decay < 1.

    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992); with this weighting,
    Tarvainen and Valpola, Mean teachers are better role models (2017), section 2.
    """

    _limits = {"decay": (0.0, math.nextafter(1, 0), "from 0 to below 1")}  # noqa: RUF012

    @checked(ConfigError)
    def __init__(self, parameters: Iterable[Parameter], decay: float) -> None:
        self.parameters = _listed(parameters, "EMA")
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
            work.after(kernels.move_towards, part, value, share, size, tasks=-(-size // CHUNK), grain=4)
            at += size
        return work

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_program": None, "average": self.average.copy()}

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


def _listed(parameters: Iterable[Any], place: str) -> tuple[Parameter, ...]:
    """The parameters, as a tuple. Raises ConfigError for what are none, for one twice, and for several types."""
    found = tuple(parameters)
    if not found:
        raise ConfigError(f"{place}: parameters: expected at least one, received none")
    for k, one in enumerate(found):
        if not isinstance(one, Parameter):
            raise ConfigError(
                f"{place}: parameters: expected parameters, such as network.parameters(), received {told(one)}"
            )
        if any(one.cell is other.cell for other in found[:k]):
            raise ConfigError(f"{place}: parameters: expected each once, received {one.name} twice")
    return found


def _pieces(parameters: Sequence[Parameter]) -> list[tuple[Array, Array]]:
    """(values, gradients), flat: one pair if the parameters are all those of a network."""
    cells = [parameter.cell for parameter in parameters]
    dtypes = {cell.value.dtype.name for cell in cells}
    if len(dtypes) > 1:
        raise ConfigError(f"parameters: expected one element type, received {' and '.join(sorted(dtypes))}")
    home = cells[0].home
    if home is not None and home.cells == cells:
        return [(home.values, home.gradients)]
    return [(cell.value.reshape(-1), cell.grad.reshape(-1)) for cell in cells]
