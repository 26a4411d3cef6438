"""Optimizers, and the average of the weights that they go through."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Any, ClassVar, get_type_hints

import numpy as np
from annotated_types import Ge, Gt, Interval

from minicnn.checks import as_written, fits, told, words
from minicnn.engine.arrays import Array, aligned_zeros
from minicnn.engine.cache import Kernel, Kernels
from minicnn.engine.program import Program
from minicnn.engine.work import Argument, Input, Rows, Work
from minicnn.errors import ConfigError, DivergedError
from minicnn.kernels import CHUNK
from minicnn.layers.explain import PRODUCT, decimals, fixed, in_brackets, number
from minicnn.layers.parameter import Parameter

__all__ = ["EMA", "SGD", "Optimizer"]

kernels = Kernels("optimizer")

Share = Annotated[float, Interval(ge=0, lt=1)]


class _Rule(ABC):
    """Something that is done to parameters, which stay, with numbers that may change."""

    parameters: tuple[Parameter, ...] = ()
    _program: Program | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises ConfigError for a number out of its range, and for other parameters than the first ones."""
        place, hint = type(self).__name__, _hints(type(self)).get(name, Any)
        if not fits(value, hint):
            raise ConfigError(f"{place}: {name}: expected {words(hint)}, received {told(value)}")
        if name == "parameters":
            if self.parameters:
                raise ConfigError(
                    f"{place}: parameters: expected those that it was made with, received others; make a new {place}"
                )
            value = _listed(value, place)
        object.__setattr__(self, name, value)

    @abstractmethod
    def work(self) -> Work:
        """The work of an update."""

    def _run(self, **inputs: float) -> None:
        if self._program is None or self._program.is_stale:
            self._program = self.work().finish()
        for name, value in inputs.items():
            self._program.set(name, value)
        self._program.run(1)

    def _new_work(self) -> Work:
        work = Work(1, self.parameters[0].value.dtype, True, True)
        for parameter in self.parameters:
            work.array(parameter.cell, "value")
        return work


@cache
def _hints(rule: type[_Rule]) -> dict[str, Any]:
    """The annotations of the arguments of its constructor, and of those that it derives from."""
    hints: dict[str, Any] = {}
    for base in rule.__mro__[:-1]:
        if "__init__" in base.__dict__:
            hints |= get_type_hints(base.__dict__["__init__"], include_extras=True)
    return hints


