"""What shows how a network is made and what it does: `minicnn summary`."""

import argparse
from pathlib import Path

from minicnn.console import say
from minicnn.errors import ConfigError

from .common import Commands, add_command

SUMMARY_HELP = """\
Print a table of the network that CONFIG describes (or of a trained one): of each layer the output's
shape, parameters, multiply-adds, connections, receptive field and memory. Nothing is trained.
"""

SUMMARY_EXAMPLES = """\
examples:
  minicnn summary configs/lenet.yaml
  minicnn summary configs/lenet.yaml network.layers.0.Conv2d.kernel_size=7
  minicnn summary configs/lenet.yaml --json
  minicnn summary runs/lenet-20250101-120000
"""


def add(commands: Commands) -> None:
    _add_summary(commands)


def _add_summary(commands: Commands) -> None:
    summary = add_command(
        commands,
        "summary",
        "what each layer of a network gives, holds, costs and sees",
        SUMMARY_HELP,
        SUMMARY_EXAMPLES,
        usage="%(prog)s (CONFIG [KEY=VALUE ...] | RUN) [--json]",
    )
    summary.add_argument(
        "words",
        metavar="CONFIG KEY=VALUE",
        nargs="*",
        help="a YAML file and settings that replace those of the file; or the folder of a run, or a model file",
    )
    summary.add_argument("--json", action="store_true", help="print JSON instead of a table")
    summary.set_defaults(command=_summary)


def _summary(arguments: argparse.Namespace) -> int:
    import json

    if not arguments.words:
        raise ConfigError("expected CONFIG or RUN; see minicnn summary --help")
    from minicnn.inspect.summary import as_json, full_summary

    config, *overrides = arguments.words
    if Path(config).is_dir() or config.endswith(".safetensors"):
        if overrides:
            raise ConfigError(
                f"summary: expected no settings with {config}, whose network is built, received {overrides[0]}"
            )
        from minicnn import load

        model = load(config)
        network, input_shape = model.network, model.input_shape
    else:
        from minicnn.build import build_network, find_spec
        from minicnn.config import load_settings

        settings = load_settings(config, overrides)
        network, input_shape = build_network(settings), find_spec(settings.data).input_shape
    if arguments.json:
        say(json.dumps(as_json(network, input_shape), indent=2))
    else:
        say(full_summary(network, input_shape))
    return 0
