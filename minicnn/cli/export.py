"""`minicnn export`: a trained model as a file for other programs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from minicnn.console import answer
from minicnn.errors import ConfigError

from .common import Parser, add_data, add_run

if TYPE_CHECKING:
    from minicnn.export.c import QuantizedModel
    from minicnn.model import Model

SUMMARY = "write the model of a run as an ONNX or C file"
DESCRIPTION = """\
Write the model of a run as a file for other programs, of the kind that its name ends in.

  .onnx  for other runtimes. Its input `pixels` are images (N, C, H, W) with values from 0 to 1, N being
         free; its output `scores` has a number for each class. This takes the package onnx
         (python -m pip install onnx).
  .c     a program in C99 that needs nothing else, with the function
         void NAME_predict(const uint8_t *pixels, float *scores). With --int8 it computes in integers of 8
         bits, whose ranges are chosen on training images.
"""
EXAMPLES = """\
examples:
  minicnn export runs/lenet-20250101-120000 lenet.onnx
  minicnn export runs/lenet-20250101-120000 lenet.c
  minicnn export runs/lenet-20250101-120000 lenet.c --int8
  minicnn export model.safetensors model.c --int8 --data mnist --root ~/data --name digits
"""

CALIBRATION = 1000  # training images, at least: enough that more change nothing


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("file", metavar="FILE", help="what to write, FILE.onnx or FILE.c; replaced if it exists")
    parser.add_argument("--int8", action="store_true", help="C in integers of 8 bits instead of float")
    parser.add_argument("--name", help="what all names in the C file begin with [FILE]")
    add_data(parser)


def run(arguments: argparse.Namespace) -> int:
    ending = Path(arguments.file).suffix
    if ending not in (".onnx", ".c"):  # RUN may be a file, too, and not to be replaced
        raise ConfigError(f"export: expected FILE with the ending .onnx or .c, received {arguments.file}")
    for option, needed, there in (
        ("int8", "a FILE.c", ending == ".c"),
        ("name", "a FILE.c", ending == ".c"),
        *((option, "--int8", arguments.int8) for option in ("data", "path", "root")),
    ):
        if getattr(arguments, option) and not there:
            raise ConfigError(f"--{option}: expected {needed} with it")
    from minicnn import load

    model = load(arguments.run)
    if ending == ".onnx":
        from minicnn.export.onnx import export_onnx

        export_onnx(model, arguments.file)
    else:
        from minicnn.export.c import export_c

        export_c(_quantized(model, arguments) if arguments.int8 else model, arguments.file, arguments.name)
    answer(arguments.file)
    return 0


def _quantized(model: "Model", arguments: argparse.Namespace) -> "QuantizedModel":
    from minicnn.export.c import quantize
    from minicnn.runs.data import load_data_for, settings_of

    settings = settings_of(Path(arguments.run))
    images = load_data_for(model, settings, arguments.data, arguments.path, arguments.root).train_images
    return quantize(model, images[:: max(1, len(images) // CALIBRATION)])
