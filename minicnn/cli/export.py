"""`minicnn export`: a trained model as an ONNX file."""

import argparse

from minicnn.console import answer
from minicnn.errors import ConfigError

from .common import Parser, add_run

SUMMARY = "write the model of a run as an ONNX file"
DESCRIPTION = """\
Write the model of a run as an ONNX file, for other runtimes. Its input `pixels` are images
(N, C, H, W) with values from 0 to 1, N being free; its output `scores` has a number for each class.
This takes the package onnx (python -m pip install onnx).
"""
EXAMPLES = """\
examples:
  minicnn export runs/lenet-20250101-120000 lenet.onnx
  minicnn export model.safetensors model.onnx
"""


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("file", metavar="FILE.onnx", help="what to write; replaced if it exists")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.file.endswith(".onnx"):  # RUN may be a file, too, and not to be replaced
        raise ConfigError(f"export: expected FILE with the ending .onnx, received {arguments.file}")
    from minicnn import load
    from minicnn.export.onnx import export_onnx

    export_onnx(load(arguments.run), arguments.file)
    answer(arguments.file)
    return 0
