"""`minicnn doctor`: what slows training down on this machine."""

import argparse
import json

from minicnn.console import answer
from minicnn.inspect.doctor import advise, as_text, examine

from .common import Parser

READS_RUNS = False
SUMMARY = "say what slows training down on this machine"
DESCRIPTION = """\
Print what a report about speed needs: processor, vector instructions, threads, versions, the cache of compiled
kernels, and the speed of a self-test of two seconds. If something slows training down, say what to do.
"""
EXAMPLES = """\
examples:
  minicnn doctor
  minicnn doctor --json
  NUMBA_NUM_THREADS=1 minicnn doctor
"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: argparse.Namespace) -> int:
    facts = examine()
    facts["advice"] = advise(facts)
    answer(json.dumps(facts, indent=2) if arguments.json else as_text(facts))
    return 0
