"""`minicnn watch`: a run that is training, in the browser."""

import argparse
from pathlib import Path

from minicnn.console import info
from minicnn.errors import ConfigError, MinicnnError
from minicnn.runs.data import settings_of_folder
from minicnn.training.run_folder import is_training

from .common import Parser

SUMMARY = "show a run in the browser while it trains"
DESCRIPTION = """\
Serve the page of a run (see `minicnn page`) while it trains, to this machine alone, with its curves, and with
its filters and maps as they change. It ends with the run. The loss of every step is there with
output.step_log=true.
"""
EXAMPLES = """\
examples:
  minicnn watch runs/lenet-20250101-120000
  minicnn watch runs/lenet-20250101-120000 --port 8000
"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run that is training")
    parser.add_argument("--port", metavar="N", type=int, default=0, help="the port of the page [a free one]")


def run(arguments: argparse.Namespace) -> int:
    from minicnn.page.watch import Server, Watch

    run, port = arguments.run, arguments.port
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port: expected a number from 0 to 65535, received {port}")
    settings = settings_of_folder(run)
    if is_training(run) is False:
        raise MinicnnError(
            f"{run}: expected a run that is training, nobody trains there; minicnn page shows what it has learned"
        )
    server = Server(Watch(run, settings), port)
    info(f"{server.address}  shows the run until it ends; Ctrl-C ends the page alone")
    server.serve_to_the_end()
    info("the run has ended")
    return 0
