"""The two kinds of arithmetic that a program can have, as the loops of an operation ask for them."""

import re

import numpy as np

from .operation import Code
from .quantized import IntegerStep
from .steps import Step
from .text import C_TYPES, number

#: A name, a call, an element of an array.
CLOSED = r"\w+|\w+\([^()]*\)|\w+\[[^\[\]]*\]"

REQUANTIZE = """\
/* A sum as an element of the next map: sum multiplier / 2^shift, rounded, cut off at low and high. Here and below, >>
   of a negative number has to round down, as it does with all compilers in use. */
static int32_t NAME_requantize(int32_t sum, int32_t multiplier, int shift, int32_t low, int32_t high)
{
    int64_t y = ((int64_t)sum * multiplier + ((int64_t)1 << (shift - 1))) >> shift;
    return y < low ? low : y > high ? high : (int32_t)y;
}"""
RECTIFY = """\
static int32_t NAME_relu(int32_t x)
{
    return x > 0 ? x : 0;
}"""
MEAN = """\
/* sum / count, rounded, halves away from 0 */
static int32_t NAME_mean(int32_t sum, int32_t count)
{
    return (sum < 0 ? sum - count / 2 : sum + count / 2) / count;
}"""

SHARE = """\
/* levels part / total, rounded */
static int32_t NAME_share(int32_t part, int32_t total, int32_t levels)
{
    return (int32_t)(((int64_t)2 * levels * part + total) / ((int64_t)2 * total));
}"""


class FloatCode(Code):
    """float for maps, sums and weights."""

    integer = False
    number = x_type = y_type = "float"
    lowest = "-HUGE_VALF"

    def __init__(self, name: str, step: Step) -> None:
        arrays = {
            key: value.astype(np.float32) if value.dtype.kind == "f" else value
            for key, value in step.operation.arrays().items()
        }
        super().__init__(name, step.name, arrays, {})
        self.step = step

    def store(self, place: str, value: str, channel: str) -> str:
        for activation in self.step.activations:
            self.call(activation.definition)
            value = activation.call.replace("NAME", self.name).format(value)
        return f"y[{place}] = {value};"

    def store_level(self, place: str, value: str) -> str:
        return self.store(place, value, "")

    def share(self, part: str, total: str) -> str:
        return f"{part} / {total}"

    def mean(self, total: str, count: str) -> str:
        return f"{total} / {f'{count}.0f' if count.isdigit() else f'(float)({count})'}"


class IntegerCode(Code):
    """8 bits for maps and weights, 32 for sums; `numbers` has the numbers."""

    integer = True
    number = "int32_t"

    def __init__(self, name: str, numbers: IntegerStep) -> None:
        super().__init__(name, numbers.step.name, numbers.arrays, numbers.constants)
        self.step, self.numbers = numbers.step, numbers
        self.x_type, y_type = (C_TYPES[grid.dtype.name] for grid in (numbers.x, numbers.y))
        self.y_type = y_type if numbers.scale is None else "float"
        self.lowest = str(numbers.x.low)

    def store(self, place: str, value: str, channel: str) -> str:
        if "low" in self.constants:
            self.call(REQUANTIZE)
            ends = ", ".join(str(self.constants[key]) for key in ("shift", "low", "high"))
            value = f"{self.name}_requantize({value}, {self.array('multiplier')}[{channel}], {ends})"
        return self._store(place, value, channel)

    def store_level(self, place: str, value: str) -> str:
        return self._store(place, value, "")

    def _store(self, place: str, value: str, channel: str) -> str:
        numbers = self.numbers
        if numbers.rectify:
            self.call(RECTIFY)
            value = f"{self.name}_relu({value})"
        if numbers.table is not None:
            first = self.constants["first"]
            value = f"{self.array('table', numbers.table)}[{f'{_closed(value)} + {-first}' if first else value}]"
        if numbers.scale is None:
            return f"y[{place}] = {value if numbers.table is not None else _cast(self.y_type, value)};"
        each = bool(numbers.scale.ndim)
        factor = f"{self.array('scale', numbers.scale)}[{channel}]" if each else number(float(numbers.scale))
        return f"y[{place}] = {_cast('float', value)} * {factor};"

    def share(self, part: str, total: str) -> str:
        self.call(SHARE)
        return f"{self.name}_share({part}, {total}, {self.constants['levels']})"

    def mean(self, total: str, count: str) -> str:
        self.call(MEAN)
        return f"{self.name}_mean({total}, {count})"


def _cast(kind: str, value: str) -> str:
    return f"({kind}){_closed(value)}"


def _closed(value: str) -> str:
    """An expression that can stand beside any operator."""
    return value if re.fullmatch(CLOSED, value) else f"({value})"
