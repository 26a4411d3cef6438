"""The command `minicnn` and its subcommands. A user's mistake ends in one line, no traceback."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from minicnn import __version__
from minicnn.console import complain, leads, say
from minicnn.errors import ConfigError, MinicnnError

INTERRUPTED = 130  # what shells give a command that Ctrl-C ended

EXIT_CODES = """\
exit codes:
  0    done
  1    data or files could not be used, the loss became NaN or infinite, or a gradient is wrong
  2    wrong usage or settings
  130  interrupted (Ctrl-C); what has been learned is in the run folder, --resume goes on
"""

TRAIN_HELP = """\
Train the network that CONFIG describes. The new folder runs/<config>-<time>/ receives config.yaml,
metrics.csv, timings.csv, model.safetensors, checkpoints, environment.json and pictures.
configs/lenet.yaml explains all settings. `python train.py` is the same as `minicnn train`.
"""

TRAIN_EXAMPLES = f"""\
examples:
  minicnn train configs/lenet.yaml
  minicnn train configs/lenet.yaml optimizer.lr=0.02 training.epochs=3
  minicnn train configs/lenet.yaml data.name=mnist-subset output.pictures=false
  minicnn train configs/lenet.yaml network.layers.0.Conv2d.out_channels=8
  minicnn train configs/lenet.yaml --dry-run
  minicnn train configs/lenet.yaml --check-gradients
  minicnn train runs/lenet-20250101-120000/config.yaml     (the same run again)
  minicnn train --resume runs/lenet-20250101-120000        (go on where it was stopped)
  minicnn train --resume runs/lenet-20250101-120000 training.epochs=20

{EXIT_CODES}"""


EXPORT_HELP = """\
Write the model of a run as an ONNX file, for other runtimes. Its input `pixels` are images
(N, C, H, W) with values from 0 to 1, N being free; its output `scores` has a number for each class.
This takes the package onnx (python -m pip install onnx).
"""

EXPORT_EXAMPLES = f"""\
examples:
  minicnn export runs/lenet-20250101-120000 lenet.onnx
  minicnn export model.safetensors model.onnx

