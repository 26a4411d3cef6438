"""The command `minicnn` and its subcommands. A user's mistake ends in one line, no traceback.

Each module is the command of its name. It has SUMMARY, a line for the list of commands; DESCRIPTION and EXAMPLES for
its help; add_arguments(parser); and run(arguments), which returns the exit code. USAGE replaces argparse's usage line.
READS_RUNS = False is for one that reads no run or model file.
Words that stand behind an option, which argparse leaves over, are added to `arguments.words` if the command has it.
"""

import argparse
import difflib
import pkgutil
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module

from minicnn import __version__, console
from minicnn.errors import ConfigError, MinicnnError
from minicnn.own_code import any_loaded, place_of, trusted

from .common import EXIT_CODES, FAULT, INTERRUPTED, Parser, add_trust

COMMANDS = {
    module.name.replace("_", "-"): f"{__name__}.{module.name}"
    for module in pkgutil.iter_modules(__path__)
    if module.name != "common"
}


def _parser(argv: Sequence[str]) -> Parser:
    """The parser with the command that is called, whose module alone is imported; for the help, with all of them."""
    parser = Parser(
        prog="minicnn",
        description="Small convolutional networks, trained fast on the CPU.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"minicnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    called = [argv[0]] if argv and argv[0] in COMMANDS else COMMANDS
    for name in called:
        module = import_module(COMMANDS[name])
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=f"{module.EXAMPLES}\n{EXIT_CODES}",
            usage=getattr(module, "USAGE", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        if getattr(module, "READS_RUNS", True):
            add_trust(command)
        command.set_defaults(command=module.run, parser=command)
    return parser


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; words may also stand behind an option, where argparse does not look for them."""
    words = sys.argv[1:] if argv is None else argv
    parser = _parser(words)
    arguments, rest = parser.parse_known_args(words)
    unknown = [text for text in rest if text.startswith("-") or "words" not in arguments]
    if unknown:
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}{_hint(unknown, arguments.parser.options)}")
    if rest:
        arguments.words += rest
    return arguments


def _hint(unknown: Sequence[str], options: Sequence[str]) -> str:
    """An option that may have been meant. For --epochs 5 or --epochs=5, that a setting is written training.epochs=5."""
    from minicnn.config.settings import Settings
    from minicnn.validation import places_of

    name, _, value = unknown[0].lstrip("-").partition("=")
    places = places_of(name.replace("-", "_"), Settings)
    if places:
        return "; " + " or ".join(f"{place}={value or '...'}" for place in places)
    near = difflib.get_close_matches(unknown[0].partition("=")[0].replace("_", "-").lower(), options, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command in `argv` (default: the process's arguments); returns the exit code."""
    console.open_streams()
    try:
        arguments = _parse(argv)
        with trusted() if getattr(arguments, "trust_code", False) else nullcontext():
            code: int = arguments.command(arguments)
        return code
    except MinicnnError as error:
        console.error(str(error))
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:  # of a path that nobody has foreseen: too long, behind a closed folder
        place = f"{error.filename}: " if error.filename else ""
        console.error(f"{place}cannot be used: {error.strerror or error}")
        return 1
    except MemoryError as error:
        console.error(f"expected work that fits into memory, received more: {error}")
        return 1
    except KeyboardInterrupt:
        console.tell("interrupted")
        return INTERRUPTED
    except Exception as error:  # a fault of minicnn's, of a package that it uses, or of the user's code
        place = place_of(error)
        if place:
            console.error(f"{_reason(error)}, in your own code: {place}; {_keep_traceback()}")
            return 1
        whose = "minicnn, or of your own code" if any_loaded() else "minicnn"
        console.error(f"{_reason(error)}; this is a fault of {whose}, please report it; {_keep_traceback()}")
        return FAULT


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]:.200}" if lines else type(error).__name__


def _keep_traceback() -> str:
    """Writes the traceback of the exception that is handled into a file; returns where it is."""
    facts = f"minicnn {__version__}, Python {sys.version}, {platform.platform()}\n{sys.argv}\n\n"
    try:
        handle, path = tempfile.mkstemp(prefix="minicnn-", suffix=".log")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(facts + traceback.format_exc())
    except OSError as error:
        return f"its traceback cannot be written: {error.strerror}"
    return f"its traceback is in {path}"
