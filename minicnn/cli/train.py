"""`minicnn train`."""

import argparse
from pathlib import Path

from minicnn.config.comparison import Comparison, is_comparison
from minicnn.config.settings import Settings, dump_settings, load_tree
from minicnn.console import answer
from minicnn.errors import ConfigError
from minicnn.runs.dry_run import check_gradients, dry_run
from minicnn.runs.networks import resume_comparison, train_comparison
from minicnn.runs.ranks import begun_before
from minicnn.runs.run import resume, train
from minicnn.training.process_group import ProcessGroup, join
from minicnn.training.run_folder import run_name
from minicnn.validation import validated

from .common import INTERRUPTED, Parser

SUMMARY = "train a network that a YAML file describes"
USAGE = "%(prog)s (CONFIG [--dry-run | --check-gradients | --print-config] | --resume RUN) [KEY=VALUE ...]"
DESCRIPTION = """\
Train the network that CONFIG describes. The new folder runs/<config>-<time>/ receives config.yaml,
metrics.csv, timings.csv, model.safetensors, checkpoints, environment.json and pictures.
configs/lenet.yaml explains all settings. `python train.py` is the same as `minicnn train`.
If CONFIG has `networks` (see configs/local.yaml), they are trained one after the other, each in a folder
below the new one. The new folder receives a table that compares them.
"""

EXAMPLES = """\
examples:
  minicnn train configs/lenet.yaml
  minicnn train configs/lenet.yaml optimizer.lr=0.02 training.epochs=3
  minicnn train configs/lenet.yaml data.name=mnist-subset output.pictures=false
  minicnn train configs/lenet.yaml network.layers.0.Conv2d.out_channels=8
  minicnn train configs/lenet.yaml --dry-run
  minicnn train configs/lenet.yaml --check-gradients
  minicnn train configs/local.yaml networks.dense=null     (several networks, compared; without one)
  minicnn train runs/lenet-20250101-120000/config.yaml     (the same run again)
  minicnn train --resume runs/lenet-20250101-120000        (go on where it was stopped)
  minicnn train --resume runs/lenet-20250101-120000 training.epochs=20
"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "words",
        metavar="CONFIG KEY=VALUE",
        nargs="*",
        help="a YAML file such as configs/lenet.yaml (not with --resume), and settings that replace those of the "
        "file; items of lists are numbered from 0",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--resume", metavar="RUN", type=Path, help="go on with a run that was stopped, or train it for more epochs"
    )
    instead.add_argument(
        "--dry-run",
        action="store_true",
        help="do everything up to the first step, and estimate the time of the run; no training",
    )
    instead.add_argument(
        "--check-gradients",
        action="store_true",
        help="compare the gradients of every layer with central differences; no training",
    )
    instead.add_argument(
        "--print-config",
        action="store_true",
        help="print all settings, defaults and overrides included, as YAML; no training",
    )


def run(arguments: argparse.Namespace) -> int:
    with join() as group:
        return _resume(arguments, group) if arguments.resume else _train(arguments, group)


def _resume(arguments: argparse.Namespace, group: ProcessGroup) -> int:
    given = [word for word in arguments.words if "=" not in word]
    if given:
        raise ConfigError(
            f"--resume: expected settings to change, KEY=VALUE, since a run goes on with its own "
            f"configuration, received {given[0]}"
        )
    go_on = resume_comparison if is_comparison(arguments.resume) else resume
    return 0 if go_on(arguments.resume, arguments.words, group) else INTERRUPTED


def _train(arguments: argparse.Namespace, group: ProcessGroup) -> int:
    if not arguments.words:
        raise ConfigError("expected CONFIG or --resume RUN; see minicnn train --help")
    config, *overrides = arguments.words
    tree, name = load_tree(config, overrides), run_name(Path(config))
    instead = dry_run if arguments.dry_run else check_gradients if arguments.check_gradients else None
    if "networks" in tree:
        comparison = Comparison.of(tree)
        if arguments.print_config:
            answer(comparison.dump().removesuffix("\n"))
        elif instead:
            comparison.each(lambda settings: instead(settings, group))
        else:
            return 0 if train_comparison(comparison, name, group) else INTERRUPTED
        return 0
    settings = validated(Settings, tree)
    if arguments.print_config:
        answer(dump_settings(settings).removesuffix("\n"))
    elif instead:
        instead(settings, group)
    else:
        earlier = begun_before(group, settings.output.dir)
        done = resume(earlier, (), group) if earlier else train(settings, name, group)
        return 0 if done else INTERRUPTED
    return 0
