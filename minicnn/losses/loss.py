"""What every loss is: the number that training makes small, and its gradient."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from minicnn.checks import as_written, check_sample_weight, checked, plain_array
from minicnn.engine.arrays import Array, Shape, address
from minicnn.engine.cache import Kernels
from minicnn.engine.lanes import array_input, pack_input, unpack_output
from minicnn.engine.memory import Map
from minicnn.engine.program import Program
from minicnn.engine.work import Argument, Input, Work
from minicnn.errors import MinicnnError, ShapeError
from minicnn.kernels import LANES, blocks_of
from minicnn.layers.explain import number, table_of_classes
from minicnn.layers.lane_layer import check_nan
from minicnn.layers.programs import ProgramOwner
from minicnn.losses.numpy_loss import declare_in_numpy
from minicnn.losses.targets import Kind, Target, added_up, check_labels, labels_or_numbers, whole_blocks

kernels = Kernels("loss")


class Loss(ProgramOwner):
    """forward(y, target) returns the mean loss of a batch, and then backward() returns its derivative, dy.

    A loss of your own overrides these two, in NumPy. Its targets are labels (N,), or arrays of the shape of y.

    With weights of the samples, it is the weighted mean: the sum of weight times loss, divided by the sum of weights.
    """

    #: Whether the softmax of the scores gives probabilities.
    takes_logits = False
    #: Whether the target may be shares of classes (N, K), as blended images have them.
    takes_shares = False
    #: Whether a sample may have several labels, each of them an output.
    multi_label = False
    #: Whether a target of y's shape says which answers are right.
    counts_rows = False
    #: Whether `balance` has to be called before `forward`.
    needs_labels = False
    #: Whether the loss of a sample depends on that sample alone, as far as the engine knows.
    per_sample = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__ and cls.__module__.startswith("minicnn."):
            cls.__init__ = checked(ShapeError)(cls.__init__)  # type: ignore[method-assign]
        both = cls.forward is not Loss.forward, cls.backward is not Loss.backward
        if all(both) and cls.__dict__.keys() & {"forward", "backward"}:
            for name, in_numpy in _IN_NUMPY.items():
                if name in _ALWAYS or getattr(cls, name) is getattr(Loss, name):
                    setattr(cls, name, in_numpy)
        elif not all(both) and cls._declare is Loss._declare:
            raise TypeError(f"{cls.__name__}: a loss must define both forward and backward")

    def forward(self, y: Array, target: Array, sample_weight: Array | None = None) -> float:
        """The mean loss of the batch; sample_weight (N,) has numbers >= 0 [1].

        Raises ShapeError or MinicnnError for arrays that do not fit.
        """
        name = type(self).__name__
        y = plain_array(y, "y", ShapeError)
        if y.dtype not in (np.float32, np.float64) or y.ndim < 2 or len(y) == 0:
            raise ShapeError(
                f"{name}: expected a batch of float32 or float64 (N, outputs), received {y.dtype} {y.shape}"
            )
        check_nan(name, "y", y)
        y, found = np.ascontiguousarray(y), self.prepare(target, y.shape, y.dtype, sample_weight)
        shape = y.shape[1:]
        key = (blocks_of(len(y)), shape, y.dtype.char, found.kind, self.key)
        program = self.programs.take(key, lambda: self._program(shape, y, found.kind))
        terms = self.terms(shape) * found.weight
        program.set("y", address(y))
        self.set_inputs(program, found, terms)
        program.run(len(y))
        before: tuple[Hashable, Program, Shape, Any] | None = self._own.last
        if before is not None:
            self.programs.give(*before[:2])
        self._own.last = key, program, y.shape, y.dtype
        return self.mean(program.losses, terms)

    def backward(self) -> Array:
        """The derivative of the mean loss with respect to y, in the shape of y. Raises MinicnnError before forward."""
        if self._own.last is None:
            raise MinicnnError(
                f"{type(self).__name__}: backward before forward; call forward first, in the same thread"
            )
        _, program, shape, dtype = self._own.last
        dy = np.empty(shape, dtype)
        program.set("dy", address(dy))
        program.run(len(dy), paused=True)
        return dy

    def _program(self, shape: Shape, y: Array, kind: Kind) -> Program:
        work = Work(blocks_of(len(y)), y.dtype, True, True)
        dy = self.declare_compiled(work, pack_input(work, "y", shape), kind)
        work.pause()
        unpack_output(work, dy, "dy")
        return work.finish()

    def declare(self, work: Work, y: Map, kind: Kind) -> Map:
        """Declares the loss of each block, summed over its images in `work.losses`, and dy.

        Inputs: those of the target, and "factor", by which the gradient of the sum is multiplied.
        """
        work.losses = work.numbers(1, np.float64)
        dy = work.map(y.shape)
        weights: Argument = array_input(work, "weights", (1,))
        if not kind.weighted:
            weights = work.shared(LANES)
            weights[...] = 1
        self._declare(work, y, kind, weights, Input("factor", "r"), dy, work.losses, work.remaining)
        return dy

    #: For a loss in NumPy that calls forward or backward of its base.
    declare_compiled = declare

    def declare_count(self, work: Work, y: Map, kind: Kind) -> None:
        """Declares that right answers are counted in `work.correct`, if there are any to count."""
        work.correct = work.numbers(1, np.int64)
        if kind.counted and len(y.shape) == 1:
            labels = label_input("target" if kind.by_label else "labels")
            work.call(kernels.count_correct, y, labels, y.vectors, work.correct, work.remaining)

    def set_inputs(self, program: Program, target: Target, terms: float) -> None:
        """Before a run; the gradient becomes that of the sum divided by `terms`, the mean of the whole batch."""
        for name, array in target.inputs.items():
            program.set(name, array if isinstance(array, int) else address(array))
        program.calls_see(target)
        program.set("factor", 1 / terms if terms else 0.0)

    def mean(self, losses: Array, terms: float) -> float:
        """The mean loss, from those of the blocks; 0 where nothing has a weight."""
        return float(sum(losses.ravel().tolist())) / terms if terms else 0.0

    def prepare(
        self, target: Any, y_shape: Shape, dtype: Any, sample_weight: Any = None, labels: Array | None = None
    ) -> Target:
        """The target as the program takes it; `labels` are the right answers, if it does not tell them itself.

        Raises ShapeError or MinicnnError for one that does not fit.
        """
        array = self.checked(target, y_shape, dtype)
        kind = self.kind(array, sample_weight is not None, labels is not None)
        inputs = {"target": whole_blocks(array) if kind.by_label else array}
        if kind.by_label:
            labels = array
        elif kind.counted and not self.multi_label:
            labels = array.argmax(axis=1) if labels is None else labels
            inputs["labels"] = whole_blocks(labels)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, y_shape[0], dtype)
            inputs["weights"] = whole_blocks(sample_weight)
        inputs |= self.own_inputs(y_shape[1:], dtype)
        return Target(kind, inputs, self.weight_of(array, sample_weight, dtype), labels)

    def prepare_labels(self, labels: Array, address: int, y_shape: Shape, dtype: Any) -> Target | None:
        """The same for labels that are known to fit and lie at that address, with as many behind them as complete the
        last block; None if the loss takes no labels."""
        if self.multi_label:
            return None
        inputs: dict[str, Array | int] = {"target": address, **self.own_inputs(y_shape[1:], dtype)}
        return Target(self.kind(labels, False), inputs, self.weight_of(labels, None, dtype), labels)

    def kind(self, target: Array, weighted: bool, labelled: bool = False) -> Kind:
        """What programs depend on, of a target from `checked`; `labelled` if there are labels beside it."""
        by_label = target.dtype == np.int64
        return Kind(by_label, by_label or labelled or self.counts_rows, weighted)

    def checked(self, target: Any, y_shape: Shape, dtype: Any) -> Array:
        """Labels int64 (N,), or numbers in the shape of y. Raises ShapeError or MinicnnError."""
        return check_labels(target, y_shape, type(self).__name__)

    def own_inputs(self, outputs: Shape, dtype: Any) -> Mapping[str, Array]:
        """Arrays that the program takes besides target and weights."""
        return {}

    def weight_of(self, target: Array, sample_weight: Array | None, dtype: Any) -> float:
        """The weights of all samples of a target, added up."""
        return float(len(target)) if sample_weight is None else added_up(sample_weight.astype(dtype))

    def balance(self, labels: Array, classes: int) -> None:
        """Finds weights that balance classes with such labels (N,), if the loss is to have any."""

    def answers(self, outputs: Shape) -> int:
        """How many right answers a sample may have."""
        return 1

    def explain(self, y: Array, dy: Array, label: int, loss: float) -> list[str]:
        """How the scores y (K,) of one sample of class `label` came to this loss and this gradient, in numbers."""
        rows = table_of_classes({"y": map(number, y), "dy": map(number, dy)})
        return [f"{type(self).__name__} = {number(loss)} for class {label}", *rows]

    @property
    def key(self) -> tuple[Any, ...]:
        """What programs with this loss depend on."""
        return (type(self),)

    def terms(self, outputs: Shape) -> int:
        """How many numbers of one sample the mean is taken over."""
        return 1

    def _declare(self, work: Work, y: Map, kind: Kind, *rest: Argument) -> None:
        """Declares the kernels that write dy and losses; `rest` are the last arguments of each. None in NumPy."""

    def __call__(self, y: Array, target: Array) -> float:
        return self.forward(y, target)

    def __repr__(self) -> str:
        return as_written(self)


#: Of a loss that is written in NumPy. Each is a kind of its own to programs, which keep it.
_ALWAYS = {"declare": declare_in_numpy, "key": property(id), "per_sample": False}
_IN_NUMPY = {
    **_ALWAYS,
    "checked": lambda self, target, y_shape, dtype: labels_or_numbers(target, y_shape, dtype, type(self).__name__),
}


def label_input(name: str = "target") -> Input:
    return Input(name, "i", LANES * 8)


def numbers_input(work: Work, name: str) -> Input:
    """An array of numbers that all blocks see."""
    return Input(name, work.dtype.char)
