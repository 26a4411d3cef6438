"""Whole lines of digits: `minicnn read-line`."""

import argparse
from pathlib import Path

from .common import Commands, add_command

HELP = """\
Read a line of several digits, photographed, scanned or drawn: dark on light or light on dark, of any
size and colour, on paper that may be unevenly lit. RUN is a model of single digits; made fully
convolutional, it sees the whole line at once. Each digit is printed with the place of its middle and of
its ink, in pixels from the left edge of the image, and with its probability.
"""

EXAMPLES = """\
examples:
  minicnn read-line number.png --run runs/lenet-20250101-120000
  minicnn read-line number.jpg --run runs/lenet-20250101-120000 --show seen.png
  minicnn read-line number.jpg --run model.safetensors --json

The digits should be of about one height and stand apart; of several lines the one with the most ink is
read.
"""


def add(commands: Commands) -> None:
    command = add_command(commands, "read-line", "read a line of several digits", HELP, EXAMPLES)
    command.add_argument("image", metavar="IMAGE", type=Path, help="a PNG, JPEG or other image")
    command.add_argument(
        "--run",
        metavar="RUN",
        type=Path,
        required=True,
        help="the folder of a run, or a model file",
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.add_argument(
        "--show",
        metavar="FILE.png",
        help="write the line as the network saw it, with what was found where",
    )
    command.set_defaults(command=_read_line)


def _read_line(arguments: argparse.Namespace) -> int:
    from minicnn.reading import run_read_line

    run_read_line(arguments.run, arguments.image, arguments.show, arguments.json)
    return 0
