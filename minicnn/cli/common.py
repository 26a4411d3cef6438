"""What the commands share: the parser, the exit codes, and some arguments."""

import argparse
from pathlib import Path
from typing import NoReturn

from minicnn.console import answer
from minicnn.errors import ConfigError, MinicnnError

FAULT = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # what shells give a command that Ctrl-C ended

EXIT_CODES = """\
exit codes:
  0    done
  1    data or files could not be used, the loss became NaN or infinite, or a gradient is wrong
  2    wrong usage or settings
  70   a fault of minicnn itself; a log file has its traceback
  130  interrupted (Ctrl-C); the run folder has what was learned, and --resume goes on
"""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigError for wrong usage, and prints its help as any answer is printed."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")

    def _print_message(self, message: str, file: object = None) -> None:
        answer(message.removesuffix("\n"))


def add_run(parser: Parser) -> None:
    """The argument RUN: a trained model."""
    parser.add_argument("run", metavar="RUN", help="the folder of a run, or a model file")


def add_data(parser: Parser) -> None:
    """The options --data, --path and --root, for `minicnn.runs.data.load_data_for`."""
    parser.add_argument("--data", metavar="NAME", help="a data set [the run's own]")
    parser.add_argument("--path", type=Path, help="where the data set folder or arrays lies")
    parser.add_argument("--root", type=Path, help="the folder of downloaded data sets [the run's, or data]")


def add_out(parser: Parser) -> None:
    """The option --out, for `picture_folder`."""
    parser.add_argument("--out", metavar="DIR", type=Path, help="the folder for the pictures [one in RUN]")


def picture_folder(run: Path, out: Path | None, name: str) -> Path:
    """The folder for the pictures, made: `out`, or `name` in the run's folder. Raises MinicnnError."""
    folder = out or (run if run.is_dir() else run.parent) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MinicnnError(
            f"--out: expected a folder that can be written, received {folder}: {error.strerror}"
        ) from None
    return folder
