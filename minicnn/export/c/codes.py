"""The two kinds of arithmetic that a program can have, as the loops of an operation ask for them."""

import re

import numpy as np

from minicnn.engine.arrays import Array

from .operation import Code
from .quantized import Grid, IntegerStep
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


class Collecting(Code):
    """What both have in common: they take down which arrays and functions are used."""

    def __init__(self, name: str, step: Step, x_type: str, y_type: str, arrays: dict[str, Array]) -> None:
        self.name, self.step, self.x_type, self.y_type, self._all = name, step, x_type, y_type, arrays
        self.arrays: dict[str, Array] = {}
        self.functions: list[str] = []

    def array(self, name: str) -> str:
        self.arrays[name] = self._all[name]
        return self.full_name(name)

    def full_name(self, name: str) -> str:
        return f"{self.name}_{self.step.name}_{name}"

    def call(self, definition: str) -> None:
        """Lets the program have a function; NAME stands for the name of the program."""
        self.functions.append(definition.replace("NAME", self.name))


class FloatCode(Collecting):
    """float for maps, sums and weights."""

    integer = False
    number = "float"
    lowest = "-HUGE_VALF"

    def __init__(self, name: str, step: Step) -> None:
        arrays = {
            key: value.astype(np.float32) if value.dtype.kind == "f" else value
            for key, value in step.operation.arrays().items()
        }
        super().__init__(name, step, "float", "float", arrays)

    def constant(self, name: str) -> int:
        raise AssertionError(f"{name}: integer arithmetic alone has it")

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


class IntegerCode(Collecting):
    """8 bits for maps and weights, 32 for sums; `step` has the numbers."""

    integer = True
    number = "int32_t"

    def __init__(self, name: str, step: IntegerStep) -> None:
        x_type, y_type = (_type(grid, default) for grid, default in ((step.x, "uint8_t"), (step.y, "float")))
        super().__init__(name, step.step, x_type, y_type, step.arrays)
        self.numbers = step
        self.lowest = str(step.x.low if step.x else 0)

    def constant(self, name: str) -> int:
        return self.numbers.constants[name]

    def store(self, place: str, value: str, channel: str) -> str:
        if "multiplier" in self._all:
            self.call(REQUANTIZE)
            numbers = ", ".join(str(self.constant(key)) for key in ("shift", "low", "high"))
            multiplier = self.array("multiplier")
            value = f"{self.name}_requantize({value}, {multiplier}[{channel}], {numbers})"
            return self._store(place, value, "", False)
        return self._store(place, value, channel, self.numbers.rectify)

    def store_level(self, place: str, value: str) -> str:
        return self._store(place, value, "", self.numbers.rectify)

    def _store(self, place: str, value: str, channel: str, rectify: bool) -> str:
        if rectify:
            self.call(RECTIFY)
            value = f"{self.name}_relu({value})"
        if self.numbers.table is not None:
            self._all["table"] = self.numbers.table
            first = self.constant("first")
            value = f"{self.array('table')}[{f'{_closed(value)} + {-first}' if first else value}]"
        scale = self.numbers.scale
        if scale is None:
            simple = self.numbers.table is not None
            return f"y[{place}] = {value if simple else _cast(self.y_type, value)};"
        if scale.ndim:
            self._all["scale"] = scale
            factor = f"{self.array('scale')}[{channel}]"
        else:
            factor = number(float(scale))
        return f"y[{place}] = {_cast('float', value)} * {factor};"

    def share(self, part: str, total: str) -> str:
        self.call(SHARE)
        return f"{self.name}_share({part}, {total}, {self.constant('levels')})"

    def mean(self, total: str, count: str) -> str:
        self.call(MEAN)
        return f"{self.name}_mean({total}, {count})"


def _cast(kind: str, value: str) -> str:
    return f"({kind}){_closed(value)}"


def _closed(value: str) -> str:
    """An expression that can stand beside any operator."""
    return value if re.fullmatch(CLOSED, value) else f"({value})"


def _type(grid: Grid | None, default: str) -> str:
    return C_TYPES[grid.dtype.name] if grid else default
