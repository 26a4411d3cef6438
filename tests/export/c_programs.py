"""Exported C files, compiled and run."""

import shutil
import subprocess
from math import prod
from pathlib import Path

import numpy as np
import pytest

from minicnn import Model
from minicnn.engine.arrays import Array
from minicnn.export.c import QuantizedModel, export_c

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
SANITIZED = (*STRICT, "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
#: One optimises, as some warnings need it, and the other watches every access and sum.
FLAGS = {"clang": (*STRICT, "-O1"), "gcc": SANITIZED}
#: Reads images of one model from standard input and writes their scores to standard output.
RUN = """\
#include <stdio.h>
#include <stdlib.h>
static void run(void (*predict)(const uint8_t *, float *), int count, size_t pixels, size_t scores)
{
    /* From the heap, where the sanitizer sees an access beyond the end. */
    uint8_t *x = malloc(pixels);
    float *y = malloc(scores * sizeof *y);
    while (count-- > 0 && fread(x, 1, pixels, stdin) == pixels) {
        predict(x, y);
        fwrite(y, sizeof *y, scores, stdout);
    }
    free(x);
    free(y);
}
"""


def found(program: str) -> str:
    """The program's path; without it the test is skipped."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def scores_of(
    compiler: str, flags: tuple[str, ...], models: dict[str, Model | QuantizedModel], images: list[Array], folder: Path
) -> dict[str, Array]:
    """What the models give as C for their images, (N, scores) each: all of them in one program."""
    lines, calls = [], []
    for (name, model), some in zip(models.items(), images, strict=True):
        export_c(model, folder / f"{name}.c")
        lines.append(f'#include "{name}.c"')
        calls.append(f"    run({name}_predict, {len(some)}, {name.upper()}_PIXELS, {name.upper()}_SCORES);")
    text = "\n".join([*lines, RUN, "int main(void)", "{", *calls, "    return 0;", "}"])
    (folder / "all.c").write_text(text + "\n")
    compile_c(compiler, [*flags, "all.c", "-o", "all", "-lm"], folder)
    stream = b"".join(some.tobytes() for some in images)
    done = subprocess.run([folder / "all"], input=stream, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[:3000]
    assert done.stderr == b""
    numbers, found, at = np.frombuffer(done.stdout, np.float32), {}, 0
    for (name, model), some in zip(models.items(), images, strict=True):
        shape = (len(some), prod(getattr(model, "model", model).output_shape))
        found[name] = numbers[at : at + prod(shape)].reshape(shape)
        at += prod(shape)
    assert at == len(numbers)
    return found


def compile_c(compiler: str, words: list[object], folder: Path) -> None:
    done = subprocess.run([found(compiler), *map(str, words)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    assert done.stderr == ""


def assert_equals_python(got: Array, model: Model | QuantizedModel, images: Array) -> None:
    """Float to 1e-5 of the largest score, integers to the bit."""
    expected = model.scores(images).reshape(len(images), -1)
    if isinstance(model, QuantizedModel):
        assert got.tobytes() == expected.tobytes()
    else:
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
