"""Layers that training leaves as they are."""

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, Self

from minicnn.engine.arrays import replacements
from minicnn.engine.memory import Map
from minicnn.engine.work import Work

from .parameter import Parameter

#: Declares the way back: from dy to dx, which may be written over dy, and the gradients of parameters. Without the
#: second argument dx does not matter.
Backward = Callable[[Map, bool], Map]


def freezable(declare: Callable[[Any, Work, Map], tuple[Map, Backward]]) -> Callable[..., tuple[Map, Backward]]:
    """`declare`, which for a frozen layer declares what it does outside training, and no gradients of parameters."""

    @wraps(declare)
    def declared(self: "Freezable", work: Work, x: Map) -> tuple[Map, Backward]:
        frozen = work.watched(self, "frozen")
        with work.frozen_layer(frozen):
            y, way_back = declare(self, work, x)

        def backward(dy: Map, need_dx: bool) -> Map:
            with work.frozen_layer(frozen):
                return way_back(dy, need_dx)

        return y, backward

    return declared


class Freezable:
    """The part of `Layer` that says whether it learns."""

    def children(self) -> "Mapping[str, Freezable]":
        raise NotImplementedError

    def places(self, before: str = "") -> "Iterator[tuple[str, Freezable]]":
        raise NotImplementedError

    def parameters(self) -> list[Parameter]:
        raise NotImplementedError

    @property
    def frozen(self) -> bool:
        """Whether training leaves it, and all layers within it, as they are; see `freeze`."""
        return bool(self.__dict__.get("_frozen", False)) and all(inner.frozen for inner in self.children().values())

    def freeze(self) -> Self:
        """From now on, training leaves the layer, and all layers within it, as they are.

        Optimizers pass over its parameters, whose gradients are 0 or not computed. In training it does what it does
        outside training: BatchNorm2d normalises by its running statistics, which do not change, and Dropout drops
        nothing. So it is what requires_grad_(False) and eval() are in PyTorch. Gradients go through it to the layers
        before; where all of these are frozen, too, nothing is computed for them on the way back.

        `unfreeze` undoes it, also for some of the layers within: network.freeze() and then network[-1].unfreeze() leave
        the last one to learn. A copy of a frozen layer is frozen; files have no trace of it.
        """
        return self._freeze(True)

    def unfreeze(self) -> Self:
        """Lets training change the layer, and all layers within it, again."""
        return self._freeze(False)

    def _freeze(self, frozen: bool) -> Self:
        layers: list[Freezable] = [self, *(inner for _, inner in self.places())]
        for layer in layers:
            layer.__dict__["_frozen"] = frozen
            replacements.add()
            for parameter in layer.parameters():
                parameter.cell.frozen = frozen
                parameter.grad[...] = 0
        return self
