"""From a kernel's Python function to machine code, with Numba. Imported only where something has to be compiled.

A kernel is a function `kernel(task, arguments ...)` for one task. What is compiled is its entry,

    entry(words, first, last)

which takes the arguments out of a record of 64-bit words (pointers and numbers) and does the tasks from `first` to
`last` - 1. All entries are of one type, so that one driver can call them all.

Numba would optimise each function and turn it into machine code, ready to be called from Python. Here LLVM sees a
kernel once, with all that it calls, and its machine code goes to a file.
"""

import json
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import Parameter, signature
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils, compiler
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.registry import cpu_target
from numba.core.typed_passes import NopythonRewrites
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

INT32, INT64 = ir.IntType(32), ir.IntType(64)
_RESULT = ir.IntType(8).as_pointer().as_pointer()
#: The type of all entries, which is what Numba gives to a function: the first two arguments are for results and errors.
ENTRY = ir.FunctionType(INT32, [_RESULT, _RESULT, INT64.as_pointer(), INT64, INT64])

llvm.initialize_native_asmparser()  # for the instruction of `loop.pause`


def compile_kernel(module: str, name: str, statics: tuple[Any, ...], kinds: str) -> tuple[str, bytes]:
    """(symbol, object file) of the entry of a kernel, for arguments of these kinds.

    With `statics`, `name` is a function that makes the kernel for these compile-time values.
    """
    with _jit_enabled(), global_compiler_lock:
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
    cpu_target.target_context.refresh()
    cpu_target.typing_context.refresh()
    if kinds == "entry":
        kernel = _infer(function, (WORDS, types.int64, types.int64))
        symbol = kernel.fndesc.llvm_func_name
    else:
        kernel = _infer(function, (types.int64, *(KINDS[letter] for letter in kinds)))
        symbol = "entry"
        kernel.library.add_ir_module(_entry(kernel))
    return symbol, kernel.library.machine_code(symbol)


def _infer(function: Any, arguments: tuple[Any, ...]) -> Any:
    """A function for arguments of these types, in LLVM's language."""
    flags = compiler.Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.nrt = False
    typing, target = cpu_target.typing_context, cpu_target.target_context
    library = _Library(target.codegen(), function.__qualname__)
    return compiler.compile_extra(typing, target, function, arguments, None, flags, {}, library, _Passes)


class _Passes(compiler.CompilerBase):
    """What Numba does to a function, but for what makes loops of expressions of arrays."""

    def define_pipelines(self) -> list[PassManager]:
        manager = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [one for one in manager.passes if one[0] is not NopythonRewrites]
        return [manager]


class _Library(JITCodeLibrary):
    """A function and those that it calls. LLVM optimises them once they are together, and they are not loaded here."""

    def machine_code(self, symbol: str) -> bytes:
        """The object file of all; `symbol` is what is called from outside."""
        self.finalize()
        module = self._final_module
        for function in module.functions:
            if not function.is_declaration and function.name != symbol:
                function.linkage = "internal"
        # The third level doubles loops for conditions that do not change in them: much more code, which is no faster.
        passes = self._codegen._module_pass_manager(opt=2)
        if isinstance(passes, tuple):  # in newer releases of Numba: with what has built them
            passes[0].run(module, passes[1])
        else:
            passes.run(module)
        return self._codegen._tm.emit_object(module)

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


def inlined(function: Any) -> Any:
    """Decorator: a function that kernels call. LLVM makes it a part of them; Numba, which could, takes longer."""

    def part(typing: Any, *arguments: Any) -> Any:
        inferred = _infer(function, arguments)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            context.add_linking_libs([inferred.library])
            return context.call_internal(builder, inferred.fndesc, sig, args)

        return inferred.signature, code

    given = signature(function)
    first = Parameter("typing", Parameter.POSITIONAL_ONLY)
    part.__signature__ = given.replace(parameters=[first, *given.parameters.values()])  # which Numba asks for
    return intrinsic(part)


def _entry(kernel: Any) -> ir.Module:
    """The entry of a kernel, as a module for its library."""
    context = cpu_target.target_context
    module = kernel.library.create_ir_module("entry")
    entry = ir.Function(module, ENTRY, "entry")
    *_, words, first, last = entry.args
    builder = ir.IRBuilder(entry.append_basic_block())
    values = []
    for number, kind in enumerate(kernel.fndesc.argtypes[1:]):
        word, wanted = builder.load(builder.gep(words, [INT64(number)])), context.get_value_type(kind)
        if isinstance(kind, types.CPointer):
            word = builder.inttoptr(word, wanted)
        elif kind is types.float64:
            word = builder.bitcast(word, wanted)
        values.append(word)
    with cgutils.for_range(builder, last, first, INT64) as loop:
        context.call_internal_no_propagate(builder, kernel.fndesc, kernel.signature, [loop.index, *values])
    builder.ret(INT32(0))
    return module


def serve(ready: bytes) -> None:
    """Compiles what is asked for on standard input, a line of JSON each, and writes symbol and object file.

    What parallel compiling starts in processes of its own. The line `ready` comes first; a reply is two lengths,
    then the two.
    """
    sys.modules["scipy.linalg"] = None  # type: ignore[assignment] # Numba imports it, 0.2 s, for products of arrays
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may get in between
    out.write(ready)
    out.flush()
    for line in sys.stdin:
        module, name, statics, kinds = json.loads(line)
        symbol, content = compile_kernel(module, name, tuple(statics), kinds)
        out.write(struct.pack("<II", len(symbol), len(content)) + symbol.encode() + content)
        out.flush()
