"""The C file: macros, constant arrays, a function for each step, and the one that calls them."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

from minicnn import __version__
from minicnn.checks import checked
from minicnn.errors import ConfigError, MinicnnError
from minicnn.files import write_whole
from minicnn.model import Model

from .codes import FloatCode, IntegerCode
from .main_program import main_program
from .memory import plan
from .quantized import QuantizedModel
from .steps import chain
from .text import Lines, as_identifier, comment, declaration, function, indented, is_identifier, literal

ELEMENT_BYTES = {"float": 4, "int8_t": 1, "uint8_t": 1}
AnyCode = FloatCode | IntegerCode


@checked(MinicnnError)
def export_c(model: Model | QuantizedModel, path: str | Path, name: str | None = None) -> None:
    """Writes the model as one C99 file, which needs no library but that of mathematics (-lm).

    It has NAME_predict(const uint8_t *pixels, float *scores) and, with the macro NAME_MAIN, a program that reads an
    image. A Model computes in float, also one whose network has float64; a QuantizedModel, which `quantize` makes, in
    integers.

    path  of the file
    name  what all names in the file begin with; without one, what can be made of the file's name

    Raises MinicnnError: a layer that cannot be written in C, weights that are not finite, a file that cannot be
    written; ConfigError for a name that is no C identifier.
    """
    path = Path(path)
    if name is None:
        name = as_identifier(path.stem)
    elif not is_identifier(name):
        raise ConfigError(f"name: expected letters, digits and _, a letter first, received {name!r}")
    write_whole(path, source(model, name).encode())


def source(model: Model | QuantizedModel, name: str) -> str:
    """The text of the file."""
    codes: Sequence[AnyCode]
    if isinstance(model, Model):
        codes = [FloatCode(name, step) for step in chain(model)]
    else:
        codes = [IntegerCode(name, step) for step in model.steps]
        model = model.model
    return "\n".join(_Source(model, name, codes).lines()) + "\n"


class _Source:
    def __init__(self, model: Model, name: str, codes: Sequence[AnyCode]) -> None:
        self.model, self.name, self.macro, self.codes = model, name, name.upper(), codes
        self.functions = [indented(self._function(code)) for code in codes]  # which says what arrays there are
        maps = codes[:-1]
        sizes = [prod(code.step.operation.y_shape) * ELEMENT_BYTES[code.y_type] for code in maps]
        self.offsets, self.memory = plan(
            sizes, [code.step.operation.in_place for code in codes[1:]], [code.step.inputs for code in codes[1:]]
        )
        self.memory_type = "int8_t" if codes[0].integer else "float"

    def lines(self) -> Lines:
        helpers = dict.fromkeys(text for code in self.codes for text in code.functions)
        blocks = [
            self._title(),
            self._includes(),
            self._macros(),
            self._classes(),
            [f"void {self.name}_predict(const uint8_t *pixels, float *scores);"],
            self._arrays(),
            self._memory(),
            *(text.split("\n") for text in helpers),
            *self.functions,
            indented(self._predict()),
            main_program(self.model, self.name),
        ]
        return [line for block in blocks if block for line in [*block, ""]][:-1]

    def _title(self) -> Lines:
        model, name = self.model, self.name
        kind = "integers of 8 bits" if self.codes[0].integer else "float"
        trained = f", trained on {model.data_set}" if model.data_set else ""
        pixels = " x ".join(map(str, model.input_shape))
        text = (
            f"{name}: a convolutional network{trained}, in {kind}. Written by minicnn {__version__}.\n\n"
            f"void {name}_predict(const uint8_t *pixels, float *scores);\n\n"
            f"pixels: {pixels} bytes from 0 to 255, one channel behind the other, each row by row from the top. "
            f"scores: {prod(model.output_shape)} numbers, the highest for the most likely class. The function keeps "
            "its maps in static memory, so only one thread may call it at a time.\n\n"
            "In the comments, c, i, j are channel, row and column of a map, o is an output channel or unit, u, v are "
            "row and column in a window, and where activations follow, y is what they are applied to.\n\n"
            f"To compile it as a program that reads an image: cc -std=c99 -O2 -D{self.macro}_MAIN {name}.c -lm"
        )
        return comment(text)

    def _includes(self) -> Lines:
        mathematics = [] if self.codes[0].integer else ["#include <math.h>"]
        return [*mathematics, "#include <stdint.h>", f"#ifdef {self.macro}_MAIN", "#include <stdio.h>", "#endif"]

    def _macros(self) -> Lines:
        model = self.model
        weight_bytes = sum(array.nbytes for code in self.codes for array in code.arrays.values())
        macros = {
            "PIXELS": (prod(model.input_shape), "bytes of an image"),
            "SCORES": (prod(model.output_shape), "numbers that the network gives"),
            "WEIGHT_BYTES": (weight_bytes, "of constant arrays"),
            "MEMORY_BYTES": (self.memory, "of working memory"),
            "MULTIPLY_ADDS": (model.network.multiply_adds(model.network_shape), "for an image"),
        }
        return [f"#define {self.macro}_{key} {value} /* {text} */" for key, (value, text) in macros.items()]

    def _classes(self) -> Lines:
        classes = self.model.classes
        if classes is None:
            return []
        names = [f"    {literal(name)}," for name in classes]
        names[-1] = names[-1][:-1]
        head = f"const char *const {self.name}_classes[{len(classes)}]"
        return [f"extern {head};", f"{head} = {{", *names, "};"]

    def _arrays(self) -> Lines:
        arrays = (item for code in self.codes for item in code.arrays.items())
        return [line for name, array in arrays for line in declaration(name, array)]

    def _memory(self) -> Lines:
        if not self.memory:
            return []
        count = self.memory // ELEMENT_BYTES[self.memory_type]
        text = f"Working memory, {self.memory} bytes. Maps that are not needed at the same time share it."
        return [*comment(text), f"static {self.memory_type} {self.name}_memory[{count}];"]

    def _function(self, code: AnyCode) -> Lines:
        step = code.step
        formulas = [step.operation.formula, *(f"then {activation.formula}" for activation in step.activations)]
        shapes = f"{step.operation.x_shape} -> {step.operation.y_shape}"
        text = f"{step.title[0].upper()}{step.title[1:]}\n{', '.join(formulas)}\n{shapes}"
        x = "const uint8_t *pixels" if code is self.codes[0] else f"const {code.x_type} *x"
        if len(step.inputs) > 1:
            x += f", const {self.codes[step.inputs[1]].y_type} *other"
        head = f"static void {self.name}_{step.name}({x}, {code.y_type} *y)"
        return [*comment(text), *function(head, step.operation.body(code))]

    def _predict(self) -> Lines:
        calls, maps = [], list[str]()
        for number, code in enumerate(self.codes):
            last = number == len(self.codes) - 1
            maps.append("scores" if last else self._place(code, self.offsets[number]))
            given = [maps[k] for k in code.step.inputs] or ["pixels"]
            calls.append(f"{self.name}_{code.step.name}({', '.join([*given, maps[-1]])});")
        return function(f"void {self.name}_predict(const uint8_t *pixels, float *scores)", calls)

    def _place(self, code: AnyCode, offset: int) -> str:
        offset //= ELEMENT_BYTES[self.memory_type]
        text = f"{self.name}_memory + {offset}" if offset else f"{self.name}_memory"
        if code.y_type == self.memory_type:
            return text
        return f"({code.y_type} *)({text})" if offset else f"({code.y_type} *){text}"
