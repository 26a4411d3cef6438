"""`minicnn augment`: what a configuration does to its training images, without training."""

import argparse
from collections.abc import Callable
from dataclasses import fields

from minicnn.config.build import build_augmentation
from minicnn.config.experiment import Experiment
from minicnn.config.settings import load_settings
from minicnn.console import answer, table
from minicnn.data import Augmentation
from minicnn.errors import ConfigError
from minicnn.runs.pictures import draw_augmentation

from .common import Parser, add_config, add_picture, picture_file

SUMMARY = "show what the augmentation of a configuration makes of its images"
DESCRIPTION = """\
Draw eight training images, with the variants that the first eight epochs train on, and print a line for each
transformation that is on. Nothing is trained.
"""
EXAMPLES = """\
examples:
  minicnn augment configs/lenet-augmented.yaml
  minicnn augment configs/lenet.yaml augmentation.shift=2 augmentation.erasing=0.5 -o variants.png
"""

NAME = "augmentation.png"

#: What each transformation does, in words.
WORDS: dict[str, Callable[[Augmentation], str]] = {
    "crop_padding": lambda a: f"puts {a.crop_padding} pixels around the image and cuts a part of its old size out",
    "flip": lambda a: f"exchanges right and left, in {a.flip:.0%} of all cases",
    "shift": lambda a: f"moves by up to {a.shift:g} pixels, up or down and right or left",
    "rotation": lambda a: f"turns by up to {a.rotation:g} degrees",
    "scale": lambda a: f"resizes by a factor from {1 - a.scale:g} to {1 + a.scale:g}",
    "shear": lambda a: f"leans by up to {a.shear:g} degrees",
    "elastic_alpha": lambda a: (
        f"bends: pixels within about {a.elastic_sigma:g} of each other move together, by "
        f"{0.163 * a.elastic_alpha / a.elastic_sigma:.2g} pixels on average"
    ),
    "brightness": lambda a: (
        f"multiplies all pixels by a factor from {max(0, 1 - a.brightness):g} to {1 + a.brightness:g}"
    ),
    "contrast": lambda a: (
        f"multiplies their distance from the mean by a factor from {max(0, 1 - a.contrast):g} to {1 + a.contrast:g}"
    ),
    "noise": lambda a: f"adds noise to each pixel, with a standard deviation of {255 * a.noise:.3g} of 255 levels",
    "erasing": lambda a: f"covers a rectangle of 2 to 33 % of the image, in {a.erasing:.0%} of all cases",
    "cutout": lambda a: f"covers a square of {a.cutout} x {a.cutout} pixels",
    "mixup": lambda a: f"blends with another image, whose share is drawn from Beta({a.mixup:g}, {a.mixup:g})",
}


def add_arguments(parser: Parser) -> None:
    add_config(parser)
    add_picture(parser, NAME)


def run(arguments: argparse.Namespace) -> int:
    settings = load_settings(arguments.config, arguments.words)
    augmentation = build_augmentation(settings)
    if not augmentation:
        names = ", ".join(field.name for field in fields(augmentation) if field.name in WORDS)
        raise ConfigError(f"augmentation: expected something that is on, of {names}; such as augmentation.shift=2")
    experiment = Experiment(settings)
    batches = experiment.train_batches
    path = picture_file(arguments.config, arguments.out, NAME)
    draw_augmentation(path, batches)
    rows = [
        (name, f"{getattr(augmentation, name):g}", words(augmentation))
        for name, words in WORDS.items()
        if getattr(augmentation, name)
    ]
    answer(f"{table(rows, '<><', ('augmentation', 'value', 'what it does'))}\n\n{path}")
    return 0
