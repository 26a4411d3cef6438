"""From a kernel's Python function to machine code, with Numba. Imported only where something has to be compiled.

A kernel is a function `kernel(task, arguments ...)` for one task. What is compiled is its entry,

    entry(words, first, last)

which takes the arguments out of a record of 64-bit words (pointers and numbers) and does the tasks from `first` to
`last` - 1. All entries are of one type, so that one driver can call them all.
"""

import json
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import njit, types
from numba.core import compiler
from numba.core.registry import cpu_target
from numba.extending import intrinsic

#: What an argument may be, by the letter that stands for it in a signature.
KINDS: dict[str, Any] = {
    "f": types.CPointer(types.float32),
    "d": types.CPointer(types.float64),
    "b": types.CPointer(types.uint8),
    "i": types.CPointer(types.int64),
    "n": types.int64,
    "r": types.float64,
}
WORDS = types.CPointer(types.int64)

llvm.initialize_native_asmparser()  # for the instruction of `loop.pause`

#: Decorator: a function that kernels call. LLVM makes it a part of them; Numba, which could, takes three times as long.
inlined = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


def compile_kernel(module: str, name: str, statics: tuple[Any, ...], kinds: str) -> tuple[str, bytes]:
    """(symbol, object file) of the entry of a kernel, for arguments of these kinds.

    With `statics`, `name` is a function that makes the kernel for these compile-time values.
    """
    with _jit_enabled():
        return _compile(module, name, statics, kinds)


@contextmanager
def _jit_enabled() -> Iterator[None]:
    """NUMBA_DISABLE_JIT=1 is for functions that can do without, which kernels cannot."""
    before = numba.config.DISABLE_JIT  # type: ignore[attr-defined]
    numba.config.DISABLE_JIT = 0  # type: ignore[attr-defined]
    try:
        yield
    finally:
        numba.config.DISABLE_JIT = before  # type: ignore[attr-defined]


def _compile(module: str, name: str, statics: tuple[Any, ...], kinds: str) -> tuple[str, bytes]:
    function = getattr(import_module(module), name)
    if statics:
        function = function(*statics)
    if kinds != "entry":
        function = _entry(function, [KINDS[letter] for letter in kinds])
    flags = compiler.Flags()
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.nrt = False
    typing_context, target_context = cpu_target.typing_context, cpu_target.target_context
    target_context.refresh()
    typing_context.refresh()
    arguments = (WORDS, types.int64, types.int64)
    result = compiler.compile_extra(typing_context, target_context, function, arguments, types.void, flags, {})
    _, _, (content, _) = result.library.serialize_using_object_code()
    return result.fndesc.llvm_func_name, content


def _entry(function: Any, kinds: list[Any]) -> Any:
    @intrinsic
    def unpack(typing: Any, words: Any) -> Any:
        record = types.Tuple(kinds)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values = []
            for number, kind in enumerate(kinds):
                place = builder.gep(args[0], [ir.Constant(ir.IntType(64), number)])
                word, wanted = builder.load(place), context.get_value_type(kind)
                if isinstance(kind, types.CPointer):
                    word = builder.inttoptr(word, wanted)
                elif kind is types.float64:
                    word = builder.bitcast(word, wanted)
                values.append(word)
            return context.make_tuple(builder, record, values)

        return record(words), code

    names = "".join(f"a{number}, " for number in range(len(kinds)))
    scope = {"unpack": unpack, "kernel": njit(inline="always", error_model="numpy")(function)}
    source = f"""
def entry(words, first, last):
    {names} = unpack(words)
    for task in range(first, last):
        kernel(task, {names})
"""
    exec(source, scope)  # Numba cannot pass a tuple on to a function that is inlined
    return scope["entry"]


def serve(ready: bytes) -> None:
    """Compiles what is asked for on standard input, a line of JSON each, and writes symbol and object file.

    What parallel compiling starts in processes of its own. The line `ready` comes first; a reply is two lengths,
    then the two.
    """
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may get in between
    out.write(ready)
    out.flush()
    for line in sys.stdin:
        module, name, statics, kinds = json.loads(line)
        symbol, content = compile_kernel(module, name, tuple(statics), kinds)
        out.write(struct.pack("<II", len(symbol), len(content)) + symbol.encode() + content)
        out.flush()
