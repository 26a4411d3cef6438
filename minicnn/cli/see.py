"""What shows how a network is made and what it does: `minicnn summary`, `filters`, `maps` and `trace`."""

import argparse
from pathlib import Path

from minicnn.console import answer
from minicnn.errors import ConfigError

from .common import Commands, Parser, add_command, add_model_command

SUMMARY_HELP = """\
Print a table of the network that CONFIG describes (or of a trained one): of each layer the output's
shape, parameters, multiply-adds, connections, receptive field and memory. Nothing is trained.
"""

SUMMARY_EXAMPLES = """\
examples:
  minicnn summary configs/lenet.yaml
  minicnn summary configs/lenet.yaml network.layers.0.Conv2d.kernel_size=7
  minicnn summary configs/lenet.yaml --json
  minicnn summary configs/lenet.yaml --program
  minicnn summary runs/lenet-20250101-120000
"""

FILTERS_HELP = """\
Draw the filters of every convolution (or locally connected layer) of a model, each with the spatial
frequencies that it lets pass (the magnitude of its Fourier transform), and print how much of that is low:
filters that smooth are low-pass, filters that find edges band-pass or high-pass.
"""

FILTERS_EXAMPLES = """\
examples:
  minicnn filters runs/lenet-20250101-120000                (into runs/lenet-20250101-120000/filters)
  minicnn filters runs/lenet-20250101-120000 --out pictures
"""

MAPS_HELP = """\
Draw what every layer of a model makes of IMAGE, which is prepared as `minicnn predict` does it.
Layers that change nothing (Flatten, Dropout) have no picture.
"""

MAPS_EXAMPLES = """\
examples:
  minicnn maps runs/lenet-20250101-120000 photo.jpg         (into runs/lenet-20250101-120000/maps/photo)
  minicnn maps runs/lenet-20250101-120000 photo.jpg --out pictures
"""

TRACE_HELP = """\
Tell one training step of one image in text, layer by layer, with numbers to check by hand: a window and
its product, the pooled maximum and where it came from, where each gradient goes, and the update of a weight.
"""

TRACE_EXAMPLES = """\
examples:
  minicnn trace configs/lenet.yaml --image 7
  minicnn trace configs/lenet.yaml --image 7 data.name=mnist-subset optimizer.weight_decay=0.01
"""


def add(commands: Commands) -> None:
    _add_summary(commands)
    _add_filters(commands)
    _add_maps(commands)
    _add_trace(commands)


def _add_summary(commands: Commands) -> None:
    summary = add_command(
        commands,
        "summary",
        "what each layer of a network gives, holds, costs and sees",
        SUMMARY_HELP,
        SUMMARY_EXAMPLES,
        usage="%(prog)s (CONFIG [KEY=VALUE ...] | RUN) [--json | --program]",
    )
    summary.add_argument(
        "words",
        metavar="CONFIG KEY=VALUE",
        nargs="*",
        help="a YAML file and settings that replace those of the file; or the folder of a run, or a model file",
    )
    form = summary.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")
    form.add_argument(
        "--program",
        action="store_true",
        help="print a training step as the engine runs it: phases, jobs and calls of kernels, with times",
    )
    summary.set_defaults(command=_summary)


def _summary(arguments: argparse.Namespace) -> int:
    import json

    if not arguments.words:
        raise ConfigError("expected CONFIG or RUN; see minicnn summary --help")
    from minicnn.inspect.summary import as_json, full_summary
    from minicnn.losses import LOSSES

    config, *overrides = arguments.words
    if Path(config).is_dir() or config.endswith(".safetensors"):
        if overrides:
            raise ConfigError(
                f"summary: expected no settings with {config}, whose network is built, received {overrides[0]}"
            )
        from minicnn import load

        model = load(config)
        network, input_shape = model.network, model.network_shape
        batch_size, loss = 64, LOSSES[model.loss]()
    else:
        from minicnn.build import build_loss, build_network, find_spec
        from minicnn.comparison import Comparison
        from minicnn.config import Settings, load_tree
        from minicnn.validation import validated

        tree = load_tree(config, overrides)
        if "networks" in tree:
            for form in ("json", "program"):
                if getattr(arguments, form):
                    raise ConfigError(
                        f"--{form}: expected a single network, received networks to compare"
                    )

            def show(one: Settings) -> None:
                answer(full_summary(build_network(one), find_spec(one.data).input_shape))

            Comparison.of(tree).each(show)
            return 0
        settings = validated(Settings, tree)
        network, input_shape = build_network(settings), find_spec(settings.data).input_shape
        batch_size, loss = settings.training.batch_size, build_loss(settings)
    if arguments.json:
        answer(json.dumps(as_json(network, input_shape), indent=2))
    elif arguments.program:
        from minicnn.inspect.program import program_table, step_program

        answer(program_table(step_program(network, input_shape, batch_size, loss)))
    else:
        answer(full_summary(network, input_shape))
    return 0


def _add_filters(commands: Commands) -> None:
    filters = add_model_command(
        commands,
        "filters",
        "draw a model's filters and the frequencies they let pass",
        FILTERS_HELP,
        FILTERS_EXAMPLES,
    )
    _add_out(filters)
    filters.set_defaults(command=_filters)


def _filters(arguments: argparse.Namespace) -> int:
    from minicnn.showing import run_filters

    run_filters(Path(arguments.run), arguments.out)
    return 0


def _add_maps(commands: Commands) -> None:
    maps = add_model_command(
        commands, "maps", "draw what each layer makes of an image", MAPS_HELP, MAPS_EXAMPLES
    )
    maps.add_argument("image", metavar="IMAGE", type=Path, help="a PNG, JPEG or other image")
    maps.add_argument("--raw", action="store_true", help="only resize, do not look for a digit")
    _add_out(maps)
    maps.set_defaults(command=_maps)


def _maps(arguments: argparse.Namespace) -> int:
    from minicnn.showing import run_maps

    run_maps(Path(arguments.run), arguments.image, arguments.out, arguments.raw)
    return 0


def _add_out(command: Parser) -> None:
    command.add_argument(
        "--out", metavar="DIR", type=Path, help="the folder for the pictures [one in RUN]"
    )


def _add_trace(commands: Commands) -> None:
    trace = add_command(
        commands,
        "trace",
        "tell one training step of one image, with numbers to check by hand",
        TRACE_HELP,
        TRACE_EXAMPLES,
        usage="%(prog)s CONFIG [KEY=VALUE ...] [--image N]",
    )
    trace.add_argument(
        "words",
        metavar="CONFIG KEY=VALUE",
        nargs="*",
        help="a YAML file, and settings that replace those of the file",
    )
    trace.add_argument(
        "--image", metavar="N", type=int, default=0, help="the number of a training image [0]"
    )
    trace.set_defaults(command=_trace)


def _trace(arguments: argparse.Namespace) -> int:
    if not arguments.words:
        raise ConfigError("expected CONFIG; see minicnn trace --help")
    from minicnn.config import load_settings

    config, *overrides = arguments.words
    settings = load_settings(config, overrides)
    from minicnn.inspect.trace import run_trace

    run_trace(settings, config, arguments.image)
    return 0
