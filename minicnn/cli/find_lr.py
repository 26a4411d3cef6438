"""`minicnn find-lr`: the learning rate that suits a configuration, found by a short training."""

import argparse

from minicnn.config.experiment import Experiment
from minicnn.config.settings import load_settings
from minicnn.console import answer, info, table, warn
from minicnn.runs.run import check_machine
from minicnn.training.callbacks.quantization import FakeQuantization
from minicnn.training.range_test import RangeTest, range_test

from .common import Parser, add_config, add_picture, picture_file

SUMMARY = "find a good learning rate, in seconds"
DESCRIPTION = """\
Train for some steps while the learning rate rises from very low to very high, and look at the loss: the
range test (Smith, 2017). Print a table, draw a picture, and suggest a tenth of the rate at which the average
loss is lowest. All settings but the rate and its schedule count, and no run is left behind.
"""
EXAMPLES = """\
examples:
  minicnn find-lr configs/lenet.yaml
  minicnn find-lr configs/lenet.yaml optimizer.momentum=0 -o rates.png
  minicnn find-lr configs/lenet.yaml --start 1e-4 --end 1 --steps 400
"""

ROWS = 25  # of the table, at most
NAME = "lr-finder.png"


def add_arguments(parser: Parser) -> None:
    add_config(parser)
    parser.add_argument("--start", metavar="RATE", type=float, default=1e-5, help="the first rate [1e-5]")
    parser.add_argument("--end", metavar="RATE", type=float, default=10.0, help="the last rate [10]")
    parser.add_argument("--steps", metavar="N", type=int, default=200, help="steps from one to the other [200]")
    add_picture(parser, NAME)


def run(arguments: argparse.Namespace) -> int:
    settings = load_settings(arguments.config, arguments.words)
    check_machine(settings)
    experiment = Experiment(settings)
    experiment.load(info)
    found = range_test(
        experiment.network,
        experiment.loss,
        experiment.optimizer,
        experiment.train_batches,
        arguments.start,
        arguments.end,
        arguments.steps,
        [FakeQuantization()] if settings.training.quantize else [],
        settings.training.accumulate,
    )
    path = picture_file(arguments.config, arguments.out, NAME)
    from minicnn.inspect.plots.rates import plot_range_test  # matplotlib takes a second to import

    plot_range_test(path, found)
    answer(as_text(found))
    if found.remark:
        warn(found.remark)
    answer(f"\nsuggestion: optimizer.lr={found.suggestion:.2g}\n{path}")
    return 0


def as_text(found: RangeTest) -> str:
    """The table and what follows from it."""
    count = len(found.rates)
    some = range(0, count, -(-count // ROWS))
    columns = (found.rates, found.losses, found.averages)
    rows = [(f"{rate:.1e}", f"{loss:.4f}", f"{average:.4f}") for rate, loss, average in zip(*columns, strict=True)]
    text = table([rows[k] for k in some], ">>>", ("rate", "loss", "average"))
    end = "the average loss is over four times its lowest" if found.diverged else "the test is over"
    return (
        f"{text}\n\nlowest average loss at {found.lowest:.2g}; steepest descent at {found.steepest:.2g}; "
        f"at {found.rates[-1]:.2g}, {end}"
    )
