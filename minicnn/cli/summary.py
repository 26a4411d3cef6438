"""`minicnn summary`: what each layer of a network gives, holds, costs and sees."""

import argparse
import json

from minicnn.config.comparison import Comparison
from minicnn.config.experiment import Experiment
from minicnn.config.settings import Settings, load_tree
from minicnn.console import answer
from minicnn.engine.arrays import Shape
from minicnn.errors import ConfigError
from minicnn.inspect.program import program_table, step_program
from minicnn.inspect.summary import as_json, full_summary
from minicnn.layers.sequential import Sequential
from minicnn.losses import LOSSES, Loss
from minicnn.model import load
from minicnn.runs.subject import is_config
from minicnn.validation import validated

from .common import Parser, add_subject

SUMMARY = "print a table of the layers: shapes, parameters, work, receptive field"
USAGE = "%(prog)s (CONFIG [KEY=VALUE ...] | RUN) [--json | --program]"
DESCRIPTION = """\
Print a table of the network that CONFIG describes, or of a trained one. It has the output shape, parameters,
multiply-adds, connections, receptive field and memory of each layer. Nothing is trained.
"""
EXAMPLES = """\
examples:
  minicnn summary configs/lenet.yaml
  minicnn summary configs/lenet.yaml network.layers.0.Conv2d.kernel_size=7
  minicnn summary configs/lenet.yaml --json
  minicnn summary configs/lenet.yaml --program
  minicnn summary runs/lenet-20250101-120000
"""


def add_arguments(parser: Parser) -> None:
    add_subject(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")
    form.add_argument(
        "--program",
        action="store_true",
        help="print a training step as the engine runs it: phases, jobs and calls of kernels, with times",
    )


def run(arguments: argparse.Namespace) -> int:
    if not arguments.words:
        raise ConfigError("expected CONFIG or RUN; see minicnn summary --help")
    config, *overrides = arguments.words
    if not is_config(config):
        if overrides:
            raise ConfigError(
                f"summary: expected no settings with {config}, whose network is built, received {overrides[0]}"
            )
        model = load(config)
        _show(arguments, model.network, model.network_shape, 64, LOSSES[model.loss]())
        return 0
    tree = load_tree(config, overrides)
    if "networks" not in tree:
        _show_settings(arguments, validated(Settings, tree))
        return 0
    for form in ("json", "program"):
        if getattr(arguments, form):
            raise ConfigError(f"--{form}: expected a single network, received networks to compare")
    Comparison.of(tree).each(lambda settings: _show_settings(arguments, settings))
    return 0


def _show_settings(arguments: argparse.Namespace, settings: Settings) -> None:
    experiment = Experiment(settings)
    batch_size = settings.training.batch_size
    _show(arguments, experiment.network, experiment.spec.input_shape, batch_size, experiment.loss)


def _show(arguments: argparse.Namespace, network: Sequential, input_shape: Shape, batch_size: int, loss: Loss) -> None:
    if arguments.json:
        answer(json.dumps(as_json(network, input_shape), indent=2))
    elif arguments.program:
        answer(program_table(step_program(network, input_shape, batch_size, loss)))
    else:
        answer(full_summary(network, input_shape))
