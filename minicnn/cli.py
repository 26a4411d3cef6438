"""The command `minicnn` and its subcommands. A user's mistake ends in one line, no traceback."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from minicnn import __version__
from minicnn.errors import ConfigError, MinicnnError

INTERRUPTED = 130  # what shells give a command that Ctrl-C ended

EXIT_CODES = """\
exit codes:
  0    done
  1    data or files could not be used, or the loss became NaN or infinite
  2    wrong usage or settings
  130  interrupted (Ctrl-C); what has been learned is in the run folder
"""

TRAIN_HELP = """\
Train the network that CONFIG describes. The new folder runs/<config>-<time>/ receives config.yaml,
metrics.csv, model.safetensors, environment.json and pictures. configs/lenet.yaml explains all
settings. `python train.py` is the same as `minicnn train`.
"""

TRAIN_EXAMPLES = f"""\
examples:
  minicnn train configs/lenet.yaml
  minicnn train configs/lenet.yaml optimizer.lr=0.02 training.epochs=3
  minicnn train configs/lenet.yaml data.name=mnist-subset output.pictures=false
  minicnn train configs/lenet.yaml network.layers.0.Conv2d.out_channels=8
  minicnn train runs/lenet-20250101-120000/config.yaml     (the same run again)

{EXIT_CODES}"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="minicnn",
        description="Small convolutional networks, trained fast on the CPU.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"minicnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = commands.add_parser(
        "train",
        help="train a network that a YAML file describes",
        description=TRAIN_HELP,
        epilog=TRAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("config", metavar="CONFIG", help="a YAML file, such as configs/lenet.yaml")
    train.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="settings that replace those of the file; list items by position, from 0",
    )
    train.set_defaults(command=_train)
    return parser


def _train(arguments: argparse.Namespace) -> int:
    from minicnn.config import load_settings

    settings = load_settings(arguments.config, arguments.overrides)
    from minicnn.run import train  # wrong settings show before the kernels are imported

    return 0 if train(settings, Path(arguments.config).stem) else INTERRUPTED


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command in `argv` (default: the process's arguments); returns the exit code."""
    try:
        arguments = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except MinicnnError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
