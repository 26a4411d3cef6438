"""The activations in JavaScript, made of what their layers say of themselves (`code`)."""

import re
from inspect import signature

from minicnn.layers.activation import Activation
from minicnn.layers.registry import LAYERS

#: The module in place of a file `web/engine/formulas.js`.
NAME = "engine/formulas.js"
_FUNCTIONS = {"exp": "Math.exp", "tanh": "Math.tanh", "erfc": "erfc"}


def formulas() -> str:
    """The module: [value(x, options), slope(x, y, options), formula as text] of each activation."""
    lines = []
    for kind in dict.fromkeys(LAYERS.values()):
        if issubclass(kind, Activation) and kind.code is not None:
            value, slope = map(_in_javascript, kind.code)
            own = () if kind.__init__ is object.__init__ else signature(kind).parameters
            options = f", {{ {', '.join(own)} }}" if own else ""
            text = kind.formula[0] if kind.formula else kind.code[0]
            lines.append(f'{kind.__name__}: [(x{options}) => {value}, (x, y{options}) => {slope}, "{text}"],')
    return "\n".join(['import { erfc } from "./erfc.js";', "export const FORMULAS = {", *lines, "};", ""])


def _in_javascript(code: str) -> str:
    code = re.sub(r"\b(exp|tanh|erfc)\(", lambda found: f"{_FUNCTIONS[found[1]]}(", code)
    return code.replace("==", "===")
