"""What every optimizer is: a kernel on flat vectors, with numbers that may be others for groups of parameters."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge, Gt

from minicnn.checks import as_written, fits, told, words
from minicnn.engine.arrays import Array, aligned_zeros
from minicnn.engine.cache import Kernel
from minicnn.engine.work import Argument, Input, Rows, Work
from minicnn.errors import ConfigError, DivergedError
from minicnn.kernels import CHUNK
from minicnn.layers.explain import fixed, number
from minicnn.layers.parameter import Parameter

from .rule import Rule, check_no_network, hints_of, kernels, listed, pieces

#: What an optimizer takes: parameters, or groups of them with options of their own.
Parameters = Iterable[Parameter] | Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with options of their own: `lr_factor` multiplies the optimizer's learning rate."""

    parameters: tuple[Parameter, ...]
    lr_factor: float
    options: Mapping[str, Any]


class Optimizer(Rule):
    """A rule by which a step changes parameters, given their gradients.

    A subclass declares

    kernel     kernel(task, value, grad, *states, size, norm, *numbers), which changes CHUNK of `size` elements; see
               `sgd` in kernels/optimizer.py for norm, and for how it goes through them
    states     the names of the arrays that it remembers from step to step, as large as the parameters and 0 at first
    numbers()  what the kernel takes in the step that comes next, number self.steps + 1

    and has a constructor that hands `parameters`, `lr` and `clip_norm` to this one. All its numbers may be assigned
    between steps. With `clip_norm`, all gradients are multiplied by clip_norm / norm if their common Euclidean norm
    exceeds it (Pascanu et al., On the difficulty of training recurrent neural networks, 2013, section 3.2).

    parameters  network.parameters(); or, as in PyTorch, groups of them with options of their own:
                [{"params": network[0].parameters(), "lr": 0.01}, {"params": network[2].parameters()}]. A group's lr
                keeps its ratio to the optimizer's, so that schedules, which set the latter, scale all of them.
                None for `Model.fit`, which binds its network's.

    Frozen parameters (see `Layer.freeze`) stay as they are. Raises ConfigError for arguments out of range.
    """

    kernel: ClassVar[Kernel]
    states: ClassVar[tuple[str, ...]] = ()
    #: Whether a step moves each weight by about `lr`, whatever its gradient. Then a default suits most networks, and
    #: settings may leave it out.
    lr_is_step: ClassVar[bool] = False
    groups: tuple[ParameterGroup, ...] = ()

    def __init__(
        self,
        parameters: Parameters | None = None,
        lr: Annotated[float, Ge(0)] = 1e-3,
        clip_norm: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        self.lr = lr
        self.clip_norm = clip_norm
        self.steps = 0
        self._state: dict[str, Array] = {}
        self._clips = False
        self._norm = np.zeros(3)  # of the gradients, the largest one allowed, whether one is not finite
        if parameters is not None:
            self.bind(parameters)

    def bind(self, parameters: Parameters) -> None:
        """Gives an optimizer that was made without parameters those to update, once."""
        check_no_network(parameters, type(self).__name__)
        hint = hints_of(type(self))["parameters"]
        if not fits(parameters, hint):
            raise ConfigError(f"{type(self).__name__}: parameters: expected {words(hint)}, received {told(parameters)}")
        given: list[Any] = list(parameters)
        if not (given and all(isinstance(one, Mapping) for one in given)):
            given = [{"params": given}]
        groups = tuple(self._group(i, options) for i, options in enumerate(given))
        self.parameters = tuple(one for group in groups for one in group.parameters)
        self.groups = groups

    def _group(self, i: int, options: Mapping[str, Any]) -> ParameterGroup:
        """A group as it was given. Raises ConfigError for options that it cannot have."""
        name = type(self).__name__
        place, known = f"{name}: parameters[{i}]", hints_of(type(self))
        may_have = [key for key in known if key not in ("parameters", "clip_norm", "return")]
        if "params" not in options:
            raise ConfigError(f'{place}: expected a key "params", received {", ".join(map(str, options)) or "none"}')
        rest = {key: value for key, value in options.items() if key != "params"}
        for key, value in rest.items():
            if key not in may_have:
                raise ConfigError(f'{place}: expected "params" and any of {", ".join(may_have)}, received {told(key)}')
            if not fits(value, known[key]):
                raise ConfigError(f"{place}: {key}: expected {words(known[key])}, received {told(value)}")
        lr = rest.pop("lr", self.lr)
        if lr and not self.lr:
            raise ConfigError(f"{place}: lr: expected 0 like that of the optimizer, received {lr:g}; give {name} an lr")
        params = options["params"]
        parameters = listed([params] if isinstance(params, Parameter) else params, name)
        return ParameterGroup(parameters, lr / self.lr if self.lr else 1.0, rest)

    def group_of(self, parameter: Parameter) -> ParameterGroup:
        """The group that has a parameter, which must be one of the optimizer's."""
        return next(group for group in self.groups if any(p.cell is parameter.cell for p in group.parameters))

    def within(self, group: ParameterGroup) -> Self:
        """The optimizer as it treats a group: with the options of that."""
        if group.lr_factor == 1 and not group.options:
            return self
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__, lr=self.lr * group.lr_factor, **group.options)
        return view

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
        return {
            f"{name} {i}": value
            for i, group in enumerate(self.groups)
            for name, value in self.within(group).numbers().items()
        }

    def after_step(self) -> None:
        """Counts the step that a program has done. Raises DivergedError if it has done none."""
        if self._norm[2]:
            wrong = (p.name for p in self.parameters if not (p.frozen or np.isfinite(p.grad).all()))
            raise DivergedError(self.steps + 1, "the loss", gradient=next(wrong, "the network"))
        self.__dict__["steps"] += 1  # which needs no check

    def state(self) -> dict[str, Array]:
        """The arrays that, with `steps`, have to be kept to go on later: for all parameters, one behind the other.

        What is written into them counts. They have the element type of the parameters, also after `astype`.
        """
        size, dtype = sum(p.value.size for p in self.parameters), self.parameters[0].value.dtype
        found = {name: (array.size, array.dtype) for name, array in self._state.items()}
        if found != dict.fromkeys(self.states, (size, dtype)):
            before, self._state = self._state, {name: aligned_zeros(size, dtype) for name in self.states}
            for name, array in before.items():
                self._state[name][...] = array
        return self._state

    def work(self) -> Work:
        work = self._new_work()
        self._clips = self.clip_norm is not None
        self.declare(work)
        return work

    def declare(self, work: Work, losses: Rows | None = None) -> None:
        """Declares the update, behind what gives the gradients, and not to be done if a loss is not finite."""
        norm, state = self._norm, list(self.state().values())
        work.array(self, "_state")
        found: list[tuple[Array, Array, slice, list[Input]]] = []
        for i, group in enumerate(self.groups):
            own = self.within(group)
            own.check(vars(own))
            inputs = [Input(f"{n} {i}", "r" if isinstance(x, float) else "n") for n, x in own.numbers().items()]
            learning = {p.cell for p in group.parameters if not work.watched(p.cell, "frozen")}
            found += [(*piece, inputs) for piece in pieces(self.parameters, learning)]
        if not found:
            raise ConfigError(f"{type(self).__name__}: expected a parameter that is not frozen, received none")
        counts = [-(-value.size // CHUNK) for value, *_ in found]
        sums, at = np.zeros(sum(counts)), 0
        for (_, grad, *_), count in zip(found, counts, strict=True):
            work.after(kernels.find_not_finite, grad, norm, grad.size, tasks=count, grain=8)
            if self.clip_norm is not None:
                work.after(kernels.squares, grad, sums[at : at + count], grad.size, tasks=count)
                at += count
        if losses is not None:
            work.after(kernels.find_not_finite, losses.array, norm, losses.array.size)
        work.settle()
        if self.clip_norm is not None:
            work.together(kernels.root, sums, len(sums), norm)
        for (value, grad, part, inputs), count in zip(found, counts, strict=True):
            arguments: list[Argument] = [value, grad, *(array[part] for array in state), value.size, norm, *inputs]
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
