"""`minicnn compare`."""

import argparse
from pathlib import Path

from minicnn.console import answer
from minicnn.runs.compare import compare_runs

from .common import Parser

SUMMARY = "compare runs: a table, and a picture of their curves"
DESCRIPTION = """\
Print a table of runs, each with the settings in which they differ, its accuracy after the last epoch and in the
best one, its time, and a hash of its weights, which is the same for weights of the same bits (and in sweep.csv).
The accuracies over the epochs are drawn into a PNG file, where each run has its number in the table.
"""
EXAMPLES = """\
examples:
  minicnn compare runs/lenet-20250101-120000 runs/lenet-20250101-130000
  minicnn compare runs/lenet-* --out lenets.png
"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="the folder of a run")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("comparison.png"), help="the picture [comparison.png]"
    )


def run(arguments: argparse.Namespace) -> int:
    text, drawn = compare_runs(arguments.runs, arguments.out)
    answer(f"{text}\n{arguments.out}" if drawn else text)
    return 0
