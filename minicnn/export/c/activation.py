"""Activations in C, from what their layers say of themselves (`code`)."""

import re
from dataclasses import dataclass

from minicnn.engine.arrays import Array
from minicnn.layers.activation import Activation

from .text import number


@dataclass(frozen=True)
class Function:
    """An element-wise function.

    layer       whose function it is
    call        the C expression for the value of an expression, in which NAME stands for the name of the program
    definition  of the C function that it calls
    formula     for the comment
    """

    layer: Activation
    call: str
    definition: str
    formula: str

    @property
    def nonnegative(self) -> bool:
        """Whether no value is below 0."""
        found = self.layer.output_range
        return found is not None and found[0] >= 0

    def __call__(self, x: Array) -> Array:
        """The values, as Python computes them."""
        y: Array = self.layer.forward(x.reshape(1, -1)).reshape(x.shape)
        return y


def function_of(layer: Activation) -> Function:
    """The layer in C; it has to have `code`."""
    code, options = layer.value_code(), layer.options()
    assert code is not None
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
    name = "_".join(["NAME", snake, *(value for value in options.values() if isinstance(value, str))])
    arguments = {key: number(value) for key, value in options.items() if not isinstance(value, str)}
    head = ", ".join(["float x", *(f"float {key}" for key in arguments)])
    formula = layer.formula[0] if layer.formula else code
    return Function(
        layer,
        f"{name}({', '.join(['{}', *arguments.values()])})",
        f"static float {name}({head})\n{{\n    return {_in_c(code)};\n}}",
        re.sub(r"\bx\b", "y", formula),
    )


def _in_c(code: str) -> str:
    """The expression in float."""
    code = re.sub(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?", lambda found: number(float(found[0])), code)
    return re.sub(r"\b(exp|tanh|erfc)\(", r"\1f(", code)
