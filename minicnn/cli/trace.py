"""`minicnn trace`: one training step of one image in numbers."""

import argparse

from minicnn.config.experiment import Experiment
from minicnn.config.settings import Augmentation, Settings, load_settings
from minicnn.console import answer
from minicnn.errors import ConfigError
from minicnn.inspect.trace import INTRODUCTION, trace
from minicnn.model import Model

from .common import Parser

SUMMARY = "explain one training step on one image, in numbers to check by hand"
USAGE = "%(prog)s CONFIG [KEY=VALUE ...] [--image N]"
DESCRIPTION = """\
Explain one training step on one image, layer by layer, in numbers that you can check by hand: a window and its
products, the maximum of a pool and where it came from, where each gradient goes, and the update of a weight.
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
    config, *overrides = arguments.words
    run_trace(load_settings(config, overrides), config, arguments.image)
    return 0


def run_trace(settings: Settings, name: str, image: int) -> None:
    """Prints the trace of the first step on training image `image` alone, with the weights that training begins with.

    Raises ConfigError for an image that is not there and for settings that do not fit together, DataError for data that
    cannot be had.
    """
    experiment = Experiment(settings)
    network, data = experiment.network, experiment.data
    count = len(data.train_images)
    if not 0 <= image < count:
        raise ConfigError(
            f"--image: expected the number of a training image of {data.name}, 0 to {count - 1}, received {image}"
        )
    model = Model(network, data.train_images.shape[1:], *experiment.normalization, padding=settings.data.padding)
    x, label = model.normalized(data.train_images[image]), int(data.train_labels[image])
    optimizer = experiment.optimizer
    optimizer.lr = experiment.schedule(0)
    answer(
        f"One training step of {name} on image {image} of {data.name} alone, a {data.classes[label]} "
        f"(class {label}).\nWeights: {settings.network.init}, seed {settings.training.seed}, as a run begins"
        f"{'; no augmentation' if settings.augmentation != Augmentation() else ''}.\n\n"
        f"{INTRODUCTION}\n"
    )
    answer(trace(network, experiment.loss, optimizer, x, label))
