"""The gradient check of a whole network, layer by layer, as a table: what `train --check-gradients` prints."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from minicnn.engine import driver
from minicnn.errors import MinicnnError
from minicnn.inspect.gradient_check import (
    ArrayCheck,
    measure_gradients,
    measure_loss_gradient,
    measure_training_gradients,
)
from minicnn.layers.layer import Layer
from minicnn.layers.sequential import Sequential
from minicnn.layers.walk import Visit, visits
from minicnn.losses import Loss

TOLERANCE = 1e-6  # of the relative error
ELEMENTS, FEWEST = 100, 5  # compared of an array, fewer where a layer has much work
WORK = 100_000_000  # multiply-adds for one sample that the elements of an array may cost
DIRECTIONS = 2
SAMPLES = 4


class Row(NamedTuple):
    """A layer's place in the network ("3", or "" for the loss and for all together), and how one gradient fared."""

    place: str
    layer: str
    check: ArrayCheck

    @property
    def passed(self) -> bool:
        return self.check.worst <= TOLERANCE


def print_gradient_table(
    network: Sequential, loss: Loss, input_shape: Sequence[int], say: Callable[[str], None] = print
) -> None:
    """Compares the gradients of each layer, of the loss, and of both together with central differences, in float64.

    The network has its weights already and is not changed. Inputs are random and keep off the kinks of ReLU and the
    ties of pooling; layers are in training mode. Large arrays are compared at some of their elements, the same ones
    every time, and along random directions, in which every element has a part. `say` receives the lines, each as soon
    as it is known. Raises MinicnnError at the end, with a line for each gradient that is wrong.
    """
    # Written by hand, as each line is shown as soon as it is known.
    walk = [_words(visit) for visit in visits(network, input_shape)]
    place_width = max(3, *(len(place) for place, _ in walk))
    width = max(len(layer) for _, layer in walk)
    array_width = max(11, *(len(parameter.name) for parameter in network.parameters()))
    say(f"gradients against central differences in float64; an error of {TOLERANCE:g} is allowed\n")
    say(f"{'':{place_width}}  {'layer':{width}}  {'gradient of':{array_width}}  {'elements compared':>17}  worst error")
    say("-" * (place_width + width + array_width + 39))
    wrong, count, above = [], 0, ("", "")
    for row in _rows(network, loss, input_shape):
        place, layer, check = row
        compared = f"{check.checked:,} of {check.size:,}" if check.checked else "directions"
        place, layer = ("", "") if (place, layer) == above else (place, layer)
        above = row[:2]
        say(
            f"{place:{place_width}}  {layer:{width}}  {check.array:{array_width}}  {compared:>17}  {check.worst:11.1e}"
            f"  {'right' if row.passed else 'WRONG'}"
        )
        count += 1
        if not row.passed:
            wrong.append(str(check.error(f"{row.place} {row.layer}".strip(), TOLERANCE)))
    if wrong:
        raise MinicnnError("\n".join(wrong))
    say(f"\nall {count} gradients are right")


def _rows(network: Sequential, loss: Loss, input_shape: Sequence[int]) -> Iterator[Row]:
    threads = driver.get_threads()
    driver.set_threads(1)  # a few samples are too little work to share
    try:
        shape = tuple(input_shape)
        for visit in visits(network, shape):
            layer = visit.layer
            checks = measure_gradients(
                layer,
                visit.shape,
                batch=2 if layer.per_sample else SAMPLES,
                elements=_elements(layer, visit.shape),
                directions=DIRECTIONS,
                training=True,
            )
            for check in islice(checks, 1) if visit.within else checks:  # its layers' weights have their own lines
                yield Row(*_words(visit), check)
        shape = network.output_shape(shape)
        rng = np.random.default_rng(0)
        scores, labels = rng.standard_normal((SAMPLES, *shape)), rng.integers(0, shape[0], SAMPLES)
        name = type(loss).__name__
        yield Row("", name, measure_loss_gradient(loss, scores, labels))
        for check in measure_training_gradients(network, loss, input_shape, labels, directions=DIRECTIONS):
            yield Row("", "network and loss", check)
    finally:
        driver.set_threads(threads)


def _words(visit: Visit) -> tuple[str, str]:
    """The place of a layer and what it is called."""
    return visit.place, type(visit.layer).__name__ if visit.within else repr(visit.layer)


def _elements(layer: Layer, shape: tuple[int, ...]) -> int:
    return int(np.clip(WORK // max(1, layer.multiply_adds(shape)), FEWEST, ELEMENTS))
