"""What is done with a trained model: `minicnn predict`, `evaluate` and `export`."""

import argparse
from pathlib import Path

from minicnn.console import answer
from minicnn.errors import ConfigError

from .common import Commands, add_model_command

EXPORT_HELP = """\
Write the model of a run as an ONNX file, for other runtimes. Its input `pixels` are images
(N, C, H, W) with values from 0 to 1, N being free; its output `scores` has a number for each class.
This takes the package onnx (python -m pip install onnx).
"""

EXPORT_EXAMPLES = """\
examples:
  minicnn export runs/lenet-20250101-120000 lenet.onnx
  minicnn export model.safetensors model.onnx
"""

PREDICT_HELP = """\
Say what is on images: the three most probable classes of each. Models trained on MNIST (or EMNIST,
KMNIST) are shown what was written, brought into MNIST's form: photos and scans of any size, dark ink
on light paper or light on dark, in any colour; what is transparent is paper. For other models, and with
--raw, images are only resized and made grey or colour, as the model takes them.
"""

PREDICT_EXAMPLES = """\
examples:
  minicnn predict runs/lenet-20250101-120000 photo.jpg
  minicnn predict runs/lenet-20250101-120000 scans/*.png --json
  minicnn predict runs/lenet-20250101-120000 photo.jpg --show seen.png
  minicnn predict runs/lenet-20250101-120000 scans/*.png --show seen/

An image that cannot be used has a line of its own among the errors; the others are answered.
"""

EVALUATE_HELP = """\
Try a model on the test images (or, where the run had set some aside, the validation images) of its data
set: accuracy, loss, precision, recall and F1 of each class, and the confusion matrix.
"""

EVALUATE_EXAMPLES = """\
examples:
  minicnn evaluate runs/lenet-20250101-120000
  minicnn evaluate runs/lenet-20250101-120000 --json
  minicnn evaluate runs/lenet-20250101-120000 --data mnist --root ~/data
  minicnn evaluate runs/lenet-20250101-120000 --data folder --path my-digits
"""


def add(commands: Commands) -> None:
    _add_export(commands)
    _add_predict(commands)
    _add_evaluate(commands)


def _add_predict(commands: Commands) -> None:
    predict = add_model_command(
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


def _add_evaluate(commands: Commands) -> None:
    evaluate = add_model_command(
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


def _add_export(commands: Commands) -> None:
    export = add_model_command(
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
    answer(arguments.file)
    return 0
