"""`minicnn maps`: what each layer of a network makes of an image, as pictures."""

import argparse
import os

from minicnn.console import answer, label
from minicnn.data import CHARACTERS
from minicnn.inspect.summary import short
from minicnn.layers.walk import outputs

from .common import Parser, add_data, add_image, add_out, add_subject, picture_folder, picture_name, subject_of
from .predict import best

SUMMARY = "draw what each layer makes of an image"
USAGE = "%(prog)s (RUN | CONFIG [KEY=VALUE ...]) (IMAGE | --image IMAGE) [--raw] [--out DIR] [--data NAME] ..."
DESCRIPTION = """\
Draw what every layer of a network makes of an image: a test image of the run's data by its number, or an image
file, which is prepared as in `minicnn predict`. overview.png has all layers, as a slide; each layer has a picture
of its own, too. Layers that change nothing, such as Flatten and Dropout, get no picture.
"""
EXAMPLES = """\
examples:
  minicnn maps runs/lenet-20250101-120000 photo.jpg         (into runs/lenet-20250101-120000/maps/photo)
  minicnn maps runs/lenet-20250101-120000 --image 7         (into runs/lenet-20250101-120000/maps/test-7)
  minicnn maps configs/lenet.yaml --image 7                 (start weights, a training image; into lenet/maps/train-7)
"""


def add_arguments(parser: Parser) -> None:
    add_subject(parser, " IMAGE")
    add_image(parser)
    parser.add_argument("--raw", action="store_true", help="only resize an image file, do not look for a digit")
    add_out(parser)
    add_data(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.image is None and len(arguments.words) > 1:
        last = arguments.words[-1]
        if "=" not in last or os.path.lexists(last):
            arguments.image = arguments.words.pop()
    from minicnn.inspect.plots.maps import Panel, plot_maps, plot_overview

    subject = subject_of(arguments)
    sample = subject.sample(arguments.image or "0", arguments.raw)
    model, x = subject.model, subject.model.transform(sample.pixels)
    tones = "ink" if model.data_set in CHARACTERS else "photograph"
    panels = [Panel("", "input", sample.pixels / 255, tones=tones)]
    drawings = [("input.png", panels[0], f"Input: {sample.words}", "")]
    told = ""
    if len(model.output_shape) == 1:  # else it gives maps of scores
        told = f"predicted as {label(best(model, sample.pixels)[0]['class'])}"
    found = list(outputs(subject.network, x))
    for place, (name, layer, y) in enumerate(found):
        if layer.identity:
            continue
        last = place == len(found) - 1
        words = tuple(map(label, model.classes or map(str, range(model.output_shape[0])))) if last else None
        panels.append(Panel(name, type(layer).__name__, y[0], words))
        what = short(repr(layer)) if layer.paths() is None else f"the sum of {type(layer).__name__}"
        title = f"Layer {name}: {what} gives {'x'.join(map(str, y[0].shape))}"
        drawings.append((picture_name(name, layer), panels[-1], title, told if last else ""))
    folder = picture_folder(subject, arguments.out, f"maps/{sample.stem}")
    for file, panel, title, note in drawings:
        plot_maps(folder / file, panel, title, note)
    slides = plot_overview(folder / "overview.png", panels, ", ".join(filter(None, (label(sample.words), told))))
    answer("\n".join(map(str, [*(folder / file for file, *_ in drawings), *slides])))
    return 0
