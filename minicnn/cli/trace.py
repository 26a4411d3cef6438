"""`minicnn trace`: one training step of one image in numbers."""

import argparse

from minicnn.errors import ConfigError

from .common import Parser

SUMMARY = "tell one training step of one image, with numbers to check by hand"
USAGE = "%(prog)s CONFIG [KEY=VALUE ...] [--image N]"
DESCRIPTION = """\
Tell one training step of one image in text, layer by layer, with numbers to check by hand: a window and
its product, the pooled maximum and where it came from, where each gradient goes, and the update of a weight.
"""
EXAMPLES = """\
examples:
  minicnn trace configs/lenet.yaml --image 7
  minicnn trace configs/lenet.yaml --image 7 data.name=mnist-subset optimizer.weight_decay=0.01
"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "words", metavar="CONFIG KEY=VALUE", nargs="*", help="a YAML file, and settings that replace those of the file"
    )
    parser.add_argument("--image", metavar="N", type=int, default=0, help="the number of a training image [0]")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.words:
        raise ConfigError("expected CONFIG; see minicnn trace --help")
    from minicnn.config.settings import load_settings

    config, *overrides = arguments.words
    settings = load_settings(config, overrides)
    from minicnn.inspect.trace import run_trace

    run_trace(settings, config, arguments.image)
    return 0