class Optimizer(_Rule):
    """A rule by which a step changes parameters, given their gradients.

    A subclass declares

    kernel     kernel(task, value, grad, *states, size, norm, *numbers), which changes CHUNK of `size` elements; see
               `sgd` in kernels/optimizer.py for norm, and for how it goes through them
    states     the names of the arrays that it remembers from step to step, as large as the parameters and 0 at first
    numbers()  what the kernel takes in the step that comes next, number self.steps + 1

    and has a constructor that hands `parameters`, `lr` and `clip_norm` to this one. All its numbers may be assigned
    between steps. With `clip_norm`, all gradients are multiplied by clip_norm / norm if their common Euclidean norm
    exceeds it (Pascanu et al., On the difficulty of training recurrent neural networks, 2013, section 3.2).
    Raises ConfigError for arguments out of range.

    parameters: network.parameters(), or None for `Model.fit`, which binds its network's.
    """

    kernel: ClassVar[Kernel]
    states: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        parameters: Iterable[Parameter] | None = None,
        lr: Annotated[float, Ge(0)] = 1e-3,
        clip_norm: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        if parameters is not None:
            self.bind(parameters)
        self.lr = lr
        self.clip_norm = clip_norm
        self.steps = 0
        self._state: dict[str, Array] = {}
        self._clips = False
        self._norm = np.zeros(3)  # of the gradients, the largest one allowed, whether one is not finite

    def bind(self, parameters: Iterable[Parameter]) -> None:
        """Gives an optimizer that was made without parameters those to update, once."""
        self.parameters = parameters  # type: ignore[assignment] # __setattr__ makes a tuple of them

    @abstractmethod
    def numbers(self) -> Mapping[str, float]:
        """The numbers that the kernel takes, in its order."""

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Raises ConfigError, which begins with the option's name, for options that do not go together."""

    def step(self) -> None:
        """Updates every parameter by its gradient.

        Raises DivergedError, and changes nothing, if a gradient is NaN or infinite.
        """
        if not self.parameters:
            name = type(self).__name__
            raise ConfigError(f"{name}: expected parameters to update; make it with {name}(network.parameters(), ...)")
        if self._clips != (self.clip_norm is not None):
            self._program = None
        self._run(**self.before_step())
        self.after_step()

    def before_step(self) -> Mapping[str, float]:
        """What a program that has this optimizer's work is to be given before it runs."""
        self._norm[:] = 0.0, math.inf if self.clip_norm is None else self.clip_norm, 0.0
        return self.numbers()

    def after_step(self) -> None:
        """Counts the step that a program has done. Raises DivergedError if it has done none."""
        if self._norm[2]:
            wrong = (p.name for p in self.parameters if not np.isfinite(p.grad).all())
            raise DivergedError(self.steps + 1, "the loss", gradient=next(wrong, "the network"))
        self.steps += 1

    def state(self) -> dict[str, Array]:
        """The arrays that, with `steps`, have to be kept to go on later: for all parameters, one behind the other.

        What is written into them counts.
        """
        size, dtype = sum(p.value.size for p in self.parameters), self.parameters[0].value.dtype
        found = {name: (array.size, array.dtype) for name, array in self._state.items()}
        if found != dict.fromkeys(self.states, (size, dtype)):
            self._state = {name: aligned_zeros(size, dtype) for name in self.states}
        return self._state

    def work(self) -> Work:
        work = self._new_work()
        self._clips = self.clip_norm is not None
        self.declare(work)
        return work

    def declare(self, work: Work, losses: Rows | None = None) -> None:
        """Declares the update, behind what gives the gradients, and not to be done if a loss is not finite."""
        pieces, norm = _pieces(self.parameters), self._norm
        state = list(self.state().values())
        work.array(self, "_state")
        counts = [-(-value.size // CHUNK) for value, *_ in pieces]
        for (_, grad, _), count in zip(pieces, counts, strict=True):
            work.together(kernels.find_not_finite, grad, norm, grad.size, tasks=count, grain=8)
        if losses is not None:
            work.together(kernels.find_not_finite, losses.array, norm, losses.array.size)
        if self.clip_norm is not None:
            sums, at = np.zeros(sum(counts)), 0
            for (_, grad, _), count in zip(pieces, counts, strict=True):
                work.together(kernels.squares, grad, sums[at : at + count], grad.size, tasks=count)
                at += count
            work.together(kernels.root, sums, len(sums), norm)
        numbers = [Input(name, "r" if isinstance(n, float) else "n") for name, n in self.numbers().items()]
        for (value, grad, part), count in zip(pieces, counts, strict=True):
            arguments: list[Argument] = [value, grad, *(array[part] for array in state), value.size, norm, *numbers]
            work.after(self.kernel, *arguments, tasks=count, grain=2)

    def explain(self, weights: Sequence[tuple[str, float, float, float]]) -> list[str]:
        """How the first step changed some weights, each given by name, value before, gradient and value now."""
        return [f"{type(self).__name__}, with a learning rate of {self.lr:g}:"] + [
            f"  {name} = {fixed(new, 6)}; it was {fixed(w, 6)}, and its gradient {number(g)}"
            for name, w, g, new in weights
        ]

    def __repr__(self) -> str:
        return as_written(self, "parameters")

    def __getstate__(self) -> dict[str, Any]:
        state = {name: array.copy() for name, array in self._state.items()}
        return self.__dict__ | {"_program": None, "_state": state, "_norm": self._norm.copy()}


class SGD(Optimizer):
    """PyTorch's rule, for each parameter w with gradient g:

        d = g + weight_decay w;  v = momentum v + d  (v = 0 at first);  w = w - lr v
        nesterov:                                                       w = w - lr (d + momentum v)

    clip_norm: see `Optimizer`. Raises ConfigError for arguments out of range.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning (2013), in the form
    of torch.optim.SGD, which multiplies the whole velocity by the current learning rate.
    """

    kernel = kernels.sgd
    states = ("velocity",)

    def __init__(
        self,
        parameters: Iterable[Parameter] | None = None,
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
            norm = math.sqrt(sum(float(np.square(p.grad, dtype=np.float64).sum()) for p in self.parameters))
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


class EMA(_Rule):
    """Exponential moving average of parameters, which often does better on new data than the last ones do:

        a = w  at the first update, then  a = decay a + (1 - decay) w

    To be updated after each step of the optimizer; what a layer keeps besides parameters is not averaged. The same
    as torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn(decay). Raises ConfigError unless 0 <= decay < 1.

    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992); with this weighting,
    Tarvainen and Valpola, Mean teachers are better role models (2017), section 2.
    """

    def __init__(self, parameters: Iterable[Parameter], decay: Share) -> None:
        self.parameters = parameters  # type: ignore[assignment] # which makes a tuple of them
        self.decay = decay
        self.updates = 0
        #: The averages of all parameters, one behind the other; before the first update, the parameters.
        self.average = np.concatenate([value for value, *_ in _pieces(self.parameters)])

    def update(self) -> None:
        """Takes in the parameters as they are now."""
        if self.updates:
            self._run(share=1 - self.decay)
        else:
            np.concatenate([value for value, *_ in _pieces(self.parameters)], out=self.average)
        self.updates += 1

    def work(self) -> Work:
        work = self._new_work()
        average, share = work.array(self, "average"), Input("share", "r")
        for value, _, part in _pieces(self.parameters):
            arguments = (average[part], value, share, value.size)
            work.after(kernels.move_towards, *arguments, tasks=-(-value.size // CHUNK), grain=4)
        return work

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_program": None, "average": self.average.copy()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block, the parameters have the averages as their values."""
        pieces = [(value, part) for value, _, part in _pieces(self.parameters)]
        own = [value.copy() for value, _ in pieces]
        for value, part in pieces:
            value[...] = self.average[part]
        try:
            yield
        finally:
            for (value, _), kept in zip(pieces, own, strict=True):
                value[...] = kept


#: The optimizers by their names in settings.
OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD}


def _listed(parameters: Any, place: str) -> tuple[Parameter, ...]:
    """The parameters, as a tuple. Raises ConfigError for what are none, for one twice, and for several types."""
    if isinstance(parameters, type) or hasattr(parameters, "parameters"):
        raise ConfigError(
            f"{place}: parameters: expected those of a network, received {told(parameters)}; pass its .parameters()"
        )
    found = tuple(parameters)
    if not found:
        raise ConfigError(f"{place}: parameters: expected at least one, received none")
    cells = set()
    for one in found:
        if not isinstance(one, Parameter):
            raise ConfigError(
                f"{place}: parameters: expected parameters, such as network.parameters(), received {told(one)}"
            )
        if one.cell in cells:
            raise ConfigError(f"{place}: parameters: expected each once, received {one.name} twice")
        cells.add(one.cell)
    return found


def _pieces(parameters: Sequence[Parameter]) -> list[tuple[Array, Array, slice]]:
    """(values, gradients, their place among all), flat: one piece if the parameters are all those of a network."""
    cells = [parameter.cell for parameter in parameters]
    dtypes = {cell.value.dtype.name for cell in cells}
    if len(dtypes) > 1:
        raise ConfigError(f"parameters: expected one element type, received {' and '.join(sorted(dtypes))}")
    home = cells[0].home
    if home is not None and home.cells == cells:
        return [(home.values, home.gradients, slice(0, home.values.size))]
    ends = np.cumsum([cell.value.size for cell in cells]).tolist()
    return [
        (cell.value.reshape(-1), cell.grad.reshape(-1), slice(end - cell.value.size, end))
        for cell, end in zip(cells, ends, strict=True)
    ]
