"""`minicnn trace`: one training step of one image in numbers."""

import argparse

import numpy as np

from minicnn.config.settings import Augmentation
from minicnn.console import answer, label
from minicnn.errors import ConfigError
from minicnn.inspect.trace import INTRODUCTION, trace, visible_rate
from minicnn.runs.subject import Sample, Subject

from .common import Parser, add_data, add_image, add_subject, subject_of

SUMMARY = "explain one training step on one image, in numbers to check by hand"
USAGE = (
    "%(prog)s (RUN | CONFIG [KEY=VALUE ...]) [--image IMAGE] [--class NAME] [--data NAME] [--path PATH] [--root ROOT]"
)
DESCRIPTION = """\
Explain one training step on one image, layer by layer, in numbers that you can check by hand: a window and its
products, the maximum of a pool and where it came from, where each gradient goes, and the update of a weight.
RUN is told with its weights, and with a learning rate at which the update shows; CONFIG as its training begins.
"""
EXAMPLES = """\
examples:
  minicnn trace configs/lenet.yaml --image 7
  minicnn trace configs/lenet.yaml --image 7 data.name=mnist-subset optimizer.weight_decay=0.01
  minicnn trace runs/lenet-20250101-120000 --image 115
  minicnn trace runs/lenet-20250101-120000 --image photo.jpg --class 4
"""


def add_arguments(parser: Parser) -> None:
    add_subject(parser)
    add_image(parser)
    parser.add_argument(
        "--class",
        dest="name",
        metavar="NAME",
        help="the class to train for [the image's; of a file, the most probable]",
    )
    parser.add_argument("--raw", action="store_true", help="only resize an image file, do not look for a digit")
    add_data(parser)


def run(arguments: argparse.Namespace) -> int:
    subject = subject_of(arguments)
    model, network = subject.model, subject.network
    sample = subject.sample(arguments.image or "0", arguments.raw)
    classes = tuple(map(label, model.classes or map(str, range(model.output_shape[0]))))
    chosen, why = _class(subject, sample, classes, arguments.name)
    x = model.transform(sample.pixels)
    optimizer, words = subject.optimizer(), "the learning rate of the first step"
    if subject.trained:
        factor = visible_rate(network, subject.loss, subject.optimizer(), x, chosen)
        words = "the highest rate of the run" if subject.settings else "that of Model.fit"
        words += f", {optimizer.lr:g}" if factor > 1 else ""
        optimizer.lr *= factor
        words += f", times {factor:,}, so that the update shows" if factor > 1 else ""
    settings, weights = subject.settings, "as trained"
    if not subject.trained and settings is not None:
        weights = f"{settings.network.init}, seed {settings.training.seed}, as a run begins"
    plain = settings is None or settings.augmentation == Augmentation()
    answer(
        f"One training step of {subject.name} on {sample.words} alone, a {classes[chosen]} "
        f"(class {chosen}{why}).\nWeights: {weights}{'' if plain else '; no augmentation'}.\n"
        f"Learning rate: {optimizer.lr:g}, {words}.\n\n{INTRODUCTION}\n"
    )
    answer(trace(network, subject.loss, optimizer, x, chosen))
    return 0


def _class(subject: Subject, sample: Sample, classes: tuple[str, ...], name: str | None) -> tuple[int, str]:
    """The class to train for, and what there is to say of the choice."""
    if name is not None:
        if name not in classes:
            raise ConfigError(f"--class: expected one of {', '.join(classes)}, received {name}")
        return classes.index(name), ", as it was asked for"
    if sample.label is not None:
        return sample.label, ""
    [probabilities] = subject.model.predict_proba(sample.pixels)
    return int(np.argmax(probabilities)), ", the most probable one; --class chooses another"
