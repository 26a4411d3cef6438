"""What the commands share: the parser, the exit codes, and how a command is added."""

import argparse
from typing import NoReturn, TypeAlias

from minicnn.console import answer
from minicnn.errors import ConfigError

FAULT = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # what shells give a command that Ctrl-C ended

EXIT_CODES = """\
exit codes:
  0    done
  1    data or files could not be used, the loss became NaN or infinite, or a gradient is wrong
  2    wrong usage or settings
  70   a fault of minicnn's own; a log file has its traceback
  130  interrupted (Ctrl-C); what has been learned is in the run folder, --resume goes on
"""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigError for wrong usage, and prints its help as any answer is printed."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")

    def _print_message(self, message: str, file: object = None) -> None:
        answer(message.removesuffix("\n"))


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def add_command(
    commands: Commands,
    name: str,
    summary: str,
    description: str,
    examples: str,
    usage: str | None = None,
) -> Parser:
    """A command with its help; the caller adds the arguments and set_defaults(command=function).

    The function takes the parsed arguments and returns the exit code. Words behind an option, which argparse leaves
    over, are added to `arguments.words`, if the command has it.
    """
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"{examples}\n{EXIT_CODES}",
        usage=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_model_command(
    commands: Commands, name: str, summary: str, description: str, examples: str
) -> Parser:
    """A command that does something with the model RUN."""
    command = add_command(commands, name, summary, description, examples)
    command.add_argument("run", metavar="RUN", help="the folder of a run, or a model file")
    return command