{EXIT_CODES}"""

PREDICT_HELP = """\
Say what is on images: the three most probable classes of each. Models trained on MNIST (or EMNIST,
KMNIST) are shown what was written, brought into MNIST's form: photos and scans of any size, dark ink
on light paper or light on dark, in any colour; what is transparent is paper. For other models, and with
--raw, images are only resized and made grey or colour, as the model takes them.
"""

PREDICT_EXAMPLES = f"""\
examples:
  minicnn predict runs/lenet-20250101-120000 photo.jpg
  minicnn predict runs/lenet-20250101-120000 scans/*.png --json
  minicnn predict runs/lenet-20250101-120000 photo.jpg --show seen.png
  minicnn predict runs/lenet-20250101-120000 scans/*.png --show seen/

An image that cannot be used has a line of its own among the errors; the others are answered.

{EXIT_CODES}"""

EVALUATE_HELP = """\
Try a model on the test images (or, where the run had set some aside, the validation images) of its data
set: accuracy, loss, precision, recall and F1 of each class, and the confusion matrix.
"""

EVALUATE_EXAMPLES = f"""\
examples:
  minicnn evaluate runs/lenet-20250101-120000
  minicnn evaluate runs/lenet-20250101-120000 --json
  minicnn evaluate runs/lenet-20250101-120000 --data mnist --root ~/data
  minicnn evaluate runs/lenet-20250101-120000 --data folder --path my-digits

{EXIT_CODES}"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="minicnn",
        description="Small convolutional networks, trained fast on the CPU.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"minicnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = commands.add_parser(
        "train",
        help="train a network that a YAML file describes",
        description=TRAIN_HELP,
        epilog=TRAIN_EXAMPLES,
        usage="%(prog)s (CONFIG [--dry-run | --check-gradients | --print-config] | --resume RUN) [KEY=VALUE ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument(
        "words",
        metavar="CONFIG KEY=VALUE",
        nargs="*",
        help="a YAML file, such as configs/lenet.yaml (not with --resume), and settings that replace "
        "those of the file; list items by position, from 0",
    )
    instead = train.add_mutually_exclusive_group()
    instead.add_argument(
        "--resume",
        metavar="RUN",
        type=Path,
        help="go on in the folder of a run that was stopped, or train for more epochs",
    )
    instead.add_argument(
        "--dry-run",
        action="store_true",
        help="try everything up to the first step and estimate how long the run takes; no training",
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
    train.set_defaults(command=_train)
    _add_export(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    return parser


def _model_command(
    commands: "argparse._SubParsersAction[_Parser]",
    name: str,
    summary: str,
    description: str,
    examples: str,
) -> _Parser:
    """A command that does something with the model RUN."""
    command = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("run", metavar="RUN", help="the folder of a run, or a model file")
    return command


def _add_predict(commands: "argparse._SubParsersAction[_Parser]") -> None:
    predict = _model_command(
        commands, "predict", "say what is on your own images", PREDICT_HELP, PREDICT_EXAMPLES
    )
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="a PNG, JPEG or other image")
    predict.add_argument("--raw", action="store_true", help="only resize, do not look for a digit")
    predict.add_argument("--json", action="store_true", help="print JSON instead of a table")
    predict.add_argument(
        "--show",
        metavar="PLACE",
        help="write what the network was shown: for one image into PLACE if that ends in .png; "
        "else into the folder PLACE, a file for each image",
    )
    predict.set_defaults(command=_predict)


def _predict(arguments: argparse.Namespace) -> int:
    from minicnn.prediction import run_predict

    images = [Path(image) for image in arguments.images]
    good = run_predict(Path(arguments.run), images, arguments.raw, arguments.show, arguments.json)
    return 0 if good else 1


def _add_evaluate(commands: "argparse._SubParsersAction[_Parser]") -> None:
    evaluate = _model_command(
        commands,
        "evaluate",
        "accuracy, precision and recall of a model, and its confusions",
        EVALUATE_HELP,
        EVALUATE_EXAMPLES,
    )
    evaluate.add_argument("--data", metavar="NAME", help="a data set [the run's own]")
    evaluate.add_argument("--path", type=Path, help="where the data set folder or arrays lies")
    evaluate.add_argument(
        "--root", type=Path, help="the folder of downloaded data sets [the run's, or data]"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of tables")
    evaluate.set_defaults(command=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from minicnn.evaluation import run_evaluate

    run_evaluate(
        Path(arguments.run), arguments.data, arguments.path, arguments.root, arguments.json
    )
    return 0


def _add_export(commands: "argparse._SubParsersAction[_Parser]") -> None:
    export = _model_command(
        commands, "export", "write the model of a run as an ONNX file", EXPORT_HELP, EXPORT_EXAMPLES
    )
    export.add_argument("file", metavar="FILE.onnx", help="what to write; replaced if it exists")
    export.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    if not arguments.file.endswith(".onnx"):  # RUN may be a file, too, and not to be replaced
        raise ConfigError(f"export: expected FILE with the ending .onnx, received {arguments.file}")
    from minicnn import load
    from minicnn.interop.onnx import export_onnx

    export_onnx(load(arguments.run), arguments.file)
    say(arguments.file)
    return 0


def _train(arguments: argparse.Namespace) -> int:
    if arguments.resume:
        given = [word for word in arguments.words if "=" not in word]
        if given:
            raise ConfigError(
                f"--resume: expected settings to change, KEY=VALUE, since a run goes on with its own "
                f"configuration, received {given[0]}"
            )
        from minicnn.run import resume

        return 0 if resume(arguments.resume, arguments.words) else INTERRUPTED
    if not arguments.words:
        raise ConfigError("expected CONFIG or --resume RUN; see minicnn train --help")
    from minicnn.config import dump_settings, load_settings

    config, *overrides = arguments.words
    settings = load_settings(config, overrides)
    if arguments.print_config:
        say(dump_settings(settings).removesuffix("\n"))
        return 0
    if arguments.dry_run or arguments.check_gradients:
        from minicnn import rehearsal

        (rehearsal.dry_run if arguments.dry_run else rehearsal.check_gradients_of_run)(settings)
        return 0
    from minicnn.run import train  # wrong settings show before the kernels are imported

    return 0 if train(settings, _name(Path(config))) else INTERRUPTED


def _name(config: Path) -> str:
    """What a run is called: like its file, or, when that is the config.yaml of a run, like that run."""
    if config.name != "config.yaml":
        return config.stem
    return re.sub(r"-\d{8}-\d{6}(-\d+)?$", "", config.absolute().parent.name) or config.stem


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; words may also stand behind an option, where argparse does not look for them."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    unknown = [text for text in rest if text.startswith("-") or "words" not in arguments]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        arguments.words += rest
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command in `argv` (default: the process's arguments); returns the exit code."""
    try:
        arguments = _parse(argv)
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except MinicnnError as error:
        complain(error)
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:  # of a path that nobody has foreseen: too long, behind a closed folder
        place = f"{error.filename}: " if error.filename else ""
        complain(MinicnnError(f"{place}cannot be used: {error.strerror or error}"))
        return 1
    except KeyboardInterrupt:
        if leads():
            print("interrupted", file=sys.stderr)
        return INTERRUPTED
